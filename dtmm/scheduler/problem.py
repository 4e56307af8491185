"""The scheduling problem: arrays only, no network and no torch, to be exchanged and solved alone.

Indices are group levels i (input side), j (output side), filterlet options k.
All latencies are in cycles, sizes in bytes, losses in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """A channel group and its levels (tensors that must keep the same channels).

    Attributes:
        name: unique.
        levels: [n] channels kept, strictly descending; levels[0] is the unpruned count.
        latency, flash, loss: [n] terms paid once per group at each level (ADD, pooling, ...; the
            estimated loss of the removed channels).
    """

    name: str
    levels: Ints
    latency: Floats
    flash: Floats
    loss: Floats


@dataclass(frozen=True)
class Layer:
    """A layer whose cost depends on its input level, its output level and a filterlet option.

    Attributes:
        name: unique.
        input_group, output_group: indices into `Problem.groups`; must differ.
        kernels: [nk] kernel id per option.
        filterlets: [nj, nk] filterlets kept.
        latency, flash, loss, scratch: [ni, nj, nk]; scratch is SRAM used while the layer runs.
        allowed: [ni, nj, nk] bool.
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
    allowed: npt.NDArray[np.bool_]


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
    """Upper limits; None means unlimited. flash and sram in bytes, loss in nats."""

    flash: float | None = None
    sram: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Problem:
    """Minimise latency within the budgets by choosing one level per group and one option per layer.

    Attributes:
        fixed_latency, fixed_flash, fixed_loss: terms that no decision changes.
        fixed_sram: bytes present at every step (stack, .data, .bss).
        kernel_code: code bytes per kernel id, paid once if any layer uses it.
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


@dataclass(frozen=True)
class Schedule:
    """A solution, re-evaluated on the problem it solves.

    Attributes:
        channels: kept channels per group name.
        filterlets, kernels: kept filterlets and kernel id per layer name.
        objective, bound: cycles; gap = (objective - bound) / objective.
        status: "optimal" (within the requested gap) or "feasible".
        latency, flash, sram, loss: totals at this solution (cycles, bytes, bytes, nats).
        seconds: solve time.
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
