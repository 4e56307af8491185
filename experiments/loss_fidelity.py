"""How well estimates of the loss rank schedules of one size: predicted against measured.

Random schedules (experiments/random_schedules.py) at equal bytes of weights and at equal cycles of
the convolutions, for each network. What leaves is chosen by squared Taylor scores everywhere, so
that estimators differ in nothing but the number they put on a schedule:

- scores: the sum of a criterion's scores over all that was removed (`SCORES`);
- measured: the measured curves of pruning one group or convolution alone, added up;
- calibrated: squared Taylor scores, scaled to those curves per group and convolution;
- joint: the curves to the power of 0.7, added up.

They are compared with the mean cross-entropy on test images (nothing is chosen by it): raw, with
batch normalization re-estimated on training images, and for the first TUNED schedules of one size
of the first network after short fine-tuning.

`loss_fidelity.csv` has a row per schedule, `loss_fidelity_ranks.csv` Spearman's and Kendall's
coefficients with 95 % bootstrap intervals over schedules.

    python -m experiments.loss_fidelity [--quick] [--figures-only] [--out FOLDER]

The full run can be stopped and goes on where it was; VGG-11 needs a checkpoint (`dtmm train
model.name=vgg11`), by default the shipped one, or the one that DTMM_VGG11 names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import rankdata

import dtmm
from dtmm import artifact
from dtmm.config import FinetuneConfig, ImportanceConfig, SensitivityConfig, load_config
from dtmm.config_values import Count, Share
from dtmm.device.provenance import git_commit
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import ConfiguredSource
from dtmm.planning import Selection, select
from dtmm.planning.levels import Choices, Levels, choices
from dtmm.planning.loss import Floats, LossTables
from dtmm.planning.loss_models import loss_model
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.pruning.measured_loss import mean_loss, pruned_loss
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.pruning.sensitivity_measure import measure_sensitivity
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, write_table
from dtmm.training.batches import Batch, training_batches
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from experiments.experiment import QUICK_RESULTS, Experiment, Job, exchanged, save_figure
from experiments.random_schedules import Draw, Size, dense, draw, schedule, table_loss

SCORES = ("taylor_weights", "taylor", "taylor_squared", "fisher", "l2")
CURVES = ("measured", "calibrated", "joint")
ESTIMATORS = (*SCORES, *CURVES)
TRUTHS = ("raw", "reestimated", "finetuned")
FIRST_SEED = 1000
"""Those below were looked at when the exponent of `joint` was chosen."""
NAME = "loss_fidelity"
IMPORTANCE = ImportanceConfig(batches=Count(32), batch_size=Count(16))
RESAMPLES = 1000


@dataclass(frozen=True)
class Subject:
    """A model, its dataset and checkpoint (None: the shipped one), and schedules per size."""

    model: str
    data: str
    checkpoint: str | None
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

    @classmethod
    def of(cls, job: Job) -> Plan:
        """The job's; a criterion or loss model of the user's is one estimator more."""
        plan = QUICK if job.quick else FULL
        given = job.swap.given()
        return replace(
            plan,
            scores=tuple(dict.fromkeys((*plan.scores, given.get("criterion", plan.scores[0])))),
            curves=tuple(dict.fromkeys((*plan.curves, given.get("loss_model", plan.curves[0])))),
        )


FULL = Plan(
    {
        "ResNet-12": Subject("resnet12", "fashion_mnist", None, 50),
        "VGG-11": Subject("vgg11", "fashion_mnist", os.environ.get("DTMM_VGG11"), 50),
    },
    Levels(8, 8),
    SensitivityConfig(images=Count(256)),
    images=256,
    shares={"bytes": 0.4, "cycles": 0.5},
    tuned=8,
    tuning_images=2560,
)
QUICK = Plan(
    {"tiny": Subject("tiny_resnet", "digits", None, 6)},
    Levels(3, 3),
    SensitivityConfig(points=Count(3), images=Count(128), batch=Count(64)),
    images=128,
    shares={"bytes": 0.7, "cycles": 0.8},
    tuned=1,
    tuning_images=128,
)


class Bench:
    """One network and everything its schedules are judged by, made when first asked for."""

    def __init__(self, name: str, plan: Plan, store: Path) -> None:
        subject = plan.networks[name]
        overrides = [f"model.name={subject.model}", f"data.name={subject.data}"]
        overrides += [f"model.checkpoint={subject.checkpoint}"] if subject.checkpoint else []
        source = ConfiguredSource(load_config(overrides=overrides))
        self.plan, self.store, self.name = plan, store / f"{NAME}_{name}", name
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
    }


def measure(plan: Plan, folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per schedule, and where the networks come from."""
    rows, about = [], {}
    for n, (name, subject) in enumerate(plan.networks.items()):
        bench = Bench(name, plan, folder / "cache")
        about[name] = bench.about
        points = [
            {"network": name, "of": bench.identity, "size": size, "number": number,
             "tune": n == 0 and size == "bytes" and number < plan.tuned}
            for number in range(subject.schedules) for size in plan.shares
        ]  # fmt: skip
        points.sort(key=lambda point: bool(point["tune"]))  # what takes longest comes last
        with Progress().bar(name) as bar:
            found = run_sweep(
                partial(evaluate, bench=bench),
                points,
                bench.store.with_suffix(".jsonl"),
                InProcessExecutor(),
                bar,
            )
        rows += [{**point, **result} for point, result in zip(points, found, strict=True)]
    return pd.DataFrame(rows).drop(columns=["of", "tune"]), about


def ranks(
    table: pd.DataFrame,
    resamples: int = RESAMPLES,
    estimators: Sequence[str] = ESTIMATORS,
) -> pd.DataFrame:
    """Spearman's and Kendall's coefficients per network, size, truth and estimator, with the 2.5th
    and 97.5th percentile over resampled schedules."""
    rows: list[dict[str, Any]] = []
    for (network, size), part in table.groupby(["network", "size"], sort=False):
        for truth in TRUTHS:
            known = part.dropna(subset=[truth]) if truth in part else part.iloc[:0]
            if len(known) < 5:
                continue
            drawn = _resampled(len(known), resamples)
            for estimator in estimators:
                x, y = known[estimator].to_numpy(), known[truth].to_numpy()
                row = {"network": network, "size": size, "truth": truth, "estimator": estimator}
                row["schedules"] = len(known)
                for name, coefficient in (("spearman", spearman), ("kendall", kendall)):
                    values = coefficient(x[drawn], y[drawn])
                    low, high = np.nanpercentile(values, [2.5, 97.5])
                    row[name] = float(coefficient(x[None], y[None])[0])
                    row[f"{name}_low"], row[f"{name}_high"] = float(low), float(high)
                rows.append(row)
    return pd.DataFrame(rows)


def _resampled(count: int, resamples: int) -> npt.NDArray[np.int64]:
    """[resamples, count] indices, drawn with replacement."""
    return np.random.default_rng(0).integers(0, count, (resamples, count))


def spearman(x: Floats, y: Floats) -> Floats:
    """[R] rank correlation of each row of [R, n] samples; ties share their mean rank."""
    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    return _normalised((a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1))


def kendall(x: Floats, y: Floats) -> Floats:
    """[R] tau-b of each row of [R, n] samples."""
    a, b = (np.sign(values[:, :, None] - values[:, None, :]) for values in (x, y))
    return _normalised(
        (a * b).sum(axis=(1, 2)), np.abs(a).sum(axis=(1, 2)), np.abs(b).sum(axis=(1, 2))
    )


def _normalised(product: Floats, one: Floats, other: Floats) -> Floats:
    """NaN where a side is constant."""
    scale = np.sqrt(one * other)
    return np.asarray(np.divide(product, scale, out=np.full(len(product), np.nan), where=scale > 0))


def figure(table: pd.DataFrame) -> Figure:
    """Measured against predicted loss, a row per network, a panel per estimator; the line is the
    mean of each fifth of the schedules by prediction, the dashed one a perfect estimate."""
    shown = ("taylor_weights", "taylor_squared", "calibrated", "joint")
    networks = list(dict.fromkeys(table["network"]))
    drawn = Figure(figsize=(1.75 * len(shown) + 0.4, 1.8 * len(networks) + 0.4))
    panels = drawn.subplots(len(networks), len(shown), squeeze=False, sharey="row")
    for row, network in zip(panels, networks, strict=True):
        part = table[table["network"] == network]
        for axes, estimator in zip(row, shown, strict=True):
            for size, points in part.groupby("size", sort=False):
                axes.plot(
                    points[estimator], points["reestimated"], ".", markersize=2.5, alpha=0.6,
                    label=f"equal {size}",
                )  # fmt: skip
            order = part.sort_values(estimator)
            fifths = np.array_split(order[[estimator, "reestimated"]].to_numpy(), 5)
            axes.plot(
                *np.array([each.mean(axis=0) for each in fifths]).T, "-", marker="", color="black"
            )
            ends = part["reestimated"].min(), part["reestimated"].max()
            axes.plot(ends, ends, "--", color="gray", lw=0.7)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            if network == networks[0]:
                axes.set_title(estimator)
        row[0].set_ylabel(f"{network}: measured (nats)")
    for axes in panels[-1]:
        axes.set_xlabel("Predicted (nats)")
    handles, names = panels[0, 0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside upper center", ncols=len(names))
    return drawn


def draw_all(folder: Path) -> None:
    """The figure, from the CSV alone."""
    table, _ = read_table(folder / f"{NAME}.csv")
    save_figure(figure(table), folder, NAME)


def run(job: Job) -> None:
    """Measure, and write both tables with their provenance."""
    plan = Plan.of(job)
    table, networks = measure(plan, job.folder if job.quick else QUICK_RESULTS)
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": git_commit(Path(__file__).parent) or "unknown",
        "dtmm": dtmm.__version__,
        **networks,
        "sizes": f"{dict(plan.shares)} of the dense network's weight bytes and convolution cycles",
        "images": f"{plan.images} training images to re-estimate on, {plan.images} test images",
        "sensitivity": f"{plan.sensitivity.points} points per unit, "
        f"{plan.sensitivity.images} training images",
        "scores": f"{IMPORTANCE.batches} batches of {IMPORTANCE.batch_size} training images",
        "finetuned": f"one pass of {plan.tuning_images} training images",
        "unit": "losses: nats over the dense network's; bytes, cycles: shares of its",
        **exchanged(job.swap),
    }
    ranked = ranks(table, estimators=(*plan.scores, *plan.curves))
    write_table(job.folder / f"{NAME}.csv", table.round(5), about)
    write_table(job.folder / f"{NAME}_ranks.csv", ranked.round(4), about)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, a few schedules.",
    swaps=("criterion", "loss_model"),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
