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
    Binary,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Network,
    Op,
    Pad,
    Padding,
    Pair,
    Quantize,
    Reshape,
    Shape,
    Softmax,
    StridedSlice,
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
    shape, weight = _image(network, op, op.input), network.params[op.weight].shape
    if op.groups < 1 or shape[3] % op.groups or (len(weight) == 4 and weight[0] % op.groups):
        raise DtmmError(
            f"Conv2D '{op.name}' has {op.groups} groups, expected a divisor of its "
            f"{shape[3]} input and {weight[0]} output channels"
        )
    per_group = shape[3] // op.groups
    if len(weight) != 4 or weight[3] != per_group:
        raise DtmmError(
            f"Conv2D '{op.name}' has weight '{op.weight}' of shape {weight}, "
            f"expected (C_out, kh, kw, {per_group})"
        )
    return (1, *_conv_positions(op, shape, weight), weight[0])


def _depthwise(network: Network, op: DepthwiseConv2D) -> Shape:
    shape, weight = _image(network, op, op.input), network.params[op.weight].shape
    if len(weight) != 4 or weight[0] != shape[3] or weight[3] != 1:
        raise DtmmError(
            f"DepthwiseConv2D '{op.name}' has weight '{op.weight}' of shape {weight}, "
            f"expected ({shape[3]}, kh, kw, 1)"
        )
    return (1, *_conv_positions(op, shape, weight), weight[0])


def _conv_positions(op: Conv2D | DepthwiseConv2D, shape: Shape, weight: Shape) -> Pair:
    if min(op.dilation) < 1:
        raise DtmmError(
            f"{type(op).__name__} '{op.name}' has dilation {op.dilation}, expected at least 1"
        )
    extent = window_extent((weight[1], weight[2]), op.dilation)
    return _slide(op, shape, extent, op.stride, op.padding)


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
    channels = _image(network, op, op.input)[3]
    return (1, 1, 1, channels) if op.keep_dims else (1, channels)


def _reshape(network: Network, op: Reshape) -> Shape:
    return 1, math.prod(_image(network, op, op.input))


def _same(network: Network, op: Any) -> Shape:
    return network.tensors[str(op.input)]


def _leaky_relu(network: Network, op: LeakyRelu) -> Shape:
    if not (math.isfinite(op.alpha) and op.alpha >= 0):
        raise DtmmError(f"LeakyRelu '{op.name}' has alpha {op.alpha}, expected 0 or more")
    return network.tensors[op.input]


def _softmax(network: Network, op: Softmax) -> Shape:
    if not (math.isfinite(op.beta) and op.beta > 0):
        raise DtmmError(f"Softmax '{op.name}' has beta {op.beta}, expected more than 0")
    return network.tensors[op.input]


def _pad(network: Network, op: Pad) -> Shape:
    _, height, width, channels = _image(network, op, op.input)
    if min(op.padding) < 0:
        raise DtmmError(f"Pad '{op.name}' has padding {op.padding}, expected 0 or more")
    top, left, bottom, right = op.padding
    return 1, height + top + bottom, width + left + right, channels


def _strided_slice(network: Network, op: StridedSlice) -> Shape:
    shape = _image(network, op, op.input)
    for begin, end, stride, size in zip(op.begin, op.end, op.stride, shape[1:3], strict=True):
        if not 0 <= begin < end <= size or stride < 1:
            raise DtmmError(
                f"StridedSlice '{op.name}' takes {op.begin} to {op.end} by {op.stride} of "
                f"{shape[1:3]} pixels, expected 0 <= begin < end <= size and strides of at least 1"
            )
    height, width = (
        -(-(end - begin) // stride)
        for begin, end, stride in zip(op.begin, op.end, op.stride, strict=True)
    )
    return 1, height, width, shape[3]


def _concat(network: Network, op: Concat) -> Shape:
    shapes = [network.tensors[name] for name in op.inputs]
    if len(shapes) < 2 or len({shape[:-1] for shape in shapes}) > 1:
        raise DtmmError(
            f"Concat '{op.name}' reads {len(shapes)} tensors of shapes {shapes}, expected at least "
            "2 that differ in their channels only"
        )
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _binary(network: Network, op: Binary) -> Shape:
    kind, shapes = type(op).__name__, [network.tensors[name] for name in op.inputs]
    if len(shapes) != (2 if op.constant is None else 1):
        raise DtmmError(
            f"{kind} '{op.name}' has {len(shapes)} inputs and "
            f"{'no' if op.constant is None else 'a'} constant, expected two operands"
        )
    if op.constant is not None:
        values = network.params[op.constant].shape
        if values not in ((1,), shapes[0][-1:]):
            raise DtmmError(
                f"{kind} '{op.name}' has constant '{op.constant}' of shape {values}, expected "
                f"(1,) or {shapes[0][-1:]}"
            )
        return shapes[0]
    full = max(shapes, key=lambda shape: (math.prod(shape), len(shape)))
    if any(shape != full and not is_pixel(shape, full[-1]) for shape in shapes):
        raise DtmmError(
            f"{kind} '{op.name}' reads '{op.inputs[0]}' of shape {shapes[0]} and '{op.inputs[1]}' "
            f"of shape {shapes[1]}, expected equal shapes or one pixel of as many channels"
        )
    return full


def is_pixel(shape: Shape, channels: int) -> bool:
    """Whether this is the shape of a single pixel of `channels`: (1, C) or (1, 1, 1, C)."""
    return shape in ((1, channels), (1, 1, 1, channels))


_RULES: Mapping[type, Callable[[Network, Any], Shape]] = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    FullyConnected: _fully_connected,
    BatchNorm: _same,
    Activate: _same,
    Add: _binary,
    Mul: _binary,
    Concat: _concat,
    Pad: _pad,
    StridedSlice: _strided_slice,
    MaxPool2D: _pool,
    AveragePool2D: _pool,
    Mean: _mean,
    Reshape: _reshape,
    Softmax: _softmax,
    Logistic: _same,
    HardSwish: _same,
    LeakyRelu: _leaky_relu,
    Quantize: _same,
}
