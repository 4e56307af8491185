"""How each of torch's operators (aten) becomes operators of a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dtmm.network import ir
from dtmm.network.shapes import is_pixel

if TYPE_CHECKING:
    from dtmm.network.torch_reader import TorchReader

aten = torch.ops.aten


def _pair(value: Any) -> ir.Pair:
    values = list(value) if isinstance(value, list | tuple) else [value]
    first, second = values * 2 if len(values) == 1 else values
    return int(first), int(second)


def argument(node: torch.fx.Node, index: int, default: Any) -> Any:
    """A positional argument of a graph node."""
    return node.args[index] if len(node.args) > index else default


def _sizes(node: torch.fx.Node) -> tuple[int, ...]:
    return tuple(int(n) for n in node.meta["val"].shape)


def _four(padding: ir.Pair) -> ir.Padding:
    vertical, horizontal = padding
    return vertical, horizontal, vertical, horizontal


def _conv(reader: TorchReader, node: torch.fx.Node) -> None:
    source = reader.input(node)
    if len(reader.tensors[source]) == 2:
        reader.keep_pixel(node, source)
    groups, weight = int(argument(node, 6, 1)), reader.weight(node)
    fields: dict[str, Any] = {
        "weight": weight,
        "bias": reader.param(node, 2),
        "stride": _pair(argument(node, 3, 1)),
        "padding": _conv_padding(reader, node),
        "dilation": _pair(argument(node, 5, 1)),
    }
    names = reader.names(node, rank=4)
    outputs = reader.params[weight].shape[0]
    if groups > 1 and groups == reader.tensors[source][3] == outputs:
        reader.emit(node, ir.DepthwiseConv2D(*names, **fields))
    else:
        reader.emit(node, ir.Conv2D(*names, **fields, groups=groups))


def _conv_padding(reader: TorchReader, node: torch.fx.Node) -> ir.Padding:
    """Explicit amounts; torch's 'same' puts the odd pixel at the bottom and the right."""
    padding = argument(node, 4, 0)
    if not isinstance(padding, str):
        return _four(_pair(padding))
    if padding == "valid":
        return 0, 0, 0, 0
    window = tuple(node.args[1].meta["val"].shape[2:])  # type: ignore[union-attr]
    dilation = _pair(argument(node, 5, 1))
    vertical, horizontal = (d * (k - 1) for d, k in zip(dilation, window, strict=True))
    top, left = vertical // 2, horizontal // 2
    return top, left, vertical - top, horizontal - left


def _linear(reader: TorchReader, node: torch.fx.Node) -> None:
    weight, bias = reader.weight(node), reader.param(node, 2)
    reader.emit(node, ir.FullyConnected(*reader.names(node, rank=2), weight=weight, bias=bias))


def _batch_norm(reader: TorchReader, node: torch.fx.Node) -> None:
    scale, shift, mean, variance = (reader.param(node, n) for n in (1, 2, 3, 4))
    if not (scale and shift and mean and variance):
        raise reader.refuse(node, "batch_norm without affine weights or running statistics")
    op = ir.BatchNorm(
        *reader.names(node),
        scale=scale,
        shift=shift,
        mean=mean,
        variance=variance,
        epsilon=float(argument(node, 7, 1e-5)),
    )
    reader.emit(node, op)


def _relu(reader: TorchReader, node: torch.fx.Node) -> None:
    reader.emit(node, ir.Activate(*reader.names(node), ir.Activation.RELU))


def _relu6(reader: TorchReader, node: torch.fx.Node) -> None:
    limits = argument(node, 1, None), argument(node, 2, None)
    if node.target in _ALWAYS_RELU6 or limits == (0, 6):
        reader.emit(node, ir.Activate(*reader.names(node), ir.Activation.RELU6))
    elif limits == (0, None):
        _relu(reader, node)
    elif limits[0] == 0 and isinstance(limits[1], int | float) and limits[1] > 0:
        _clamp(reader, node, float(limits[1]))
    else:
        raise reader.refuse(node, f"{node.target} to {limits}")


def _clamp(reader: TorchReader, node: torch.fx.Node, most: float) -> None:
    """From 0 to `most`: relu6(x * 6 / most) * most / 6. On int8 both factors are lookups."""
    name, source, output = reader.names(node)
    up, down = f"{name}.up", f"{name}.down"
    reader.params |= {
        up: np.array([6 / most], np.float32),
        down: np.array([most / 6], np.float32),
    }
    scaled, clamped = f"{output}.scaled", f"{output}.clamped"
    reader.decompose(
        node,
        ir.Mul(scaled, (source,), scaled, constant=up),
        ir.Activate(clamped, scaled, clamped, ir.Activation.RELU6),
        ir.Mul(name, (clamped,), output, constant=down),
    )


def _binary(
    kind: type[ir.Add] | type[ir.Mul], inverse: Callable[[float], float] | None = None
) -> Callable[[TorchReader, torch.fx.Node], None]:
    """Sums and products; with `inverse` differences and quotients, of a constant only."""

    def handle(reader: TorchReader, node: torch.fx.Node) -> None:
        if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("rounding_mode") is not None:
            raise reader.refuse(node, f"{node.target} with a factor or a rounding mode")
        first = node.args[0]
        at = 1 if isinstance(first, torch.fx.Node) and first in reader.value_of else 0
        tensor = reader.input(node, 1 - at)
        constant = reader.constant(node, at, tensor)
        if inverse is not None:
            if constant is None or at == 0:
                raise reader.refuse(node, f"{node.target} by anything but a constant")
            values = [inverse(float(value)) for value in reader.params.pop(constant)]
            constant = f"{node.name}.constant"  # no longer the parameter that it was
            reader.params[constant] = np.array(values, np.float32)
        if constant is not None:
            op = kind(reader.unique(node), (tensor,), node.name, constant=constant)
        else:
            inputs = (tensor, reader.input(node, at))
            _check_broadcast(reader, node, inputs)
            op = kind(reader.unique(node), inputs, node.name)
        reader.emit(node, op)

    return handle


def _check_broadcast(reader: TorchReader, node: torch.fx.Node, inputs: tuple[str, str]) -> None:
    first, second = (reader.tensors[name] for name in inputs)
    if first != second and not any(
        is_pixel(a, b[-1]) for a, b in ((first, second), (second, first))
    ):
        raise reader.refuse(node, f"{node.target} of shapes {first} and {second}")


def _cat(reader: TorchReader, node: torch.fx.Node) -> None:
    parts = node.args[0]
    assert isinstance(parts, list | tuple)
    unknown = [part for part in parts if part not in reader.value_of]
    if unknown:
        raise reader.refuse(node, f"{node.target} of {unknown[0]}")
    inputs = tuple(reader.value_of[part] for part in parts)  # type: ignore[index]
    rank = len(node.meta["val"].shape)
    shapes = {reader.tensors[name][:-1] for name in inputs}
    if int(argument(node, 1, 0)) % rank != 1 or len(shapes) > 1:
        raise reader.refuse(node, f"{node.target} of anything but channels")
    reader.emit(node, ir.Concat(reader.unique(node), inputs, node.name))


def _pad(reader: TorchReader, node: torch.fx.Node) -> None:
    amounts = [int(n) for n in argument(node, 1, ())]
    mode, value = argument(node, 2, "constant"), argument(node, 3, None)
    if isinstance(mode, int | float):  # aten.constant_pad_nd has no mode
        mode, value = "constant", mode
    if len(amounts) not in (2, 4) or min(amounts) < 0 or mode != "constant" or (value or 0) != 0:
        raise reader.refuse(node, f"{node.target} by {amounts}, {mode} {value or 0}")
    left, right, top, bottom = amounts if len(amounts) == 4 else (*amounts, 0, 0)
    padding = (top, left, bottom, right)
    reader.emit(node, ir.Pad(*reader.names(node, rank=4), padding))


def _slice(reader: TorchReader, node: torch.fx.Node) -> None:
    axis = int(argument(node, 1, 0)) % len(node.meta["val"].shape)
    source = reader.input(node)
    shape, end_shape = reader.tensors[source], _sizes(node)
    start, step = argument(node, 2, None) or 0, int(argument(node, 4, 1))
    if len(shape) != 4 or axis not in (2, 3):
        if _sizes(node.args[0]) == end_shape:  # type: ignore[arg-type]
            reader.alias(node, source)
            return
        raise reader.refuse(node, f"{node.target} of anything but height and width")
    size = shape[axis - 1]
    start = max(start + size, 0) if start < 0 else min(start, size)
    begin, end, stride = [0, 0], [shape[1], shape[2]], [1, 1]
    begin[axis - 2], stride[axis - 2] = int(start), step
    end[axis - 2] = min(int(start) + (end_shape[axis] - 1) * step + 1, size)
    op = ir.StridedSlice(
        reader.unique(node), source, node.name, _pair(begin), _pair(end), _pair(stride)
    )
    reader.emit(node, op)


def _softmax(reader: TorchReader, node: torch.fx.Node) -> None:
    if int(argument(node, 1, 0)) % len(node.meta["val"].shape) != 1:
        raise reader.refuse(node, f"{node.target} over anything but channels")
    reader.emit(node, ir.Softmax(*reader.names(node)))


def _lookup(
    kind: type[ir.Logistic] | type[ir.HardSwish],
) -> Callable[[TorchReader, torch.fx.Node], None]:
    return lambda reader, node: reader.emit(node, kind(*reader.names(node)))


def _leaky_relu(reader: TorchReader, node: torch.fx.Node) -> None:
    alpha = float(argument(node, 1, 0.01))
    if alpha < 0:
        raise reader.refuse(node, f"{node.target} with slope {alpha}")
    reader.emit(node, ir.LeakyRelu(*reader.names(node), alpha))


def _hard_sigmoid(reader: TorchReader, node: torch.fx.Node) -> None:
    """relu6(x + 3) / 6, as TFLite's converter writes it."""
    name, source, output = reader.names(node)
    three, sixth = f"{name}.three", f"{name}.sixth"
    reader.params |= {three: np.array([3], np.float32), sixth: np.array([1 / 6], np.float32)}
    shifted, clamped = f"{output}.shifted", f"{output}.clamped"
    reader.decompose(
        node,
        ir.Add(shifted, (source,), shifted, constant=three),
        ir.Activate(clamped, shifted, clamped, ir.Activation.RELU6),
        ir.Mul(name, (clamped,), output, constant=sixth),
    )


def _silu(reader: TorchReader, node: torch.fx.Node) -> None:
    """x * sigmoid(x), as TFLite's converter writes it."""
    name, source, output = reader.names(node)
    gate = f"{output}.gate"
    reader.decompose(node, ir.Logistic(gate, source, gate), ir.Mul(name, (source, gate), output))


def _pool(kind: type[ir.MaxPool2D] | type[ir.AveragePool2D]) -> Callable[..., None]:
    def handle(reader: TorchReader, node: torch.fx.Node) -> None:
        window = _pair(node.args[1])
        padding = _pair(argument(node, 3, 0))
        if kind is ir.MaxPool2D:
            odd = _pair(argument(node, 4, 1)) != (1, 1)
        else:  # TFLite never counts padding: torch's default agrees only without padding
            odd = (any(padding) and argument(node, 5, True)) or argument(node, 6, None)
        if odd:
            raise reader.refuse(node, f"{node.target} with dilation or counted padding")
        stride = _pair(argument(node, 2, None) or window)
        names = reader.names(node, rank=4)
        # ceil_mode makes windows that end beyond the image, where torch counts nothing either
        sizes, made = reader.tensors[names[1]][1:3], _sizes(node)[2:]
        bottom, right = (
            max(pad, (out - 1) * step + extent - size - pad)
            for pad, out, step, extent, size in zip(
                padding, made, stride, window, sizes, strict=True
            )
        )
        reader.emit(node, kind(*names, window, stride, (*padding, bottom, right)))

    return handle


def _adaptive_pool(reader: TorchReader, node: torch.fx.Node) -> None:
    if _pair(node.args[1]) != (1, 1):
        raise reader.refuse(node, f"adaptive_avg_pool2d to {node.args[1]}")
    _global_mean(reader, node)


def _mean(reader: TorchReader, node: torch.fx.Node) -> None:
    rank = len(reader.tensors[reader.input(node)])
    axes = node.args[1]
    if rank != 4 or sorted(int(axis) % rank for axis in axes) != [2, 3]:  # type: ignore[union-attr, arg-type]
        raise reader.refuse(node, f"mean over axes {axes}")
    _global_mean(reader, node)


def _global_mean(reader: TorchReader, node: torch.fx.Node) -> None:
    """A vector, whether torch keeps the two dimensions of one pixel or not."""
    op = ir.Mean(*reader.names(node, rank=4))
    reader.emit(node, op)
    reader.tensors[op.output] = (1, reader.tensors[op.input][3])


def _flatten(reader: TorchReader, node: torch.fx.Node) -> None:
    source, target = reader.tensors[reader.input(node)], _sizes(node)
    kept = source if len(source) == 2 else (1, source[3]) if source[1:3] == (1, 1) else None
    vector = len(target) == 2 and len(source) == 4
    if kept == target[:2] and math.prod(target[2:]) == 1 and not vector:
        reader.alias(node, reader.input(node))  # a pixel that torch keeps, or a vector of it
    elif len(source) == 4 and len(target) == 2 and target[0] == 1:
        reader.emit(node, ir.Reshape(*reader.names(node)))
    else:
        raise reader.refuse(node, f"{node.target} from {source} to {target}")


def _dropout(reader: TorchReader, node: torch.fx.Node) -> None:
    if argument(node, 1, 0.5) > 0 and argument(node, 2, True):
        raise reader.refuse(node, f"{node.target} that stays on in eval mode")
    _nothing(reader, node)


def _nothing(reader: TorchReader, node: torch.fx.Node) -> None:
    source = node.args[0]
    if isinstance(source, torch.fx.Node) and source.name in reader.key_of:  # a constant
        reader.key_of[node.name] = reader.key_of[source.name]
    else:
        reader.alias(node, reader.input(node))


_ALWAYS_RELU6 = {aten.relu6.default, aten.relu6_.default}
"""The others have limits."""

HANDLERS: dict[Any, Callable[[TorchReader, torch.fx.Node], None]] = {
    aten.conv2d.default: _conv,
    aten.conv2d.padding: _conv,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.relu6.default: _relu6,
    aten.relu6_.default: _relu6,
    aten.hardtanh.default: _relu6,
    aten.hardtanh_.default: _relu6,
    aten.clamp.default: _relu6,
    aten.add.Tensor: _binary(ir.Add),
    aten.add_.Tensor: _binary(ir.Add),
    aten.sub.Tensor: _binary(ir.Add, inverse=lambda value: -value),
    aten.mul.Tensor: _binary(ir.Mul),
    aten.mul_.Tensor: _binary(ir.Mul),
    aten.div.Tensor: _binary(ir.Mul, inverse=lambda value: 1 / value if value else math.inf),
    aten.cat.default: _cat,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.slice.Tensor: _slice,
    aten.softmax.int: _softmax,
    aten.sigmoid.default: _lookup(ir.Logistic),
    aten.sigmoid_.default: _lookup(ir.Logistic),
    aten.hardswish.default: _lookup(ir.HardSwish),
    aten.hardswish_.default: _lookup(ir.HardSwish),
    aten.hardsigmoid.default: _hard_sigmoid,
    aten.hardsigmoid_.default: _hard_sigmoid,
    aten.silu.default: _silu,
    aten.silu_.default: _silu,
    aten.leaky_relu.default: _leaky_relu,
    aten.leaky_relu_.default: _leaky_relu,
    aten.max_pool2d.default: _pool(ir.MaxPool2D),
    aten.avg_pool2d.default: _pool(ir.AveragePool2D),
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.view.default: _flatten,
    aten.reshape.default: _flatten,
    aten.flatten.using_ints: _flatten,
    aten.unsqueeze.default: _flatten,
    aten.squeeze.default: _flatten,
    aten.squeeze.dim: _flatten,
    aten.squeeze.dims: _flatten,
    aten.dropout.default: _dropout,
    aten.dropout_.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.alias.default: _nothing,
    aten.detach_.default: _nothing,
    aten.lift_fresh_copy.default: _nothing,
    aten.contiguous.default: _nothing,
    aten.clone.default: _nothing,
}
