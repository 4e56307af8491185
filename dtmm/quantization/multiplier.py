"""TFLite's fixed-point arithmetic, as TFLM's reference kernels compute it (double rounding)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError

Ints = npt.NDArray[np.int64]

_ONE = 1 << 31


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier * 2**(shift - 31), as TFLite's QuantizeMultiplier.

    The multiplier is 0 or in [2**30, 2**31); shift > 0 is a left shift.

    Raises:
        DtmmError: `real` is negative or not finite, or its shift exceeds 30.
    """
    if not math.isfinite(real) or real < 0:
        raise DtmmError(f"requantization factor is {real}, expected a finite number of at least 0")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * _ONE + 0.5)
    if multiplier == _ONE:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise DtmmError(f"requantization factor is {real}, expected less than 2**30")
    return multiplier, shift


def requantize(accumulators: Ints, multiplier: Ints | int, shift: Ints | int) -> Ints:
    """MultiplyByQuantizedMultiplier with two roundings (gemmlowp), elementwise and broadcast.

    Args:
        accumulators: int32 values.
        multiplier, shift: as from `quantize_multiplier`; scalars or arrays that broadcast.

    Returns:
        int64 array of int32 values.
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = rounding_doubling_high_mul(np.asarray(accumulators, np.int64) << left, multiplier)
    return rounding_divide_by_power_of_two(high, right)


def rounding_doubling_high_mul(a: Ints, b: Ints | int) -> Ints:
    """gemmlowp SaturatingRoundingDoublingHighMul: round(a * b / 2**31), ties away from zero.

    Multipliers are never -2**31, so that saturation cannot occur.
    """
    product = a * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))


def rounding_divide_by_power_of_two(x: Ints, exponent: Ints | int) -> Ints:
    """gemmlowp RoundingDivideByPOT: round(x / 2**exponent), ties away from zero."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)
