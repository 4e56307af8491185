"""The C statements of every step of an inference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dtmm.deploy.deployment import Deployment
from dtmm.deploy.steps_elementwise import WRITERS
from dtmm.deploy.views import first_channels, view_of
from dtmm.errors import UnsupportedError
from dtmm.network import ir
from dtmm.planning.layout import runs_code
from dtmm.quantization.parameters import OutputRange, mean_rescale, output_range
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW, family, is_listed, variant


@dataclass(frozen=True)
class StepCode:
    """One step.

    Attributes:
        name: the operator's, or "input" and "output" for the copies at the border.
        title: a comment. tensor: the network tensor it writes.
        body: the statements of its C function; empty for the copies, which the template writes.
    """

    name: str
    title: str
    tensor: str
    body: str


def step_codes(deployment: Deployment, layer_ids: Mapping[str, int]) -> tuple[StepCode, ...]:
    """The copy of the input, every operator that does work, the copy of the output.

    Args:
        layer_ids: number of each layer's arrays in weights.c.

    Raises:
        UnsupportedError: several inputs or outputs, or an operator without C code.
    """
    network = deployment.network
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedError(
            f"network '{network.name}' has {len(network.inputs)} inputs and "
            f"{len(network.outputs)} outputs, generated C takes one of each"
        )
    views = view_numbers(deployment)
    steps = [StepCode("input", "input", network.inputs[0], "")]
    for op in network.ops:
        if not runs_code(deployment.layout, op):
            continue
        writer = _WRITERS.get(type(op))
        if writer is None:
            raise UnsupportedError(f"{type(op).__name__} '{op.name}' has no C code")
        title = comment(f"{op.name}: {type(op).__name__}")
        body = "\n".join(f"  {line}" for line in writer(Scope(deployment, layer_ids, views), op))
        steps.append(StepCode(op.name, title, op.output, body))
    steps.append(StepCode("output", "output", network.outputs[0], ""))
    return tuple(steps)


def view_numbers(deployment: Deployment) -> dict[str, int]:
    """Per tensor the number of its view: of the step that writes it, or else of those after them.

    The input's is step 0, the copy of the input.
    """
    network = deployment.network
    numbers = {network.inputs[0]: 0}
    steps = 1
    for op in network.ops:
        if runs_code(deployment.layout, op):
            numbers[op.output] = steps
            steps += 1
    for op in network.ops:
        if isinstance(op, ir.Reshape):  # who reads it reads the view of what it renames
            numbers[op.output] = numbers[op.input]
        elif op.output not in numbers:  # a Concat whose operands lie in place
            numbers[op.output] = steps
            steps += 1
    return numbers


def comment(text: str) -> str:
    """Text made fit for a comment in C, CMake and Markdown, whatever a model's author called it."""
    return re.sub(r"[^\w .,:;/()+=-]", "_", text)


def step_names(deployment: Deployment) -> tuple[str, ...]:
    """Names of the steps, in order."""
    ops = (op for op in deployment.network.ops if runs_code(deployment.layout, op))
    return ("input", *(op.name for op in ops), "output")


@dataclass(frozen=True)
class Scope:
    """What the statements of a step refer to."""

    deployment: Deployment
    layer_ids: Mapping[str, int]
    views: Mapping[str, int]

    @property
    def network(self) -> QuantizedNetwork:
        """The network that is deployed."""
        return self.deployment.network

    def scratch(self, op: ir.Op) -> tuple[str, int]:
        """C expression and size in bytes of an operator's scratch memory."""
        if op.name not in self.deployment.arena.scratch:
            return "0", 0
        return f"arena + {self.deployment.arena.scratch[op.name]}", self.deployment.scratch[op.name]

    def tensor(self, variable: str, name: str) -> str:
        """Declares the view of a tensor."""
        return f"const dtmm_tensor {variable} = at(arena, {self.views[name]});"

    def output(self, op: ir.Op) -> str:
        """Initializer of an operator's dtmm_output_params."""
        limits = output_range(self.deployment.network, op)
        return _output(limits)


def _output(limits: OutputRange) -> str:
    return f"{{{limits.zero_point}, {limits.minimum}, {limits.maximum}}}"


def _conv(scope: Scope, op: ir.Conv2D) -> list[str]:
    deployment = scope.deployment
    layer, number = deployment.layers[op.name], scope.layer_ids[op.name]
    channels, kernel_h, kernel_w, _ = deployment.network.params[op.weight].shape
    geometry = (kernel_h, kernel_w, *op.stride, *op.dilation, op.padding[0], op.padding[1])
    index = f"dtmm_model_index_{number}" if layer.index.size else "0"
    kernel = deployment.kernels[op.name]
    is_stream = is_listed(kernel) or kernel in (CONV_CSR, CONV_FKW)
    masks, stream = ("0", index) if is_stream else (index, "0")
    function = f"dtmm_{family(kernel)}_s8"
    name = variant(kernel)
    run_kernel = "0" if name is None else f"&dtmm_conv_kernel_{name}"
    scratch, size = scope.scratch(op)
    groups = f"{op.groups}, " if op.groups > 1 else ""
    return [
        f"static const dtmm_conv_params conv = {{{', '.join(map(str, geometry))}, "
        f"{scope.output(op)}}};",
        f"static const dtmm_conv_weights weights = {{{channels}, {layer.in_stride}, "
        f"dtmm_model_weights_{number}, {masks}, dtmm_model_params_{number}, {run_kernel}, "
        f"{stream}}};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        f"return {function}(&conv, &weights, {groups}&in, &out, {scratch}, {size});",
    ]


def _fully_connected(scope: Scope, op: ir.FullyConnected) -> list[str]:
    layer, number = scope.deployment.layers[op.name], scope.layer_ids[op.name]
    return [
        f"static const dtmm_output_params output = {scope.output(op)};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        f"return dtmm_fully_connected_s8(&output, dtmm_model_weights_{number}, {layer.in_stride}, "
        f"dtmm_model_params_{number}, &in, &out);",
    ]


def _pool(function: str) -> Callable[[Scope, Any], list[str]]:
    def write(scope: Scope, op: ir.MaxPool2D | ir.AveragePool2D) -> list[str]:
        geometry = (*op.window, *op.stride, op.padding[0], op.padding[1])
        return [
            f"static const dtmm_pool_params pool = {{{', '.join(map(str, geometry))}, "
            f"{scope.output(op)}}};",
            scope.tensor("in", op.input),
            scope.tensor("out", op.output),
            f"return {function}(&pool, &in, &out);",
        ]

    return write


def _mean(scope: Scope, op: ir.Mean) -> list[str]:
    network = scope.deployment.network
    rescale = mean_rescale(network, op)
    return [
        f"static const dtmm_mean_params mean = {{{network.tensors[op.input].zero_point}, "
        f"{rescale.multiplier}, {rescale.shift}, {scope.output(op)}}};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        "return dtmm_mean_s8(&mean, &in, &out);",
    ]


_WRITERS: Mapping[type, Callable[[Scope, Any], list[str]]] = {
    ir.Conv2D: _conv,
    ir.FullyConnected: _fully_connected,
    ir.MaxPool2D: _pool("dtmm_max_pool_s8"),
    ir.AveragePool2D: _pool("dtmm_average_pool_s8"),
    ir.Mean: _mean,
    **WRITERS,
}


def step_views(deployment: Deployment, steps: tuple[StepCode, ...]) -> list[dict[str, Any]]:
    """Every view with its offset from the start of the arena: per step but the last its output's,
    then those that no step writes as a whole."""
    tensors = {step.tensor: step.title for step in steps[:-1]}
    numbers = view_numbers(deployment)
    for name in sorted(numbers, key=numbers.__getitem__):
        if numbers[name] >= len(tensors):
            tensors[name] = comment(f"{name}: Concat in place")
    first = first_channels(deployment.network, deployment.layout)
    rows = []
    for name, title in tensors.items():
        shape = deployment.network.tensors[name].shape
        view = view_of(deployment.layout, name, shape, first.get(name, 0))
        offset = deployment.arena.buffers[view.buffer] + view.offset
        rows.append({**view.__dict__, "offset": offset, "title": title})
    return rows
