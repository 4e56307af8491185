"""The vector path on the simulated Cortex-M55, and the portable one on it and on a Cortex-M4,
against the host.

differential*.c draw the same cases on both and report a checksum of all memory after each, so a
single different or stray byte shows."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from dtmm.device import build_elf, device
from dtmm.device.build import build_host_program
from dtmm.device.protocol import Line, parse_lines
from dtmm.latency.harness import RUN_KERNELS
from dtmm.runtime_c import device_sources, include_dir, sources

HARNESSES = {"differential": 12, "differential_elementwise": 10}
"""Kinds of operators by C program."""


def on_host(harness: Path, folder: Path, cases: int) -> tuple[Line, ...]:
    program = build_host_program(
        sources=[harness, *sources()],
        out=folder / "differential",
        include_dirs=[include_dir()],
        defines={"CASES": cases, "RUN_KERNELS": RUN_KERNELS},
    )
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=120)
    return parse_lines(done.stdout)


@pytest.mark.parametrize("target", ["m55", "m55-scalar", "m4"])
@pytest.mark.parametrize("name", HARNESSES)
def test_device_equals_host(
    toolchain: None, tmp_path: Path, name: str, target: str, full: bool
) -> None:
    harness, operators = Path(__file__).parent / f"{name}.c", HARNESSES[name]
    cases = {"m55": (60, 400), "m55-scalar": (10, 10), "m4": (10, 400)}[target][full]
    elf = build_elf(
        model_sources=[],
        runtime_sources=device_sources(),
        harness_sources=[harness],
        out_elf=tmp_path / "firmware.elf",
        include_dirs=[include_dir()],
        defines={"CASES": cases, "RUN_KERNELS": RUN_KERNELS},
        target=target,
    )
    where = device("qemu-m4" if target == "m4" else "qemu")
    found = where.run(elf.path, count_regions=False, timeout_s=240).all("CASE")
    host = on_host(harness, tmp_path, cases)
    assert len(host) == operators * cases
    different = [(d.values, h.values) for d, h in zip(found, host, strict=True) if d != h]
    assert not different, f"{len(different)} cases differ, the first: {different[0]}"
    statuses = Counter((line.numbers()[0], line.numbers()[2]) for line in host)
    for operator in range(operators):
        assert statuses[operator, 0] >= 0.8 * cases, f"operator {operator}: {statuses}"
