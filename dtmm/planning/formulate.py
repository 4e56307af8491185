"""Where the rooms meet: network, importance, cost model and layout become a scheduling problem."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.latency.base import CostModel
from dtmm.latency.table import Cost, Point
from dtmm.network.ir import Conv2D, DepthwiseConv2D, FullyConnected, Network, Op
from dtmm.planning.kernels import kernel_size
from dtmm.planning.layout import runs_code
from dtmm.planning.levels import Choices, Levels, choices
from dtmm.planning.loss import LossModel, LossTables, sum_of_scores
from dtmm.planning.nouns import Layout
from dtmm.planning.points import conv_points, deciding_group, kind_of, op_point, op_shape
from dtmm.planning.sizes import conv_flash, depthwise_flash, fully_connected_flash
from dtmm.planning.unit_loss import unit_losses
from dtmm.pruning.importance import Importance
from dtmm.scheduler.problem import Budgets, Concat, Group, Layer, MemoryStep, Problem

Floats = npt.NDArray[np.float64]


def formulate(
    folded: Network,
    importance: Importance,
    cost_model: CostModel,
    layout: Layout,
    budgets: Budgets,
    levels: Levels,
    code: Mapping[str, int],
    fixed_flash: float = 0.0,
    fixed_sram: float = 0.0,
    fixed_latency: float = 0.0,
    loss_model: LossModel | None = None,
    options: Choices | None = None,
) -> Problem:
    """The problem of pruning a folded network within `budgets`.

    Args:
        importance: scores in nats of the same network's groups and convolutions.
        cost_model: answers every point of `required_points(folded, layout, levels, options)`.
        layout: `layout(folded)`.
        code: code bytes by kernel id; a convolution kernel's are paid if a layer uses it, those
            of the network's other operators always.
        fixed_flash, fixed_sram, fixed_latency: bytes, bytes and cycles that no decision changes
            (runtime and tables; stack, .data and .bss; the calls between operators).
        loss_model: estimates losses from `importance`; None: the sum of its scores.
        options: what may be chosen; None: `choices(folded, levels)`.

    Raises:
        DtmmError: a missing score or code size; ConfigError: see `choices`; whatever the cost
            model raises for a point that it does not hold.
    """
    options = options or choices(folded, levels)
    loss = (loss_model or sum_of_scores)(options, importance)
    units = unit_losses(options, importance) if budgets.loss_rule == "per_unit" else None
    return _Formulation(folded, loss, units, cost_model, layout, options, code).problem(
        budgets, fixed_flash, fixed_sram, fixed_latency
    )


class _Formulation:
    """The tables in the making: groups collect the terms of operators other than convolutions."""

    def __init__(
        self,
        folded: Network,
        loss: LossTables,
        unit_loss: LossTables | None,
        cost_model: CostModel,
        layout: Layout,
        options: Choices,
        code: Mapping[str, int],
    ) -> None:
        self.folded, self.cost_model, self.layout, self.code = folded, cost_model, layout, code
        self.choices = options
        self.loss = loss
        self.unit_loss = unit_loss
        self.group_index = {name: n for n, name in enumerate(self.choices.levels)}
        self.group_latency = {n: np.zeros(len(c)) for n, c in self.choices.levels.items()}
        self.group_flash = {n: np.zeros(len(c)) for n, c in self.choices.levels.items()}
        self.scratch: dict[str, Floats] = {}
        self.answers: dict[Point, Cost] = {}

    def problem(
        self, budgets: Budgets, fixed_flash: float, fixed_sram: float, fixed_latency: float
    ) -> Problem:
        """Everything together."""
        for op in self.folded.ops:
            if not isinstance(op, Conv2D) and runs_code(self.layout, op):
                self._add_group_terms(op)
        layers = tuple(self._layer(conv) for conv in self.folded.convs())
        layer_index = {layer.name: n for n, layer in enumerate(layers)}
        groups = tuple(
            Group(
                name,
                counts,
                self.group_latency[name],
                self.group_flash[name],
                loss,
                unit_loss=self.unit_loss.groups[name] if self.unit_loss else None,
            )
            for (name, counts), loss in zip(
                self.choices.levels.items(), self.loss.groups.values(), strict=True
            )
        )
        used = {kernel for layer in layers for kernel in layer.kernels}
        return Problem(
            name=self.folded.name,
            groups=groups,
            layers=layers,
            steps=tuple(self._step(op, layer_index.get(op.name)) for op in self.folded.ops),
            budgets=budgets,
            fixed_latency=fixed_latency,
            fixed_flash=fixed_flash + self._other_code(),
            fixed_sram=fixed_sram,
            kernel_code={kernel: float(self._code(kernel)) for kernel in sorted(used)},
            concats=tuple(
                Concat(self.group_index[name], tuple(self.group_index[s] for s in segments))
                for name, segments in self.choices.segments.items()
            ),
        )

    def _cost(self, point: Point) -> Cost:
        if point not in self.answers:
            self.answers[point] = self.cost_model.cost(point)
        return self.answers[point]

    def _code(self, kernel: str) -> int:
        if kernel not in self.code:
            raise DtmmError(f"code has no size for kernel {kernel!r}, expected bytes")
        return self.code[kernel]

    def _other_code(self) -> int:
        ops = (op for op in self.folded.ops if not isinstance(op, Conv2D))
        kinds = {kind_of(self.folded, op) for op in ops if runs_code(self.layout, op)}
        return sum(self._code(kind) for kind in sorted(kinds))

    def _add_group_terms(self, op: Op) -> None:
        """Latency, flash and scratch of an operator that only its input's group decides."""
        group = deciding_group(self.layout, op)
        counts = self.choices.levels[group]
        shape = op_shape(self.folded, self.layout, op)
        costs = [self._cost(op_point(self.folded, shape, op, int(c))) for c in counts]
        self.group_latency[group] += [cost.cycles for cost in costs]
        self.scratch[op.name] = np.array([cost.scratch for cost in costs], dtype=np.float64)
        if isinstance(op, FullyConnected):
            pixels = shape.in_hw[0] * shape.in_hw[1]
            outputs = self.folded.tensors[op.output][-1]
            self.group_flash[group] += [
                fully_connected_flash(pixels * int(c), outputs) for c in counts
            ]
        if isinstance(op, DepthwiseConv2D):
            size = kernel_size(self.folded, op)
            self.group_flash[group] += [depthwise_flash(size, int(c)) for c in counts]

    def _layer(self, conv: Conv2D) -> Layer:
        choice = self.choices.convs[conv.name]
        shape = op_shape(self.folded, self.layout, conv)
        size = kernel_size(self.folded, conv)
        inputs = self.choices.levels[choice.input_group].tolist()
        outputs = self.choices.levels[choice.output_group].tolist()
        dims = (len(inputs), len(outputs), len(choice.kernels))
        latency, flash, scratch = np.zeros(dims), np.zeros(dims), np.zeros(dims)
        for i, c_in in enumerate(inputs):
            for j, k, point in conv_points(shape, choice, i, c_in, outputs):
                cost = self._cost(point)
                latency[i, j, k], scratch[i, j, k] = cost.cycles, cost.scratch
                flash[i, j, k] = conv_flash(
                    point.kernel, size, c_in // conv.groups, point.out_channels, point.filterlets
                )
        return Layer(
            name=conv.name,
            input_group=self.group_index[choice.input_group],
            output_group=self.group_index[choice.output_group],
            kernels=choice.kernels,
            filterlets=choice.filterlets,
            latency=latency,
            flash=flash,
            loss=np.broadcast_to(self.loss.convs[conv.name], dims).copy(),
            scratch=scratch,
            allowed=choice.allowed,
            unit_loss=self._unit_loss(conv, dims),
        )

    def _unit_loss(self, conv: Conv2D, dims: tuple[int, int, int]) -> Floats | None:
        if self.unit_loss is None:
            return None
        return np.broadcast_to(self.unit_loss.convs[conv.name], dims).copy()

    def _step(self, op: Op, layer: int | None) -> MemoryStep:
        live = next(step.live for step in self.layout.steps if step.op == op.name)
        fixed = 0.0
        groups: dict[int, Floats] = {}

        def add(group: str, size: Floats) -> None:
            index = self.group_index[group]
            groups[index] = groups[index] + size if index in groups else size

        for name in live:
            buffer = self.layout.buffers[name]
            if buffer.group is None:
                fixed += buffer.bytes(buffer.channels)
                continue
            counts = self.choices.levels[buffer.group]
            add(buffer.group, np.array([float(buffer.bytes(int(c))) for c in counts]))
        if op.name in self.scratch:
            add(deciding_group(self.layout, op), self.scratch[op.name])
        return MemoryStep(op.name, fixed, groups, layer)
