"""Measures what pruning each channel group and each convolution alone costs: the calibrated table.

For every unit that the scheduler may prune, at a few of the counts it may keep, the rest of the
network dense: the increase of the mean loss on training images, batch normalization
re-estimated. Re-estimation takes the statistics of the very batches that are judged, which is one
pass instead of two; a batch of 256 images is enough for that. Units are measured in the order of
execution, so that what lies before a unit is computed once for all of its points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dtmm.artifact import fingerprint
from dtmm.config import SensitivityConfig
from dtmm.data import Samples
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Conv2D, FullyConnected, Network
from dtmm.planning.levels import Choices, Levels, choices
from dtmm.planning.loss import channel_scores, filterlet_scores
from dtmm.planning.ranking import kept_channels, kept_filterlets
from dtmm.planning.sensitivity import Curve, Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.training.batches import Batch, training_batches
from dtmm.training.executor import Executor
from dtmm.training.tasks import TargetLoss, task_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unit:
    """What is pruned alone.

    Attributes:
        kind: "group" or "conv". name: of the channel group or convolution.
        total: its channels or filterlets; kept: [n] ascending counts to measure, below `total`.
        start: index of the first operator whose result changes.
    """

    kind: str
    name: str
    total: int
    kept: Ints
    start: int


def measure_sensitivity(
    network: Network,
    importance: Importance,
    levels: Levels,
    dataset: Samples,
    config: SensitivityConfig,
    store: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """The curves of every unit of `choices(fold(network), levels)` that can be pruned.

    Args:
        network: trained, unfolded; not changed.
        importance: decides which channels and filterlets go, as `select` does.
        levels: the scheduler's grid; the least count of each unit is always measured.
        store: results file of `dtmm.sweep`: a rerun measures what is missing. Results of another
            network, importance or image choice in it are not used.
        progress: called with (units done, units in all).
    """
    task, units = task_of(dataset), sensitivity_units(network, levels, config.points)
    batches = list(training_batches(dataset, config.images, config.batch, config.seed))
    meter = _Meter(network, importance, units, batches, task.loss)
    of = _identity(fingerprint(network), fingerprint(importance), dataset.hash, config)
    points = [{"of": of, "kind": u.kind, "name": u.name, "kept": u.kept.tolist()} for u in units]
    found = run_sweep(meter.measure, points, store, InProcessExecutor(), progress)
    curves: dict[str, dict[str, Curve]] = {"group": {}, "conv": {}}
    for unit, result in zip(units, found, strict=True):
        loss = np.array(result["loss"]) - result["dense"]
        curves[unit.kind][unit.name] = Curve(unit.total, unit.kept, loss)
    about = {
        "network": network.name,
        "criterion": importance.criterion,
        "dataset": dataset.name,
        "images": str(sum(len(targets) for _, targets in batches)),
        "batch": str(config.batch),
        "seed": str(config.seed),
        "batch_norm": "statistics of each batch of the images judged",
        "unit": f"loss: increase of the mean {task.loss_name} over the dense network's, nats",
    }
    return Sensitivity(curves["group"], curves["conv"], about)


def _identity(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def sensitivity_units(network: Network, levels: Levels, points: int) -> tuple[Unit, ...]:
    """What can be pruned in an unfolded network, in order of execution, with counts to measure:
    at most `points` per unit, evenly spread over its options, the least one among them."""
    options = choices(fold(network), levels)
    groups = {
        name: _spread(counts, points)
        for name, counts in options.levels.items()
        if options.decided(name)
    }
    position = {op.name: n for n, op in enumerate(network.ops)}
    starts = _group_starts(network, options)
    units = [
        Unit("group", name, int(options.levels[name][0]), kept, starts[name])
        for name, kept in groups.items()
    ]
    for name, choice in options.convs.items():
        counts = np.unique(choice.filterlets[0])[::-1]
        if len(counts) > 1:
            kept = _spread(counts, points)
            units.append(Unit("conv", name, int(counts[0]), kept, position[name]))
    return tuple(sorted(units, key=lambda unit: unit.start))


def _spread(counts: Ints, points: int) -> Ints:
    """[n] ascending: some of the descending counts, without the first, which prunes nothing."""
    steps = np.linspace(len(counts) - 1, 1, min(points, len(counts) - 1))
    return counts[np.unique(np.round(steps).astype(np.int64))][::-1]


def _group_starts(network: Network, options: Choices) -> Mapping[str, int]:
    """Per group the first operator that reads it, itself or through a concatenation."""
    groups = {group.name: group for group in channel_groups(network)}
    group_of = {tensor: name for name, group in groups.items() for tensor in group.tensors}
    starts = dict.fromkeys(groups, len(network.ops))

    def read(name: str, position: int) -> None:
        starts[name] = min(starts[name], position)
        for segment in options.segments.get(name, ()):
            read(segment, position)

    for position, op in enumerate(network.ops):
        if isinstance(op, Conv2D | FullyConnected):
            read(group_of[op.input], position)
    return starts


class _Meter:
    """Losses with one unit pruned; keeps, per batch, the tensors before the unit last measured."""

    def __init__(
        self,
        network: Network,
        importance: Importance,
        units: Sequence[Unit],
        batches: Sequence[Batch],
        loss: TargetLoss,
    ) -> None:
        self.network, self.importance, self.batches = network, importance, batches
        self.loss = loss
        self.units = {(unit.kind, unit.name): unit for unit in units}
        self.executor = Executor(network).eval().requires_grad_(False)
        for norm in self.executor.batch_norms():
            norm.train()
        self._restart()
        self._dense: float | None = None

    def _restart(self) -> None:
        self.position = 0
        self.values = [{self.network.inputs[0]: images} for images, _ in self.batches]

    @torch.no_grad()
    def measure(self, of: str, kind: str, name: str, kept: list[int]) -> dict[str, Any]:
        """Mean loss at each count, and of the dense network."""
        unit = self.units[kind, name]
        if self._dense is None:
            self._dense = self._loss(None)
        if unit.start < self.position:
            self._restart()
        for values in self.values:
            self.executor.advance(values, self.position, unit.start)
        self.position = unit.start
        prune = self._with_channels if kind == "group" else self._with_filterlets
        return {"loss": [prune(name, count) for count in kept], "dense": self._dense}

    def _loss(self, gates: Mapping[str, torch.Tensor] | None) -> float:
        """From the kept tensors to the end."""
        total, images = 0.0, 0
        for values, (_, targets) in zip(self.values, self.batches, strict=True):
            rest = dict(values)
            self.executor.advance(rest, self.position, len(self.network.ops), gates)
            outputs = rest[self.network.outputs[0]]
            total += self.loss(outputs, targets, reduction="sum").item()
            images += len(targets)
        return total / images

    def _with_channels(self, group: str, count: int) -> float:
        total = self.units["group", group].total
        mask = kept_channels(channel_scores(self.importance, group, total), count)
        return self._loss({group: torch.from_numpy(mask.astype(np.float32))})

    def _with_filterlets(self, conv: str, count: int) -> float:
        weight = self.executor.weight(conv)
        filters, _, height, width = weight.shape
        mask = kept_filterlets(filterlet_scores(self.importance, conv, filters), count)
        dense = weight.clone()
        weight.mul_(torch.from_numpy(mask.reshape(filters, 1, height, width).astype(np.float32)))
        try:
            return self._loss(None)
        finally:
            weight.copy_(dense)
