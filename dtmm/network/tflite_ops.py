"""How every operator is written as TFLite operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dtmm.errors import UnsupportedError
from dtmm.network import ir
from dtmm.network.shapes import window_extent

if TYPE_CHECKING:
    from dtmm.network.tflite_writer import TfliteWriter


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """TFLite's SAME along one axis: (before, after)."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _is_same(shape: ir.Shape, kernel: ir.Pair, stride: ir.Pair, padding: ir.Padding) -> bool:
    top, bottom = same_padding(shape[1], kernel[0], stride[0])
    left, right = same_padding(shape[2], kernel[1], stride[1])
    return padding == (top, left, bottom, right)


def _conv(writer: TfliteWriter, op: ir.Conv2D) -> None:
    inputs, options = _conv_inputs(writer, op), _conv_options(writer, op, "Conv2DOptions")
    version = 3 if op.groups == 1 else 6
    writer.operator("CONV_2D", inputs, [writer.index(op.output)], version, options)


def _depthwise(writer: TfliteWriter, op: ir.DepthwiseConv2D) -> None:
    options = _conv_options(writer, op, "DepthwiseConv2DOptions")
    options.depthMultiplier = 1
    inputs = _conv_inputs(writer, op)
    writer.operator("DEPTHWISE_CONV_2D", inputs, [writer.index(op.output)], 3, options)


def _conv_inputs(writer: TfliteWriter, op: ir.Conv2D | ir.DepthwiseConv2D) -> list[int]:
    source = writer.index(op.input) if _pads_same(writer, op) else _padded(writer, op)
    return [source, *_weights(writer, op)]


def _conv_options(writer: TfliteWriter, op: ir.Conv2D | ir.DepthwiseConv2D, kind: str) -> Any:
    return writer.options(
        kind,
        padding=writer.padding(_pads_same(writer, op)),
        strideH=op.stride[0],
        strideW=op.stride[1],
        dilationHFactor=op.dilation[0],
        dilationWFactor=op.dilation[1],
        fusedActivationFunction=writer.fused(op.activation),
    )


def _pads_same(writer: TfliteWriter, op: ir.Conv2D | ir.DepthwiseConv2D) -> bool:
    _, height, width, _ = writer.network.params[op.weight].shape
    extent = window_extent((height, width), op.dilation)
    return _is_same(writer.network.tensors[op.input].shape, extent, op.stride, op.padding)


def _padded(writer: TfliteWriter, op: ir.Conv2D | ir.DepthwiseConv2D | ir.MaxPool2D) -> int:
    """The operator's input with its explicit padding: zeros, or -128 for a maximum."""
    source = writer.index(op.input)
    if not any(op.padding):
        return source
    tensor = writer.network.tensors[op.input]
    _, height, width, channels = tensor.shape
    top, left, bottom, right = op.padding
    shape = (1, height + top + bottom, width + left + right, channels)
    padded = writer.activation(f"{op.name}/padded", tensor, shape)
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    inputs = [source, writer.constant(f"{op.name}/padding", amounts)]
    if not isinstance(op, ir.MaxPool2D):
        writer.operator("PAD", inputs, [padded], 2, writer.options("PadOptions"))
    else:
        lowest = np.array([-128], np.int8)
        value = writer.constant(
            f"{op.name}/lowest", lowest, np.array([tensor.scale]), tensor.zero_point
        )
        options = writer.options("PadV2Options")
        writer.operator("PADV2", [*inputs, value], [padded], 2, options)
    return padded


def _weights(writer: TfliteWriter, op: ir.Weighted) -> list[int]:
    network = writer.network
    scales = network.weight_scales[op.weight]
    assert op.bias is not None, "a quantized layer has a bias"
    bias_scales = np.float32(network.tensors[op.input].scale) * scales
    weight, axis = network.params[op.weight], 0
    if isinstance(op, ir.DepthwiseConv2D):  # TFLite has its channels last
        weight, axis = weight.transpose(3, 1, 2, 0), 3
    return [
        writer.constant(op.weight, weight, scales, axis=axis),
        writer.constant(op.bias, network.params[op.bias], bias_scales),
    ]


def _fully_connected(writer: TfliteWriter, op: ir.FullyConnected) -> None:
    options = writer.options(
        "FullyConnectedOptions", fusedActivationFunction=writer.fused(op.activation),
        keepNumDims=False, weightsFormat=0,
    )  # fmt: skip
    inputs = [writer.index(op.input), *_weights(writer, op)]
    writer.operator("FULLY_CONNECTED", inputs, [writer.index(op.output)], 4, options)


def _binary(kind: str, options_kind: str) -> Callable[[TfliteWriter, Any], None]:
    def write(writer: TfliteWriter, op: ir.Binary) -> None:
        network, fused = writer.network, writer.fused(op.activation)
        options = writer.options(options_kind, fusedActivationFunction=fused)
        inputs = [writer.index(name) for name in op.inputs]
        if op.constant is not None:
            scales = network.weight_scales[op.constant]
            zero_point = network.zero_points.get(op.constant, 0)
            values = network.params[op.constant]
            inputs.append(writer.constant(op.constant, values, scales, zero_point))
        writer.operator(kind, inputs, [writer.index(op.output)], 2, options)

    return write


def _concat(writer: TfliteWriter, op: ir.Concat) -> None:
    options = writer.options("ConcatenationOptions")
    options.axis = len(writer.network.tensors[op.output].shape) - 1
    inputs = [writer.index(name) for name in op.inputs]
    writer.operator("CONCATENATION", inputs, [writer.index(op.output)], 2, options)


def _max_pool(writer: TfliteWriter, op: ir.MaxPool2D) -> None:
    same = _is_same(writer.network.tensors[op.input].shape, op.window, op.stride, op.padding)
    source = writer.index(op.input) if same else _padded(writer, op)
    _pool(writer, "MAX_POOL_2D", op, source, same)


def _average_pool(writer: TfliteWriter, op: ir.AveragePool2D) -> None:
    same = _is_same(writer.network.tensors[op.input].shape, op.window, op.stride, op.padding)
    if not same and any(op.padding):
        raise UnsupportedError(
            f"AveragePool2D '{op.name}' has padding {op.padding}: .tflite knows SAME and VALID only"
        )
    _pool(writer, "AVERAGE_POOL_2D", op, writer.index(op.input), same)


def _pool(
    writer: TfliteWriter, kind: str, op: ir.MaxPool2D | ir.AveragePool2D, source: int, same: bool
) -> None:
    options = writer.options(
        "Pool2DOptions",
        padding=writer.padding(same),
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.window[0],
        filterWidth=op.window[1],
        fusedActivationFunction=writer.fused(ir.Activation.NONE),
    )
    writer.operator(kind, [source], [writer.index(op.output)], 2, options)


def _mean(writer: TfliteWriter, op: ir.Mean) -> None:
    axes = writer.constant(f"{op.name}/axes", np.array([1, 2], np.int32))
    options = writer.options("ReducerOptions", keepDims=op.keep_dims)
    writer.operator("MEAN", [writer.index(op.input), axes], [writer.index(op.output)], 2, options)


def _reshape(writer: TfliteWriter, op: ir.Reshape) -> None:
    shape = np.array(writer.network.tensors[op.output].shape, np.int32)
    inputs = [writer.index(op.input), writer.constant(f"{op.name}/shape", shape)]
    options = writer.options("ReshapeOptions", newShape=shape)
    writer.operator("RESHAPE", inputs, [writer.index(op.output)], 1, options)


def _pad(writer: TfliteWriter, op: ir.Pad) -> None:
    top, left, bottom, right = op.padding
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    inputs = [writer.index(op.input), writer.constant(f"{op.name}/padding", amounts)]
    writer.operator("PAD", inputs, [writer.index(op.output)], 2, writer.options("PadOptions"))


def _strided_slice(writer: TfliteWriter, op: ir.StridedSlice) -> None:
    channels = writer.network.tensors[op.input].shape[3]
    ranges = {
        "begin": (0, *op.begin, 0),
        "end": (1, *op.end, channels),
        "strides": (1, *op.stride, 1),
    }
    inputs = [writer.index(op.input)]
    for name, values in ranges.items():
        inputs.append(writer.constant(f"{op.name}/{name}", np.array(values, np.int32)))
    options = writer.options("StridedSliceOptions")
    writer.operator("STRIDED_SLICE", inputs, [writer.index(op.output)], 2, options)


def _unary(
    kind: str, version: int, options_kind: str | None = None, **fields: str
) -> Callable[[TfliteWriter, Any], None]:
    """An operator of one input; `fields` names the attribute that gives each option its value."""

    def write(writer: TfliteWriter, op: ir.Softmax | ir.Lookup) -> None:
        options = None
        if options_kind is not None:
            values = {name: getattr(op, attribute) for name, attribute in fields.items()}
            options = writer.options(options_kind, **values)
        inputs, outputs = [writer.index(op.input)], [writer.index(op.output)]
        writer.operator(kind, inputs, outputs, version, options)

    return write


ENCODERS: Mapping[type, Callable[[TfliteWriter, Any], None]] = {
    ir.Conv2D: _conv,
    ir.DepthwiseConv2D: _depthwise,
    ir.FullyConnected: _fully_connected,
    ir.Add: _binary("ADD", "AddOptions"),
    ir.Mul: _binary("MUL", "MulOptions"),
    ir.Concat: _concat,
    ir.Pad: _pad,
    ir.StridedSlice: _strided_slice,
    ir.MaxPool2D: _max_pool,
    ir.AveragePool2D: _average_pool,
    ir.Mean: _mean,
    ir.Reshape: _reshape,
    ir.Softmax: _unary("SOFTMAX", 2, "SoftmaxOptions", beta="beta"),
    ir.Logistic: _unary("LOGISTIC", 2),
    ir.HardSwish: _unary("HARD_SWISH", 1),
    ir.LeakyRelu: _unary("LEAKY_RELU", 2, "LeakyReluOptions", alpha="alpha"),
    ir.Quantize: _unary("QUANTIZE", 2, "QuantizeOptions"),
}
"""By operator class: appends its TFLite operators and constants to a writer."""
