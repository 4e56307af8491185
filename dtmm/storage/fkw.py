"""FKW for pattern pruning (Niu et al., "PatDNN", ASPLOS 2020, section 5.3): filter, kernel, weight.

A kernel is the 3x3 weights of one filter and one input channel. Pattern pruning keeps four of them,
at one of a few sets of positions (the patterns), and connectivity pruning removes whole kernels. So
a kept kernel is four weights, its pattern and its channel.

As in the paper, a filter's kernels are ordered by pattern, then by channel, and the work on a
pattern is code of its own in the kernel. Two things differ, because one core with gathering loads
runs them. Pattern and channel are one 16-bit number (the paper counts the kernels of every pattern
of every filter, and branches on it), so that vectors of four kernels may hold several patterns. And
filters keep their order: sorting them by length balances threads and lets neighbours share loads of
the same kernel; here a filter's length is a loop count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import ArtifactError, UnsupportedError
from dtmm.storage.stored import (
    PARAMETER_BYTES,
    Int8Array,
    Kernel,
    StorageSize,
    check_ohwi,
)

Words = npt.NDArray[np.uint16]

KERNEL = (3, 3)
POSITIONS = 9
TAPS = 4
"""Weights of a kept kernel."""
MOST_PATTERNS = 32
AHEAD = 4
"""Words behind the last kernel's: the kernel in C reads one vector ahead."""


@dataclass(frozen=True)
class Fkw:
    """A 3x3 convolution's weights as dtmm_conv_fkw_s8 reads them.

    Attributes:
        weights: int8 [kernels * 4], filter by filter, kernel by kernel in the order of `index`; the
            positions of a kernel ascend.
        index: uint16: the number of patterns; two words for each (four positions ky*3 + kx of 8
            bits, ascending, the first in the low half of the first word); [C_out] kernels of each
            filter; for each kernel pattern * in_stride + channel, ascending in a filter; 4 zeros.
        out_channels, in_channels: the shape [C_out, 3, 3, C_in] of the dense weights.
        in_stride: bytes between input pixels, C_in rounded up.
    """

    weights: Int8Array
    index: Words
    out_channels: int
    in_channels: int
    in_stride: int

    @property
    def kernel(self) -> Kernel:
        """(height, width) of the window."""
        return KERNEL

    @property
    def patterns(self) -> int:
        """Number of patterns."""
        return int(self.index[0])

    @property
    def kernels(self) -> int:
        """Number of kernels kept."""
        return self.weights.size // TAPS

    @property
    def size(self) -> StorageSize:
        """Flash bytes, parameters included."""
        return fkw_size(self.kernels, self.out_channels, self.patterns)


def encode_fkw(weights: Int8Array, in_stride: int) -> Fkw:
    """Compresses int8 [C_out, 3, 3, C_in] of which every kernel has at most four weights.

    A kernel is removed if and only if it is all zero. One with fewer than four weights (some were
    quantized to zero) is stored in a pattern that others need, or else in one made for it.

    Raises UnsupportedError on another shape or dtype, if in_stride cannot hold C_in, where a kernel
    has more than four weights, and where more than 32 patterns are needed.
    """
    check_ohwi(weights, in_stride)
    out_channels, height, width, in_channels = weights.shape
    if (height, width) != KERNEL:
        raise UnsupportedError(f"FKW of a {height}x{width} kernel: expected 3x3")
    kernels = weights.reshape(out_channels, POSITIONS, in_channels).transpose(0, 2, 1)
    supports = (kernels != 0) @ (1 << np.arange(POSITIONS))
    sizes = (kernels != 0).sum(axis=2)
    if sizes.max() > TAPS:
        worst, channel = np.unravel_index(sizes.argmax(), sizes.shape)
        raise UnsupportedError(
            f"FKW: filter {worst} has {sizes.max()} weights for input channel {channel}, "
            f"expected at most {TAPS}"
        )
    patterns, pattern_of = _cover(supports[supports > 0])
    if len(patterns) > MOST_PATTERNS or len(patterns) * in_stride > 1 << 16:
        raise UnsupportedError(
            f"FKW: the kernels need {len(patterns)} patterns of {in_stride} channels, expected at "
            f"most {MOST_PATTERNS}, and {1 << 16} of both"
        )
    filters, channels = np.nonzero(supports)
    numbers = pattern_of * in_stride + channels
    order = np.lexsort((numbers, filters))
    positions = np.array(patterns, np.int64).reshape(-1, TAPS)
    taken = kernels[filters[order, None], channels[order, None], positions[pattern_of[order]]]
    packed = np.ascontiguousarray(positions.astype(np.uint8)).view("<u2").reshape(-1)
    counts = np.bincount(filters, minlength=out_channels)
    index = np.concatenate([[len(patterns)], packed, counts, numbers[order], np.zeros(AHEAD)])
    return Fkw(
        weights=np.ascontiguousarray(taken.reshape(-1)),
        index=index.astype(np.uint16),
        out_channels=out_channels,
        in_channels=in_channels,
        in_stride=in_stride,
    )


def _cover(
    supports: npt.NDArray[np.int64],
) -> tuple[list[tuple[int, ...]], npt.NDArray[np.int64]]:
    """Patterns (four ascending positions each) that hold all supports (bit sets of positions), and
    the number of each support's."""
    distinct = sorted(set(supports.tolist()), key=lambda bits: (-bits.bit_count(), bits))
    chosen: list[int] = []
    number: dict[int, int] = {}
    for bits in distinct:  # the largest first, so that smaller ones find a pattern that holds them
        holder = next((n for n, pattern in enumerate(chosen) if bits & ~pattern == 0), None)
        if holder is None:
            free = [p for p in range(POSITIONS) if not bits >> p & 1]
            added = sum(1 << p for p in free[: TAPS - bits.bit_count()])
            holder = len(chosen)
            chosen.append(bits | added)
        number[bits] = holder
    positions = [tuple(p for p in range(POSITIONS) if pattern >> p & 1) for pattern in chosen]
    return positions, np.array([number[bits] for bits in supports.tolist()], np.int64)


def decode_fkw(stored: Fkw) -> Int8Array:
    """The dense int8 [C_out, 3, 3, C_in]: the exact inverse of `encode_fkw`.

    Raises ArtifactError where weights and index do not belong together.
    """
    filters, kernels, index = stored.out_channels, stored.kernels, stored.index.astype(np.int64)
    patterns = int(index[0]) if index.size else 0
    begin = 1 + 2 * patterns
    counts, numbers = index[begin : begin + filters], index[begin + filters :][:kernels]
    size = begin + filters + kernels + AHEAD
    if index.size != size or counts.sum() != kernels or stored.weights.size != kernels * TAPS:
        raise ArtifactError(
            f"FKW index of {index.size} words for {patterns} patterns and {counts.sum()} kernels, "
            f"but there are {stored.weights.size} bytes of weights for {filters} filters"
        )
    positions = stored.index[1:begin].astype("<u2").view(np.uint8).reshape(-1, TAPS).astype(int)
    channels, pattern_of = numbers % stored.in_stride, numbers // stored.in_stride
    row_of = np.repeat(np.arange(filters), counts)
    steps = np.diff(row_of * (1 << 17) + numbers)
    ascending = bool((steps > 0).all() and (np.diff(positions, axis=1) > 0).all())
    inside = bool((pattern_of < patterns).all() and (channels < stored.in_channels).all())
    kept = bool(stored.weights.reshape(-1, TAPS).any(axis=1).all())
    once = np.unique(row_of * (1 << 17) + channels).size == kernels
    tail = bool(index[size - AHEAD :].any())
    if (
        not (ascending and inside and kept and once)
        or positions.max(initial=0) >= POSITIONS
        or tail
    ):
        raise ArtifactError(
            f"FKW kernels of {patterns} patterns and {stored.in_channels} channels: expected "
            f"ascending numbers and positions below {POSITIONS}, no empty kernel, none for the "
            "channel of another one, zeros at the end"
        )
    dense = np.zeros((filters, stored.in_channels, POSITIONS), np.int8)
    dense[row_of[:, None], channels[:, None], positions[pattern_of]] = stored.weights.reshape(
        -1, TAPS
    )
    ohwi = dense.transpose(0, 2, 1).reshape(filters, *KERNEL, stored.in_channels)
    return np.ascontiguousarray(ohwi)


def fkw_size(kernels: int, out_channels: int, patterns: int) -> StorageSize:
    """Flash bytes of a layer that keeps this many kernels, from the counts alone."""
    words = 1 + 2 * patterns + out_channels + kernels + AHEAD
    return StorageSize(TAPS * kernels, 2 * words, out_channels * PARAMETER_BYTES)
