"""Runs firmware on QEMU: MPS3 AN547 (Corstone SSE-300, Cortex-M55) or MPS2 AN386 (Cortex-M4)."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from dtmm.device.block_counts import counting_plugin, read_counts
from dtmm.device.cache_misses import DataCache, cache_plugin, read_cache_counts
from dtmm.device.command import require_firmware, run_command
from dtmm.device.memory import AN386, AN547
from dtmm.device.protocol import Run
from dtmm.device.toolchain import require_tool
from dtmm.errors import MeasurementError

# The serial ports and QEMU's monitor are off, so standard output holds the firmware's lines alone.
# No -icount: with it QEMU cuts a block in two wherever an instruction budget runs out (every 2^26
# at shift 5), and then counts are no longer the same multiple of the work. One core without
# timers runs the same instructions either way.
MACHINE = (
    *("-machine", "mps3-an547", "-display", "none", "-serial", "none", "-monitor", "none"),
    *("-chardev", "stdio,id=host,signal=off"),
    *("-semihosting-config", "enable=on,target=native,chardev=host"),
)


def run_firmware(
    elf: Path,
    *,
    count_regions: bool,
    timeout_s: float = 600.0,
    cwd: Path | None = None,
    cache: DataCache | None = None,
    machine: str = AN547,
) -> Run:
    """Runs an ELF built with dtmm.device.build to its end.

    `cwd` is where dtmm_read_file finds files (default: this process's folder). With
    `count_regions` each region between dtmm_region_begin and _end is counted; that slows QEMU by
    a few per cent on vector code. With `cache` each region's data cache misses are counted; that
    slows QEMU down several times. `machine` is the board that the ELF's memory map is of.

    Raises ToolchainError when QEMU is missing, refuses the plug-in or dies, MeasurementError when
    the firmware faults, fails, hangs past `timeout_s` seconds or ends early.
    """
    qemu = require_tool("qemu-system-arm")
    require_firmware(elf)
    with tempfile.TemporaryDirectory(prefix="dtmm-run-") as folder:
        counts, misses = Path(folder) / "counts.txt", Path(folder) / "misses.txt"
        plugins = [counting_plugin(elf, counts)] if count_regions else []
        plugins += [cache_plugin(elf, cache, misses)] if cache is not None else []
        options = [word for plugin in plugins for word in ("-plugin", plugin)]
        # QEMU takes the last -machine
        board = [*MACHINE, "-machine", machine]
        command = [str(qemu.found_path), *board, *options, "-kernel", str(elf.resolve())]
        run = run_command(command, elf, "QEMU", timeout_s=timeout_s, cwd=cwd)
        ids = [number for number, _ in run.counters]
        return dataclasses.replace(
            run,
            regions=read_counts(_written(counts), ids) if count_regions else (),
            cache=read_cache_counts(_written(misses), ids) if cache is not None else (),
        )


def _written(counts: Path) -> str:
    """What a plug-in wrote."""
    try:
        return counts.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MeasurementError(f"QEMU's plug-in wrote no counts: {error}") from error


def run_on_m4(
    elf: Path, *, count_regions: bool, timeout_s: float = 600.0, cwd: Path | None = None
) -> Run:
    """As run_firmware, for an ELF of the target "m4". Regions are instructions; no cycle model."""
    return run_firmware(
        elf, count_regions=count_regions, timeout_s=timeout_s, cwd=cwd, machine=AN386
    )
