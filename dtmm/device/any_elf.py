"""Counts and prices a stretch of any firmware for the simulated machine, built by whomever.

So that others can repeat the figures of code that is not ours: it needs no markers and none of our
start-up code, only symbols.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dtmm.device.block_counts import read_counts
from dtmm.device.command import require_firmware, run_process, with_retry
from dtmm.device.cycle_model import CycleModel, RegionCost
from dtmm.device.elf import require_arm_program, symbol
from dtmm.device.qemu import MACHINE
from dtmm.device.qemu_plugin import plugin_argument
from dtmm.device.toolchain import first_error, require_tool
from dtmm.errors import MeasurementError


def measure_elf(
    elf: Path,
    start: str,
    stop: str | None = None,
    model: CycleModel | None = None,
    timeout_s: float = 600.0,
) -> RegionCost:
    """Runs an ELF and prices what runs from the first time control reaches `start`.

    Args:
        elf: for QEMU's mps3-an547; it ends itself by semihosting, whatever its exit status.
        start, stop: functions. The stretch ends before `stop` is entered, or with the firmware.
        timeout_s: in seconds of this machine's clock.

    Raises:
        ToolchainError: a tool or a symbol is missing, or the file is no program for Arm.
        MeasurementError: the firmware hangs, dies, or never reaches `start`.
    """
    require_firmware(elf)
    require_arm_program(elf)
    addresses = {"from": [f"{_address(elf, start):x}"]}
    if stop is not None:
        addresses["to"] = [f"{_address(elf, stop):x}"]
    qemu = require_tool("qemu-system-arm")
    with tempfile.TemporaryDirectory(prefix="dtmm-measure-") as folder:
        counts = Path(folder) / "counts.txt"
        plugin = plugin_argument("block_counts", {"out": [str(counts)], **addresses})
        command = [str(qemu.found_path), *MACHINE, "-plugin", plugin, "-kernel", str(elf.resolve())]
        done = with_retry(lambda: run_process(command, elf, "QEMU", timeout_s=timeout_s, cwd=None))
        text = counts.read_text() if counts.is_file() else ""
    if "DONE" not in text:
        said = first_error(done.stderr)
        raise MeasurementError(f"{elf.name} ended QEMU with status {done.returncode}: {said}")
    if "REGION" not in text:
        raise MeasurementError(f"{elf.name} ended without reaching {start}")
    return (model or CycleModel()).cycles(elf, read_counts(text, [0])[0])


def _address(elf: Path, name: str) -> int:
    return symbol(elf, name).address & ~1
