"""Tutorial 1: from a trained network to numbers, step by step, in Python.

Run it from anywhere: `python docs/tutorials/01_compile_and_run.py`. Everything that the commands
`vta compile`, `run`, `disasm` and `info` do is a function of the module `vta`.
"""

from pathlib import Path

import numpy as np

import vta
from compiler.frontend.model import import_model
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate

MODEL = Path(__file__).parents[2] / "examples" / "digits" / "digits_int8.onnx"

# 1. The machine
# --------------
# A configuration says how large the array and the memories are. Sizes are log2 in the file;
# the object has what follows from them. `settings` overrides single keys, and what cannot be built
# is refused with the reason.

config = vta.config("default", settings=["DRAM_LATENCY=64"])
print(f"config {config.name}: {config.batch} x {config.block_in} x {config.block_out} MACs")
print(f"extensions: {', '.join(sorted(config.extensions))}")

try:
    vta.config("default", settings=["LOG_ACC_BUFF_SIZE=24"])
except vta.VtaKitError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("an accumulator memory of 16 MiB should not have been accepted")

# 2. The network
# --------------
# The importer gives a graph of quantised operators, with the tensor names of the file. `lower_qnn`
# splits each of them into integer arithmetic: a convolution gives int32 sums, a `requantize`
# scales them back to int8. How it rounds depends on whose results are wanted; for an ONNX file that
# is ONNX Runtime ("ort"), for a TFLite file LiteRT's reference kernels ("litert-ref").

graph = lower_qnn(import_model(MODEL), "ort")
print()
print(graph)

# 3. Compile
# ----------
# The result's package is the compiled network: programs, constants, object code for the CPU, and
# one row per operator that says where it went and what it costs.

compiled = vta.compile(MODEL, config, numerics="ort")
package = compiled.package
print()
print(f"{package.model}: exact = {package.exact}, on the host: {', '.join(package.host_operators)}")
for row in package.layers:
    moved = row.bytes_loaded + row.bytes_stored
    print(
        f"  {row.where:5}{row.op:18}{row.macs:8,} MACs {row.instructions:5} insns {moved:8,} bytes"
    )

# No multiplication is left to the host.
assert package.host_macs == 0

# 4. Look at the program
# ----------------------
# LOAD, GEMM, ALU and STORE, with the tokens that keep the three stages in order: an instruction
# with `pop_prev` waits for a token from the stage before it, one with `push_next` gives the next
# stage a token when it completes.

listing = vta.disassemble(package).splitlines()
print()
print("\n".join(listing[:12]))
print(f"... {len(listing)} lines in all")

# 5. Run
# ------
# `load` prepares a package on a device: constants are written to its DRAM, host code is loaded.
# Inputs and outputs are arrays with the names, types and axis order of the model file. With
# outputs="all" the tensors between the layers come back too.

image = np.zeros((1, 1, 8, 8), np.float32)
image[0, 0, 1:7, 3:5] = 16  # a vertical stroke

network = vta.load(package, device="functional")
outcome = network.run({"image": image}, outputs="all")
print()
print(f"{outcome.result.instructions} instructions, {outcome.result.macs:,} MACs")
print(f"logits: {np.round(outcome.outputs['logits'], 2)}")
print(f"the stroke is read as a {outcome.outputs['logits'].argmax()}")

# 6. Compare
# ----------
# Every operator of the graph has an integer reference in numpy, which is held against the foreign
# runtime in the test suite. The accelerator has to give the same, tensor by tensor, without any
# tolerance. (The graph holds uint8 tensors as int8, shifted by 128; a run gives them back as the
# file has them.)

reference = evaluate(graph, {"image": image})
compared = 0
for name, ours in outcome.outputs.items():
    if name not in reference:
        continue
    expected = reference[name]
    if ours.dtype == np.uint8:
        expected = (expected.astype(np.int16) + 128).astype(np.uint8)
    assert np.array_equal(ours, expected), name
    compared += 1
print(f"{compared} tensors compared with the reference: no difference")
assert compared >= 6
