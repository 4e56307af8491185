"""The C library through ctypes, and activation buffers whose every byte is accounted for."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

OK, BAD_ARGUMENT, NO_SPACE, _, UNSUPPORTED = 0, -1, -2, -3, -4

Bytes = npt.NDArray[np.int8]
_int32 = ctypes.c_int32


class Tensor(ctypes.Structure):
    """dtmm_tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("height", _int32),
        ("width", _int32),
        ("channels", _int32),
        ("pixel_stride", _int32),
        ("row_stride", _int32),
        ("halo", _int32),
    )


class Output(ctypes.Structure):
    """dtmm_output_params."""

    _fields_ = (("zero_point", _int32), ("activation_min", _int32), ("activation_max", _int32))


class ConvParams(ctypes.Structure):
    """dtmm_conv_params."""

    _fields_ = (
        ("kernel", _int32 * 2),
        ("stride", _int32 * 2),
        ("dilation", _int32 * 2),
        ("pad", _int32 * 2),
        ("output", Output),
    )


class ConvWeights(ctypes.Structure):
    """dtmm_conv_weights."""

    _fields_ = (
        ("out_channels", _int32),
        ("in_stride", _int32),
        ("weights", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("params", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
    )


class AddParams(ctypes.Structure):
    """dtmm_add_params."""

    _fields_ = (
        ("a", _int32 * 3),
        ("b", _int32 * 3),
        ("left_shift", _int32),
        ("out", _int32 * 2),
        ("output", Output),
    )


class PoolParams(ctypes.Structure):
    """dtmm_pool_params."""

    _fields_ = (
        ("window", _int32 * 2),
        ("stride", _int32 * 2),
        ("pad", _int32 * 2),
        ("output", Output),
    )


class MeanParams(ctypes.Structure):
    """dtmm_mean_params."""

    _fields_ = (
        ("in_zero_point", _int32),
        ("multiplier", _int32),
        ("shift", _int32),
        ("output", Output),
    )


def load(path: Path) -> ctypes.CDLL:
    """The shared library with its return types declared."""
    library = ctypes.CDLL(str(path))
    for kernel in ("dense", "fwcs", "im2col", "pointwise", "csr", "fkw"):
        getattr(library, f"dtmm_conv_{kernel}_s8_get_buffer_size").restype = ctypes.c_size_t
    library.dtmm_conv_csr_list.restype = ctypes.c_size_t
    return library


def address(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    """Pointer to an array's first byte."""
    return ctypes.c_void_p(array.ctypes.data)


def aligned(size: int) -> Bytes:
    """`size` bytes of their own from malloc, so that a sanitizer sees where they end."""
    array = np.empty(size, np.int8)
    assert array.ctypes.data % 16 == 0
    return array


@dataclass(frozen=True)
class Layout:
    """How a view lies in its buffer.

    Attributes:
        pad_channels: bytes between a pixel's channels and the next pixel.
        halo: pixels.
        extra_row: bytes between rows beyond a shared halo's.
        margin: bytes before and after, a multiple of 16: canaries.
    """

    pad_channels: int = 0
    halo: int = 0
    extra_row: int = 0
    margin: int = 64


class View:
    """A dtmm_tensor in a buffer of its own, which starts out as noise."""

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int, int], layout: Layout
    ) -> None:
        self.shape, self.layout = shape, layout
        height, width, channels = shape
        halo = layout.halo
        self.pixel = channels + layout.pad_channels
        self.row = (width + halo) * self.pixel + layout.extra_row
        first = layout.margin + halo * (self.row + self.pixel)
        last = first + (height - 1 + halo) * self.row + (width - 1 + halo) * self.pixel
        self.buffer = aligned(last + self.pixel + layout.margin)
        self.buffer[:] = rng.integers(-128, 128, self.buffer.size, dtype=np.int8)
        self.first = first

    @property
    def in_line(self) -> bool:
        """Whether its rows follow each other without a gap."""
        return self.row == self.shape[1] * self.pixel

    def tensor(self) -> Tensor:
        """The struct to pass; valid while this view lives."""
        height, width, channels = self.shape
        data = self.buffer.ctypes.data + self.first
        return Tensor(data, height, width, channels, self.pixel, self.row, self.layout.halo)

    def offsets(self, halo: int) -> npt.NDArray[np.int64]:
        """[H + 2 halo, W + 2 halo]: byte offset of every pixel."""
        y = np.arange(-halo, self.shape[0] + halo)[:, None]
        x = np.arange(-halo, self.shape[1] + halo)[None, :]
        return self.first + y * self.row + x * self.pixel

    def fill(self, image: Bytes, zero_point: int) -> None:
        """Writes an image [H, W, C] and a halo of `zero_point`; the rest stays noise."""
        channels = np.arange(self.shape[2])
        self.buffer[self.offsets(self.layout.halo)[..., None] + channels] = zero_point
        self.buffer[self.offsets(0)[..., None] + channels] = image

    def assert_holds(self, image: Bytes, zero_point: int, before: Bytes) -> None:
        """The image is here, the halo is `zero_point`, and nothing else has changed since
        `before` except bytes between the channels of neighbouring halo pixels."""
        channels = np.arange(self.shape[2])
        want = before.copy()
        got = self.buffer.copy()
        halo = self.offsets(self.layout.halo)
        inner = self.offsets(0)
        in_halo = ~np.isin(halo, inner)
        between = np.arange(self.shape[2], self.pixel)
        # the last halo pixel of a run of them may not be written beyond its channels
        followed = in_halo & np.isin(halo + self.pixel, halo[in_halo])
        loose = halo[followed][:, None] + between
        want[loose] = got[loose]
        want[halo[..., None] + channels] = zero_point
        want[inner[..., None] + channels] = image
        np.testing.assert_array_equal(got[inner[..., None] + channels], image)
        np.testing.assert_array_equal(got, want)
