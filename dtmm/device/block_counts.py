"""Executions of every translation block per counted region, from the QEMU plug-in."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtmm.device.cache import cache_dir, digest, publish
from dtmm.device.elf import symbol
from dtmm.device.toolchain import first_error, require_tool, run_tool
from dtmm.errors import MeasurementError, ToolchainError

# QEMU 7.2 speaks version 1; later releases refuse versions below a minimum that rises.
_API_VERSIONS = range(1, 9)


@dataclass(frozen=True)
class RegionCounts:
    """What ran between one dtmm_region_begin and its dtmm_region_end.

    Five arrays with one entry per executed translation block, int64: address of the first
    instruction `pc` and the address behind the last `end`, `instructions` in the block,
    `executions`, and `taken`, the executions after which control did not fall through to `end`.
    id is the argument of dtmm_region_begin.
    """

    id: int
    pc: NDArray[np.int64]
    end: NDArray[np.int64]
    instructions: NDArray[np.int64]
    executions: NDArray[np.int64]
    taken: NDArray[np.int64]

    @property
    def total_instructions(self) -> int:
        """Instructions executed in the region."""
        return int(self.instructions @ self.executions)


def plugin_argument(elf: Path, out: Path) -> str:
    """The value of QEMU's -plugin option that counts the regions of `elf` into the file `out`.

    Builds the plug-in on first use. Raises ToolchainError when QEMU takes no plug-ins or the
    firmware has no region markers.
    """
    arguments = [str(build_plugin()), f"out={out}"]
    for name in ("begin", "end"):
        marker = symbol(elf, f"dtmm_region_{name}")
        arguments.append(f"{name}={marker.address:x}:{marker.address + marker.size:x}")
    if any("," in argument for argument in arguments):
        raise ToolchainError(f"folder of {arguments[0]} or {out}: QEMU takes no comma in paths")
    return ",".join(arguments)


def build_plugin() -> Path:
    """The plug-in for the QEMU on PATH, compiled for the API version that it accepts."""
    qemu = require_tool("qemu-system-arm")
    return _build_plugin(str(qemu.found_path), str(qemu.version), cache_dir())


@functools.lru_cache(maxsize=8)
def _build_plugin(qemu: str, qemu_version: str, cache: Path) -> Path:
    code = (resources.files("dtmm.device") / "plugin" / "block_counts.c").read_bytes()
    compiler = str(require_tool("cc").version)
    kept = cache / "plugin" / f"{digest([code, qemu, qemu_version, compiler])}.so"
    if kept.is_file():
        return kept
    refusal = ""
    with tempfile.TemporaryDirectory(prefix="dtmm-plugin-") as name:
        source, made = Path(name) / "block_counts.c", Path(name) / "block_counts.so"
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
    arguments = f"{plugin},out=/dev/null,begin=0:0,end=0:0"
    command = [qemu, "-machine", "none", "-display", "none", "-monitor", "stdio"]
    try:
        done = subprocess.run(
            [*command, "-plugin", arguments],
            input="quit\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else first_error(done.stderr)


def read_counts(text: str, ids: Iterable[int]) -> tuple[RegionCounts, ...]:
    """Reads the plug-in's file. `ids` are the region ids that the firmware reported, in order.

    Raises MeasurementError when the file is cut short, malformed, or holds another number of
    regions than the firmware reported.
    """
    bodies = text.split("REGION ")
    done = bodies[-1].splitlines()[-1:]
    regions = bodies[1:]
    if done != [f"DONE {len(regions)}"]:
        raise MeasurementError(f"block counts end in {done}: expected ['DONE {len(regions)}']")
    names = tuple(ids)
    if len(names) != len(regions):
        raise MeasurementError(
            f"firmware reported {len(names)} regions, the plug-in counted {len(regions)}"
        )
    return tuple(_region(number, body) for number, body in zip(names, regions, strict=True))


def _region(number: int, body: str) -> RegionCounts:
    rows = [line.split() for line in body.splitlines()[1:] if not line.startswith("DONE")]
    try:
        parsed = [(int(a, 16), int(b, 16), int(c), int(d), int(e)) for a, b, c, d, e in rows]
    except ValueError as error:
        raise MeasurementError(f"block counts of region {number} are malformed: {error}") from error
    # by address, so that equal runs give equal arrays whatever the order of translation
    table = np.array(sorted(parsed), dtype=np.int64).reshape(-1, 5)
    return RegionCounts(number, *(np.ascontiguousarray(column) for column in table.T))
