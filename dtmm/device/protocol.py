"""The lines that firmware reports, whatever it runs on, and what a complete run is.

A line is `DTMM <key> <values...>`; the last one is `DTMM END <lines before it>`. Everything else
that comes along (printf, a simulator's greeting) is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtmm.device.block_counts import RegionCounts
from dtmm.device.cache_misses import CacheCounts
from dtmm.device.elf import function_at
from dtmm.errors import MeasurementError, ToolchainError

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

    @property
    def counters(self) -> tuple[tuple[int, int], ...]:
        """(id, cycles) of each region by the core's own counter; 0 cycles where it has none.

        Raises MeasurementError when a region's line does not hold these two numbers.
        """
        found = [line.numbers() for line in self.all("REGION")]
        if wrong := [numbers for numbers in found if len(numbers) != 2]:
            raise MeasurementError(f"line REGION {wrong[0]}: want id, cycles")
        return tuple((number, cycles) for number, cycles in found)


def parse_lines(text: str) -> tuple[Line, ...]:
    """The report lines in what the firmware wrote; lines of other forms (printf) are passed over.

    A last line without its newline was cut short and does not count.
    """
    whole = text[: text.rfind("\n") + 1]
    words = [line.split() for line in whole.splitlines() if line.startswith("DTMM ")]
    return tuple(Line(found[1], tuple(found[2:])) for found in words if len(found) > 1)


def check_complete(
    elf: Path, lines: Sequence[Line], where: str, status: int = 0, said: str = ""
) -> None:
    """Raises unless the firmware came to its end and every line it wrote is here.

    Args:
        where: what it ran on, for the message. status, said: how the program that ran it ended.

    Raises:
        MeasurementError: the firmware faulted, failed, or its lines are cut short.
        ToolchainError: the program that ran it failed.
    """
    last = lines[-1] if lines else Line("nothing", ())
    if last.key == "FAULT":
        raise MeasurementError(f"{elf.name} faulted on {where}: {_fault(elf, last)}")
    if last.key == "FAIL":
        raise MeasurementError(f"{elf.name} failed on {where}: {' '.join(last.values)}")
    if status != 0:
        raise ToolchainError(f"{where} ended with status {status} on {elf.name}: {said}")
    if last.key != "END" or last.numbers() != (len(lines) - 1,):
        final = " ".join((last.key, *last.values))[:60]
        raise MeasurementError(
            f"output of {elf.name} is cut short: {len(lines)} lines, the last one {final!r}, "
            "expected DTMM END and their number"
        )


def _fault(elf: Path, line: Line) -> str:
    cfsr, hfsr, pc = line.numbers()
    if cfsr & _STACK_OVERFLOW:
        return "stack overflow: give MemoryMap more stack_bytes"
    where = function_at(elf, pc) or "no known function"
    return f"CFSR {cfsr:#010x}, HFSR {hfsr:#010x}, PC {pc:#x} in {where}"
