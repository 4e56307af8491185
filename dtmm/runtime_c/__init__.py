"""The C library as files: what a build needs to know to compile it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class RunKernel:
    """What a run kernel (generate/run_kernels.py) is specialised to.

    Attributes:
        in_stride: bytes between input pixels, a multiple of 16.
        rows, columns: of the output pixels that it computes at a time, 8 in all.
        stride_w: horizontal stride of the convolution.
    """

    in_stride: int
    rows: int
    columns: int
    stride_w: int

    @property
    def name(self) -> str:
        """Such as c64_1x8 or c64_1x8_s2; in C it is dtmm_conv_kernel_<name>."""
        step = "" if self.stride_w == 1 else f"_s{self.stride_w}"
        return f"c{self.in_stride}_{self.rows}x{self.columns}{step}"


RUN_REACH = 508
"""The largest immediate of a vector load: bytes from one of a tile's pixels to its neighbour."""

RUN_KERNELS = tuple(
    RunKernel(in_stride, rows, columns, stride_w)
    for stride_w in (1, 2)
    for in_stride in (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
    for rows, columns in ((1, 8), (2, 4))
    if in_stride * stride_w <= RUN_REACH
)
"""All run kernels; of those that fit a convolution, earlier ones are faster by the tile."""


@dataclass(frozen=True)
class PointKernel:
    """What a pointwise kernel (generate/point_kernels.py) is specialised to.

    Attributes:
        in_stride: bytes between input pixels, a multiple of 16.
        stride_w: horizontal stride of the convolution.
    """

    in_stride: int
    stride_w: int

    @property
    def name(self) -> str:
        """Such as p64 or p64_s2; in C it is dtmm_conv_kernel_<name>."""
        return f"p{self.in_stride}" if self.stride_w == 1 else f"p{self.in_stride}_s{self.stride_w}"


POINT_KERNELS = tuple(
    PointKernel(in_stride, stride_w)
    for stride_w in (1, 2)
    for in_stride in (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
    if in_stride * stride_w <= RUN_REACH
)
"""All pointwise kernels."""

POINT_PIXELS = 4
"""Output pixels that a pointwise kernel computes at a time."""


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
