"""Finds the programs that build, run and price firmware, and runs them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtmm.errors import ToolchainError


@dataclass(frozen=True)
class ToolSpec:
    """What to look for: the first of `candidates` on PATH that runs, from `minimum` on."""

    name: str
    candidates: tuple[str, ...]
    needed_for: str
    package: str
    minimum: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tool:
    """One program as found. `found_path` is None when it is missing or too old.

    `version` is None when nothing was found; with a version and no path it is of one too old.
    """

    name: str
    found_path: Path | None
    version: str | None
    needed_for: str
    how_to_get: str


# LLVM 19 first: it is the release the m55-v1 cycle model was made with. A plain name may be a
# later release, which then stands in the cycle model's name. Packages are Debian's.
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec("clang", ("clang-19", "clang"), "compiling for Cortex-M55", "clang-19"),
    ToolSpec("llvm-mca", ("llvm-mca-19", "llvm-mca"), "the cycle model", "llvm-19"),
    ToolSpec("llvm-objdump", ("llvm-objdump-19", "llvm-objdump"), "the cycle model", "llvm-19"),
    ToolSpec(
        "arm-none-eabi-gcc",
        ("arm-none-eabi-gcc",),
        "linking for Cortex-M55",
        "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    ),
    ToolSpec(
        "qemu-system-arm",
        ("qemu-system-arm",),
        "running firmware on a simulated Cortex-M55",
        "qemu-system-arm",
        (6, 2),  # the first with mps3-an547 and MVE
    ),
    ToolSpec("cc", ("cc", "gcc", "clang-19", "clang"), "the host's C library", "gcc libc6-dev"),
)


def find_tool(name: str) -> Tool:
    """Looks up one of TOOLS by name; a missing program gives a Tool without a path.

    Raises ToolchainError for a name that is not in TOOLS.
    """
    return _find(name, os.environ.get("PATH", os.defpath))


def require_tool(name: str) -> Tool:
    """As find_tool, but raises ToolchainError, saying how to install it, when it is missing."""
    tool = find_tool(name)
    if tool.found_path is None and tool.version is not None:
        least = ".".join(map(str, next(spec.minimum for spec in TOOLS if spec.name == name)))
        raise ToolchainError(
            f"{name} {tool.version} is too old: expected {least} or later, needed for "
            f"{tool.needed_for}; {tool.how_to_get}"
        )
    if tool.found_path is None:
        raise ToolchainError(
            f"{name} is missing or does not run: needed for {tool.needed_for}; {tool.how_to_get}"
        )
    return tool


def tools_report() -> list[Tool]:
    """Every program this package uses, found or not, in the order of TOOLS."""
    return [find_tool(spec.name) for spec in TOOLS]


def run_tool(
    name: str,
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout_s: float = 300.0,
) -> str:
    """Runs a tool to its end and returns its standard output.

    Raises ToolchainError with the first error line of the tool when it is missing, fails or
    takes longer than `timeout_s` seconds.
    """
    tool = require_tool(name)
    try:
        done = subprocess.run(
            [str(tool.found_path), *map(str, arguments)],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"{name} took longer than {timeout_s:g} s and was stopped") from error
    if done.returncode != 0:
        raise ToolchainError(f"{name} failed ({done.returncode}): {first_error(done.stderr)}")
    return done.stdout


def first_error(text: str) -> str:
    """The line of a tool's output that says most: the first with `error`, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # the linker's most telling lines carry no "error"
    telling = re.compile(r"\berror\b|overflowed|undefined reference", re.IGNORECASE)
    return next((line for line in lines if telling.search(line)), lines[-1] if lines else "no text")


@functools.lru_cache(maxsize=64)
def _find(name: str, path: str) -> Tool:
    spec = next((spec for spec in TOOLS if spec.name == name), None)
    if spec is None:
        known = ", ".join(spec.name for spec in TOOLS)
        raise ToolchainError(f"unknown tool {name!r}: expected one of {known}")
    how = f"install it with: apt install {spec.package}"
    old = None
    for candidate in spec.candidates:
        found = shutil.which(candidate, path=path)
        version = _version(found) if found else None
        if found and version and tuple(map(int, version.split("."))) >= spec.minimum:
            return Tool(spec.name, Path(found), version, spec.needed_for, how)
        old = old or version
    return Tool(spec.name, None, old, spec.needed_for, how)


def _version(program: str) -> str | None:
    """The first dotted number that `program --version` prints, or None when it does not run."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # after a space, so that the 15:12.2.rel1-1 of a package version is passed over
    match = re.search(r"(?<=\s)v?(\d+\.\d+(?:\.\d+)?)\b", done.stdout)
    return match.group(1) if match else None
