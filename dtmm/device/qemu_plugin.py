"""Builds our QEMU plug-ins, names their arguments and reads what they write."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from dtmm.device.cache import cache_dir, digest, publish
from dtmm.device.elf import symbol
from dtmm.device.toolchain import first_error, require_tool, run_tool
from dtmm.errors import MeasurementError, ToolchainError

# QEMU 7.2 speaks version 1; later releases refuse versions below a minimum that rises.
_API_VERSIONS = range(1, 9)

Arguments = Mapping[str, Sequence[object]]
"""Values by name; a name may come several times."""

Region = tuple[int, list[list[str]]]
"""A region's id and the words of its lines; the first line is what follows its ordinal."""


def plugin_argument(plugin: str, arguments: Arguments) -> str:
    """The value of QEMU's -plugin option for plugin/<plugin>.c, which is built on first use.

    Raises ToolchainError when QEMU takes no plug-ins or a path holds a comma.
    """
    words = [f"{name}={value}" for name, values in arguments.items() for value in values]
    words.insert(0, str(_build(plugin)))
    if any("," in word for word in words):
        raise ToolchainError(f"folder of {words[0]} or {words[1]}: QEMU takes no comma in paths")
    return ",".join(words)


def region_markers(elf: Path) -> dict[str, list[str]]:
    """The arguments that tell a plug-in where regions begin and end.

    Raises ToolchainError when the firmware has no such markers.
    """
    found = {name: symbol(elf, f"dtmm_region_{name}") for name in ("begin", "end")}
    return {name: [f"{at.address:x}:{at.address + at.size:x}"] for name, at in found.items()}


def read_regions(text: str, ids: Iterable[int]) -> list[Region]:
    """Splits a plug-in's file. `ids` are the region ids that the firmware reported, in order.

    Raises MeasurementError when the file is cut short, or holds another number of regions than
    the firmware reported.
    """
    bodies = text.split("REGION ")[1:]
    done = text.splitlines()[-1:]
    if done != [f"DONE {len(bodies)}"]:
        raise MeasurementError(f"region counts end in {done}: expected ['DONE {len(bodies)}']")
    names = list(ids)
    if len(names) != len(bodies):
        raise MeasurementError(
            f"firmware reported {len(names)} regions, the plug-in counted {len(bodies)}"
        )
    lines = [[ln.split() for ln in body.splitlines() if ln[:4] != "DONE"] for body in bodies]
    return [(name, [rows[0][1:], *rows[1:]]) for name, rows in zip(names, lines, strict=True)]


def _build(plugin: str) -> Path:
    """The plug-in for the QEMU on PATH, compiled for the API version that it accepts."""
    qemu = require_tool("qemu-system-arm")
    return _built(plugin, str(qemu.found_path), str(qemu.version), cache_dir())


@functools.lru_cache(maxsize=8)
def _built(plugin: str, qemu: str, qemu_version: str, cache: Path) -> Path:
    code = (resources.files("dtmm.device") / "plugin" / f"{plugin}.c").read_bytes()
    compiler = str(require_tool("cc").version)
    kept = cache / "plugin" / f"{digest([code, qemu, qemu_version, compiler])}.so"
    if kept.is_file():
        return kept
    refusal = ""
    with tempfile.TemporaryDirectory(prefix="dtmm-plugin-") as name:
        source, made = Path(name) / f"{plugin}.c", Path(name) / f"{plugin}.so"
        source.write_bytes(code)
        for version in _API_VERSIONS:
            flags = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden"]
            define = f"-DPLUGIN_API_VERSION={version}"
            run_tool("cc", [*flags, define, source, "-o", made])
            refusal = _refusal(qemu, made)
            if not refusal:
                publish(made, kept)
                return kept
            if "version" not in refusal:
                break
    raise ToolchainError(f"QEMU {qemu_version} ({qemu}) refuses the counting plug-in: {refusal}")


def _refusal(qemu: str, plugin: Path) -> str:
    """What QEMU says against a plug-in, or "" when it takes it; runs no guest."""
    nothing = "out=/dev/null,begin=0:0,end=0:0"
    command = [qemu, "-machine", "none", "-display", "none", "-monitor", "stdio"]
    try:
        done = subprocess.run(
            [*command, "-plugin", f"{plugin},{nothing}"],
            input="quit\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else first_error(done.stderr)
