"""Reads a `torch.nn.Module` into a `Network` through `torch.export`."""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network import ir
from dtmm.network.check import check
from dtmm.network.torch_layout import params_from_torch, params_to_torch
from dtmm.network.torch_ops import HANDLERS, argument
from dtmm.network.torch_remedies import SUPPORTED, remedy

Array = npt.NDArray[np.float32]

COPY = "@"
"""`conv.weight@2` is the copy of `conv.weight` that the layer's second use reads."""


def from_torch(
    module: torch.nn.Module | torch.export.ExportedProgram, example: torch.Tensor, name: str
) -> ir.Network:
    """Capture `module` in eval mode as a float network; the module is not changed. A program that
    was exported already is read as it is.

    Batch normalization and activations stay operators of their own (`dtmm.network.fold` folds
    them). Layers are named after their modules and parameters keep their state_dict keys, so that
    `copy_to` can write them back.

    A module that is applied several times becomes as many layers, each with a copy of its
    parameters: what is pruned and trained apart must be stored apart.

    Args:
        example: [1, C, H, W] float input.

    Raises:
        DtmmError: `example` has another shape, or a parameter is not finite.
        UnsupportedError: an operator outside the supported set, or torch.export refuses the module.
    """
    if example.ndim != 4 or example.shape[0] != 1:
        raise DtmmError(f"example has shape {tuple(example.shape)}, expected (1, C, H, W)")
    if isinstance(module, torch.export.ExportedProgram):
        reader = TorchReader(module, name)
    else:
        reader = TorchReader(_export(module, example), name)
    for node in reader.program.graph.nodes:
        reader.read(node)
    network = reader.network()
    network = replace(network, params=params_from_torch(network))
    check(network)
    return network


def _export(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    frozen = copy.deepcopy(module).eval()
    try:
        with _quiet():
            return torch.export.export(frozen, (example,))
    except Exception as error:  # torch.export raises many classes; its first line says what failed
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedError(
            f"torch.export cannot capture {type(module).__name__}: {reason}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own report of what it cannot trace: the error says it in a line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def copy_to(network: ir.Network, module: torch.nn.Module) -> None:
    """Write a network's weights, zeros included, into the module it was read from.

    The network must have the module's own operators and shapes: masked, but neither folded nor
    physically smaller. Nothing is written if anything differs.

    Raises:
        UnsupportedError: the module reads as other operators, a parameter differs in shape, or a
            module that is applied several times would need several values.
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
    for key in own.params:
        first = key.split(COPY)[0]
        if not np.array_equal(params[key], params[first]):
            raise UnsupportedError(
                f"parameter '{first}' is used by several layers that differ now, its module can "
                "hold one of them only"
            )
    with torch.no_grad():
        for key in own.params.keys() & state.keys():  # numbers in the code have no place there
            state[key].copy_(torch.from_numpy(params[key]).reshape(state[key].shape))


@dataclass
class TorchReader:
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
        self.key_of = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
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
            handler = HANDLERS.get(node.target)
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
        source = argument(node, index, None)
        if source is None:
            return None
        if not isinstance(source, torch.fx.Node) or source.name not in self.key_of:
            raise self.refuse(node, f"{node.target} whose weights are computed, not parameters")
        key = str(self.key_of[source.name])
        return self._own(key, self._value(key))

    def _own(self, key: str, values: Array) -> str:
        """Enter a parameter; a layer that is applied again has a copy of its own each time."""
        used = sum(name.split(COPY)[0] == key for name in self.params)
        own = f"{key}{COPY}{used + 1}" if used else key
        self.params[own] = values
        return own

    def _value(self, key: str) -> Array:
        tensor = {**self.program.state_dict, **self.program.constants}[key]
        values: Array = tensor.detach().float().numpy().copy()
        return values

    def constant(self, node: torch.fx.Node, index: int, tensor: str) -> str | None:
        """Key of the constant that argument `index` is, [1] or [C]; None if it is a tensor.

        Args:
            tensor: the other operand: each of its channels may meet a value of its own.
        """
        source = node.args[index]
        if isinstance(source, torch.fx.Node) and source.name not in self.key_of:
            return None
        if isinstance(source, torch.fx.Node):
            key = str(self.key_of[source.name])
            values, shape = self._value(key), self.tensors[tensor]
            channels_at = values.ndim - (3 if len(shape) == 4 else 1)
            per_channel = values.size == shape[-1] and channels_at >= 0
            if values.size != 1 and not (per_channel and values.shape[channels_at] == values.size):
                raise self.refuse(node, f"{node.target} with a constant of shape {values.shape}")
        elif isinstance(source, int | float):
            key, values = f"{node.name}.constant", np.array([source], np.float32)
        else:
            raise self.refuse(node, f"{node.target} with operand {source}")
        return self._own(key, values.reshape(-1))

    def keep_pixel(self, node: torch.fx.Node, tensor: str) -> None:
        """Make a vector that came from a mean an image of one pixel: a convolution reads it."""
        position = next((n for n, op in enumerate(self.ops) if op.output == tensor), None)
        op = self.ops[position] if position is not None else None
        if position is None or not isinstance(op, ir.Mean | ir.Activate | ir.BatchNorm | ir.Lookup):
            raise self.refuse(node, f"{node.target} of shape {self.tensors[tensor]}")
        if isinstance(op, ir.Mean):
            self.ops[position] = replace(op, keep_dims=True)
        else:
            self.keep_pixel(node, op.input)
        if any(isinstance(r, ir.FullyConnected) and r.input == tensor for r in self.ops):
            raise self.refuse(node, f"{node.target} of a vector that a linear layer reads too")
        self.tensors[tensor] = (1, 1, 1, self.tensors[tensor][-1])

    def weight(self, node: torch.fx.Node) -> str:
        """The parameter that argument 1 names; layers have it there."""
        key = self.param(node, 1)
        assert key is not None, "aten's layers have a weight"
        return key

    def emit(self, node: torch.fx.Node, op: ir.Op) -> None:
        self.ops.append(op)
        self.alias(node, op.output)
        # A mean that kept its pixel in torch is a vector here, and so is what follows it.
        sources = [self.tensors[name] for name in ir.op_inputs(op)]
        if isinstance(op, ir.Activate | ir.BatchNorm | ir.Binary | ir.Softmax | ir.Lookup):
            self.tensors[op.output] = max(sources, key=lambda shape: (math.prod(shape), len(shape)))
        elif isinstance(op, ir.Concat):
            self.tensors[op.output] = (*sources[0][:-1], sum(shape[-1] for shape in sources))
        else:
            self.tensors[op.output] = _shape(node)

    def alias(self, node: torch.fx.Node, value: str) -> None:
        self.value_of[node] = value

    def decompose(self, node: torch.fx.Node, *ops: ir.Op) -> None:
        """Append a chain of operators; the last one's output is the node's value."""
        for op in ops:
            self.emit(node, op)

    def names(self, node: torch.fx.Node, rank: int | None = None) -> tuple[str, str, str]:
        """Name, input and output of a one-input operator."""
        return self.unique(node), self.input(node, rank=rank), node.name

    def unique(self, node: torch.fx.Node) -> str:
        """The module path where there is one, made unique."""
        path = _module_path(node) or node.name
        taken = {op.name for op in self.ops}
        return path if path not in taken else f"{path}.{node.name}"

    def refuse(self, node: torch.fx.Node, what: str) -> UnsupportedError:
        """The error: an operator, its place in the model, a remedy and what is supported."""
        path = _module_path(node)
        where = f"module '{path}'" if path else "the top level"
        return UnsupportedError(
            f"operator {what} in {where}{_source_line(node)} is not supported; remedy: "
            f"{remedy(str(node.target))}; supported: {SUPPORTED}"
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
