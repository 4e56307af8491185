"""The integer reference: what every implementation must produce, byte for byte.

Plain numpy, vectorised over images. Convolutions are float64 matrix products of integers, exact as
long as sums stay below 2**53, which int8 products of any layer that fits a microcontroller do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network import ir
from dtmm.network.shapes import window_extent
from dtmm.quantization.multiplier import Ints, requantize
from dtmm.quantization.parameters import (
    ADD_LEFT_SHIFT,
    OutputRange,
    add_parameters,
    channel_parameters,
    mean_rescale,
    output_range,
)
from dtmm.quantization.quantized import QuantizedNetwork

Int8 = npt.NDArray[np.int8]

_CHUNK = 32
"""Images at a time: bounds the memory of im2col."""


@overload
def run(network: QuantizedNetwork, images: Int8, keep_all: Literal[False] = ...) -> Int8: ...
@overload
def run(network: QuantizedNetwork, images: Int8, keep_all: Literal[True]) -> dict[str, Int8]: ...


def run(network: QuantizedNetwork, images: Int8, keep_all: bool = False) -> Int8 | dict[str, Int8]:
    """Run [N, H, W, C] int8 images; returns the output [N, ...], or every tensor by name.

    Raises:
        DtmmError: the images do not have the input's shape.
        UnsupportedError: the network has several inputs or outputs, or an unfolded operator.
    """
    _check(network, images)
    chunks = [
        _run_chunk(network, images[start : start + _CHUNK])
        for start in range(0, len(images), _CHUNK)
    ]
    if keep_all:
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return np.concatenate([chunk[network.outputs[0]] for chunk in chunks])


def _check(network: QuantizedNetwork, images: Int8) -> None:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedError(
            f"network '{network.name}' has {len(network.inputs)} inputs and "
            f"{len(network.outputs)} outputs, expected one of each"
        )
    expected = network.tensors[network.inputs[0]].shape[1:]
    if images.dtype != np.int8 or images.shape[1:] != expected or not len(images):
        raise DtmmError(
            f"images are {images.dtype} of shape {images.shape}, expected int8 (N, "
            f"{', '.join(map(str, expected))}) with N >= 1"
        )


def _run_chunk(network: QuantizedNetwork, images: Int8) -> dict[str, Int8]:
    values: dict[str, Int8] = {network.inputs[0]: images}
    for op in network.ops:
        handler = _HANDLERS.get(type(op))
        if handler is None:
            raise UnsupportedError(f"{type(op).__name__} '{op.name}' is not an int8 operator")
        inputs = [values[name] for name in ir.op_inputs(op)]
        values[op.output] = handler(network, op, *inputs)
    return values


def _clamp(values: Ints, limits: OutputRange) -> Int8:
    return np.clip(values + limits.zero_point, limits.minimum, limits.maximum).astype(np.int8)


def _layer(network: QuantizedNetwork, op: Any, sums: npt.NDArray[np.float64]) -> Int8:
    """Bias and requantization of [..., C_out] sums of products."""
    channel = channel_parameters(network, op)
    accumulators = sums.astype(np.int64) + channel.bias
    scaled = requantize(
        accumulators, channel.multiplier.astype(np.int64), channel.shift.astype(np.int64)
    )
    return _clamp(scaled, output_range(network, op))


def _centred(network: QuantizedNetwork, name: str, x: Int8) -> npt.NDArray[np.float64]:
    return x.astype(np.float64) - network.tensors[name].zero_point


def _windows(
    x: npt.NDArray[Any], window: ir.Pair, stride: ir.Pair, dilation: ir.Pair
) -> npt.NDArray[Any]:
    """[N, H, W, C] to [N, out_h, out_w, C, kh, kw], a view."""
    extent = window_extent(window, dilation)
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def _pad(x: npt.NDArray[Any], padding: ir.Padding, value: float) -> npt.NDArray[Any]:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _conv(network: QuantizedNetwork, op: ir.Conv2D, x: Int8) -> Int8:
    weight = network.params[op.weight].astype(np.float64)
    padded = _pad(_centred(network, op.input, x), op.padding, 0.0)
    windows = _windows(padded, weight.shape[1:3], op.stride, op.dilation)
    columns = windows.transpose(0, 1, 2, 4, 5, 3)
    matrix = columns.reshape(-1, weight[0].size)
    sums = matrix @ weight.reshape(len(weight), -1).T
    return _layer(network, op, sums.reshape(*columns.shape[:3], -1))


def _fully_connected(network: QuantizedNetwork, op: ir.FullyConnected, x: Int8) -> Int8:
    sums = _centred(network, op.input, x) @ network.params[op.weight].astype(np.float64).T
    return _layer(network, op, sums)


def _add(network: QuantizedNetwork, op: ir.Add, *inputs: Int8) -> Int8:
    parameters = add_parameters(network, op)
    total: Ints = np.zeros(inputs[0].shape, np.int64)
    for name, x, rescale in zip(op.inputs, inputs, parameters.inputs, strict=True):
        raised = (x.astype(np.int64) - network.tensors[name].zero_point) << ADD_LEFT_SHIFT
        total += requantize(raised, rescale.multiplier, rescale.shift)
    scaled = requantize(total, parameters.output.multiplier, parameters.output.shift)
    return _clamp(scaled, output_range(network, op))


def _max_pool(network: QuantizedNetwork, op: ir.MaxPool2D, x: Int8) -> Int8:
    windows = _windows(_pad(x, op.padding, -128), op.window, op.stride, (1, 1))
    largest: Int8 = windows.max(axis=(-2, -1))
    return largest


def _average_pool(network: QuantizedNetwork, op: ir.AveragePool2D, x: Int8) -> Int8:
    """Sum over the pixels that exist, divided with ties away from zero (TFLite AVERAGE_POOL_2D)."""
    present = _pad(np.ones_like(x[:1, :, :, :1], np.int64), op.padding, 0)
    count = _windows(present, op.window, op.stride, (1, 1)).sum(axis=(-2, -1))
    padded = _pad(x.astype(np.int64), op.padding, 0)
    total = _windows(padded, op.window, op.stride, (1, 1)).sum(axis=(-2, -1))
    magnitude = (np.abs(total) + count // 2) // count
    average: Int8 = (np.sign(total) * magnitude).astype(np.int8)
    return average


def _mean(network: QuantizedNetwork, op: ir.Mean, x: Int8) -> Int8:
    rescale = mean_rescale(network, op)
    zero_point = network.tensors[op.input].zero_point
    total = (x.astype(np.int64) - zero_point).sum(axis=(1, 2))
    scaled = requantize(total, rescale.multiplier, rescale.shift)
    return _clamp(scaled, output_range(network, op))


def _reshape(network: QuantizedNetwork, op: ir.Reshape, x: Int8) -> Int8:
    return x.reshape(len(x), -1)


_HANDLERS: Mapping[type, Callable[..., Int8]] = {
    ir.Conv2D: _conv,
    ir.FullyConnected: _fully_connected,
    ir.Add: _add,
    ir.MaxPool2D: _max_pool,
    ir.AveragePool2D: _average_pool,
    ir.Mean: _mean,
    ir.Reshape: _reshape,
}
