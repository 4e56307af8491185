"""The integer reference of sums, products and functions of single values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dtmm.network import ir
from dtmm.quantization.multiplier import Ints, requantize
from dtmm.quantization.nonlinear import lookup_table, softmax, softmax_table
from dtmm.quantization.parameters import (
    ADD_LEFT_SHIFT,
    add_parameters,
    clamp,
    mul_rescale,
    output_range,
)
from dtmm.quantization.quantized import QuantizedNetwork

Int8 = npt.NDArray[np.int8]


def _centred(network: QuantizedNetwork, op: ir.Binary, inputs: tuple[Int8, ...]) -> list[Ints]:
    """Both operands without their zero points, of shapes that broadcast."""
    values = list(inputs)
    if op.constant is not None:
        values.append(network.params[op.constant].astype(np.int8))
    rank = max(value.ndim for value in inputs)
    return [
        _with_rank(value.astype(np.int64), rank) - zero_point
        for value, (_, zero_point) in zip(values, network.operands(op), strict=True)
    ]


def _with_rank(x: Ints, rank: int) -> Ints:
    """A pixel per image, [N, C], as [N, 1, 1, C] where the other operand is an image."""
    return x[:, None, None, :] if x.ndim == 2 and rank == 4 else x


def add(network: QuantizedNetwork, op: ir.Add, *inputs: Int8) -> Int8:
    """TFLM's int8 ADD."""
    parameters = add_parameters(network, op)
    scaled = [
        requantize(x << ADD_LEFT_SHIFT, rescale.multiplier, rescale.shift)
        for x, rescale in zip(_centred(network, op, inputs), parameters.inputs, strict=True)
    ]
    total = scaled[0] + scaled[1]
    result = requantize(total, parameters.output.multiplier, parameters.output.shift)
    return clamp(result, output_range(network, op))


def mul(network: QuantizedNetwork, op: ir.Mul, *inputs: Int8) -> Int8:
    """TFLM's int8 MUL."""
    first, second = _centred(network, op, inputs)
    rescale = mul_rescale(network, op)
    result = requantize(first * second, rescale.multiplier, rescale.shift)
    return clamp(result, output_range(network, op))


def _lookup(network: QuantizedNetwork, op: ir.Lookup, x: Int8) -> Int8:
    return lookup_table(network, op)[x.astype(np.int64) + 128]


def _softmax(network: QuantizedNetwork, op: ir.Softmax, x: Int8) -> Int8:
    return softmax(softmax_table(network, op), x)


HANDLERS: Mapping[type, Callable[..., Int8]] = {
    ir.Add: add,
    ir.Mul: mul,
    ir.Logistic: _lookup,
    ir.HardSwish: _lookup,
    ir.LeakyRelu: _lookup,
    ir.Quantize: _lookup,
    ir.Softmax: _softmax,
}
