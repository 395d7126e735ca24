"""Names of tensors as names of files."""

from __future__ import annotations

from vta_hw.spec.file_names import STEM_CHARACTERS_MAX, file_stem


def test_short_names_stay_readable() -> None:
    assert file_stem("conv1/Relu:0") == "conv1_Relu_0"
    assert file_stem("") == "_"
    whole = "x" * STEM_CHARACTERS_MAX
    assert file_stem(whole) == whole


def test_long_names_are_cut_and_stay_apart() -> None:
    names = ["x" * 300, "x" * 301, "x" * 300 + "/", "\u00e9x" * 200, "\udc80x" * 200]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all(len(stem) <= STEM_CHARACTERS_MAX + 20 and stem.isascii() for stem in stems)
    assert stems[0].startswith("x" * STEM_CHARACTERS_MAX + "-")
    assert stems == [file_stem(name) for name in names]
