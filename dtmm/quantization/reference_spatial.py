"""The integer reference of operators that pool or move pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dtmm.network import ir
from dtmm.quantization.multiplier import requantize
from dtmm.quantization.parameters import clamp, mean_rescale, output_range
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.quantization.reference_conv import pad, windows

Int8 = npt.NDArray[np.int8]


def _max_pool(network: QuantizedNetwork, op: ir.MaxPool2D, x: Int8) -> Int8:
    seen = windows(pad(x, op.padding, -128), op.window, op.stride, (1, 1))
    largest: Int8 = seen.max(axis=(-2, -1))
    return largest


def _average_pool(network: QuantizedNetwork, op: ir.AveragePool2D, x: Int8) -> Int8:
    """Sum over the pixels that exist, divided with ties away from zero (TFLite AVERAGE_POOL_2D)."""
    present = pad(np.ones_like(x[:1, :, :, :1], np.int64), op.padding, 0)
    count = windows(present, op.window, op.stride, (1, 1)).sum(axis=(-2, -1))
    padded = pad(x.astype(np.int64), op.padding, 0)
    total = windows(padded, op.window, op.stride, (1, 1)).sum(axis=(-2, -1))
    magnitude = (np.abs(total) + count // 2) // count
    average: Int8 = (np.sign(total) * magnitude).astype(np.int8)
    return average


def _mean(network: QuantizedNetwork, op: ir.Mean, x: Int8) -> Int8:
    rescale = mean_rescale(network, op)
    zero_point = network.tensors[op.input].zero_point
    total = (x.astype(np.int64) - zero_point).sum(axis=(1, 2), keepdims=op.keep_dims)
    scaled = requantize(total, rescale.multiplier, rescale.shift)
    return clamp(scaled, output_range(network, op))


def _reshape(network: QuantizedNetwork, op: ir.Reshape, x: Int8) -> Int8:
    return x.reshape(len(x), -1)


def _pad(network: QuantizedNetwork, op: ir.Pad, x: Int8) -> Int8:
    padded: Int8 = pad(x, op.padding, network.tensors[op.output].zero_point)
    return padded


def _strided_slice(network: QuantizedNetwork, op: ir.StridedSlice, x: Int8) -> Int8:
    rows, columns = (
        slice(begin, end, stride)
        for begin, end, stride in zip(op.begin, op.end, op.stride, strict=True)
    )
    return x[:, rows, columns]


def _concat(network: QuantizedNetwork, op: ir.Concat, *inputs: Int8) -> Int8:
    return np.concatenate(inputs, axis=-1)


HANDLERS: Mapping[type, Callable[..., Int8]] = {
    ir.MaxPool2D: _max_pool,
    ir.AveragePool2D: _average_pool,
    ir.Mean: _mean,
    ir.Reshape: _reshape,
    ir.Pad: _pad,
    ir.StridedSlice: _strided_slice,
    ir.Concat: _concat,
}
