"""The integer reference of operators with weights.

Convolutions are float64 matrix products of integers, exact as long as sums stay below 2**53, which
int8 products of any layer that fits a microcontroller do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.network import ir
from dtmm.network.shapes import window_extent
from dtmm.quantization.multiplier import requantize
from dtmm.quantization.parameters import channel_parameters, clamp, output_range
from dtmm.quantization.quantized import QuantizedNetwork

Int8 = npt.NDArray[np.int8]


def _layer(network: QuantizedNetwork, op: Any, sums: npt.NDArray[np.float64]) -> Int8:
    """Bias and requantization of [..., C_out] sums of products."""
    channel = channel_parameters(network, op)
    accumulators = sums.astype(np.int64) + channel.bias
    scaled = requantize(
        accumulators, channel.multiplier.astype(np.int64), channel.shift.astype(np.int64)
    )
    return clamp(scaled, output_range(network, op))


def _centred(network: QuantizedNetwork, name: str, x: Int8) -> npt.NDArray[np.float64]:
    return x.astype(np.float64) - network.tensors[name].zero_point


def windows(
    x: npt.NDArray[Any], window: ir.Pair, stride: ir.Pair, dilation: ir.Pair
) -> npt.NDArray[Any]:
    """[N, H, W, C] to [N, out_h, out_w, C, kh, kw], a view."""
    extent = window_extent(window, dilation)
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def pad(x: npt.NDArray[Any], padding: ir.Padding, value: float) -> npt.NDArray[Any]:
    """[N, H, W, C] with pixels of `value` around it."""
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _seen(
    network: QuantizedNetwork, op: ir.Conv2D | ir.DepthwiseConv2D, x: Int8
) -> npt.NDArray[np.float64]:
    """[N, out_h, out_w, C, kh, kw]: what each output pixel sees, zero point removed."""
    _, height, width, _ = network.params[op.weight].shape
    padded = pad(_centred(network, op.input, x), op.padding, 0.0)
    return windows(padded, (height, width), op.stride, op.dilation)


def _conv(network: QuantizedNetwork, op: ir.Conv2D, x: Int8) -> Int8:
    weight = network.params[op.weight].astype(np.float64)
    seen = _seen(network, op, x)
    images, height, width, channels = seen.shape[:4]
    inputs, outputs = channels // op.groups, len(weight) // op.groups
    sums = np.empty((images, height, width, len(weight)))
    for group in range(op.groups):
        part = seen[:, :, :, group * inputs : (group + 1) * inputs]
        columns = part.transpose(0, 1, 2, 4, 5, 3).reshape(-1, weight[0].size)
        filters = slice(group * outputs, (group + 1) * outputs)
        product = columns @ weight[filters].reshape(outputs, -1).T
        sums[..., filters] = product.reshape(images, height, width, outputs)
    return _layer(network, op, sums)


def _depthwise(network: QuantizedNetwork, op: ir.DepthwiseConv2D, x: Int8) -> Int8:
    weight = network.params[op.weight][..., 0].astype(np.float64)
    sums = np.einsum("nyxchw,chw->nyxc", _seen(network, op, x), weight)
    return _layer(network, op, sums)


def _fully_connected(network: QuantizedNetwork, op: ir.FullyConnected, x: Int8) -> Int8:
    sums = _centred(network, op.input, x) @ network.params[op.weight].astype(np.float64).T
    return _layer(network, op, sums)


HANDLERS: Mapping[type, Callable[..., Int8]] = {
    ir.Conv2D: _conv,
    ir.DepthwiseConv2D: _depthwise,
    ir.FullyConnected: _fully_connected,
}
