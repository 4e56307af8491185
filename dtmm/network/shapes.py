"""The shape of what an operator writes, from what it reads (TFLite semantics, NHWC)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dtmm.errors import DtmmError
from dtmm.network.ir import (
    Activate,
    Add,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Op,
    Padding,
    Pair,
    Reshape,
    Shape,
)


def output_shape(network: Network, op: Op) -> Shape:
    """Shape of `op.output`, computed from the shapes of the inputs and of the weights.

    Raises:
        DtmmError: an input has the wrong rank or channels, or is smaller than the window.
    """
    return _RULES[type(op)](network, op)


def window_extent(window: Pair, dilation: Pair = (1, 1)) -> Pair:
    """Pixels that a dilated window spans, (vertical, horizontal)."""
    (height, width), (down, across) = window, dilation
    return (height - 1) * down + 1, (width - 1) * across + 1


def _image(network: Network, op: Op, tensor: str) -> Shape:
    shape = network.tensors[tensor]
    if len(shape) != 4:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' reads '{tensor}' of shape {shape}, "
            "expected an image (1, H, W, C)"
        )
    return shape


def _slide(op: Op, shape: Shape, extent: Pair, stride: Pair, padding: Padding) -> Pair:
    """(height, width) of a window's positions."""
    top, left, bottom, right = padding
    height, width = shape[1] + top + bottom, shape[2] + left + right
    if min(stride) < 1 or min(padding) < 0 or min(extent) < 1:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' has window {extent}, stride {stride} and padding "
            f"{padding}, expected windows and strides of at least 1 and no negative padding"
        )
    if height < extent[0] or width < extent[1]:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' has a window of {extent} pixels, its padded input "
            f"only {(height, width)}"
        )
    return (height - extent[0]) // stride[0] + 1, (width - extent[1]) // stride[1] + 1


def _conv(network: Network, op: Conv2D) -> Shape:
    shape = _image(network, op, op.input)
    weight = network.params[op.weight].shape
    if len(weight) != 4 or weight[3] != shape[3]:
        raise DtmmError(
            f"Conv2D '{op.name}' has weight '{op.weight}' of shape {weight}, "
            f"expected (C_out, kh, kw, {shape[3]})"
        )
    if min(op.dilation) < 1:
        raise DtmmError(f"Conv2D '{op.name}' has dilation {op.dilation}, expected at least 1")
    extent = window_extent((weight[1], weight[2]), op.dilation)
    return (1, *_slide(op, shape, extent, op.stride, op.padding), weight[0])


def _fully_connected(network: Network, op: FullyConnected) -> Shape:
    shape, weight = network.tensors[op.input], network.params[op.weight].shape
    if len(shape) != 2 or len(weight) != 2 or weight[1] != shape[1]:
        raise DtmmError(
            f"FullyConnected '{op.name}' has weight '{op.weight}' of shape {weight} and input "
            f"'{op.input}' of shape {shape}, expected (C_out, C_in) and (1, C_in)"
        )
    return 1, weight[0]


def _pool(network: Network, op: MaxPool2D | AveragePool2D) -> Shape:
    shape = _image(network, op, op.input)
    vertical, horizontal = op.padding[0::2], op.padding[1::2]
    if max(vertical) >= op.window[0] or max(horizontal) >= op.window[1]:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' has padding {op.padding}, "
            f"expected less than its window {op.window}"
        )
    return (1, *_slide(op, shape, op.window, op.stride, op.padding), shape[3])


def _mean(network: Network, op: Mean) -> Shape:
    return 1, _image(network, op, op.input)[3]


def _reshape(network: Network, op: Reshape) -> Shape:
    return 1, math.prod(_image(network, op, op.input))


def _same(network: Network, op: BatchNorm | Activate) -> Shape:
    return network.tensors[op.input]


def _add(network: Network, op: Add) -> Shape:
    first, second = (network.tensors[name] for name in op.inputs)
    if first != second:
        raise DtmmError(
            f"Add '{op.name}' reads '{op.inputs[0]}' of shape {first} and '{op.inputs[1]}' of "
            f"shape {second}, expected equal shapes"
        )
    return first


_RULES: Mapping[type, Callable[[Network, Any], Shape]] = {
    Conv2D: _conv,
    FullyConnected: _fully_connected,
    BatchNorm: _same,
    Activate: _same,
    Add: _add,
    MaxPool2D: _pool,
    AveragePool2D: _pool,
    Mean: _mean,
    Reshape: _reshape,
}
