"""gemmlowp's fixed-point functions, as TFLM's softmax and logistic compute them.

A value of format Q(i) is an int32 x that stands for x / 2**(31 - i): i integer bits. Everything is
elementwise on int64 arrays that hold int32 values.
"""

from __future__ import annotations

import numpy as np

from dtmm.quantization.multiplier import (
    Ints,
    rounding_divide_by_power_of_two,
    rounding_doubling_high_mul,
)

_LARGEST, _SMALLEST = (1 << 31) - 1, -(1 << 31)

_EXP_MINUS_EIGHTH = 1895147668  # exp(-1/8) in Q0
_THIRD = 715827883  # 1/3 in Q0
_EXP_MINUS_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""(k, exp(-2**k) in Q0)."""

_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540  # in Q2: Newton's best first guess


def _shift_left(x: Ints, bits: int) -> Ints:
    """x * 2**bits, saturating."""
    shifted: Ints = np.clip(x << bits, _SMALLEST, _LARGEST)
    return shifted


def exp_of_negative(x: Ints, integer_bits: int) -> Ints:
    """exp(x) in Q0 of x <= 0 in Q(integer_bits), integer_bits <= 5.

    The fraction below a quarter by a polynomial, each binary digit above by a factor.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    fraction = (x & (quarter - 1)) - quarter
    result = _exp_within_a_quarter(_shift_left(fraction, integer_bits))
    rest = fraction - x
    for power, factor in _EXP_MINUS_POWERS:
        if power < integer_bits:
            digit = (rest >> (fraction_bits + power)) & 1
            result = np.where(digit != 0, rounding_doubling_high_mul(result, factor), result)
    return np.where(x == 0, _LARGEST, result)


def _exp_within_a_quarter(x: Ints) -> Ints:
    """exp(x) in Q0 of -1/4 <= x < 0 in Q0: Taylor's series around -1/8 up to the fourth power."""
    y = x + (1 << 28)
    y2 = rounding_doubling_high_mul(y, y)
    y3 = rounding_doubling_high_mul(y2, y)
    y4_over_4 = rounding_divide_by_power_of_two(rounding_doubling_high_mul(y2, y2), 2)
    thirds = rounding_doubling_high_mul(y4_over_4 + y3, _THIRD)
    tail = rounding_divide_by_power_of_two(thirds + y2, 1)
    return _EXP_MINUS_EIGHTH + rounding_doubling_high_mul(y + tail, _EXP_MINUS_EIGHTH)


def reciprocal_of_one_plus(x: Ints) -> Ints:
    """1 / (1 + x) in Q0 of 0 <= x < 1 in Q0, by three steps of Newton's iteration."""
    total = np.asarray(x, np.int64) + _LARGEST
    half = np.sign(total) * ((np.abs(total) + 1) // 2)
    guess = _48_OVER_17 + rounding_doubling_high_mul(half, _MINUS_32_OVER_17)
    for _ in range(3):
        error = (1 << 29) - rounding_doubling_high_mul(half, guess)
        guess = guess + _shift_left(rounding_doubling_high_mul(guess, error), 2)
    return _shift_left(guess, 1)


def logistic(x: Ints, integer_bits: int) -> Ints:
    """1 / (1 + exp(-x)) in Q0 of x in Q(integer_bits)."""
    positive = reciprocal_of_one_plus(exp_of_negative(-np.abs(x), integer_bits))
    result = np.where(x > 0, positive, _LARGEST - positive)
    return np.where(x == 0, 1 << 30, result)
