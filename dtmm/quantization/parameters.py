"""Integer parameters of the int8 operators, as TFLM derives them from scales and zero points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.network.ir import Activation, Add, Mean, Mul, Op, Weighted
from dtmm.quantization.multiplier import Ints, quantize_multiplier
from dtmm.quantization.quantized import QuantizedNetwork

ADD_LEFT_SHIFT = 20
"""TFLite's int8 ADD raises its operands by this many bits before it rescales them."""


@dataclass(frozen=True)
class OutputRange:
    """Zero point and clamp of an operator's int8 output."""

    zero_point: int
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Rescale:
    """A real factor as multiplier * 2**(shift - 31)."""

    multiplier: int
    shift: int


@dataclass(frozen=True)
class AddParameters:
    """Rescaling of ADD's operands and of its sum."""

    inputs: tuple[Rescale, Rescale]
    output: Rescale


@dataclass(frozen=True)
class ChannelParameters:
    """Per output channel: int32 bias, and the factor input_scale * weight_scale / output_scale."""

    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int32]


def output_range(network: QuantizedNetwork, op: Op) -> OutputRange:
    """TFLite's CalculateActivationRangeQuantized for int8."""
    tensor = network.tensors[op.output]
    low, high = -128, 127
    activation = getattr(op, "activation", Activation.NONE)
    if activation is not Activation.NONE:
        low = max(low, tensor.zero_point)
    if activation is Activation.RELU6:
        steps = np.float32(6) / np.float32(tensor.scale)  # TFLM divides in float32
        high = min(high, tensor.zero_point + math.floor(float(steps) + 0.5))
    return OutputRange(tensor.zero_point, low, high)


def clamp(values: Ints, limits: OutputRange) -> npt.NDArray[np.int8]:
    """Int8 codes of values around zero."""
    return np.clip(values + limits.zero_point, limits.minimum, limits.maximum).astype(np.int8)


def add_parameters(network: QuantizedNetwork, op: Add) -> AddParameters:
    """As TFLM's ADD prepares them, in double."""
    first, second = (scale for scale, _ in network.operands(op))
    twice_max = 2.0 * max(first, second)
    output = twice_max / ((1 << ADD_LEFT_SHIFT) * network.tensors[op.output].scale)
    return AddParameters(
        inputs=(
            Rescale(*quantize_multiplier(first / twice_max)),
            Rescale(*quantize_multiplier(second / twice_max)),
        ),
        output=Rescale(*quantize_multiplier(output)),
    )


def mul_rescale(network: QuantizedNetwork, op: Mul) -> Rescale:
    """The factor of MUL's integer product, as TFLM prepares it, in double."""
    (first, _), (second, _) = network.operands(op)
    return Rescale(*quantize_multiplier(first * second / network.tensors[op.output].scale))


def channel_parameters(network: QuantizedNetwork, op: Weighted) -> ChannelParameters:
    """Bias and rescaling of every output channel."""
    factors = [quantize_multiplier(float(scale)) for scale in network.effective_scales(op)]
    assert op.bias is not None, "a quantized layer has a bias"
    return ChannelParameters(
        bias=network.params[op.bias].astype(np.int32),
        multiplier=np.array([factor[0] for factor in factors], np.int32),
        shift=np.array([factor[1] for factor in factors], np.int32),
    )


def mean_rescale(network: QuantizedNetwork, op: Mean) -> Rescale:
    """TFLM's int8 MEAN: input_scale / output_scale with the division by H*W folded in.

    As in TFLite's QuantizedMeanOrSum the count is divided out of the multiplier in fixed point,
    after shifting it left by as many bits as the count has.
    """
    source, target = network.tensors[op.input], network.tensors[op.output]
    multiplier, shift = quantize_multiplier(source.scale / target.scale)
    _, height, width, _ = source.shape
    count = height * width
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return Rescale(int((multiplier << extra) // count), shift - extra)
