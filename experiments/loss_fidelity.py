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

The tables are written after each CHUNK schedules, and a stopped run goes on where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

import dtmm
from dtmm.config import SensitivityConfig
from dtmm.config_values import Count
from dtmm.pipeline.progress import Progress
from dtmm.planning.levels import Levels
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, write_table
from experiments.experiment import (
    QUICK_RESULTS,
    Experiment,
    Job,
    commit,
    exchanged,
    run_script,
    save_figure,
)
from experiments.loss_fidelity_bench import (
    CURVES,
    IMPORTANCE,
    SCORES,
    Bench,
    Plan,
    Subject,
    evaluate,
)
from experiments.rank_correlation import ranks

NAME = "loss_fidelity"
ESTIMATORS = (*SCORES, *CURVES)
TRUTHS = ("raw", "reestimated", "finetuned")
CHUNK = 10
"""Schedules after which the tables are written."""

FULL = Plan(
    {
        "ResNet-12": Subject("resnet12", "fashion_mnist", 50),
        "VGG-11": Subject("vgg11", "fashion_mnist", 50),
    },
    Levels(8, 8),
    SensitivityConfig(images=Count(256)),
    images=256,
    shares={"bytes": 0.4, "cycles": 0.5},
    tuned=8,
    tuning_images=2560,
)
QUICK = Plan(
    {"tiny": Subject("tiny_resnet", "digits", 6)},
    Levels(3, 3),
    SensitivityConfig(points=Count(3), images=Count(128), batch=Count(64)),
    images=128,
    shares={"bytes": 0.7, "cycles": 0.8},
    tuned=1,
    tuning_images=128,
)


def plan_of(job: Job) -> Plan:
    """The job's; a criterion or loss model of the user's is one estimator more."""
    plan = QUICK if job.quick else FULL
    given = job.swap.given()
    return replace(
        plan,
        scores=tuple(dict.fromkeys((*plan.scores, given.get("criterion", plan.scores[0])))),
        curves=tuple(dict.fromkeys((*plan.curves, given.get("loss_model", plan.curves[0])))),
    )


def planned(plan: Plan, benches: Mapping[str, Bench]) -> Iterator[list[dict[str, Any]]]:
    """Points a chunk at a time; those that are tuned take longest and come last."""
    first, *_ = plan.networks
    tuned: list[dict[str, Any]] = []
    for name, subject in plan.networks.items():
        points: list[dict[str, Any]] = []
        for number, size in itertools.product(range(subject.schedules), plan.shares):
            tune = name == first and size == "bytes" and number < plan.tuned
            point = {"network": name, "of": benches[name].identity, "size": size, "number": number}
            (tuned if tune else points).append({**point, "tune": tune})
        yield from (points[n : n + CHUNK] for n in range(0, len(points), CHUNK))
    yield from ([each] for each in tuned)


def measure(plan: Plan, benches: Mapping[str, Bench]) -> Iterator[pd.DataFrame]:
    """A row per schedule; the table grows by a chunk at a time."""
    rows: list[dict[str, Any]] = []
    places = list(plan.networks)
    for points in planned(plan, benches):
        bench = benches[points[0]["network"]]
        with Progress().bar(f"{bench.name}, from schedule {points[0]['number']}") as bar:
            store = bench.store.with_suffix(".jsonl")
            found = run_sweep(
                partial(evaluate, bench=bench), points, store, InProcessExecutor(), bar
            )
        rows += [{**point, **result} for point, result in zip(points, found, strict=True)]
        rows.sort(key=lambda row: places.index(row["network"]))
        yield pd.DataFrame(rows).drop(columns=["of", "tune"])


def missing(plan: Plan, benches: Mapping[str, Bench], table: pd.DataFrame) -> str:
    """Schedules that the table lacks, by network and size."""
    points = [point for part in planned(plan, benches) for point in part]
    wanted = pd.DataFrame(points).groupby(["network", "size", "tune"], sort=False).size()
    tuned = table["finetuned"].notna() if "finetuned" in table else pd.Series(False, table.index)
    have = table.assign(tune=tuned).groupby(["network", "size", "tune"]).size()
    lacking = (wanted - have.reindex(wanted.index, fill_value=0)).loc[lambda count: count > 0]
    named = [
        f"{count} of {wanted[network, size, tune]}{' fine-tuned' if tune else ''} schedules of "
        f"{network} at equal {size}"
        for (network, size, tune), count in lacking.items()
    ]
    return "; ".join(named) or "nothing"


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
    table, _ = read_table(folder / f"{NAME}.csv", text=("commit", "dataset_sha256"))
    save_figure(figure(table), folder, NAME)


def run(job: Job) -> None:
    """Measure, and write both tables with their provenance as they grow."""
    plan = plan_of(job)
    cache = (job.folder if job.quick else QUICK_RESULTS) / "cache"
    benches = {name: Bench(name, plan, cache) for name in plan.networks}
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        **{name: bench.about for name, bench in benches.items()},
        "sizes": f"{dict(plan.shares)} of the dense network's weight bytes and convolution cycles",
        "images": f"{plan.images} training images to re-estimate on, {plan.images} test images",
        "sensitivity": f"{plan.sensitivity.points} points per unit, "
        f"{plan.sensitivity.images} training images",
        "scores": f"{IMPORTANCE.batches} batches of {IMPORTANCE.batch_size} training images",
        "finetuned": f"one pass of {plan.tuning_images} training images",
        "unit": "losses: nats over the dense network's; bytes, cycles: shares of its",
        **exchanged(job.swap),
    }
    for table in measure(plan, benches):
        header = {**about, "missing": missing(plan, benches, table)}
        ranked = ranks(table, (*plan.scores, *plan.curves), TRUTHS)
        write_table(job.folder / f"{NAME}.csv", table.round(5), header)
        write_table(job.folder / f"{NAME}_ranks.csv", ranked.round(4), header)


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
    run_script(NAME)
