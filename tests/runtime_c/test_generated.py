"""The generated kernels: committed as they are generated, and as fast as the generator says."""

from __future__ import annotations

import pytest

from dtmm.device.mca import block_cycles
from dtmm.runtime_c import PointKernel, RunKernel, folder
from dtmm.runtime_c.generate import point_kernels
from dtmm.runtime_c.generate.run_kernels import (
    JUMP_CYCLES,
    Kernel,
    descriptor_of,
    expected_cycles,
    kernels,
    public_header,
    run_blocks,
    source,
)
from dtmm.runtime_c.generate.schedule import Instruction, schedule

QUICK = tuple(
    Kernel(RunKernel(*each))
    for each in ((16, 1, 8, 1), (96, 2, 4, 1), (256, 1, 8, 1), (48, 1, 8, 2), (128, 2, 4, 2))
)
"""Kernels that stand for all in the quick tests."""


def committed(path: str) -> str:
    """The text of a file of the library."""
    return (folder() / path).read_text(encoding="utf-8")


def test_the_generator_writes_what_is_committed(full: bool) -> None:
    for kernel in kernels() if full else QUICK:
        assert source(kernel) == committed(f"src/{kernel.name}.S"), kernel.name
    for kernel in kernels():
        assert descriptor_of(kernel) == committed(f"src/{kernel.symbol}.c"), kernel.name
    assert public_header() == committed("include/dtmm/kernels.h")


def test_no_kernel_is_left_over() -> None:
    names = {path.stem for path in (folder() / "src").glob("dtmm_run_c*.S")}
    assert names == {kernel.name for kernel in kernels()}


@pytest.mark.parametrize("first", [False, True])
def test_runs_take_the_expected_cycles(toolchain: None, first: bool, full: bool) -> None:
    """As the cycle model prices their blocks, within 3 cycles for each of them."""
    for kernel in kernels() if full else QUICK:
        for length in kernel.lengths:
            blocks = [block.lines for block in run_blocks(kernel, length, first)]
            prices = block_cycles(blocks)
            modelled = sum(prices[lines] for lines in blocks)
            jumps = JUMP_CYCLES * (len(blocks) if first else 1)
            expected = expected_cycles(kernel, length, first) - jumps
            assert abs(expected - modelled) <= 3 * len(blocks), (kernel.name, length)


def test_runs_are_near_their_bound() -> None:
    """Loads hide behind MACs, and requantization in what they leave: see generate/run_body.py."""
    for kernel in QUICK:
        for length in kernel.lengths:
            bound = kernel.run(length).bound
            assert bound <= expected_cycles(kernel, length, first=False) <= 1.07 * bound + 8
            assert expected_cycles(kernel, length, first=True) <= 1.07 * bound + 38


def test_a_schedule_keeps_every_dependency() -> None:
    """Reordered lines still read what they read before, in the order of their registers' writes."""
    kernel = Kernel(RunKernel(64, 2, 4, 1))
    for length in kernel.lengths:
        lines = [*kernel.run(length).products(0, 4, clear=True), "add r3, r3, #64"]
        assert _values(schedule(lines).lines) == _values(lines)


def _values(lines: tuple[str, ...] | list[str]) -> set[tuple[object, ...]]:
    """What each instruction computes, told by what made its operands."""
    made: dict[str, tuple[object, ...]] = {}
    found: set[tuple[object, ...]] = set()
    for line in lines:
        read, written = Instruction(line).registers
        value = (line, *(made.get(register, (register,)) for register in sorted(read)))
        digest = (line, hash(value))
        for register in written:
            made[register] = digest
        found.add(digest)
    return found


def test_pointwise_kernels_are_committed_as_they_are_generated() -> None:
    for path, text in point_kernels.files().items():
        assert committed(path) == text, path
    names = {path.stem for path in (folder() / "src").glob("dtmm_point_p*.S")}
    assert names == {kernel.name for kernel in point_kernels.kernels()}


def test_pointwise_kernels_take_the_expected_cycles(toolchain: None) -> None:
    """Eight sums in at most 36 cycles more than their multiplications: what requantizing them, the
    loop and the way back to the first pixel take where they do not hide."""
    for kernel in point_kernels.kernels():
        block = point_kernels.pair_block(kernel, first=False)
        modelled = block_cycles([block.lines])[block.lines]
        expected = point_kernels.expected_cycles(kernel) - 1 - JUMP_CYCLES
        assert abs(expected - modelled) <= 3, kernel.name
        assert kernel.pair.bound <= expected <= kernel.pair.bound + 36, kernel.name


def test_a_pair_keeps_every_dependency() -> None:
    pair = point_kernels.Kernel(PointKernel(48, 2)).pair
    lines = [*pair.products(0, pair.vectors, clear=True), pair.leave]
    assert _values(schedule(lines).lines) == _values(lines)
