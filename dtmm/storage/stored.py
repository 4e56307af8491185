"""What every weight format shares: sizes in flash, checks, and how C_in is padded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError

VECTOR_BYTES = 16
PARAMETER_BYTES = 12
"""Folded bias, multiplier and shift of an output channel, int32 each."""

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Kernel = tuple[int, int]
"""(height, width) of a convolution's window."""


@dataclass(frozen=True)
class StorageSize:
    """Flash bytes of one layer."""

    weights: int
    index: int
    parameters: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.index + self.parameters


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is >= value."""
    return -(-value // multiple) * multiple


def check_ohwi(weights: Int8Array, in_stride: int) -> None:
    """Raises UnsupportedError unless weights are int8 OHWI and one pixel fits into in_stride."""
    if weights.ndim != 4 or weights.dtype != np.int8 or weights.size == 0:
        raise UnsupportedError(
            f"convolution weights of shape {weights.shape}, {weights.dtype}: "
            "expected int8 [C_out, kh, kw, C_in], none of them 0"
        )
    if in_stride % VECTOR_BYTES or in_stride < weights.shape[3]:
        raise UnsupportedError(
            f"in_stride {in_stride} for C_in {weights.shape[3]}: "
            f"expected a multiple of {VECTOR_BYTES} that is not smaller"
        )


def pad_last(values: Int8Array, length: int) -> Int8Array:
    """`values` with its last axis zero-padded to `length`."""
    padding = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    return np.pad(values, padding)
