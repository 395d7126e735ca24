"""Compiled networks are free of hazards, and each of their tokens is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from compiler.driver import compile_model
from tests.models import DIGITS, model_path
from tests.vta_sim.hazard_mutants import Judge, Token, tokens
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.program import Program
from vta_sim.hazards import Report, check_program

NETWORKS = (
    "digits",
    "ad_autoencoder_int8.tflite",
    "ic_resnet8_int8.tflite",
    "kws_dscnn_int8.tflite",
)
CONFIGS = ("default", "mac64")
# Without extensions, with several images at once, and with next to no memory.
SAMPLED_CONFIGS = ("pynq", "batch4", "tiny")
REDUNDANT_MAX = 0.02


@dataclass(frozen=True)
class Placed:
    program: Program
    addresses: dict[str, int]

    def check(self) -> Report:
        return check_program(self.program, self.addresses)


@cache
def programs(network: str, config: str) -> tuple[Placed, ...]:
    path = DIGITS if network == "digits" else model_path(network)
    package = compile_model(path, VtaConfig.load(config)).package
    placed = zip(package.programs, package.placements, strict=True)
    return tuple(Placed(program, dict(places)) for program, places in placed)


def redundant_tokens(placed: Placed, chosen: Sequence[Token]) -> list[str]:
    """The tokens without which the program is as good; the two judges must agree on each."""
    judge = Judge(placed.program, placed.addresses)
    assert judge.is_safe(placed.program.instructions)
    out = []
    for token in chosen:
        mutant = replace(placed.program, instructions=token.without(placed.program.instructions))
        report = replace(placed, program=mutant).check()
        # That FINISH no longer waits for the other stages is reported by a note.
        unreported = report.clean and not report.notes
        assert unreported == judge.is_safe(mutant.instructions), str(token)
        if unreported:
            out.append(str(token))
    return out


@pytest.mark.parametrize("config", (*CONFIGS, *SAMPLED_CONFIGS))
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_networks_are_clean(network: str, config: str) -> None:
    for placed in programs(network, config):
        report = placed.check()
        assert report.clean, report.findings
        assert report.notes == ()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_removed_token_is_reported(network: str, config: str, rng: np.random.Generator) -> None:
    for placed in programs(network, config):
        every = list(tokens(placed.program.instructions))
        assert every
        chosen = [every[i] for i in rng.permutation(len(every))[:12]]
        # One redundant token in twelve would be more than is allowed, if the rest were like these.
        assert len(redundant_tokens(placed, chosen)) <= 1


def _sampled() -> Iterator[ParameterSet]:
    for network in NETWORKS:
        for config in SAMPLED_CONFIGS:
            # Its 9,000 instructions take the second judge seconds per mutant.
            long = (network, config) == ("ic_resnet8_int8.tflite", "tiny")
            mark = pytest.mark.long if long else pytest.mark.slow
            yield pytest.param(network, config, marks=mark)


@pytest.mark.parametrize(("network", "config"), list(_sampled()))
def test_a_removed_token_is_reported_on_other_machines(
    network: str, config: str, rng: np.random.Generator
) -> None:
    for placed in programs(network, config):
        every = list(tokens(placed.program.instructions))
        chosen = [every[i] for i in rng.permutation(len(every))[:4]]
        assert len(chosen) == 4
        assert len(redundant_tokens(placed, chosen)) <= 1


@pytest.mark.long
def test_hardly_any_token_is_redundant() -> None:
    total, redundant = 0, []
    for network in NETWORKS:
        for config in CONFIGS:
            for placed in programs(network, config):
                every = list(tokens(placed.program.instructions))
                total += len(every)
                for text in redundant_tokens(placed, every):
                    redundant.append(f"{network} on {config}: {text}")
    print(f"{len(redundant)} of {total} tokens are redundant:", *redundant, sep="\n")
    assert total > 300
    assert len(redundant) <= REDUNDANT_MAX * total, redundant
