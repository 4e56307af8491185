"""Weight formats by kernel id, behind one interface for planning and deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dtmm.errors import UnsupportedError
from dtmm.storage.dense import (
    Dense,
    decode_dense,
    dense_size,
    encode_dense,
    encode_im2col,
    im2col_size,
    im2col_stride,
)
from dtmm.storage.fwcs import Fwcs, decode_fwcs, encode_fwcs, fwcs_size
from dtmm.storage.stored import VECTOR_BYTES, Int8Array, Kernel, StorageSize, round_up

Stored = Dense | Fwcs


class WeightFormat(Protocol):
    """How one convolution kernel wants its weights. `kernel` is (kh, kw)."""

    def encode(self, weights: Int8Array) -> Stored:
        """From int8 [C_out, kh, kw, C_in]."""

    def decode(self, stored: Stored) -> Int8Array:
        """Back to int8 [C_out, kh, kw, C_in]; the exact inverse of encode."""

    def size(
        self, filterlets: int, out_channels: int, kernel: Kernel, in_channels: int
    ) -> StorageSize:
        """Flash bytes from counts alone; `filterlets` is ignored by dense formats."""

    def in_stride(self, kernel: Kernel, in_channels: int) -> int:
        """dtmm_conv_weights.in_stride."""


class DenseFormat:
    """conv_dense: filterlets padded to the input's pixel stride."""

    def encode(self, weights: Int8Array) -> Dense:
        """See WeightFormat."""
        return encode_dense(weights, round_up(weights.shape[-1], VECTOR_BYTES))

    def decode(self, stored: Stored) -> Int8Array:
        """See WeightFormat."""
        return decode_dense(_expect(stored, Dense))

    def size(
        self, filterlets: int, out_channels: int, kernel: Kernel, in_channels: int
    ) -> StorageSize:
        """See WeightFormat."""
        return dense_size(out_channels, kernel, self.in_stride(kernel, in_channels))

    def in_stride(self, kernel: Kernel, in_channels: int) -> int:
        """See WeightFormat."""
        return round_up(in_channels, VECTOR_BYTES)


class FwcsFormat(DenseFormat):
    """conv_fwcs: kept filterlets padded to the input's pixel stride."""

    def encode(self, weights: Int8Array) -> Fwcs:  # type: ignore[override]
        """See WeightFormat."""
        return encode_fwcs(weights, round_up(weights.shape[-1], VECTOR_BYTES))

    def decode(self, stored: Stored) -> Int8Array:
        """See WeightFormat."""
        return decode_fwcs(_expect(stored, Fwcs))

    def size(
        self, filterlets: int, out_channels: int, kernel: Kernel, in_channels: int
    ) -> StorageSize:
        """See WeightFormat."""
        return fwcs_size(filterlets, out_channels, kernel, self.in_stride(kernel, in_channels))
