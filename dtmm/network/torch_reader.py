"""Reads a `torch.nn.Module` into a `Network` through `torch.export`."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network import ir
from dtmm.network.check import check
from dtmm.network.torch_layout import params_from_torch, params_to_torch

Array = npt.NDArray[np.float32]

aten = torch.ops.aten

SUPPORTED = (
    "conv2d (groups 1), linear, batch_norm, relu, relu6, add, max_pool2d, avg_pool2d, global "
    "average pooling (adaptive_avg_pool2d(1) or mean over height and width), flatten, dropout"
)


def from_torch(module: torch.nn.Module, example: torch.Tensor, name: str) -> ir.Network:
    """Capture `module` in eval mode as a float network; the module is not changed.

    Batch normalization and activations stay operators of their own (`dtmm.network.fold` folds
    them). Layers are named after their modules and parameters keep their state_dict keys, so that
    `copy_to` can write them back.

    Args:
        example: [1, C, H, W] float input.

    Raises:
        DtmmError: `example` has another shape, or a parameter is not finite.
        UnsupportedError: an operator outside the supported set, a parameter that two layers share,
            or torch.export refuses the module.
    """
    if example.ndim != 4 or example.shape[0] != 1:
        raise DtmmError(f"example has shape {tuple(example.shape)}, expected (1, C, H, W)")
    frozen = copy.deepcopy(module).eval()
    try:
        program = torch.export.export(frozen, (example,))
    except Exception as error:  # torch.export raises many classes; its first line says what failed
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedError(
            f"torch.export cannot capture {type(module).__name__}: {reason}"
        ) from error
    reader = _Reader(program, name)
    for node in program.graph.nodes:
        reader.read(node)
    network = reader.network()
    network = replace(network, params=params_from_torch(network))
    check(network)
    return network


def copy_to(network: ir.Network, module: torch.nn.Module) -> None:
    """Write a network's weights, zeros included, into the module it was read from.

    The network must have the module's own operators and shapes: masked, but neither folded nor
    physically smaller. Nothing is written if anything differs.

    Raises:
        UnsupportedError: the module reads as other operators, or a parameter differs in shape.
    """
    _, height, width, channels = network.tensors[network.inputs[0]]
    own = from_torch(module, torch.zeros(1, channels, height, width), network.name)
    if own.ops != network.ops:
        difference = next((b for a, b in zip(own.ops, network.ops, strict=False) if a != b), None)
        where = f"from '{difference.name}' on" if difference else "in its number of operators"
        raise UnsupportedError(
            f"network '{network.name}' differs from the module {where}: expected the network as "
            "from_torch read it, not folded"
        )
    for key, values in own.params.items():
        found = network.params[key].shape
        if found != values.shape:
            raise UnsupportedError(
                f"parameter '{key}' has shape {found}, the module's has {values.shape}: "
                "expected a network that is masked, not smaller"
            )
    state, params = module.state_dict(), params_to_torch(network)
    with torch.no_grad():
        for key in own.params:
            state[key].copy_(torch.from_numpy(params[key]))


@dataclass
class _Reader:
    """Turns graph nodes into operators, one at a time."""

    program: torch.export.ExportedProgram
    name: str
    tensors: dict[str, ir.Shape] = field(default_factory=dict)
    ops: list[ir.Op] = field(default_factory=list)
    params: dict[str, Array] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    value_of: dict[torch.fx.Node, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        signature = self.program.graph_signature
        self.key_of = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.user_inputs = set(signature.user_inputs)

    def network(self) -> ir.Network:
        """What was read so far, its parameters still in torch's layout."""
        used = {*self.inputs, *(op.output for op in self.ops)}
        tensors = {name: shape for name, shape in self.tensors.items() if name in used}
        inputs, outputs = tuple(self.inputs), tuple(self.outputs)
        return ir.Network(self.name, tensors, tuple(self.ops), self.params, inputs, outputs)

    def read(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        if node.op == "placeholder":
            if node.name in self.user_inputs:
                self.value_of[node] = node.name
                self.inputs.append(node.name)
                self.tensors[node.name] = _shape(node)
        elif node.op == "output":
            self._read_outputs(node)
        elif isinstance(value, torch.Tensor | list | tuple):
            handler = _HANDLERS.get(node.target)
            if handler is None:
                raise self.refuse(node, str(node.target))
            handler(self, node)
        # what remains are sizes and other scalars: what they decide is already in the shapes

    def _read_outputs(self, node: torch.fx.Node) -> None:
        for value in node.args[0]:  # type: ignore[union-attr]
            if not isinstance(value, torch.fx.Node) or value not in self.value_of:
                raise UnsupportedError(f"'{self.name}' returns {value}, expected computed tensors")
            self.outputs.append(self.value_of[value])

    def input(self, node: torch.fx.Node, index: int = 0, rank: int | None = None) -> str:
        """The tensor that argument `index` names, of this rank where one is given."""
        source = node.args[index]
        if not isinstance(source, torch.fx.Node) or source not in self.value_of:
            raise self.refuse(node, f"{node.target} with a constant operand")
        tensor = self.value_of[source]
        if rank is not None and len(self.tensors[tensor]) != rank:
            expected = "an image" if rank == 4 else "a vector"
            found = self.tensors[tensor]
            raise self.refuse(node, f"{node.target} of shape {found} instead of {expected}")
        return tensor

    def param(self, node: torch.fx.Node, index: int) -> str | None:
        """Copy the parameter that argument `index` names; its state_dict key."""
        source = _argument(node, index, None)
        if source is None:
            return None
        if not isinstance(source, torch.fx.Node) or source.name not in self.key_of:
            raise self.refuse(node, f"{node.target} whose weights are computed, not parameters")
        key = str(self.key_of[source.name])
        tensor = {**self.program.state_dict, **self.program.constants}[key]
        self.params[key] = tensor.detach().float().numpy().copy()
        return key

    def weight(self, node: torch.fx.Node) -> str:
        """The parameter that argument 1 names; layers have it there."""
        key = self.param(node, 1)
        assert key is not None, "aten's layers have a weight"
        return key

    def emit(self, node: torch.fx.Node, op: ir.Op) -> None:
        self.ops.append(op)
        self.alias(node, op.output)
        # A mean that kept its pixel in torch is a vector here, and so is what follows it.
        same = isinstance(op, ir.Activate | ir.BatchNorm | ir.Add)
        source = self.tensors[ir.op_inputs(op)[0]]
        self.tensors[op.output] = source if same else _shape(node)

    def alias(self, node: torch.fx.Node, value: str) -> None:
        self.value_of[node] = value

    def names(self, node: torch.fx.Node, rank: int | None = None) -> tuple[str, str, str]:
        """Name, input and output of a one-input operator."""
        return self.unique(node), self.input(node, rank=rank), node.name

    def unique(self, node: torch.fx.Node) -> str:
        """The module path where there is one, made unique."""
        path = _module_path(node) or node.name
        taken = {op.name for op in self.ops}
        return path if path not in taken else f"{path}.{node.name}"

    def refuse(self, node: torch.fx.Node, what: str) -> UnsupportedError:
        """The error that names an operator, its place in the model and what is supported."""
        path = _module_path(node)
        where = f"module '{path}'" if path else "the top level"
        return UnsupportedError(
            f"operator {what} in {where}{_source_line(node)} is not supported; "
            f"supported: {SUPPORTED}"
        )


def _module_path(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return str(path).removeprefix("L['self'].")


def _source_line(node: torch.fx.Node) -> str:
    """The innermost line outside torch that made the node, as " (file.py:12)"."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if "/torch/" not in Path(path).as_posix()]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""


def _shape(node: torch.fx.Node) -> ir.Shape:
    shape = [int(n) for n in node.meta["val"].shape]
    if len(shape) == 4:
        batch, channels, height, width = shape
        return batch, height, width, channels
    return tuple(shape)


def _pair(value: Any) -> ir.Pair:
    values = list(value) if isinstance(value, list | tuple) else [value]
    first, second = values * 2 if len(values) == 1 else values
    return int(first), int(second)


def _argument(node: torch.fx.Node, index: int, default: Any) -> Any:
    return node.args[index] if len(node.args) > index else default


def _four(padding: ir.Pair) -> ir.Padding:
    vertical, horizontal = padding
    return vertical, horizontal, vertical, horizontal


def _conv(reader: _Reader, node: torch.fx.Node) -> None:
    if _argument(node, 6, 1) != 1:
        raise reader.refuse(node, f"conv2d with groups={node.args[6]}")
    op = ir.Conv2D(
        *reader.names(node, rank=4),
        weight=reader.weight(node),
        bias=reader.param(node, 2),
        stride=_pair(_argument(node, 3, 1)),
        padding=_conv_padding(reader, node),
        dilation=_pair(_argument(node, 5, 1)),
    )
    reader.emit(node, op)


def _conv_padding(reader: _Reader, node: torch.fx.Node) -> ir.Padding:
    """Explicit amounts; torch's 'same' puts the odd pixel at the bottom and the right."""
    padding = _argument(node, 4, 0)
    if not isinstance(padding, str):
        return _four(_pair(padding))
    if padding == "valid":
        return 0, 0, 0, 0
    window = tuple(node.args[1].meta["val"].shape[2:])  # type: ignore[union-attr]
    dilation = _pair(_argument(node, 5, 1))
    vertical, horizontal = (d * (k - 1) for d, k in zip(dilation, window, strict=True))
    top, left = vertical // 2, horizontal // 2
    return top, left, vertical - top, horizontal - left


def _linear(reader: _Reader, node: torch.fx.Node) -> None:
    weight, bias = reader.weight(node), reader.param(node, 2)
    reader.emit(node, ir.FullyConnected(*reader.names(node, rank=2), weight=weight, bias=bias))


def _batch_norm(reader: _Reader, node: torch.fx.Node) -> None:
    scale, shift, mean, variance = (reader.param(node, n) for n in (1, 2, 3, 4))
    if not (scale and shift and mean and variance):
        raise reader.refuse(node, "batch_norm without affine weights or running statistics")
    op = ir.BatchNorm(
        *reader.names(node),
        scale=scale,
        shift=shift,
        mean=mean,
        variance=variance,
        epsilon=float(_argument(node, 7, 1e-5)),
    )
    reader.emit(node, op)


def _relu(reader: _Reader, node: torch.fx.Node) -> None:
    reader.emit(node, ir.Activate(*reader.names(node), ir.Activation.RELU))


def _relu6(reader: _Reader, node: torch.fx.Node) -> None:
    limits = _argument(node, 1, None), _argument(node, 2, None)
    if node.target not in _ALWAYS_RELU6 and limits != (0, 6):
        raise reader.refuse(node, f"{node.target} to {limits}")
    reader.emit(node, ir.Activate(*reader.names(node), ir.Activation.RELU6))


def _add(reader: _Reader, node: torch.fx.Node) -> None:
    inputs = (reader.input(node, 0), reader.input(node, 1))
    if reader.tensors[inputs[0]] != reader.tensors[inputs[1]] or node.kwargs.get("alpha", 1) != 1:
        raise reader.refuse(node, "add of different shapes or with a factor")
    reader.emit(node, ir.Add(reader.unique(node), inputs, node.name))


def _pool(kind: type[ir.MaxPool2D] | type[ir.AveragePool2D]) -> Callable[..., None]:
    def handle(reader: _Reader, node: torch.fx.Node) -> None:
        window = _pair(node.args[1])
        padding = _pair(_argument(node, 3, 0))
        if kind is ir.MaxPool2D:
            odd = _pair(_argument(node, 4, 1)) != (1, 1) or _argument(node, 5, False)
        else:  # TFLite never counts padding: torch's default agrees only without padding
            counts_padding = any(padding) and _argument(node, 5, True)
            odd = _argument(node, 4, False) or counts_padding or _argument(node, 6, None)
        if odd:
            raise reader.refuse(node, f"{node.target} with dilation, ceil_mode or counted padding")
        stride = _pair(_argument(node, 2, None) or window)
        reader.emit(node, kind(*reader.names(node, rank=4), window, stride, _four(padding)))

    return handle


def _adaptive_pool(reader: _Reader, node: torch.fx.Node) -> None:
    if _pair(node.args[1]) != (1, 1):
        raise reader.refuse(node, f"adaptive_avg_pool2d to {node.args[1]}")
    _global_mean(reader, node)


def _mean(reader: _Reader, node: torch.fx.Node) -> None:
    rank = len(reader.tensors[reader.input(node)])
    axes = node.args[1]
    if rank != 4 or sorted(int(axis) % rank for axis in axes) != [2, 3]:  # type: ignore[union-attr, arg-type]
        raise reader.refuse(node, f"mean over axes {axes}")
    _global_mean(reader, node)


def _global_mean(reader: _Reader, node: torch.fx.Node) -> None:
    """A vector, whether torch keeps the two dimensions of one pixel or not."""
    op = ir.Mean(*reader.names(node, rank=4))
    reader.emit(node, op)
    reader.tensors[op.output] = (1, reader.tensors[op.input][3])


def _flatten(reader: _Reader, node: torch.fx.Node) -> None:
    source = reader.tensors[reader.input(node)]
    target = tuple(int(n) for n in node.meta["val"].shape)
    if source == target[:2] and math.prod(target[2:]) == 1:  # a mean may have kept its pixel
        reader.alias(node, reader.input(node))
    elif len(source) == 4 and len(target) == 2 and target[0] == 1:
        reader.emit(node, ir.Reshape(*reader.names(node)))
    else:
        raise reader.refuse(node, f"{node.target} from {source} to {target}")


def _dropout(reader: _Reader, node: torch.fx.Node) -> None:
    if _argument(node, 1, 0.5) > 0 and _argument(node, 2, True):
        raise reader.refuse(node, f"{node.target} that stays on in eval mode")
    _nothing(reader, node)


def _nothing(reader: _Reader, node: torch.fx.Node) -> None:
    reader.alias(node, reader.input(node))


_ALWAYS_RELU6 = {aten.relu6.default, aten.relu6_.default}
"""The others have limits."""

_HANDLERS: dict[Any, Callable[[_Reader, torch.fx.Node], None]] = {
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
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.max_pool2d.default: _pool(ir.MaxPool2D),
    aten.avg_pool2d.default: _pool(ir.AveragePool2D),
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.view.default: _flatten,
    aten.reshape.default: _flatten,
    aten.flatten.using_ints: _flatten,
    aten.squeeze.default: _flatten,
    aten.squeeze.dim: _flatten,
    aten.squeeze.dims: _flatten,
    aten.dropout.default: _dropout,
    aten.dropout_.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.contiguous.default: _nothing,
    aten.clone.default: _nothing,
}
