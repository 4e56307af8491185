"""One trained network and all that estimates of its random schedules' losses are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from dtmm import artifact
from dtmm.config import FinetuneConfig, ImportanceConfig, SensitivityConfig, load_config
from dtmm.config_values import Count, Share
from dtmm.data import Dataset
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.pipeline.source import ConfiguredSource
from dtmm.planning import Selection, select
from dtmm.planning.levels import Choices, Levels, choices
from dtmm.planning.loss import LossTables
from dtmm.planning.loss_models import loss_model
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.pruning.measured_loss import mean_loss, pruned_loss
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.pruning.sensitivity_measure import measure_sensitivity
from dtmm.training.batches import Batch, training_batches
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from experiments.experiment import row_provenance
from experiments.random_schedules import Draw, Size, dense, draw, schedule, table_loss

SCORES = ("taylor_weights", "taylor", "taylor_squared", "fisher", "l2")
CURVES = ("measured", "calibrated", "joint")
FIRST_SEED = 1000
"""Those below were looked at when the exponent of `joint` was chosen."""
IMPORTANCE = ImportanceConfig(batches=Count(32), batch_size=Count(16))


@dataclass(frozen=True)
class Subject:
    """A model and a dataset with a shipped checkpoint, and schedules per size."""

    model: str
    data: str
    schedules: int


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        networks: by name. images: to re-estimate on and to judge on, each.
        shares: of the dense network's bytes and cycles, what schedules have.
        tuned: so many schedules of equal bytes of the first network are fine-tuned, on
            `tuning_images`.
        scores, curves: the estimators; taylor_squared must be among the scores.
    """

    networks: Mapping[str, Subject]
    levels: Levels
    sensitivity: SensitivityConfig
    images: int
    shares: Mapping[Size, float]
    tuned: int
    tuning_images: int
    scores: tuple[str, ...] = SCORES
    curves: tuple[str, ...] = CURVES


class Bench:
    """One network and everything its schedules are judged by, made when first asked for."""

    def __init__(self, name: str, plan: Plan, folder: Path) -> None:
        subject = plan.networks[name]
        overrides = [f"model.name={subject.model}", f"data.name={subject.data}"]
        source = ConfiguredSource(load_config(overrides=overrides))
        self.plan, self.store, self.name = plan, folder / f"loss_fidelity_{name}", name
        self.dataset, self.identity = source.dataset, source.identity()
        self.network, self.about = source.network()
        self.folded = fold(self.network)
        self.options: Choices = choices(self.folded, plan.levels)
        self.dense = dense(self.folded, self.options)

    def importance(self, criterion: str) -> Importance:
        """Kept beside the results."""
        path = self.store.with_suffix(f".{self.identity[:12]}.{Path(criterion).name}.dtmm")
        if not path.exists():
            config = replace(IMPORTANCE, criterion=criterion)
            artifact.save(estimate_importance(self.network, self.dataset, config), path)
        return artifact.load(path, Importance)

    @cached_property
    def scores(self) -> dict[str, Importance]:
        """By criterion."""
        return {criterion: self.importance(criterion) for criterion in self.plan.scores}

    @cached_property
    def curves(self) -> Sensitivity:
        """Measured curves; taylor_squared decides what goes."""
        click.echo(f"{self.name}: sensitivity", err=True)
        return measure_sensitivity(
            self.network,
            self.scores["taylor_squared"],
            self.plan.levels,
            self.dataset,
            self.plan.sensitivity,
            self.store.with_suffix(".sensitivity.jsonl"),
        )

    @cached_property
    def tables(self) -> dict[str, LossTables]:
        """Of the models that need curves."""
        importance = self.scores["taylor_squared"]
        models = {name: loss_model(name, self.curves) for name in self.plan.curves}
        return {name: model(self.options, importance) for name, model in models.items()}

    @cached_property
    def calibration(self) -> list[Batch]:
        """Training images that re-estimate batch normalization, none that curves were made of."""
        return list(training_batches(self.dataset, self.plan.images, 128, seed=5))

    @cached_property
    def judged(self) -> list[Batch]:
        """Test images."""
        data = self.dataset
        assert isinstance(data, Dataset)  # the plan's networks are classifiers
        test = replace(data, train_images=data.test_images, train_labels=data.test_labels)
        return list(training_batches(test, self.plan.images, 128, seed=0))

    @cached_property
    def dense_loss(self) -> float:
        """Of the dense network on the judged images, nats."""
        return mean_loss(Executor(self.network).eval(), self.judged)

    def draw(self, size: Size, number: int) -> Draw:
        """Schedule `number` of a size."""
        wanted = self.plan.shares[size] * getattr(self.dense, size)
        return draw(self.folded, self.options, size, wanted, FIRST_SEED + number)

    def estimates(self, drawn: Draw) -> dict[str, float]:
        """Nats by each estimator."""
        selection = self.selection(drawn)
        found = {name: self._removed(scores, selection) for name, scores in self.scores.items()}
        tables = {n: table_loss(self.options, t, drawn) for n, t in self.tables.items()}
        return {**found, **tables}

    def selection(self, drawn: Draw) -> Selection:
        """What stays."""
        importance = self.scores["taylor_squared"]
        return select(self.network, importance, schedule(self.options, drawn))

    def _removed(self, scores: Importance, selection: Selection) -> float:
        """Sum of scores of removed channels, and of removed filterlets of kept filters."""
        total = sum(float(v[~selection.channels[n]].sum()) for n, v in scores.channels.items())
        group_of = {t: g.name for g in channel_groups(self.network) for t in g.tensors}
        for conv in self.network.convs():
            kept = selection.channels[group_of[conv.output]]
            gone = ~selection.filterlets[conv.name][..., 0]
            total += float((scores.filterlets[conv.name] * gone)[kept].sum())
        return total


def evaluate(network: str, of: str, size: Size, number: int, tune: bool, bench: Bench) -> Any:
    """A schedule's size, estimates and measured losses (increases over the dense network's)."""
    drawn = bench.draw(size, number)
    small = remove(bench.network, bench.selection(drawn))
    found = pruned_loss(small, bench.calibration, bench.judged)
    losses = {"raw": found.raw, "reestimated": found.reestimated}
    if tune:
        images = Count(bench.plan.tuning_images)
        config = FinetuneConfig(
            epochs=1, images_per_epoch=images, distill=Share(0.0), precision="fp32"
        )
        tuned = finetune(small, bench.dataset, config)
        losses["finetuned"] = mean_loss(Executor(tuned).eval(), bench.judged)
    return {
        "bytes": drawn.bytes / bench.dense.bytes,
        "cycles": drawn.cycles / bench.dense.cycles,
        **bench.estimates(drawn),
        **{name: loss - bench.dense_loss for name, loss in losses.items()},
        **row_provenance(FIRST_SEED + number, bench.dataset.hash),
    }
