"""Objects of C and assembly sources, compiled once and kept in the cache."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dtmm.device.cache import cache_dir, digest, publish
from dtmm.device.toolchain import require_tool, run_tool
from dtmm.errors import ToolchainError

_READS_OTHER_FILES = re.compile(rb'\.incbin|#\s*include\s+(?![<"][^>"]*\.h[>"])')


def compile_sources(
    sources: Sequence[Path], options: Sequence[str], includes: Sequence[Path], folder: Path
) -> list[Path]:
    """An object in `folder` for each source, in order; a source that is an object is copied.

    An object comes from the cache when compiler, options, source and all headers in the include
    folders and beside the sources are the same: hashing them takes milliseconds, preprocessing 200
    sources takes seconds. The C library's headers count by their place. A source that reads others
    than headers is compiled each time.

    Raises:
        ToolchainError: a source is missing, or the compiler's first error line.
    """
    sources = existing(sources)
    clang = require_tool("clang")
    found = {folder: _headers(folder) for folder in {*includes, *(each.parent for each in sources)}}
    headers = digest([found[include] for include in includes])
    shared = [str(clang.found_path), str(clang.version), *options, headers]
    made = [folder / f"{number:03d}_{source.stem}.o" for number, source in enumerate(sources)]

    def compile_one(source: Path, target: Path) -> None:
        if source.suffix == ".o":
            publish(source, target)
            return
        text = source.read_bytes()
        key = digest([*shared, found[source.parent], source.suffix, text])
        kept = cache_dir() / "objects" / f"{key}.o"
        if not _READS_OTHER_FILES.search(text) and kept.is_file():
            publish(kept, target)
            return
        where = [f"-I{include}" for include in includes]
        run_tool("clang", ["-c", *options, *where, source, "-o", target])
        publish(target, kept)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, made))
    return made


def existing(sources: Sequence[Path]) -> list[Path]:
    """The same, all of them files.

    Raises:
        ToolchainError: one is not.
    """
    for source in sources:
        if not source.is_file():
            raise ToolchainError(f"source file {source} does not exist")
    return list(sources)


def _headers(folder: Path) -> str:
    """A name for the headers below a folder: their places and contents."""
    paths = sorted(folder.rglob("*.h"))
    return digest(
        part for path in paths for part in (str(path.relative_to(folder)), path.read_bytes())
    )
