"""What is in an ELF file: sections and symbols with their addresses and sizes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from dtmm.device.memory import MemoryMap
from dtmm.errors import ToolchainError

_SHF_ALLOC = 0x2


@dataclass(frozen=True)
class Elf:
    """A linked firmware and how it was made. `memory` is the map that was really used."""

    path: Path
    target: str
    compiler: str
    flags: tuple[str, ...]
    memory: MemoryMap


@dataclass(frozen=True)
class Symbol:
    """A name with its address (the Thumb bit of functions cleared) and size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class FlashBytes:
    """Bytes of flash by kind; the first five are the product's, the last two are not.

    weights, index, parameters: arrays in .dtmm.weights, .dtmm.index and .dtmm.params. code: the
    runtime's and the model's instructions. constants: their other read-only data and the initial
    values of their variables. library: C library and compiler support, all of it, also what only
    the harness calls. harness: the measuring frame.
    """

    weights: int
    index: int
    parameters: int
    code: int
    constants: int
    library: int
    harness: int


def section_sizes(elf: Path) -> dict[str, int]:
    """Bytes of every section that takes memory on the device, by name."""
    with _open(elf) as file:
        return {
            section.name: int(section["sh_size"])
            for section in file.iter_sections()
            if section["sh_flags"] & _SHF_ALLOC and section["sh_size"]
        }


def flash_bytes(elf: Path) -> FlashBytes:
    """The flash of an ELF linked with firmware/an547.ld, by kind."""
    sizes = section_sizes(elf)

    def total(*names: str) -> int:
        return sum(sizes.get(name, 0) for name in names)

    return FlashBytes(
        weights=total(".dtmm_weights"),
        index=total(".dtmm_index"),
        parameters=total(".dtmm_params"),
        code=total(".dtmm_text"),
        constants=total(".dtmm_rodata", ".dtmm_data"),
        library=total(".text", ".rodata", ".data", ".ARM.exidx"),
        harness=total(".vectors", ".harness_text", ".harness_rodata"),
    )


def product_ram_bytes(elf: Path) -> int:
    """Bytes of the product's variables (.data and .bss: arena, scratch and the like), no stack."""
    sizes = section_sizes(elf)
    return sizes.get(".dtmm_data", 0) + sizes.get(".dtmm_bss", 0)


def sizes_by_prefix(elf: Path, prefix: str) -> int:
    """Total bytes of the symbols whose names begin with `prefix`."""
    return sum(symbol.size for symbol in symbols(elf) if symbol.name.startswith(prefix))


def symbols(elf: Path) -> list[Symbol]:
    """All named functions and objects, in file order."""
    with _open(elf) as file:
        return [
            Symbol(
                entry.name,
                int(entry["st_value"]) & ~(1 if entry["st_info"]["type"] == "STT_FUNC" else 0),
                int(entry["st_size"]),
            )
            for table in file.iter_sections()
            if isinstance(table, SymbolTableSection)
            for entry in table.iter_symbols()
            if entry.name and entry["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE")
        ]


def symbol(elf: Path, name: str) -> Symbol:
    """One symbol by its exact name.

    Raises ToolchainError when there is none, with the nearest name, or when several places have it.
    """
    known = symbols(elf)
    if not known:
        raise ToolchainError(f"{elf}: no symbol {name!r}, nor any other: it is stripped")
    found = {each.address: each for each in known if each.name == name}
    if len(found) > 1:
        places = ", ".join(f"{address:#x}" for address in sorted(found))
        raise ToolchainError(f"{elf}: {len(found)} symbols are named {name!r}, at {places}")
    if not found:
        near = difflib.get_close_matches(name, {each.name for each in known}, n=1)
        hint = f"; nearest: {near[0]!r}" if near else ""
        raise ToolchainError(f"{elf}: no symbol {name!r}{hint}")
    return next(iter(found.values()))


def compiler_comment(elf: Path) -> str | None:
    """What compilers noted in an ELF's .comment section, None where it was left out."""
    with _open(elf) as file:
        section = file.get_section_by_name(".comment")
        words = section.data().decode(errors="replace") if section is not None else ""
    return (
        "; ".join(dict.fromkeys(word.strip() for word in words.split("\0") if word.strip())) or None
    )


def require_arm_program(elf: Path) -> None:
    """Raises ToolchainError unless the file is a linked program for 32-bit little-endian Arm."""
    with _open(elf) as file:
        machine, kind = file["e_machine"], file["e_type"]
        arm = machine == "EM_ARM" and file.elfclass == 32 and file.little_endian
    if not arm:
        raise ToolchainError(
            f"{elf}: is for {str(machine).removeprefix('EM_')}, expected a program for 32-bit "
            "little-endian Arm"
        )
    if kind != "ET_EXEC":
        raise ToolchainError(f"{elf}: is of type {kind}, expected a linked program (ET_EXEC)")


def function_at(elf: Path, address: int) -> str | None:
    """The name of the function that holds an address, or None."""
    for found in symbols(elf):
        if found.address <= address < found.address + found.size:
            return found.name
    return None


@contextmanager
def _open(elf: Path) -> Iterator[ELFFile]:
    try:
        with elf.open("rb") as stream:
            yield ELFFile(stream)
    except OSError as error:
        raise ToolchainError(f"{elf}: {error.strerror}, expected an ELF file") from error
    except ELFError as error:
        raise ToolchainError(f"{elf}: not an ELF file ({error})") from error
    except Exception as error:  # a damaged table trips pyelftools anywhere
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ToolchainError(f"{elf}: a damaged ELF file ({said})") from error
