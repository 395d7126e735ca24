"""Streams that would wait for ever are found before they are emitted."""

from __future__ import annotations

import re

import pytest

from compiler.errors import LoweringError
from compiler.passes.verify_tokens import verify_tokens
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import TOKEN_MAX, Finish, Instruction, Load

INP = int(MemType.INP)
UOP = int(MemType.UOP)


def load(**flags: bool) -> Load:
    return Load(memory_type=INP, **flags)


def compute(**flags: bool) -> Load:
    return Load(memory_type=UOP, **flags)


def test_a_pop_without_push_is_named() -> None:
    matched: list[Instruction] = [load(push_next=True), compute(pop_prev=True), Finish()]
    verify_tokens(matched, VtaConfig.load("tiny"))  # with the push it drains
    stream: list[Instruction] = [load(), compute(pop_prev=True), Finish()]
    with pytest.raises(
        LoweringError, match="would end with deadlock in config 'tiny': compute instruction 1 waits"
    ):
        verify_tokens(stream, VtaConfig.load("tiny"))


def test_a_push_without_pop_is_named() -> None:
    stream: list[Instruction] = [load(push_next=True), Finish()]
    with pytest.raises(LoweringError, match=re.escape("behind: {'load_to_compute': 1}")):
        verify_tokens(stream, VtaConfig.load("tiny"))


@pytest.mark.parametrize(("count", "drains"), [(TOKEN_MAX, True), (TOKEN_MAX + 1, False)])
def test_a_token_counter_that_fills_up_stops_the_stream(count: int, drains: bool) -> None:
    """Loads push all their tokens before compute pops one: compute's own pushes must fit too."""
    config = VtaConfig.load("default").override(["LOG_CMD_QUEUE=12"])
    # Compute gives `count` tokens before it takes any; load gives `count` before it takes any.
    stream: list[Instruction] = [
        *[load(push_next=True) for _ in range(count)],
        *[compute(push_prev=True) for _ in range(count)],
        *[load(pop_next=True) for _ in range(count)],
        *[compute(pop_prev=True) for _ in range(count)],
        Finish(),
    ]
    if drains:
        verify_tokens(stream, config)
    else:
        with pytest.raises(
            LoweringError, match=f"load instruction {TOKEN_MAX} waits for room in the full"
        ):
            verify_tokens(stream, config)


def test_a_full_command_queue_stops_the_fetch() -> None:
    config = VtaConfig.load("tiny").override(["LOG_CMD_QUEUE=2"])
    loads = [load(pop_next=True)] + [load() for _ in range(config.cmd_queue_depth)]
    stream: list[Instruction] = [*loads, compute(push_prev=True), Finish()]
    with pytest.raises(LoweringError, match="would end with deadlock"):
        verify_tokens(stream, config)
    verify_tokens([compute(push_prev=True), *loads, Finish()], config)
