"""What the shape of a pruning unit brings: filter, filterlet, block of it, pattern, weight.

The trained network of the bench is pruned to the same bytes of weights and index in every unit
(experiments/units.py): scores are diagonal Fisher terms of single weights, which add up over any
unit, and every layer keeps the same share of its units. Finer units keep more of the importance
and pay with their index. Reported are the share of importance kept, the index, and the accuracy on
test images after batch normalization is re-estimated, and after the same short fine-tuning.

This ablates the unit alone: no scheduler shares the bytes out between layers, and what a unit costs
in cycles is experiments.operator_latency.

    python -m experiments.pruning_units [--quick] [--figures-only] [--out FOLDER]

The full run can be stopped and goes on where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.config import FinetuneConfig
from dtmm.config_values import Count, Share
from dtmm.data import Dataset, load_dataset
from dtmm.executors import open_executor
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.ir import Network
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import capture
from dtmm.pruning.fisher import fisher_of_weights
from dtmm.sweep import run_sweep
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.batches import training_batches
from dtmm.training.calibrate import reestimate_batch_norm
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.loop import accuracy
from dtmm.training.masks import element_masks
from experiments.experiment import (
    QUICK_RESULTS,
    Experiment,
    Job,
    commit,
    row_provenance,
    run_script,
    save_figure,
)
from experiments.units import UNITS, Scores, dense_bytes, largest_within

NAME = "pruning_units"
REFERENCE = "filterlet"
"""The unit that others are compared with after tuning."""
BATCHES, BATCH = 32, 16
"""Training images that scores are made of."""


@dataclass(frozen=True)
class Plan:
    """What is pruned to which shares of the dense network's bytes of weights.

    Attributes:
        tuned: the share at which networks are fine-tuned too, with each of `seeds`.
        images: of the one epoch of fine-tuning. judged: test images, the first so many.
    """

    model: str
    data: str
    shares: tuple[float, ...]
    tuned: float | None
    seeds: tuple[int, ...]
    images: int
    judged: int


FULL = Plan("resnet12", "fashion_mnist", (0.05, 0.1, 0.2, 0.3, 0.5), 0.3, (0, 1, 2), 2560, 2000)
QUICK = Plan("tiny_resnet", "digits", (0.3, 0.6), None, (), 0, 200)


@dataclass(frozen=True)
class Subject:
    """A trained network with the scores of its weights."""

    dataset: Dataset
    network: Network
    scores: Scores


def load_subject(plan: Plan) -> Subject:
    """The network of the shipped checkpoint."""
    dataset = load_dataset(plan.data)
    module = build_model(plan.model, dataset)
    load_checkpoint(shipped_checkpoint(plan.model, plan.data), module)
    network = capture(module, dataset, plan.model)
    batches = training_batches(dataset, BATCHES * BATCH, BATCH, seed=0)
    return Subject(dataset, network, fisher_of_weights(network, batches))


def evaluate(
    of: str, unit: str, share: float, seed: int, images: int, judged: int, subject: Subject
) -> Mapping[str, Any]:
    """A network pruned by one unit.

    Args:
        of: what identifies the subject, for the results store.
        images: to fine-tune on; 0: batch normalization is re-estimated alone.
    """
    budget = int(share * dense_bytes(subject.network))
    kept = largest_within(UNITS[unit], subject.network, subject.scores, budget)
    if kept is None:
        return {"status": "cannot be made so small", **row_provenance(seed, subject.dataset.hash)}
    data, network = subject.dataset, kept.network
    if images:
        settings = FinetuneConfig(
            epochs=1, images_per_epoch=Count(images), distill=Share(0.0), seed=seed,
            precision="fp32",
        )  # fmt: skip
        network = finetune(network, data, settings, masks=element_masks(network))
    else:
        network = reestimate_batch_norm(network, data, seed=seed)
    right = accuracy(Executor(network), data, data.test_images[:judged], data.test_labels[:judged])
    return {
        "status": "measured",
        "bytes": kept.bytes,
        "index": kept.index,
        "importance_kept": kept.importance,
        "accuracy": right,
        **row_provenance(seed, subject.dataset.hash),
    }


def measure(plan: Plan, subject: Subject, job: Job) -> Iterator[pd.DataFrame]:
    """A row per unit, share and, where it is tuned, seed; without tuning first, then a seed more
    at a time."""
    folder = job.folder if job.quick else QUICK_RESULTS
    common = {"of": subject.dataset.hash[:12], "judged": plan.judged}
    bare: list[dict[str, Any]] = [
        {**common, "unit": unit, "share": share, "seed": 0, "images": 0}
        for share, unit in itertools.product(plan.shares, UNITS)
    ]
    parts = [bare]
    if plan.tuned is not None:
        parts += [
            [{**common, "unit": unit, "share": plan.tuned, "seed": seed, "images": plan.images}
             for unit in UNITS]
            for seed in plan.seeds
        ]  # fmt: skip
    store = folder / f"{NAME}_{plan.model}.jsonl"
    rows: list[dict[str, Any]] = []
    for points in parts:
        with (
            open_executor(job.swap.executor or "here") as executor,
            Progress().bar("networks") as bar,
        ):
            found = run_sweep(partial(evaluate, subject=subject), points, store, executor, bar)
        rows += [
            {"unit": point["unit"], "share": point["share"], "seed": point["seed"],
             "tuned_images": point["images"], **each}
            for point, each in zip(points, found, strict=True)
        ]  # fmt: skip
        yield pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Importance kept, and accuracy with batch normalization re-estimated, against bytes; where
    networks were tuned, their accuracy by unit, bars are the spread over seeds."""
    known = table[table["status"] == "measured"]
    rows, tuned = known[known["tuned_images"] == 0], known[known["tuned_images"] > 0]
    count = 2 if tuned.empty else 3
    figure = Figure(figsize=(7.0, 2.8))
    panels = figure.subplots(1, count)
    styles = list(matplotlib.rcParams["axes.prop_cycle"])
    styles.append({"color": "seagreen", "linestyle": (0, (6, 2)), "marker": "P"})
    by_unit = dict(zip(dict.fromkeys(table["unit"]), styles, strict=False))
    for unit, style in by_unit.items():
        part = rows[rows["unit"] == unit]
        for axes, column in zip(panels, ("importance_kept", "accuracy"), strict=False):
            axes.plot(part["bytes"] / 1024, 100 * part[column], label=unit, **style)
    for axes in panels[:2]:
        axes.set_xlabel("Weights and index (KiB)")
        axes.set_ylim(0, 100)
    panels[0].set_ylabel("Importance kept (%)")
    panels[1].set_ylabel("Accuracy, BN re-estimated (%)")
    if count == 3:
        _draw_tuned(panels[2], tuned, by_unit)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


def _draw_tuned(axes: Axes, tuned: pd.DataFrame, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """A mean with its spread per unit, all at one share."""
    for place, (unit, part) in enumerate(tuned.groupby("unit", sort=False)):
        right = 100 * part["accuracy"]
        style = {**styles[str(unit)], "linestyle": "none"}
        axes.errorbar(place, right.mean(), right.std() if len(right) > 1 else 0, capsize=2, **style)
    units = list(dict.fromkeys(tuned["unit"]))
    axes.set_xticks(range(len(units)), units, rotation=40, ha="right")
    axes.set_ylabel(f"Tuned, {tuned['share'].iloc[0]:.0%} of the bytes (%)")


def latex(table: pd.DataFrame) -> str:
    """Per share and unit: index, importance kept and accuracies; tuned ones as mean and spread,
    and whether they differ from the filterlet's by more than both spreads."""
    known = table[table["status"] == "measured"]
    rows = []
    for (share, unit), part in known.groupby(["share", "unit"], sort=False):
        bare = part[part["tuned_images"] == 0].iloc[0]
        tuned = _tuned(known, share, unit)
        rows.append(
            {
                "Share": share,
                "Unit": unit,
                "Index (%)": 100 * bare["index"] / bare["bytes"],
                "Importance kept (%)": 100 * bare["importance_kept"],
                "Accuracy (%)": 100 * bare["accuracy"],
                "Tuned (%)": tuned.mean(),
                "Spread": tuned.std(),
                "Differs": differs(tuned, _tuned(known, share, REFERENCE)),
            }
        )
    digits = {"Share": 2, "Index (%)": 1, "Importance kept (%)": 1, "Accuracy (%)": 1,
              "Tuned (%)": 2, "Spread": 2}  # fmt: skip
    caption = (
        "Pruning units at equal bytes of weights and index, the same share of every layer. "
        f"Differs: tuned, from the {REFERENCE} by more than both spreads over seeds."
    )
    return to_latex(pd.DataFrame(rows), caption, "tab:pruning-units", digits)


def _tuned(known: pd.DataFrame, share: float, unit: str) -> pd.Series[float]:
    """Accuracies after tuning in percent, one per seed."""
    part = known[(known["share"] == share) & (known["unit"] == unit) & (known["tuned_images"] > 0)]
    return 100 * part["accuracy"]


def differs(ours: pd.Series[float], theirs: pd.Series[float]) -> str:
    """Whether two means are farther apart than both standard deviations over seeds together; ""
    where there is nothing to compare, "one seed" where there is no spread."""
    if ours.empty or theirs.empty or ours.equals(theirs):
        return ""
    if min(len(ours), len(theirs)) < 2:
        return "one seed"
    return "yes" if abs(ours.mean() - theirs.mean()) > np.hypot(ours.std(), theirs.std()) else "no"


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(
        folder / f"{NAME}.csv", text=("unit", "status", "commit", "dataset_sha256")
    )
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    plan = QUICK if job.quick else FULL
    subject = load_subject(plan)
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "network": f"{plan.model} on {plan.data}",
        "dataset_sha256": subject.dataset.hash,
        "scores": f"diagonal Fisher of weights on {BATCHES * BATCH} training images",
        "judged": f"the first {plan.judged} test images",
        "tuning": f"one epoch of {plan.images} images",
        "unit": "share: of the dense network's bytes of weights; bytes: weights and index",
    }
    for table in measure(plan, subject, job):  # a stopped run leaves what it has
        tuned = int((table["tuned_images"] > 0).sum())
        planned = 0 if plan.tuned is None else len(plan.seeds) * len(UNITS)
        header = {**about, "tuned networks": f"{tuned} of {planned}"}
        write_table(job.folder / f"{NAME}.csv", table, header)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, without fine-tuning.",
    swaps=("executor",),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
