"""The instructions of an ELF as text that an assembler, and so llvm-mca, reads back."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from dtmm.device.toolchain import run_tool
from dtmm.errors import MeasurementError

_LABEL = re.compile(r"^[0-9a-f]+ <(.*)>:")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+((?:[0-9a-f]{4} )*[0-9a-f]{4})\s*\t(\S.*)$")


# QEMU ends a block where the next instruction would cross a page of the M profile. It has read
# that instruction's first half by then and (seen with 7.2) adds it to the size of the one before.
QEMU_PAGE = 1024


@dataclass(frozen=True)
class Block:
    """The instructions of one translation block and the label above them.

    at_page_end: the block ends before an instruction that crosses a page, where QEMU reports an
    end two bytes too far. It always falls through, but the plug-in sees a taken edge.
    """

    instructions: tuple[str, ...]
    symbol: str
    at_page_end: bool


@dataclass(frozen=True)
class Disassembly:
    """Instructions in address order. `position` gives an address's place in the other lists.

    text: without comments and symbol references, fields separated by single blanks. size: bytes.
    symbol: the label above the instruction.
    """

    path: Path
    position: dict[int, int]
    address: list[int]
    size: list[int]
    text: list[str]
    symbol: list[str]

    def block(self, pc: int, end: int, instructions: int) -> Block:
        """The block that QEMU translated as pc..end.

        Raises MeasurementError when the ELF does not hold it, so is not the one that ran.
        """
        first = self.position.get(pc, len(self.address))
        last = first + instructions - 1
        stop = self.address[last] + self.size[last] if last < len(self.address) else -1
        at_page_end = end == stop + 2 and end % QEMU_PAGE == 0
        if stop != end and not at_page_end:
            raise MeasurementError(
                f"{self.path.name} has no block of {instructions} instructions at {pc:#x}..{end:#x}"
                ": the counts are of another ELF"
            )
        return Block(tuple(self.text[first : last + 1]), self.symbol[first], at_page_end)


def disassemble(elf: Path) -> Disassembly:
    """Disassembles every executable section with llvm-objdump (GNU's of Debian 12 prints no MVE).

    A file's listing is remembered while the file stays as it is: many runs price blocks of one ELF.
    Raises ToolchainError when llvm-objdump is missing or cannot read the file.
    """
    changed = elf.stat().st_mtime_ns if elf.is_file() else 0
    return _disassembled(elf.resolve(), changed)


@functools.lru_cache(maxsize=2)
def _disassembled(elf: Path, changed: int) -> Disassembly:
    listing = run_tool("llvm-objdump", ["-d", "--mcpu=cortex-m55", elf])
    found = Disassembly(elf, {}, [], [], [], [])
    symbol = ""
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            symbol = label.group(1)
        elif match := _INSTRUCTION.match(line):
            address, raw, text = match.groups()
            found.position[int(address, 16)] = len(found.address)
            found.address.append(int(address, 16))
            found.size.append(2 * len(raw.split()))
            found.text.append(_plain(text))
            found.symbol.append(symbol)
    return found


def _plain(text: str) -> str:
    """`ldr\\tr0, [pc, #8]  @ 0x40 <table>` -> `ldr r0, [pc, #8]`."""
    text = text.split("@")[0].strip().replace("\t", " ")
    return re.sub(r"<[^>]*>", "", text).strip()
