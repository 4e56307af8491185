"""Filterlet weight compressed storage (docs/fwcs.md): kept filterlets and a bit mask per filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import ArtifactError
from dtmm.storage.stored import (
    PARAMETER_BYTES,
    Int8Array,
    Kernel,
    StorageSize,
    check_ohwi,
    pad_last,
)


@dataclass(frozen=True)
class Fwcs:
    """A convolution's weights as dtmm_conv_fwcs_s8 reads them.

    Attributes:
        weights: int8 [filterlets * in_stride]; filter by filter, positions ascending.
        index: uint8 [out_channels * ceil(kh*kw / 8)]; position p = ky*kw + kx of a filter is bit
            p % 8 of its byte p // 8.
        out_channels, kernel, in_channels: the shape [C_out, kh, kw, C_in] of the dense weights.
        in_stride: bytes of a stored filterlet, C_in zero-padded.
    """

    weights: Int8Array
    index: npt.NDArray[np.uint8]
    out_channels: int
    kernel: Kernel
    in_channels: int
    in_stride: int

    @property
    def filterlets(self) -> int:
        """Number of filterlets kept."""
        return self.weights.size // self.in_stride

    @property
    def size(self) -> StorageSize:
        """Flash bytes, parameters included."""
        return fwcs_size(self.filterlets, self.out_channels, self.kernel, self.in_stride)


def encode_fwcs(weights: Int8Array, in_stride: int) -> Fwcs:
    """Compresses int8 [C_out, kh, kw, C_in]; a filterlet is pruned if and only if it is all zero.

    Raises UnsupportedError on another shape or dtype, or if in_stride cannot hold C_in.
    """
    check_ohwi(weights, in_stride)
    out_channels, height, width, in_channels = weights.shape
    filterlets = weights.reshape(out_channels, height * width, in_channels)
    kept = filterlets.any(axis=2)
    return Fwcs(
        weights=pad_last(filterlets[kept], in_stride).reshape(-1),
        index=np.packbits(kept, axis=1, bitorder="little").reshape(-1),
        out_channels=out_channels,
        kernel=(height, width),
        in_channels=in_channels,
        in_stride=in_stride,
    )


def decode_fwcs(stored: Fwcs) -> Int8Array:
    """The dense int8 [C_out, kh, kw, C_in]: the exact inverse of `encode_fwcs`.

    Raises ArtifactError where weights and index do not belong together.
    """
    positions = stored.kernel[0] * stored.kernel[1]
    mask_bytes = -(-positions // 8)
    if stored.index.size != stored.out_channels * mask_bytes:
        raise ArtifactError(
            f"FWCS index of {stored.index.size} bytes: "
            f"expected {stored.out_channels} filters of {mask_bytes} bytes"
        )
    masks = stored.index.reshape(stored.out_channels, mask_bytes)
    bits = np.unpackbits(masks, axis=1, bitorder="little").astype(bool)
    kept = bits[:, :positions]
    if bits[:, positions:].any() or stored.weights.size != kept.sum() * stored.in_stride:
        raise ArtifactError(
            f"FWCS index keeps {bits.sum()} of {kept.size} filterlets of {stored.in_stride} bytes, "
            f"but there are {stored.weights.size} bytes of weights"
        )
    dense = np.zeros((stored.out_channels, positions, stored.in_channels), np.int8)
    dense[kept] = stored.weights.reshape(-1, stored.in_stride)[:, : stored.in_channels]
    return dense.reshape(stored.out_channels, *stored.kernel, stored.in_channels)


def fwcs_size(filterlets: int, out_channels: int, kernel: Kernel, in_stride: int) -> StorageSize:
    """Flash bytes of a layer that keeps this many filterlets, from the counts alone."""
    mask_bytes = -(-kernel[0] * kernel[1] // 8)
    return StorageSize(
        weights=filterlets * in_stride,
        index=out_channels * mask_bytes,
        parameters=out_channels * PARAMETER_BYTES,
    )
