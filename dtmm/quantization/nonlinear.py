"""Softmax's table of exponentials, and int8 functions of one value as tables of 256 entries.

Both are made when code is generated: what runs on a device looks values up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import UnsupportedError
from dtmm.network.ir import HardSwish, LeakyRelu, Logistic, Lookup, Quantize, Softmax
from dtmm.quantization.fixed_point import exp_of_negative, logistic, reciprocal_of_one_plus
from dtmm.quantization.multiplier import (
    Ints,
    quantize_multiplier,
    requantize,
    rounding_divide_by_power_of_two,
    rounding_doubling_high_mul,
)
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor

Int8 = npt.NDArray[np.int8]

_SOFTMAX_BITS = 5
_LOGISTIC_BITS = 4
_SUM_BITS = 12
_INT16 = (-(1 << 15), (1 << 15) - 1)


def lookup_table(network: QuantizedNetwork, op: Lookup) -> Int8:
    """[256] outputs of an operator for the inputs -128..127, in this order.

    Raises:
        UnsupportedError: scales that TFLM refuses.
    """
    source, target = network.tensors[op.input], network.tensors[op.output]
    codes = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    return np.clip(_FUNCTIONS[type(op)](op, codes, source, target), -128, 127).astype(np.int8)


def _logistic(op: Logistic, x: Ints, source: QuantizedTensor, target: QuantizedTensor) -> Ints:
    """TFLM's int8 LOGISTIC: saturated outside a radius, gemmlowp's function of Q4 within."""
    fraction, shift = math.frexp(source.scale * (1 << (31 - _LOGISTIC_BITS)))
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    radius = _radius(_LOGISTIC_BITS, shift)
    inner = np.clip(x, 1 - radius, radius - 1) if radius > 0 else np.zeros_like(x)
    exact = logistic(requantize(inner, multiplier, shift), _LOGISTIC_BITS)
    codes = rounding_divide_by_power_of_two(exact, 23) + target.zero_point
    return np.where(x <= -radius, -128, np.where(x >= radius, 127, codes))


def _hard_swish(op: HardSwish, x: Ints, source: QuantizedTensor, target: QuantizedTensor) -> Ints:
    """TFLM's int8 HARD_SWISH in 16-bit fixed point; its scales are divided in float32."""
    fine = np.float32(1 / 128) * np.float32(source.scale)
    out_multiplier, out_shift = _multiplier16(fine / np.float32(target.scale))
    if out_shift > 0:
        raise UnsupportedError(
            f"HardSwish '{op.name}' has scale {source.scale} at its input and {target.scale} at "
            "its output, expected less than 128 times as much"
        )
    gate_multiplier, gate_shift = _multiplier16(fine / (np.float32(3) / np.float32(32768)))
    raised = x << 7
    value = _doubling_high_mul16(raised, out_multiplier)
    gate = np.clip(raised << max(gate_shift - 1, 0), *_INT16)
    gate = _doubling_high_mul16(gate, gate_multiplier)
    left = gate_shift > 0
    gate = np.clip(gate << 1, *_INT16) if left else _divide_by_power16(gate, -gate_shift)
    gate = (gate + (1 << 15)) >> 1
    product = gate * value
    high = np.sign(product) * (np.abs(product) >> 15)  # this one does not round
    return _divide_by_power16(high, -out_shift) + target.zero_point


def _leaky_relu(op: LeakyRelu, x: Ints, source: QuantizedTensor, target: QuantizedTensor) -> Ints:
    ratio = np.float32(source.scale) / np.float32(target.scale)
    slope = np.float32(source.scale) * np.float32(op.alpha) / np.float32(target.scale)
    positive = requantize(np.maximum(x, 0), *quantize_multiplier(float(ratio)))
    negative = requantize(np.minimum(x, 0), *quantize_multiplier(float(slope)))
    return positive + negative + target.zero_point


def _quantize(op: Quantize, x: Ints, source: QuantizedTensor, target: QuantizedTensor) -> Ints:
    factor = quantize_multiplier(source.scale / target.scale)
    return requantize(x, *factor) + target.zero_point


_FUNCTIONS: Mapping[type, Callable[[Any, Ints, QuantizedTensor, QuantizedTensor], Ints]] = {
    Logistic: _logistic,
    HardSwish: _hard_swish,
    LeakyRelu: _leaky_relu,
    Quantize: _quantize,
}


def _radius(integer_bits: int, shift: int) -> int:
    """TFLite's CalculateInputRadius: codes this far from zero leave the fixed-point range."""
    largest = ((1 << integer_bits) - 1) * (1 << (31 - integer_bits))
    return math.floor(largest / 2.0**shift)


def _multiplier16(real: np.float32) -> tuple[int, int]:
    """quantize_multiplier() with the multiplier rounded to 16 bits."""
    multiplier, shift = quantize_multiplier(float(real))
    return min((multiplier + (1 << 15)) >> 16, _INT16[1]), shift


def _doubling_high_mul16(a: Ints, b: int) -> Ints:
    """gemmlowp's SaturatingRoundingDoublingHighMul of int16: round(a * b / 2**15)."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    high: Ints = np.sign(nudged) * (np.abs(nudged) >> 15)
    return high


def _divide_by_power16(x: Ints, exponent: int) -> Ints:
    """gemmlowp's RoundingDivideByPOT of int16, whose mask has no more than 16 bits: beyond them
    every value that is not negative becomes 1."""
    if exponent < 16:
        return rounding_divide_by_power_of_two(x, exponent)
    return (x >> exponent) + (x > np.where(x < 0, 0, -1))


@dataclass(frozen=True)
class SoftmaxTable:
    """exp(beta * scale * -d) of a code d below its pixel's largest, in Q0.

    Attributes:
        exponentials: int32 [n], d = 0..n-1; 1 <= n <= 256. Codes farther below count as zero.
    """

    exponentials: npt.NDArray[np.int32]


def softmax_table(network: QuantizedNetwork, op: Softmax) -> SoftmaxTable:
    """What TFLM's int8 SOFTMAX computes for every difference, each time anew."""
    beta = float(np.float32(op.beta))
    real = beta * network.tensors[op.input].scale * (1 << (31 - _SOFTMAX_BITS))
    if real >= 1 << 30:  # the next code is already beyond the fixed-point range
        return SoftmaxTable(np.array([(1 << 31) - 1], np.int32))
    multiplier, shift = quantize_multiplier(real)
    count = min(_radius(_SOFTMAX_BITS, shift), 255) + 1
    scaled = requantize(-np.arange(count, dtype=np.int64), multiplier, shift)
    return SoftmaxTable(exp_of_negative(scaled, _SOFTMAX_BITS).astype(np.int32))


def softmax(table: SoftmaxTable, x: Int8) -> Int8:
    """TFLM's int8 SOFTMAX over the last axis."""
    codes = x.astype(np.int64)
    below = codes.max(axis=-1, keepdims=True) - codes
    within = below < len(table.exponentials)
    exponentials = table.exponentials.astype(np.int64)[np.where(within, below, 0)]
    exponentials = np.where(within, exponentials, 0)
    terms = rounding_divide_by_power_of_two(exponentials, _SUM_BITS)
    total = terms.sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)  # leading zeros of 32
    reciprocal = reciprocal_of_one_plus((total << headroom) - (1 << 31))
    products = rounding_doubling_high_mul(exponentials, reciprocal)
    exponent: Ints = _SUM_BITS - headroom + 31 - 8
    return np.clip(rounding_divide_by_power_of_two(products, exponent) - 128, -128, 127).astype(
        np.int8
    )
