"""Runs firmware on QEMU's model of MPS3 AN547 (Corstone SSE-300, Cortex-M55)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtmm.device.block_counts import RegionCounts, counting_plugin, read_counts
from dtmm.device.cache_misses import CacheCounts, DataCache, cache_plugin, read_cache_counts
from dtmm.device.elf import function_at
from dtmm.device.toolchain import first_error, require_tool
from dtmm.errors import MeasurementError, ToolchainError

# The serial ports and QEMU's monitor are off, so standard output holds the firmware's lines alone.
# No -icount: with it QEMU cuts a block in two wherever an instruction budget runs out (every 2^26
# at shift 5), and then counts are no longer the same multiple of the work. One core without
# timers runs the same instructions either way.
_MACHINE = (
    *("-machine", "mps3-an547", "-display", "none", "-serial", "none", "-monitor", "none"),
    *("-chardev", "stdio,id=host,signal=off"),
    *("-semihosting-config", "enable=on,target=native,chardev=host"),
)
_STACK_OVERFLOW = 1 << 20  # CFSR.STKOF, Armv8-M Architecture Reference Manual


@dataclass(frozen=True)
class Line:
    """One report line of the firmware, `DTMM <key> <values...>`."""

    key: str
    values: tuple[str, ...]

    def numbers(self) -> tuple[int, ...]:
        """The values as decimal numbers. Raises MeasurementError when one is none."""
        try:
            return tuple(int(value) for value in self.values)
        except ValueError as error:
            raise MeasurementError(f"line {self.key} {self.values}: want numbers") from error

    def payload(self) -> tuple[int, bytes]:
        """(index, bytes) of a dtmm_report_bytes line. Raises MeasurementError on another form."""
        try:
            index, digits = self.values if len(self.values) == 2 else (*self.values, "")
            return int(index), bytes.fromhex(digits)
        except ValueError as error:
            raise MeasurementError(f"line {self.key} {self.values}: want index, hex") from error


@dataclass(frozen=True)
class Run:
    """A complete run: report lines (without END), what was counted per region, host seconds."""

    lines: tuple[Line, ...]
    regions: tuple[RegionCounts, ...]
    wall_seconds: float
    cache: tuple[CacheCounts, ...] = ()

    def all(self, key: str) -> tuple[Line, ...]:
        """The lines with this key, in order."""
        return tuple(line for line in self.lines if line.key == key)

    def one(self, key: str) -> Line:
        """The only line with this key. Raises MeasurementError when there are none or several."""
        found = self.all(key)
        if len(found) != 1:
            raise MeasurementError(f"firmware wrote {len(found)} {key!r} lines: expected 1")
        return found[0]


def run_firmware(
    elf: Path,
    *,
    count_regions: bool,
    timeout_s: float = 600.0,
    cwd: Path | None = None,
    cache: DataCache | None = None,
) -> Run:
    """Runs an ELF built with dtmm.device.build to its end.

    `cwd` is where dtmm_read_file finds files (default: this process's folder). With
    `count_regions` each region between dtmm_region_begin and _end is counted; that slows QEMU by
    a few per cent on vector code. With `cache` each region's data cache misses are counted; that
    slows QEMU down several times. Raises ToolchainError when QEMU is missing, refuses the plug-in
    or dies, MeasurementError when the firmware faults, fails, hangs past `timeout_s` seconds or
    ends early.
    """
    qemu = require_tool("qemu-system-arm")
    if not elf.is_file():
        raise ToolchainError(f"firmware {elf} does not exist")
    with tempfile.TemporaryDirectory(prefix="dtmm-run-") as folder:
        counts, misses = Path(folder) / "counts.txt", Path(folder) / "misses.txt"
        plugins = [counting_plugin(elf, counts)] if count_regions else []
        plugins += [cache_plugin(elf, cache, misses)] if cache is not None else []
        options = [word for plugin in plugins for word in ("-plugin", plugin)]
        command = [str(qemu.found_path), *_MACHINE, *options, "-kernel", str(elf.resolve())]
        start = time.monotonic()
        done = _run(command, elf, timeout_s, cwd)
        seconds = time.monotonic() - start
        lines = parse_lines(done.stdout)
        _check(elf, lines, done)
        ids = [line.numbers()[0] for line in lines if line.key == "REGION"]
        return Run(
            tuple(line for line in lines if line.key != "END"),
            read_counts(counts.read_text(), ids) if count_regions else (),
            seconds,
            read_cache_counts(misses.read_text(), ids) if cache is not None else (),
        )


def parse_lines(text: str) -> tuple[Line, ...]:
    """The report lines in what the firmware wrote; lines of other forms (printf) are passed over.

    A last line without its newline was cut short and does not count.
    """
    whole = text[: text.rfind("\n") + 1]
    words = [line.split() for line in whole.splitlines() if line.startswith("DTMM ")]
    return tuple(Line(found[1], tuple(found[2:])) for found in words if len(found) > 1)


def _run(
    command: Sequence[str], elf: Path, timeout_s: float, cwd: Path | None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(
            f"{elf.name} did not end within {timeout_s:g} s on QEMU and was stopped"
        ) from error
    except OSError as error:
        raise ToolchainError(f"qemu-system-arm cannot be started: {error}") from error


def _check(elf: Path, lines: Sequence[Line], done: subprocess.CompletedProcess[str]) -> None:
    """Raises unless the firmware came to its end and every line it wrote is here."""
    last = lines[-1] if lines else Line("nothing", ())
    if last.key == "FAULT":
        raise MeasurementError(f"{elf.name} faulted on QEMU: {_fault(elf, last)}")
    if last.key == "FAIL":
        raise MeasurementError(f"{elf.name} failed on QEMU: {' '.join(last.values)}")
    if done.returncode != 0:
        said = first_error(done.stderr)
        raise ToolchainError(f"QEMU ended with status {done.returncode} on {elf.name}: {said}")
    if last.key != "END" or last.numbers() != (len(lines) - 1,):
        said = " ".join((last.key, *last.values))[:60]
        raise MeasurementError(
            f"output of {elf.name} is cut short: {len(lines)} lines, the last one {said!r}, "
            "expected DTMM END and their number"
        )


def _fault(elf: Path, line: Line) -> str:
    cfsr, hfsr, pc = line.numbers()
    if cfsr & _STACK_OVERFLOW:
        return "stack overflow: give MemoryMap more stack_bytes"
    where = function_at(elf, pc) or "no known function"
    return f"CFSR {cfsr:#010x}, HFSR {hfsr:#010x}, PC {pc:#x} in {where}"
