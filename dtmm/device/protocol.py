"""The lines that firmware reports, whatever it runs on, and what a complete run is.

A line is `DTMM <key> <values...> *<crc>`; the last one is `DTMM END <lines before it> *<crc>`. The
checksum runs on from line to line (firmware/dtmm_firmware.h), so that a serial line's noise cannot
change, lose, double or displace one unnoticed. Everything else that comes along (printf, a
simulator's greeting) is passed over.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from dtmm.device.block_counts import RegionCounts
from dtmm.device.cache_misses import CacheCounts
from dtmm.device.elf import function_at
from dtmm.errors import MeasurementError, ToolchainError

_CHECKED = re.compile(r"(DTMM \S.*) \*([0-9a-f]{8})", re.DOTALL)
_STACK_OVERFLOW = 1 << 20  # CFSR.STKOF, Armv8-M Architecture Reference Manual


class DamagedReportError(MeasurementError):
    """What arrived is not what the firmware wrote: another run may get it whole."""


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


@dataclass(frozen=True)
class Transcript:
    """What arrived: the lines up to the first damaged one, and what is wrong with that."""

    lines: tuple[Line, ...]
    damage: str | None = None


def parse_lines(text: str) -> tuple[Line, ...]:
    """The report lines of a program on this machine, which writes them without checksums.

    Lines of other forms (printf) are passed over. A last line without its newline was cut short
    and does not count.
    """
    return tuple(_line(line) for line in _whole_lines(text) if len(line.split()) > 1)


def read_transcript(text: str) -> Transcript:
    """The report lines that firmware wrote, every one checked; other lines are passed over.

    A last line without its newline was cut short and does not count.
    """
    lines: list[Line] = []
    crc = 0
    for text_line in _whole_lines(text):
        match = _CHECKED.fullmatch(text_line)
        body, found = match.groups() if match else (text_line, None)
        crc = zlib.crc32(f"{body}\n".encode(), crc)
        if found != f"{crc:08x}":
            said = "no checksum" if found is None else f"checksum {found}, expected {crc:08x}"
            shown = text_line if len(text_line) <= 60 else f"{text_line[:57]}..."
            damage = f"line {len(lines) + 1} has {said} ({shown!r}): it was changed or one is lost"
            return Transcript(tuple(lines), damage)
        lines.append(_line(body))
    return Transcript(tuple(lines))


def _whole_lines(text: str) -> list[str]:
    """Report lines without their ends: a serial port may add a carriage return."""
    lines = text[: text.rfind("\n") + 1].split("\n")
    return [line.removesuffix("\r") for line in lines if line.startswith("DTMM ")]


def _line(text: str) -> Line:
    words = text.split()
    return Line(words[1], tuple(words[2:]))


def check_complete(
    elf: Path, transcript: Transcript, where: str, status: int = 0, said: str = ""
) -> None:
    """Raises unless the firmware came to its end and every line it wrote is here, unchanged.

    Args:
        where: what it ran on, for the message. status, said: how the program that ran it ended.

    Raises:
        MeasurementError: the firmware itself faulted or failed.
        ToolchainError: the program that ran it failed.
        DamagedReportError: its lines are damaged or cut short.
    """
    lines = transcript.lines
    last = lines[-1] if lines else Line("nothing", ())
    if last.key == "FAULT":
        raise MeasurementError(f"{elf.name} faulted on {where}: {_fault(elf, last)}")
    if last.key == "FAIL":
        raise MeasurementError(f"{elf.name} failed on {where}: {' '.join(last.values)}")
    if status != 0:
        raise ToolchainError(f"{where} ended with status {status} on {elf.name}: {said}")
    if transcript.damage is not None:
        raise DamagedReportError(f"output of {elf.name} on {where} is damaged: {transcript.damage}")
    if last.key != "END" or last.numbers() != (len(lines) - 1,):
        final = " ".join((last.key, *last.values))[:60]
        raise DamagedReportError(
            f"output of {elf.name} is cut short: {len(lines)} lines, the last one {final!r}, "
            f"expected DTMM END and their number; {where} said: {said}"
        )


def _fault(elf: Path, line: Line) -> str:
    cfsr, hfsr, pc = line.numbers()
    if cfsr & _STACK_OVERFLOW:
        return "stack overflow: give MemoryMap more stack_bytes"
    where = function_at(elf, pc) or "no known function"
    return f"CFSR {cfsr:#010x}, HFSR {hfsr:#010x}, PC {pc:#x} in {where}"
