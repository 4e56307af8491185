"""The scheduling problem: arrays only, no network and no torch, to be exchanged and solved alone.

Indices are group levels i (input side), j (output side), filterlet options k.
All latencies are in cycles, sizes in bytes, losses in nats. Numbers in parentheses are the
equations of docs/scheduler.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Metric = Literal["latency", "flash", "sram", "loss"]
"""A total that can be minimised and limited. cycles, bytes, bytes, nats."""

METRICS: tuple[Metric, ...] = ("latency", "flash", "sram", "loss")


@dataclass(frozen=True)
class Group:
    """A channel group and its levels (tensors that must keep the same channels).

    Attributes:
        name: unique.
        levels: [n] channels kept, strictly descending; levels[0] is the unpruned count.
        latency, flash, loss: [n] terms paid once per group at each level (ADD, pooling, ...; the
            estimated loss of the removed channels).
        allowed: [n] bool, levels that may be chosen; None for all.
        unit_loss: [n] the highest score among the channels removed, for
            `Budgets.loss_rule = "per_unit"`; None where `loss` itself is compared.
    """

    name: str
    levels: Ints
    latency: Floats
    flash: Floats
    loss: Floats
    allowed: Bools | None = None
    unit_loss: Floats | None = None


@dataclass(frozen=True)
class Layer:
    """A layer whose cost depends on its input level, its output level and a filterlet option.

    Where both are the same group (x + conv(x), depthwise) the layer has one channel index (9): only
    the entries with i = j count, whatever the others hold.

    Attributes:
        name: unique.
        input_group, output_group: indices into `Problem.groups`.
        kernels: [nk] kernel id per option.
        filterlets: [nj, nk] filterlets kept.
        latency, flash, loss, scratch: [ni, nj, nk]; scratch is SRAM used while the layer runs.
        allowed: [ni, nj, nk] bool.
        unit_loss: [ni, nj, nk] the highest score among the filterlets removed, as in `Group`.
    """

    name: str
    input_group: int
    output_group: int
    kernels: tuple[str, ...]
    filterlets: Ints
    latency: Floats
    flash: Floats
    loss: Floats
    scratch: Floats
    allowed: Bools
    unit_loss: Floats | None = None


@dataclass(frozen=True)
class Concat:
    """A virtual group that keeps what its segments keep together (8).

    Attributes:
        group: index of the virtual group; its levels are the sums its segments can reach.
        segments: indices of the groups concatenated, in order. A segment may be virtual itself.
    """

    group: int
    segments: tuple[int, ...]


@dataclass(frozen=True)
class MemoryStep:
    """SRAM in use while one operator runs: fixed + sum of group bytes at their level + its scratch.

    Attributes:
        name: the operator.
        fixed: bytes that no decision changes.
        groups: group index to [n] bytes of its live buffers at each level.
        layer: index of the layer whose scratch counts here, or None.
    """

    name: str
    fixed: float
    groups: Mapping[int, Floats]
    layer: int | None


@dataclass(frozen=True)
class Budgets:
    """Upper limits; None means unlimited. flash and sram in bytes, loss in nats, latency in cycles.

    Attributes:
        loss_rule: "sum" limits the total loss (5). "per_unit" is the rule of the paper's code:
            nothing whose own score exceeds the loss budget may be removed, whatever the sum.
    """

    flash: float | None = None
    sram: float | None = None
    loss: float | None = None
    latency: float | None = None
    loss_rule: Literal["sum", "per_unit"] = "sum"


@dataclass(frozen=True)
class Objective:
    """Weights of the totals in the sum that is minimised (1).

    Attributes:
        latency: per cycle. flash, sram: per byte (sram is the peak). loss: per nat.
    """

    latency: float = 1.0
    flash: float = 0.0
    sram: float = 0.0
    loss: float = 0.0

    @classmethod
    def only(cls, metric: Metric) -> Objective:
        """Minimise one total alone."""
        return cls(**{each: float(each == metric) for each in METRICS})

    def weights(self) -> dict[Metric, float]:
        """The weights that are not zero, by metric."""
        return {metric: getattr(self, metric) for metric in METRICS if getattr(self, metric)}


@dataclass(frozen=True)
class Exclusion:
    """Schedules too similar to a known one are not wanted (10): the way to a pool of schedules.

    Attributes:
        levels, options: the known decision, one index per group and per layer.
        differ: of all groups and layers, at least this many must be decided otherwise.
    """

    levels: tuple[int, ...]
    options: tuple[int, ...]
    differ: int = 1


@dataclass(frozen=True)
class Problem:
    """Minimise the objective within the budgets: one level per group, one option per layer.

    Attributes:
        fixed_latency, fixed_flash, fixed_loss: terms that no decision changes.
        fixed_sram: bytes present at every step (stack, .data, .bss).
        kernel_code: code bytes per kernel id, paid once if any layer uses it.
        concats: which groups are concatenations of others.
        objective: what is minimised; latency unless stated.
        exclusions: decisions that a solution must differ from.
    """

    name: str
    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    steps: tuple[MemoryStep, ...]
    budgets: Budgets
    fixed_latency: float = 0.0
    fixed_flash: float = 0.0
    fixed_loss: float = 0.0
    fixed_sram: float = 0.0
    kernel_code: Mapping[str, float] | None = None
    concats: tuple[Concat, ...] = ()
    objective: Objective = field(default_factory=Objective)
    exclusions: tuple[Exclusion, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """A solution, re-evaluated on the problem it solves.

    Attributes:
        channels: kept channels per group name.
        filterlets, kernels: kept filterlets and kernel id per layer name.
        objective, bound: in the objective's unit (cycles for latency); no feasible schedule is
            below the bound. gap = (objective - bound) / objective.
        status: "optimal" (within the requested gap) or "feasible".
        solver, solver_version: what found it.
        seconds: solve time.
        latency, flash, sram, loss: totals at this solution (cycles, bytes, bytes, nats).
        levels, options: the decision as indices, in the problem's order.
    """

    channels: Mapping[str, int]
    filterlets: Mapping[str, int]
    kernels: Mapping[str, str]
    objective: float
    bound: float
    gap: float
    status: str
    solver: str
    seconds: float
    latency: float
    flash: float
    sram: float
    loss: float
    solver_version: str = ""
    levels: tuple[int, ...] = ()
    options: tuple[int, ...] = ()
