"""Reads a `torch.nn.Module` into a `Network` through `torch.export`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dtmm.errors import UnsupportedError
from dtmm.network import ir

aten = torch.ops.aten

SUPPORTED = (
    "conv2d (groups 1), linear, batch_norm, relu, relu6, add, max_pool2d, avg_pool2d, global "
    "average pooling (adaptive_avg_pool2d(1) or mean over height and width), flatten, dropout"
)


def from_torch(module: torch.nn.Module, example: torch.Tensor, name: str) -> ir.Network:
    """Capture `module` in eval mode as a float network; the module is not changed.

    Batch normalization and activations stay operators of their own (`dtmm.network.fold` folds
    them). Parameter keys are the module's state_dict keys, so that `to_torch` can write back.

    Args:
        example: [1, C, H, W] float input.

    Raises:
        UnsupportedError: an operator outside the supported set, or torch.export refuses the module.
    """
    frozen = copy.deepcopy(module).eval()
    try:
        program = torch.export.export(frozen, (example,))
    except Exception as error:  # torch.export raises many classes; its first line says what failed
        raise UnsupportedError(
            f"torch.export cannot capture {type(module).__name__}: {str(error).splitlines()[0]}"
        ) from error
    reader = _Reader(program, name)
    for node in program.graph.nodes:
        reader.read(node)
    return reader.network()


def to_torch(network: ir.Network, module: torch.nn.Module) -> None:
    """Write a network's weights, zeros included, into the module it was read from.

    The network must have the module's own shapes: masked, not physically smaller.

    Raises:
        UnsupportedError: a parameter is absent from the module or differs in shape.
    """
    state = module.state_dict()
    layouts = {op.weight: _torch_layout(network, op) for op in network.ops if _has_weight(op)}
    updates: dict[str, torch.Tensor] = {}
    for key, values in network.params.items():
        array = layouts[key](values) if key in layouts else values
        if key not in state or tuple(state[key].shape) != array.shape:
            found = tuple(state[key].shape) if key in state else "absent"
            raise UnsupportedError(
                f"parameter '{key}' has shape {array.shape}, in the module it is {found}"
            )
        updates[key] = torch.from_numpy(np.ascontiguousarray(array)).to(state[key].dtype)
    module.load_state_dict({**state, **updates})


Array = npt.NDArray[np.float32]


def _has_weight(op: ir.Op) -> bool:
    return isinstance(op, ir.Conv2D | ir.FullyConnected)


def _torch_layout(network: ir.Network, op: ir.Op) -> Callable[[Array], Array]:
    if isinstance(op, ir.Conv2D):
        return lambda weight: weight.transpose(0, 3, 1, 2)
    assert isinstance(op, ir.FullyConnected)
    shape = _flattened_from(network, op.input)
    if shape is None:
        return lambda weight: weight
    _, height, width, channels = shape
    return lambda weight: (
        weight.reshape(-1, height, width, channels)
        .transpose(0, 3, 1, 2)
        .reshape(weight.shape[0], -1)
    )


def _flattened_from(network: ir.Network, tensor: str) -> ir.Shape | None:
    """Shape of the image that `tensor` flattens, or None if it does not come from one."""
    producer = network.producer(tensor)
    if isinstance(producer, ir.Reshape):
        return network.tensors[producer.input]
    if isinstance(producer, ir.Activate | ir.BatchNorm):
        return _flattened_from(network, producer.input)
    return None


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

    def network(self) -> ir.Network:
        used = {*self.inputs, *(op.output for op in self.ops)}
        tensors = {name: shape for name, shape in self.tensors.items() if name in used}
        return ir.Network(
            self.name,
            tensors,
            tuple(self.ops),
            self.params,
            tuple(self.inputs),
            tuple(self.outputs),
        )

    def read(self, node: torch.fx.Node) -> None:
        if node.op == "placeholder":
            if node.name not in self.key_of:
                self.value_of[node] = node.name
                self.inputs.append(node.name)
                self.tensors[node.name] = _shape(node)
        elif node.op == "output":
            self.outputs = [self.value_of[value] for value in node.args[0]]  # type: ignore[union-attr, index]
        elif not isinstance(node.meta.get("val"), torch.Tensor):
            pass  # sizes and other scalars: what they decide is already in the shapes
        else:
            handler = _HANDLERS.get(node.target)
            if handler is None:
                raise UnsupportedError(self._unsupported(node, str(node.target)))
            handler(self, node)

    # --- what handlers use ---------------------------------------------------------------------

    def input(self, node: torch.fx.Node, index: int = 0) -> str:
        source = node.args[index]
        if not isinstance(source, torch.fx.Node) or source not in self.value_of:
            raise UnsupportedError(self._unsupported(node, f"{node.target} with a constant operand"))
        return self.value_of[source]

    def param(self, node: torch.fx.Node, index: int) -> str | None:
        """Copy the parameter that argument `index` names; its state_dict key."""
        if len(node.args) <= index or node.args[index] is None:
            return None
        source = node.args[index]
        assert isinstance(source, torch.fx.Node)
        key = self.key_of[source.name]
        tensor = {**self.program.state_dict, **self.program.constants}[key]
        self.params[key] = tensor.detach().float().numpy().copy()
        return key

    def emit(self, node: torch.fx.Node, op: ir.Op) -> None:
        self.ops.append(op)
        self.alias(node, op.output)
        self.tensors[op.output] = _shape(node)

    def alias(self, node: torch.fx.Node, value: str) -> None:
        self.value_of[node] = value

    def names(self, node: torch.fx.Node) -> dict[str, str]:
        """name, input and output of a one-input operator."""
        return {"name": self.unique(node), "input": self.input(node), "output": node.name}

    def unique(self, node: torch.fx.Node) -> str:
        """The module path where there is one, made unique."""
        path = _module_path(node) or node.name
        taken = {op.name for op in self.ops}
        return path if path not in taken else f"{path}.{node.name}"

    def _unsupported(self, node: torch.fx.Node, what: str) -> str:
        where = _module_path(node) or "the top level"
        return f"operator {what} in module '{where}' is not supported; supported: {SUPPORTED}"

    def refuse(self, node: torch.fx.Node, what: str) -> UnsupportedError:
        return UnsupportedError(self._unsupported(node, what))


def _module_path(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return str(path).removeprefix("L['self'].")


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
    padding = _argument(node, 4, 0)
    if isinstance(padding, str):
        raise reader.refuse(node, f"conv2d with padding='{padding}'")
    weight, bias = reader.param(node, 1), reader.param(node, 2)
    assert weight is not None
    reader.params[weight] = np.ascontiguousarray(reader.params[weight].transpose(0, 2, 3, 1))
    op = ir.Conv2D(
        **reader.names(node),
        weight=weight,
        bias=bias,
        stride=_pair(_argument(node, 3, 1)),
        padding=_four(_pair(padding)),
        dilation=_pair(_argument(node, 5, 1)),
    )
    reader.emit(node, op)


def _linear(reader: _Reader, node: torch.fx.Node) -> None:
    weight, bias = reader.param(node, 1), reader.param(node, 2)
    assert weight is not None
    op = ir.FullyConnected(**reader.names(node), weight=weight, bias=bias)
    reader.emit(node, op)
    image = _flattened_from(reader.network(), op.input)
    if image is not None:  # torch flattens C, H, W; we flatten H, W, C
        _, height, width, channels = image
        columns = reader.params[weight].reshape(-1, channels, height, width)
        reader.params[weight] = np.ascontiguousarray(
            columns.transpose(0, 2, 3, 1).reshape(len(columns), -1)
        )


def _batch_norm(reader: _Reader, node: torch.fx.Node) -> None:
    scale, shift, mean, variance = (reader.param(node, n) for n in (1, 2, 3, 4))
    if not (scale and shift and mean and variance):
        raise reader.refuse(node, "batch_norm without affine weights or running statistics")
    op = ir.BatchNorm(
        **reader.names(node),
        scale=scale,
        shift=shift,
        mean=mean,
        variance=variance,
        epsilon=float(_argument(node, 7, 1e-5)),
    )
    reader.emit(node, op)


def _relu(reader: _Reader, node: torch.fx.Node) -> None:
    reader.emit(node, ir.Activate(**reader.names(node), activation=ir.Activation.RELU))


def _relu6(reader: _Reader, node: torch.fx.Node) -> None:
    if "hardtanh" in str(node.target) and tuple(node.args[1:3]) != (0.0, 6.0):
        raise reader.refuse(node, f"hardtanh{tuple(node.args[1:3])}")
    reader.emit(node, ir.Activate(**reader.names(node), activation=ir.Activation.RELU6))


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
        reader.emit(node, kind(**reader.names(node), window=window, stride=stride,
                               padding=_four(padding)))  # fmt: skip

    return handle


def _adaptive_pool(reader: _Reader, node: torch.fx.Node) -> None:
    if _pair(node.args[1]) != (1, 1):
        raise reader.refuse(node, f"adaptive_avg_pool2d to {node.args[1]}")
    _global_mean(reader, node)


def _mean(reader: _Reader, node: torch.fx.Node) -> None:
    axes = sorted(int(axis) % 4 for axis in node.args[1])  # type: ignore[union-attr, arg-type]
    if len(reader.tensors[reader.input(node)]) != 4 or axes != [2, 3]:
        raise reader.refuse(node, f"mean over axes {node.args[1]}")
    _global_mean(reader, node)


def _global_mean(reader: _Reader, node: torch.fx.Node) -> None:
    reader.emit(node, ir.Mean(**reader.names(node)))
    batch, *_, channels = _shape(node) if node.meta["val"].ndim == 4 else (1, *_shape(node)[1:])
    reader.tensors[node.name] = (batch, channels)


def _flatten(reader: _Reader, node: torch.fx.Node) -> None:
    source = reader.tensors[reader.input(node)]
    target = _shape(node)
    if len(source) == 2:  # already a vector: a mean that kept its dimensions, say
        reader.alias(node, reader.input(node))
    elif len(target) == 2 and target[0] == 1:
        reader.emit(node, ir.Reshape(**reader.names(node)))
    else:
        raise reader.refuse(node, f"a view from {source} to {target}")


def _nothing(reader: _Reader, node: torch.fx.Node) -> None:
    reader.alias(node, reader.input(node))


_HANDLERS: dict[Any, Callable[[_Reader, torch.fx.Node], None]] = {
    aten.conv2d.default: _conv,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.relu6.default: _relu6,
    aten.hardtanh.default: _relu6,
    aten.hardtanh_.default: _relu6,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.max_pool2d.default: _pool(ir.MaxPool2D),
    aten.avg_pool2d.default: _pool(ir.AveragePool2D),
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.view.default: _flatten,
    aten.reshape.default: _flatten,
    aten.flatten.using_ints: _flatten,
    aten.dropout.default: _nothing,
    aten.dropout_.default: _nothing,
    aten.feature_dropout.default: _nothing,
    aten.contiguous.default: _nothing,
}
