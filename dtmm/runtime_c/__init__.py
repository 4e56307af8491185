"""The C library as files: what a build needs to know to compile it."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

RUN_STRIDES = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Pixel strides, in bytes, that have run kernels (generate/run_kernels.py)."""

RUN_TILES = ((1, 8), (2, 4))
"""Rows and columns of output pixels that a run kernel computes at a time."""


def folder() -> Path:
    """The library's root: CMakeLists.txt, include/, src/, cmake/."""
    return Path(str(resources.files("dtmm.runtime_c")))


def include_dir() -> Path:
    """The folder to pass with -I; the headers are dtmm/*.h in it."""
    return folder() / "include"


def sources() -> tuple[Path, ...]:
    """Every C source of the library; a linker that drops unused sections keeps what is called."""
    return tuple(sorted((folder() / "src").glob("*.c")))


def device_sources() -> tuple[Path, ...]:
    """The same and the kernels in assembly, which are empty objects on cores without MVE."""
    return (*sources(), *sorted((folder() / "src").glob("*.S")))


def digest() -> str:
    """SHA-256 over all sources and headers: measurements hold for this very code."""
    sha = hashlib.sha256()
    parts = (include_dir(), folder() / "src")
    for path in sorted(path for part in parts for path in part.rglob("*.[chS]")):
        sha.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()
