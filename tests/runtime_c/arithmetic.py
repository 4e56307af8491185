"""What the operators should compute, in plain numpy on int64: written from the definitions
(gemmlowp's fixed-point multiplication, the TFLite operator semantics), not from the C code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def doubling_high_mul(a: Ints, b: int | Ints) -> Ints:
    """SaturatingRoundingDoublingHighMul: (a * b + nudge) / 2^31, division towards zero."""
    product = np.asarray(a, np.int64) * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    quotient: Ints = np.sign(nudged) * (np.abs(nudged) // (1 << 31))
    return quotient


def divide_by_pot(x: Ints, exponent: int | Ints) -> Ints:
    """RoundingDivideByPOT: to the nearest, ties away from zero, by remainder and threshold."""
    mask = (np.int64(1) << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    result: Ints = (x >> exponent) + (remainder > threshold)
    return result


def requantize(x: Ints, multiplier: int | Ints, shift: int | Ints) -> Ints:
    """MultiplyByQuantizedMultiplier with double rounding; x * 2^shift must fit into 32 bits."""
    left, right = np.maximum(shift, 0), np.maximum(-np.asarray(shift), 0)
    return divide_by_pot(doubling_high_mul(x << left, multiplier), right)


def clamp(x: Ints, zero_point: int, low: int, high: int) -> npt.NDArray[np.int8]:
    """Adds the zero point and clamps to the activation's range."""
    return np.clip(x + zero_point, low, high).astype(np.int8)


def windows(
    x: Ints,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pad: tuple[int, int],
    out_hw: tuple[int, int],
    fill: int,
) -> Ints:
    """[out_h, out_w, kh, kw, C]: the pixels each output sees; `fill` outside the image."""
    out = np.full((*out_hw, *kernel, x.shape[2]), fill, np.int64)
    for oy, ox, ky, kx in np.ndindex(*out_hw, *kernel):
        y = oy * stride[0] - pad[0] + ky * dilation[0]
        x_ = ox * stride[1] - pad[1] + kx * dilation[1]
        if 0 <= y < x.shape[0] and 0 <= x_ < x.shape[1]:
            out[oy, ox, ky, kx] = x[y, x_]
    return out


def conv_sums(seen: Ints, weights: Ints, bias: Ints, zero_point: int) -> Ints:
    """[out_h, out_w, C_out] of windows [out_h, out_w, kh, kw, C] and OHWI weights."""
    sums: Ints = np.einsum("yxhwc,ohwc->yxo", seen - zero_point, weights) + bias
    return sums


def average(seen: Ints, inside: Ints) -> Ints:
    """Mean over the window's pixels inside the image, ties away from zero. [h, w, kh, kw, C]."""
    count = inside.sum(axis=(2, 3))
    total = (seen * inside).sum(axis=(2, 3))
    magnitude = (np.abs(total) + count // 2) // count
    result: Ints = np.sign(total) * magnitude
    return result
