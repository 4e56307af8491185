"""Runs firmware's code on this machine: what it computes, not how long that takes elsewhere."""

from __future__ import annotations

from pathlib import Path

from dtmm.device.command import run_command
from dtmm.device.protocol import Run
from dtmm.errors import MeasurementError


def run_on_host(
    elf: Path, *, count_regions: bool, timeout_s: float = 600.0, cwd: Path | None = None
) -> Run:
    """Runs a program that dtmm.device.build.build_elf made for target "host", to its end.

    Raises as `dtmm.device.qemu.run_firmware`, and MeasurementError when regions are to be counted.
    """
    if count_regions:
        raise MeasurementError(
            "the host measures nothing: it shows what firmware computes; expected another device"
        )
    return run_command([str(elf.resolve())], elf, "the host", timeout_s=timeout_s, cwd=cwd)
