"""What the library promises an embedded engineer: no malloc, no globals, no names but its own, and
headers that Doxygen understands."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from dtmm.device.build import target_flags
from dtmm.device.toolchain import require_tool
from dtmm.runtime_c import device_sources, include_dir, sources

HEADERS = sorted(include_dir().glob("dtmm/*.h"))
M55 = ("-mcpu=cortex-m55", "-mfloat-abi=hard")
BUILDS = {
    "gcc, Cortex-M55": ("arm-none-eabi-gcc", *M55),
    "gcc, Cortex-M4": ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"),
    "clang, Cortex-M55": ("clang", *target_flags("m55"), "-isystem", "/usr/include/newlib"),
    "clang, this machine": ("clang", "-fno-pic"),
}
# beyond its own names: copying, and what compilers call for arithmetic
OUTSIDE = re.compile(
    r"mem(cpy|set|move)|__aeabi_\w+|__(popcount|clz|ctz|div|mod|u)\w+2|__\w+[sd]i\d"
)


def objects(folder: Path, build: str, files: list[Path]) -> list[Path]:
    tool, *flags = BUILDS[build]
    compiler = str(require_tool(tool).found_path)
    command = [compiler, *flags, "-std=c11", "-O2", f"-I{include_dir()}", "-c", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return sorted(folder.glob("*.o"))


def complaints(made: list[Path]) -> list[str]:
    """Writable sections, and names used or given that are not the library's."""
    found, used, given = [], set(), set()
    for path in made:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            found += [
                f"{path.name}: {section.name} is writable"
                for section in elf.iter_sections()
                if section["sh_flags"] & SH_FLAGS.SHF_WRITE and section["sh_size"]
            ]
            for symbol in elf.get_section_by_name(".symtab").iter_symbols():
                if symbol["st_info"]["bind"] == "STB_LOCAL" or not symbol.name:
                    continue
                (used if symbol["st_shndx"] == "SHN_UNDEF" else given).add(symbol.name)
    found += [f"uses {name}" for name in sorted(used - given) if not OUTSIDE.fullmatch(name)]
    return found + [f"defines {name}" for name in sorted(given) if not name.startswith("dtmm_")]


@pytest.mark.parametrize("build", BUILDS)
def test_no_malloc_no_globals_no_other_names(toolchain: None, tmp_path: Path, build: str) -> None:
    files = sources() if build.endswith("this machine") else device_sources()
    made = objects(tmp_path, build, list(files))
    assert len(made) == len(files)
    assert complaints(made) == []


def test_the_check_sees_what_it_looks_for(toolchain: None, tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text(
        "#include <stdlib.h>\nstatic int calls;\nint *count(void);\n"
        "int *count(void) { ++calls; return malloc(4); }\n"
        "int *where(void);\nint *where(void) { return &calls; }\n"
    )
    found = complaints(objects(tmp_path, "clang, this machine", [source]))
    assert found == ["bad.o: .bss is writable", "uses malloc", "defines count", "defines where"]


def clang(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(require_tool("clang").found_path), *arguments, f"-I{include_dir()}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


DOCUMENTATION = (
    "-std=c11",
    "-fsyntax-only",
    "-Wall",
    "-Wdocumentation",
    "-Wdocumentation-pedantic",
)


@pytest.mark.parametrize("header", HEADERS, ids=lambda p: p.name)
def test_headers_are_documented(toolchain: None, header: Path) -> None:
    done = clang(*DOCUMENTATION, "-Werror", "-x", "c", str(header))
    assert done.returncode == 0, done.stderr
    assert "/** @file\n" in header.read_text(), "a header says what it is about"
    dump = clang("-std=c11", "-fsyntax-only", "-Xclang", "-ast-dump=json", "-x", "c", str(header))
    declarations = [
        node
        for node in json.loads(dump.stdout)["inner"]
        if node["kind"] == "FunctionDecl" and node["name"].startswith("dtmm_")
    ]
    without = [node["name"] for node in declarations if not has_comment(node)]
    own = [name for name in without if f"{name}(" in header.read_text()]  # not of included headers
    # a twin that gives the size of the scratch buffer follows its operator
    missing = [name for name in own if not name.endswith("_get_buffer_size")]
    assert not missing, f"{header.name}: no Doxygen comment before {', '.join(missing)}"


def has_comment(node: dict[str, Any]) -> bool:
    return any(inner["kind"] == "FullComment" for inner in node.get("inner", []))


def test_a_wrong_comment_is_seen(toolchain: None, tmp_path: Path) -> None:
    header = tmp_path / "bad.h"
    header.write_text("/** Adds.\n *  @param c no such parameter */\nint add(int a, int b);\n")
    assert "parameter 'c' not found" in clang(*DOCUMENTATION, "-Werror", str(header)).stderr
