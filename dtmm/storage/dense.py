"""Dense weights: one filter after the other, pixels or whole windows padded to vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage.stored import (
    PARAMETER_BYTES,
    VECTOR_BYTES,
    Int8Array,
    Kernel,
    StorageSize,
    check_ohwi,
    pad_last,
    round_up,
)

IM2COL_MAX_BYTES = 256
"""Largest window that is worth gathering, of an input of fewer channels than a vector holds."""


@dataclass(frozen=True)
class Dense:
    """A convolution's weights as dtmm_conv_dense_s8 or dtmm_conv_im2col_s8 reads them.

    Attributes:
        weights: int8 [C_out * kh * kw * in_stride], or [C_out * in_stride] where `whole_windows`.
        out_channels, kernel, in_channels: the shape [C_out, kh, kw, C_in] of the dense weights.
        in_stride: bytes of a stored unit.
        whole_windows: the padded unit is a whole filter (im2col), not one filterlet.
    """

    weights: Int8Array
    out_channels: int
    kernel: Kernel
    in_channels: int
    in_stride: int
    whole_windows: bool

    @property
    def index(self) -> npt.NDArray[np.uint8]:
        """Dense weights need none."""
        return np.zeros(0, np.uint8)

    @property
    def size(self) -> StorageSize:
        """Flash bytes, parameters included."""
        return StorageSize(self.weights.size, 0, self.out_channels * PARAMETER_BYTES)


def encode_dense(weights: Int8Array, in_stride: int) -> Dense:
    """int8 [C_out, kh, kw, C_in] with every filterlet padded to in_stride bytes.

    Raises UnsupportedError on another shape or dtype, or if in_stride cannot hold C_in.
    """
    check_ohwi(weights, in_stride)
    flat = pad_last(weights, in_stride).reshape(-1)
    out_channels, height, width, in_channels = weights.shape
    return Dense(flat, out_channels, (height, width), in_channels, in_stride, False)


def encode_grouped(weights: Int8Array) -> Dense:
    """int8 [C_out, kh, kw, C_in / groups] as conv_grouped reads it: without padding.

    Raises UnsupportedError on another shape or dtype.
    """
    check_ohwi(weights, round_up(weights.shape[-1], VECTOR_BYTES))
    out_channels, height, width, in_channels = weights.shape
    flat = weights.reshape(-1).copy()
    return Dense(flat, out_channels, (height, width), in_channels, in_channels, False)


def im2col_stride(kernel: Kernel, in_channels: int) -> int:
    """Bytes of a stored filter of conv_im2col.

    Raises UnsupportedError if the window is larger than conv_im2col takes.
    """
    window = kernel[0] * kernel[1] * in_channels
    if window > IM2COL_MAX_BYTES:
        raise UnsupportedError(
            f"conv_im2col with kernel {kernel} and C_in {in_channels}: "
            f"kh*kw*C_in is {window}, expected at most {IM2COL_MAX_BYTES}"
        )
    return round_up(window, VECTOR_BYTES)


def encode_im2col(weights: Int8Array) -> Dense:
    """int8 [C_out, kh, kw, C_in], kh*kw*C_in <= 256, with every filter padded to whole vectors.

    Raises UnsupportedError on another shape or dtype or a larger window.
    """
    check_ohwi(weights, round_up(weights.shape[-1], VECTOR_BYTES))
    out_channels, height, width, in_channels = weights.shape
    in_stride = im2col_stride((height, width), in_channels)
    flat = pad_last(weights.reshape(out_channels, -1), in_stride).reshape(-1)
    return Dense(flat, out_channels, (height, width), in_channels, in_stride, True)


def decode_dense(stored: Dense) -> Int8Array:
    """int8 [C_out, kh, kw, C_in]: the exact inverse of `encode_dense` and of `encode_im2col`.

    Raises ArtifactError where the number of bytes does not fit the shape.
    """
    positions = stored.kernel[0] * stored.kernel[1]
    units = stored.out_channels * (1 if stored.whole_windows else positions)
    if stored.weights.size != units * stored.in_stride:
        raise ArtifactError(
            f"dense weights of {stored.weights.size} bytes: "
            f"expected {units} units of {stored.in_stride} bytes"
        )
    used = stored.in_channels * (positions if stored.whole_windows else 1)
    kept = stored.weights.reshape(units, stored.in_stride)[:, :used]
    return kept.reshape(stored.out_channels, *stored.kernel, stored.in_channels).copy()


def dense_size(out_channels: int, kernel: Kernel, in_stride: int) -> StorageSize:
    """Flash bytes of conv_dense weights."""
    weights = out_channels * kernel[0] * kernel[1] * in_stride
    return StorageSize(weights, 0, out_channels * PARAMETER_BYTES)


def im2col_size(out_channels: int, kernel: Kernel, in_channels: int) -> StorageSize:
    """Flash bytes of conv_im2col weights. Raises UnsupportedError if the window is too large."""
    weights = out_channels * im2col_stride(kernel, in_channels)
    return StorageSize(weights, 0, out_channels * PARAMETER_BYTES)
