"""CSR for unstructured pruning: the non-zero weights of each filter, in vectors of 16.

A row is a filter, a column a byte of the window. Plain CSR has a 16-bit column per weight; a vector
unit rather fetches 16 inputs with one gathering load, whose offsets are 8 bits from one address. So
the weights of a row lie in vectors: up to 16 neighbours of one kernel row, at most 255 bytes apart,
with one 16-bit column of the first and an 8-bit offset each. A vector that is not full ends in
weights of zero.

The columns (`ky * kw * in_stride + kx * in_stride + channel`) know nothing of the input's rows;
dtmm_conv_csr_list() in C and `list_csr` here replace each by what the kernel adds to its address,
for an input of known strides. That takes no more room.
"""

from __future__ import annotations

from collections.abc import Iterator
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
)

Words = npt.NDArray[np.uint16]

LANES = VECTOR_BYTES
REACH = 256
"""Bytes that the offsets of a vector span."""
ENTRY = 1 + LANES // 2
"""16-bit words of a vector in the index: its column, then 16 offsets of 8 bits."""


@dataclass(frozen=True)
class Csr:
    """A convolution's weights as dtmm_conv_csr_s8 reads them.

    Attributes:
        weights: int8 [vectors * 16], filter by filter, columns ascending; zeros fill a vector.
        index: uint16: [C_out] vectors of each filter, then `ENTRY` words for each vector (its
            column and 16 bytes of offsets, the first in the low half of a word), then as many that
            are 0: the kernel reads one vector ahead.
        out_channels, kernel, in_channels: the shape [C_out, kh, kw, C_in] of the dense weights.
        in_stride: bytes between input pixels, C_in rounded up.
    """

    weights: Int8Array
    index: Words
    out_channels: int
    kernel: Kernel
    in_channels: int
    in_stride: int

    @property
    def vectors(self) -> int:
        """Number of vectors."""
        return self.weights.size // LANES

    @property
    def size(self) -> StorageSize:
        """Flash bytes, parameters included."""
        parameters = self.out_channels * PARAMETER_BYTES
        return StorageSize(self.weights.size, self.index.nbytes, parameters)


def encode_csr(weights: Int8Array, in_stride: int) -> Csr:
    """Compresses int8 [C_out, kh, kw, C_in]; a weight is pruned if and only if it is zero.

    Raises UnsupportedError on another shape or dtype, if in_stride cannot hold C_in, or if a window
    is larger than 64 KiB.
    """
    check_ohwi(weights, in_stride)
    out_channels, height, width, in_channels = weights.shape
    row_bytes = width * in_stride
    if height * row_bytes > 1 << 16:
        raise UnsupportedError(
            f"CSR of a {height}x{width} window of {in_stride}-byte pixels: "
            f"{height * row_bytes} columns, expected at most {1 << 16}"
        )
    rows = pad_last(weights, in_stride).reshape(out_channels * height, row_bytes)
    firsts: list[int] = []
    lanes: list[npt.NDArray[np.uint8]] = []
    values: list[Int8Array] = []
    filters: list[int] = []
    for number, row in enumerate(rows):
        for columns in _vectors(np.flatnonzero(row)):
            offsets, vector = np.zeros(LANES, np.uint8), np.zeros(LANES, np.int8)
            offsets[: columns.size] = columns - columns[0]
            vector[: columns.size] = row[columns]
            firsts.append(number % height * row_bytes + int(columns[0]))
            lanes.append(offsets)
            values.append(vector)
            filters.append(number // height)
    entries = np.zeros((len(firsts) + 1, ENTRY), "<u2")
    entries[:-1, 0] = firsts
    entries[:-1, 1:] = np.array(lanes, np.uint8).reshape(-1, LANES).view("<u2")
    counts = np.bincount(np.array(filters, np.int64), minlength=out_channels)
    return Csr(
        weights=np.array(values, np.int8).reshape(-1),
        index=np.concatenate([counts, entries.reshape(-1)]).astype(np.uint16),
        out_channels=out_channels,
        kernel=(height, width),
        in_channels=in_channels,
        in_stride=in_stride,
    )


def _vectors(columns: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Ascending columns in as few vectors as they go into."""
    while columns.size:
        count = min(int(np.searchsorted(columns, columns[0] + REACH)), LANES)
        yield columns[:count]
        columns = columns[count:]


def decode_csr(stored: Csr) -> Int8Array:
    """The dense int8 [C_out, kh, kw, C_in]: the exact inverse of `encode_csr`.

    Raises ArtifactError where weights and index do not belong together, or are not what
    `encode_csr` makes.
    """
    filters, vectors = stored.out_channels, stored.vectors
    counts, entries = stored.index[:filters].astype(np.int64), stored.index[filters:]
    whole = stored.weights.size == vectors * LANES and stored.index.size >= filters
    if not whole or counts.sum() != vectors or entries.size != (vectors + 1) * ENTRY:
        raise ArtifactError(
            f"CSR index of {stored.index.size} words for {counts.sum()} vectors, "
            f"but there are {stored.weights.size} bytes of weights for {filters} filters"
        )
    table = np.ascontiguousarray(entries.reshape(-1, ENTRY), "<u2")
    offsets = np.ascontiguousarray(table[:, 1:]).view(np.uint8).astype(np.int64)
    values = stored.weights.reshape(-1, LANES)
    columns = table[:-1, :1].astype(np.int64) + offsets[:-1]
    row_of = np.repeat(np.arange(filters), counts)[:, None] + np.zeros((1, LANES), np.int64)
    used = values != 0
    row_bytes = stored.kernel[1] * stored.in_stride
    filled = used[:, :1].all() and (used[:, :-1] >= used[:, 1:]).all()
    inside = columns < stored.kernel[0] * row_bytes
    same_row = columns // row_bytes == columns[:, :1] // row_bytes
    real = columns % stored.in_stride < stored.in_channels
    in_order = np.diff(row_of[used] * (1 << 17) + columns[used]) > 0
    rest_is_zero = (
        not offsets[:-1][~used].any() and not table[-1].any() and not offsets[:-1, 0].any()
    )
    if not (filled and (inside & same_row & real)[used].all() and in_order.all() and rest_is_zero):
        raise ArtifactError(
            f"CSR columns of {filters} filters of {stored.kernel} windows and {stored.in_channels} "
            "channels: expected ascending ones inside the window, and zeros behind them"
        )
    dense = np.zeros((filters, stored.kernel[0] * row_bytes), np.int8)
    dense[row_of[used], columns[used]] = values[used]
    return np.ascontiguousarray(
        dense.reshape(filters, *stored.kernel, stored.in_stride)[..., : stored.in_channels]
    )


def list_csr(stored: Csr, row_stride: int, dilation_h: int = 1) -> Words:
    """The index for an input of known strides (dtmm_conv_weights.stream).

    Each vector's column is replaced by the bytes from the vector before, over all filters; the
    first one's from the window's first pixel.

    Raises UnsupportedError where one does not fit into 16 bits.
    """
    listed = stored.index.copy()
    entries = listed[stored.out_channels : -ENTRY].reshape(-1, ENTRY)
    columns = entries[:, 0].astype(np.int64)
    row_bytes = stored.kernel[1] * stored.in_stride
    offsets = columns // row_bytes * dilation_h * row_stride + columns % row_bytes
    steps = np.diff(offsets, prepend=0)
    if np.abs(steps).max(initial=0) >= 1 << 15:
        raise UnsupportedError(
            f"CSR of windows whose rows are {row_stride} bytes apart: a step of "
            f"{steps[np.abs(steps).argmax()]} bytes, expected less than {1 << 15}"
        )
    entries[:, 0] = steps.astype(np.int16).view(np.uint16)
    return listed


def csr_size(weights: int, out_channels: int, kernel: Kernel, in_stride: int) -> StorageSize:
    """Flash bytes of a layer that keeps this many weights, at most; what they take depends on where
    they are."""
    rows, per_row = out_channels * kernel[0], -(-kernel[1] * in_stride // REACH)
    vectors = min(weights, weights // LANES + rows * per_row)
    index = out_channels + (vectors + 1) * ENTRY
    return StorageSize(vectors * LANES, 2 * index, out_channels * PARAMETER_BYTES)
