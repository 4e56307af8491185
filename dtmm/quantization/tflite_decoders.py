"""How TFLite operators become those of `dtmm.network.ir`, as `network.tflite_ops` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError, UnsupportedError
from dtmm.network import ir
from dtmm.network.shapes import window_extent
from dtmm.network.tflite_ops import same_padding
from dtmm.quantization.tflite_file import FileOperator, FileTensor

if TYPE_CHECKING:
    from dtmm.quantization.tflite_reader import TfliteReader

_SAME, _VALID = 0, 1
"""TFLite's Padding."""

_ACTIVATIONS = {0: ir.Activation.NONE, 1: ir.Activation.RELU, 3: ir.Activation.RELU6}
"""TFLite's ActivationFunctionType."""

_CENTERED = 0
"""The zero point of weights and biases that the int8 operators take."""


def _conv(reader: TfliteReader, operator: FileOperator) -> None:
    source, target = reader.input(operator), reader.output(operator)
    weights = _weights(reader, operator, 4)
    channels, per_group = reader.tensors[source].shape[-1], weights.shape[3]
    groups, rest = divmod(channels, per_group) if per_group else (0, 1)
    if rest or groups < 1:
        raise DataError(
            f"{reader.where(operator)} has filters of {per_group} channels, its input {channels}"
        )
    name = reader.name(operator)
    keys = _store(reader, operator, weights, _scales(reader, operator, 0, len(weights)))
    reader.ops.append(
        ir.Conv2D(name, source, target, *keys, **_sliding(reader, operator, weights), groups=groups)
    )


def _depthwise(reader: TfliteReader, operator: FileOperator) -> None:
    source, target = reader.input(operator), reader.output(operator)
    weights = _weights(reader, operator, 4).transpose(3, 1, 2, 0)  # TFLite has its channels last
    channels = reader.tensors[source].shape[-1]
    name = reader.name(operator)
    keys = _store(reader, operator, weights, _scales(reader, operator, 3, len(weights)))
    sliding = _sliding(reader, operator, weights)
    if len(weights) == channels:
        reader.ops.append(ir.DepthwiseConv2D(name, source, target, *keys, **sliding))
    else:  # a depth multiplier: filters of one channel each, in groups
        reader.ops.append(ir.Conv2D(name, source, target, *keys, **sliding, groups=channels))


def _fully_connected(reader: TfliteReader, operator: FileOperator) -> None:
    if operator.options.weightsFormat:
        raise UnsupportedError(
            f"{reader.where(operator)} has shuffled weights, expected plain ones"
        )
    source, target = reader.vector_of(operator), reader.output(operator)
    weights = _weights(reader, operator, 2)
    keys = _store(reader, operator, weights, _scales(reader, operator, 0, len(weights)))
    activation = _activation(reader, operator)
    reader.ops.append(
        ir.FullyConnected(reader.name(operator), source, target, *keys, activation=activation)
    )


def _weights(reader: TfliteReader, operator: FileOperator, rank: int) -> npt.NDArray[np.int8]:
    weights = reader.constant(operator, 1, "INT8")
    if weights.ndim != rank or not weights.size:
        raise DataError(
            f"{reader.where(operator)} has weights of shape {list(weights.shape)}, "
            f"expected {rank} dimensions"
        )
    return weights


def _scales(
    reader: TfliteReader, operator: FileOperator, axis: int, filters: int
) -> npt.NDArray[np.float32]:
    """[filters], also where the file has one scale for all."""
    tensor = reader.tensor(operator, 1)
    assert tensor is not None
    _check_centered(reader, operator, tensor)
    if len(tensor.scales) == 1:
        return np.full(filters, tensor.scales[0], np.float32)
    if len(tensor.scales) != filters or tensor.axis != axis:
        raise DataError(
            f"{reader.where(operator)} has {len(tensor.scales)} weight scales along axis "
            f"{tensor.axis}, expected 1 or {filters} along {axis}"
        )
    return tensor.scales.astype(np.float32)


def _check_centered(reader: TfliteReader, operator: FileOperator, tensor: FileTensor) -> None:
    if not len(tensor.scales):
        raise UnsupportedError(f"{reader.where(operator)} has a constant without a scale: hybrid")
    if (tensor.zero_points != _CENTERED).any():
        raise UnsupportedError(
            f"{reader.where(operator)} has a constant with zero point "
            f"{tensor.zero_points[tensor.zero_points != _CENTERED][0]}, expected 0"
        )


def _store(
    reader: TfliteReader,
    operator: FileOperator,
    weights: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
) -> tuple[str, str]:
    """Keys of weights and bias; a bias that is left out is zero."""
    name = reader.name(operator)
    key, bias_key = f"{name}.weight", f"{name}.bias"
    bias = np.zeros(len(weights), np.int32)
    if reader.tensor(operator, 2) is not None:
        bias = reader.constant(operator, 2, "INT32")
        if bias.shape != (len(weights),):
            raise DataError(
                f"{reader.where(operator)} has a bias of shape {list(bias.shape)}, expected "
                f"{[len(weights)]}"
            )
    reader.params[key] = np.ascontiguousarray(weights)
    reader.params[bias_key] = bias.astype(np.int32)
    reader.weight_scales[key] = scales
    return key, bias_key


def _sliding(
    reader: TfliteReader, operator: FileOperator, weights: npt.NDArray[np.int8]
) -> dict[str, Any]:
    """Stride, padding, dilation and activation of a convolution."""
    options = operator.options
    stride = (options.strideH, options.strideW)
    dilation = (options.dilationHFactor, options.dilationWFactor)
    extent = window_extent((weights.shape[1], weights.shape[2]), dilation)
    return {
        "stride": stride,
        "dilation": dilation,
        "padding": _padding(reader, operator, extent, stride),
        "activation": _activation(reader, operator),
    }


def _padding(
    reader: TfliteReader, operator: FileOperator, extent: ir.Pair, stride: ir.Pair
) -> ir.Padding:
    shape = reader.tensors[reader.input(operator)].shape
    if operator.options.padding not in (_SAME, _VALID) or min(stride) < 1 or len(shape) != 4:
        raise DataError(
            f"{reader.where(operator)} has padding {operator.options.padding} and stride {stride} "
            f"on {list(shape)}, expected 0 or 1, at least 1, and an image"
        )
    if operator.options.padding == _VALID:
        return 0, 0, 0, 0
    top, bottom = same_padding(shape[1], extent[0], stride[0])
    left, right = same_padding(shape[2], extent[1], stride[1])
    return top, left, bottom, right


def _activation(reader: TfliteReader, operator: FileOperator) -> ir.Activation:
    number = operator.options.fusedActivationFunction
    if number not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{reader.where(operator)} has fused activation {number}, expected none, RELU or RELU6"
        )
    return _ACTIVATIONS[number]


def _no_clamp(reader: TfliteReader, operator: FileOperator) -> None:
    """Refuse an activation that would change anything: ours is not fused here."""
    tensor = reader.tensors[reader.output(operator)]
    activation = _activation(reader, operator)
    highest = tensor.scale * (127 - tensor.zero_point)
    if activation is ir.Activation.NONE or (
        tensor.zero_point == -128 and (activation is ir.Activation.RELU or highest <= 6)
    ):
        return
    raise UnsupportedError(
        f"{reader.where(operator)} has a fused {activation.value} that clamps its outputs"
    )


def _same_scale(reader: TfliteReader, operator: FileOperator, names: list[str]) -> None:
    """TFLM moves values without rescaling them here."""
    target = reader.tensors[reader.output(operator)]
    for name in names:
        source = reader.tensors[name]
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise UnsupportedError(
                f"{reader.where(operator)} reads '{name}' of scale {source.scale:g} and zero point "
                f"{source.zero_point}, expected its output's {target.scale:g} and "
                f"{target.zero_point}"
            )


def _binary(made: type[ir.Add] | type[ir.Mul]) -> Callable[[TfliteReader, FileOperator], None]:
    def decode(reader: TfliteReader, operator: FileOperator) -> None:
        name, target = reader.name(operator), reader.output(operator)
        operands = [reader.tensor(operator, position) for position in (0, 1)]
        constants = [n for n, each in enumerate(operands) if each and each.data is not None]
        if len(constants) > 1:
            raise UnsupportedError(f"{reader.where(operator)} has two constant operands")
        names = tuple(reader.input(operator, n) for n in (0, 1) if n not in constants)
        key = None
        if constants:
            key = f"{name}.constant"
            values = reader.constant(operator, constants[0], "INT8")
            tensor = operands[constants[0]]
            assert tensor is not None
            if len(tensor.scales) != 1 or not -128 <= tensor.zero_points[0] <= 127:
                raise UnsupportedError(
                    f"{reader.where(operator)} has a constant of {len(tensor.scales)} scales and "
                    f"zero points {tensor.zero_points[:3].tolist()}, expected one of each: hybrid"
                )
            if values.size not in (1, values.shape[-1] if values.ndim else 1):
                raise UnsupportedError(
                    f"{reader.where(operator)} has a constant of shape {list(values.shape)}, "
                    "expected one value or one per channel"
                )
            reader.params[key] = values.reshape(-1)
            reader.weight_scales[key] = tensor.scales[:1].astype(np.float32)
            reader.zero_points[key] = int(tensor.zero_points[0])
        activation = _activation(reader, operator)
        reader.ops.append(made(name, names, target, activation, key))

    return decode


def _concat(reader: TfliteReader, operator: FileOperator) -> None:
    names = [reader.input(operator, n) for n in range(len(operator.inputs))]
    target, rank = reader.output(operator), len(reader.tensors[names[0]].shape)
    if operator.options.axis not in (-1, rank - 1):
        raise UnsupportedError(
            f"{reader.where(operator)} joins along axis {operator.options.axis}, "
            f"expected the channels: {rank - 1}"
        )
    _no_clamp(reader, operator)
    _same_scale(reader, operator, names)
    reader.ops.append(ir.Concat(reader.name(operator), tuple(names), target))


def _pool(
    made: type[ir.MaxPool2D] | type[ir.AveragePool2D],
) -> Callable[[TfliteReader, FileOperator], None]:
    def decode(reader: TfliteReader, operator: FileOperator) -> None:
        options = operator.options
        source, target = reader.input(operator), reader.output(operator)
        window, stride = (
            (options.filterHeight, options.filterWidth),
            (options.strideH, options.strideW),
        )
        padding = _padding(reader, operator, window, stride)
        _no_clamp(reader, operator)
        _same_scale(reader, operator, [source])
        reader.ops.append(made(reader.name(operator), source, target, window, stride, padding))

    return decode


def _mean(reader: TfliteReader, operator: FileOperator) -> None:
    source, target = reader.input(operator), reader.output(operator)
    rank = len(reader.tensors[source].shape)
    axes = {int(axis) % max(rank, 1) for axis in reader.constant(operator, 1, "INT32").ravel()}
    if rank != 4 or axes != {1, 2}:
        raise UnsupportedError(
            f"{reader.where(operator)} averages over axes {sorted(axes)} of {rank}, "
            "expected height and width: 1 and 2 of 4"
        )
    keep = bool(operator.options.keepDims)
    reader.ops.append(ir.Mean(reader.name(operator), source, target, keep))


def _pad(reader: TfliteReader, operator: FileOperator) -> None:
    source, target = reader.input(operator), reader.output(operator)
    amounts = reader.constant(operator, 1, "INT32")
    if amounts.shape != (4, 2) or amounts[[0, 3]].any() or (amounts < 0).any():
        raise UnsupportedError(
            f"{reader.where(operator)} pads by {amounts.tolist()}, expected pixels around an image"
        )
    _same_scale(reader, operator, [source])
    (top, bottom), (left, right) = amounts[1].tolist(), amounts[2].tolist()
    name = reader.name(operator)
    reader.ops.append(ir.Pad(name, source, target, (top, left, bottom, right)))


def _strided_slice(reader: TfliteReader, operator: FileOperator) -> None:
    source, target = reader.input(operator), reader.output(operator)
    shape = reader.tensors[source].shape
    begin, end, stride = (reader.constant(operator, n, "INT32").tolist() for n in (1, 2, 3))
    options = operator.options
    odd = options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask
    if odd or len(shape) != 4 or {len(begin), len(end), len(stride)} != {4} or min(stride) < 1:
        raise UnsupportedError(
            f"{reader.where(operator)} is not a slice of every n-th pixel of an image"
        )
    first, last = [], []
    for axis, size in enumerate(shape):
        low = 0 if options.beginMask >> axis & 1 else begin[axis]
        high = size if options.endMask >> axis & 1 else end[axis]
        first.append(min(max(low + size if low < 0 else low, 0), size))
        last.append(min(max(high + size if high < 0 else high, 0), size))
    for axis in (0, 3):
        if (first[axis], last[axis], stride[axis]) != (0, shape[axis], 1):
            raise UnsupportedError(
                f"{reader.where(operator)} slices channels, expected pixels only"
            )
    _same_scale(reader, operator, [source])
    reader.ops.append(
        ir.StridedSlice(
            reader.name(operator), source, target,
            (first[1], first[2]), (last[1], last[2]), (stride[1], stride[2]),
        )
    )  # fmt: skip


def _reshape(reader: TfliteReader, operator: FileOperator) -> None:
    source = reader.input(operator)
    made = reader.file.tensors[operator.outputs[0]].shape
    shape = reader.tensors[source].shape
    pixel = len(shape) == 2 and made == (1, 1, 1, shape[-1])
    if made == shape or (pixel and reader.keep_pixel(operator)):
        reader.rename(operator)
        return
    if len(shape) != 4 or made != (1, math.prod(shape)):
        raise UnsupportedError(
            f"{reader.where(operator)} makes {list(made)} of {list(shape)}, "
            "expected an image to be flattened"
        )
    target = reader.output(operator)
    _same_scale(reader, operator, [source])
    reader.ops.append(ir.Reshape(reader.name(operator), source, target))


def _unary(
    made: Callable[[str, str, str, Any], ir.Op],
) -> Callable[[TfliteReader, FileOperator], None]:
    def decode(reader: TfliteReader, operator: FileOperator) -> None:
        source, target = reader.input(operator), reader.output(operator)
        reader.ops.append(made(reader.name(operator), source, target, operator.options))

    return decode


DECODERS: Mapping[str, Callable[[TfliteReader, FileOperator], None]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _binary(ir.Add),
    "MUL": _binary(ir.Mul),
    "CONCATENATION": _concat,
    "PAD": _pad,
    "STRIDED_SLICE": _strided_slice,
    "MAX_POOL_2D": _pool(ir.MaxPool2D),
    "AVERAGE_POOL_2D": _pool(ir.AveragePool2D),
    "MEAN": _mean,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "SOFTMAX": _unary(
        lambda name, source, target, options: ir.Softmax(name, source, target, options.beta)
    ),
    "LOGISTIC": _unary(lambda name, source, target, _: ir.Logistic(name, source, target)),
    "HARD_SWISH": _unary(lambda name, source, target, _: ir.HardSwish(name, source, target)),
    "LEAKY_RELU": _unary(
        lambda name, source, target, options: ir.LeakyRelu(name, source, target, options.alpha)
    ),
    "QUANTIZE": _unary(lambda name, source, target, _: ir.Quantize(name, source, target)),
}
"""By TFLite's name: appends what an operator of the file is to the reader's network."""
