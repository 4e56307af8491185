"""Exact fronts of a trained network, carried out: estimated, fine-tuned, measured on the device.

On the network of the bench (its scores, measured loss curves and measured latency table), under
each limit on flash, the front of latency against estimated loss, every point proven
(`dtmm.scheduler.pareto`). Losses beyond SLACK times the least one within the limit are left out:
such networks are worth nothing. Each point is pruned, its accuracy taken after batch normalization
is re-estimated and after the same short fine-tuning, then quantized, deployed, and its accuracy,
cycles, flash and SRAM measured from one ELF. The dense network is a point too. Spearman's
coefficient says how far the estimate orders networks as their accuracies do.

The paper's accuracies are of other data, but a network's bytes and cycles are not: the authors'
published ResNet-12 (CIFAR-10) stands among ours in the panel of flash against latency, in their
system and packed by ours, from `transfer.csv`.

    python -m experiments.trained_fronts [--quick] [--figures-only] [--out FOLDER]

The full run can be stopped and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from dtmm.artifact import fingerprint, write_atomic
from dtmm.config import FinetuneConfig
from dtmm.config_values import Count, Share
from dtmm.network.ir import Network
from dtmm.pipeline.progress import Progress
from dtmm.pruning.modes import Pruned
from dtmm.scheduler import Schedule
from dtmm.scheduler.pareto import pareto
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.calibrate import reestimate_batch_norm
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.loop import accuracy
from experiments.bench import SETTINGS, Bench, counted, open_bench
from experiments.experiment import (
    RESULTS,
    Experiment,
    Job,
    row_provenance,
    run_script,
    save_figure,
)
from experiments.methods import Task, measure

NAME = "trained_fronts"
SLACK = 2.0
DENSE = "dense"
TOTALS = ("latency", "flash", "sram", "loss")
MEASURED = ("accuracy", "cycles", "flash", "sram")
PUBLISHED = "resnet12_cifar10"
"""Of transfer.csv: the authors' network that has the bench's architecture."""


@dataclass(frozen=True)
class Plan:
    """`points` of the front under each of `shares` of the dense network's flash, each tuned on so
    many `images` once with every seed, judged on the first so many test images."""

    shares: tuple[float, ...]
    points: int
    seeds: tuple[int, ...]
    images: int
    test_images: int


FULL = Plan((0.2, 0.4), 6, (0, 1, 2), 2560, 2000)
QUICK = Plan((0.8,), 3, (0,), 128, 100)


def schedules(bench: Bench, plan: Plan) -> list[tuple[dict[str, Any], Schedule | None]]:
    """What a row says before anything is trained, and its schedule (None: the dense network)."""
    found: list[tuple[dict[str, Any], Schedule | None]] = [({"front": DENSE, "point": 0}, None)]
    gap = bench.config.schedule.gap
    for share in plan.shares:
        problem = bench.fast_problem(share, SLACK)
        front = pareto(problem, points=plan.points, solver=bench.config.schedule.solver, gap=gap)
        for n, point in enumerate(front.points):
            each = point.schedule
            estimates = {f"estimated_{name}": getattr(each, name) for name in TOTALS}
            row = {"front": f"{share:.0%} of the flash", "point": n, **estimates}
            found.append((row, each))
    return found


def carry_out(
    of: str,
    channels: Mapping[str, int],
    filterlets: Mapping[str, int],
    kernels: Mapping[str, str],
    seed: int,
    images: int,
    test_images: int,
    bench: Bench,
) -> dict[str, Any]:
    """Accuracies of a schedule's network in float, and everything measured of it in int8.

    Args:
        of: what identifies the bench, for the results store.
        channels, filterlets, kernels: of the schedule; all empty: the dense network, not tuned.
    """
    data = bench.dataset
    network, found = bench.network, {}
    if channels:
        network = bench.pruned(counted(channels, filterlets))
        found["reestimated"] = _judged(
            reestimate_batch_norm(network, data, seed=seed), bench, test_images
        )
        settings = FinetuneConfig(
            epochs=1, images_per_epoch=Count(images), distill=Share(0.0), seed=seed,
            precision="fp32",
        )  # fmt: skip
        network = finetune(network, data, settings)
    found["tuned"] = _judged(network, bench, test_images)
    task = Task(NAME, bench.config.model.name, bench.folder, data, bench.network)
    measured = measure(task, Pruned(network, dict(kernels)), test_images)
    device = measured["provenance"]
    return {
        **found,
        **{name: measured[name] for name in MEASURED},
        **row_provenance(seed, data.hash, measured=device),
    }


def _judged(network: Network, bench: Bench, test_images: int) -> float:
    """Share of the first test images that the float network puts in their class."""
    data, few = bench.dataset, slice(test_images)
    return accuracy(Executor(network), data, data.test_images[few], data.test_targets[few])


def measure_all(bench: Bench, plan: Plan) -> Iterator[tuple[pd.DataFrame, str]]:
    """A row per point and seed, and what is missing; it grows by a seed of a front at a time."""
    planned = schedules(bench, plan)
    fronts = list(dict.fromkeys(row["front"] for row, _ in planned))
    parts = [(DENSE, plan.seeds[0])]  # it is not tuned: another seed is the same network
    parts += [(front, seed) for seed in plan.seeds for front in fronts if front != DENSE]
    rows: list[dict[str, Any]] = []
    for n, (front, seed) in enumerate(parts):
        part = [(row, found) for row, found in planned if row["front"] == front]
        points = [_point(bench, plan, found, seed) for _, found in part]
        with Progress().bar(f"{front}, seed {seed}") as bar:
            store = bench.folder / f"{NAME}.jsonl"
            done = run_sweep(
                partial(carry_out, bench=bench), points, store, InProcessExecutor(), bar
            )
        rows += [
            {**row, **row_provenance(seed, schedule=found), **each}
            for (row, found), each in zip(part, done, strict=True)
        ]
        left = "; ".join(f"{name}, seed {each}" for name, each in parts[n + 1 :])
        yield pd.DataFrame(rows), left or "nothing"


def _point(bench: Bench, plan: Plan, found: Schedule | None, seed: int) -> dict[str, Any]:
    chosen = {name: dict(getattr(found, name)) if found else {}
              for name in ("channels", "filterlets", "kernels")}  # fmt: skip
    of = fingerprint(bench.network)[:12] + bench.dataset.hash[:12]
    return {"of": of, **chosen, "seed": seed, "images": plan.images,
            "test_images": plan.test_images}  # fmt: skip


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per front: points, seeds, and Spearman's coefficient of falling estimated loss with accuracy,
    averaged over seeds: after re-estimation, after tuning, and of the int8 networks."""
    rows = []
    for front, part in table[table["front"] != DENSE].groupby("front", sort=False):
        means = part.groupby("point")[["estimated_loss", "reestimated", "tuned", "accuracy"]].mean()
        row = {"front": front, "points": len(means), "seeds": part["seed"].nunique()}
        for column in ("reestimated", "tuned", "accuracy"):
            row[column] = float(spearmanr(-means["estimated_loss"], means[column]).statistic)
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Against measured latency: estimated loss, accuracy re-estimated (hollow) and in int8 after
    tuning, and flash; a line per front."""
    figure = Figure(figsize=(7.0, 2.7))
    losses, accuracies, sizes = figure.subplots(1, 3)
    [dense] = table[table["front"] == DENSE].to_dict("records")
    styles = list(matplotlib.rcParams["axes.prop_cycle"])
    fronts = table[table["front"] != DENSE].groupby("front", sort=False)
    for style, (front, part) in zip(styles, fronts, strict=False):
        means = part.groupby("point").mean(numeric_only=True)
        spread = 100 * part.groupby("point")["accuracy"].std().fillna(0.0)
        at = means["cycles"] / 1e6
        losses.plot(at, means["estimated_loss"], label=front, **style)
        hollow = {**style, "markerfacecolor": "white", "linewidth": 0.6}
        accuracies.plot(at, 100 * means["reestimated"], label=f"{front}, re-estimated", **hollow)
        accuracies.errorbar(at, 100 * means["accuracy"], spread, capsize=2,
                            label=f"{front}, tuned, int8", **style)  # fmt: skip
        sizes.plot(at, means["flash"] / 1024, label=front, **style)
    star = {"marker": "*", "color": "black", "markersize": 7, "linestyle": "none"}
    accuracies.plot(dense["cycles"] / 1e6, 100 * dense["accuracy"], label=DENSE, **star)
    sizes.plot(dense["cycles"] / 1e6, dense["flash"] / 1024, label=DENSE, **star)
    _published(sizes, published)
    losses.set_ylabel("Estimated loss (nats)")
    accuracies.set_ylabel("Test accuracy (%)")
    sizes.set_ylabel("Flash (KiB)")
    for axes in (losses, accuracies, sizes):
        axes.set_xlabel("Latency (Mcycles)")
    sizes.set_xscale("log")
    sizes.tick_params(axis="x", which="both", length=2.5, pad=3)
    sizes.xaxis.set_major_formatter("{x:g}")
    sizes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if str(x)[0] in "25" else "")
    found: dict[str, Any] = {}
    for axes in (accuracies, sizes):
        handles, names = axes.get_legend_handles_labels()
        found |= {n: h for n, h in zip(names, handles, strict=True) if n not in fronts.groups}
    figure.legend(list(found.values()), list(found), loc="outside upper center", ncols=3)
    return figure


def _published(axes: Axes, published: pd.DataFrame) -> None:
    """The authors' network, packed by us and in their system (their file in the place of flash)."""
    for _, row in published.iterrows():
        style: dict[str, Any] = {"color": "0.4", "linestyle": "none", "markersize": 5}
        axes.plot(row["cycles"] / 1e6, row["packed_flash"] / 1024, marker="P",
                  label="authors' network, ours", **style)  # fmt: skip
        axes.plot(row["dtmm_authors_O3_cycles"] / 1e6, row["dtmm_authors_O3_file_bytes"] / 1024,
                  marker="X", label="authors' network, theirs (file)", **style)  # fmt: skip


def latex(table: pd.DataFrame) -> str:
    """A row per point, means over seeds, the coefficients in the caption."""
    means = table.groupby(["front", "point"], sort=False).mean(numeric_only=True).reset_index()
    spread = table.groupby(["front", "point"], sort=False)["accuracy"].std().to_numpy()
    columns = {
        "Front": means["front"],
        "Estimated loss": means["estimated_loss"],
        "Re-estimated (%)": 100 * means["reestimated"],
        "Tuned (%)": 100 * means["tuned"],
        "int8 (%)": 100 * means["accuracy"],
        "Spread": 100 * spread,
        "Mcycles": means["cycles"] / 1e6,
        "Flash (KiB)": means["flash"] / 1024,
        "SRAM (KiB)": means["sram"] / 1024,
    }
    digits = dict.fromkeys(list(columns)[1:], 2) | {"Flash (KiB)": 1, "SRAM (KiB)": 1}
    ranks = "; ".join(
        f"{row['front']} {row['reestimated']:.2f} re-estimated, {row['tuned']:.2f} tuned"
        for _, row in summary(table).iterrows()
    )
    caption = f"Fronts carried out. Spearman of estimate and accuracy: {ranks}."
    return to_latex(pd.DataFrame(columns), caption.replace("%", "\\%"), "tab:trained-fronts",
                    digits)  # fmt: skip


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table, from the CSV and the committed transfer.csv alone.

    Raises:
        DataError: a CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("front", "commit"))
    others, _ = read_table(RESULTS / "transfer.csv", text=("network",))
    save_figure(draw(table, others[others["network"] == PUBLISHED]), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Schedule, tune, measure, and write the CSV with its provenance as it grows."""
    bench, plan = open_bench(job), QUICK if job.quick else FULL
    unit = ("cycles, bytes, nats; reestimated, tuned (float) and accuracy (int8): shares of the "
            "test images")  # fmt: skip
    about = {
        **bench.about(NAME, job, unit),
        "limit of the loss": f"{SLACK:g} of the least estimated within the flash",
        "tuning": f"one pass of {plan.images} training images",
        "judged": f"the first {plan.test_images} test images",
    }
    for table, missing in measure_all(bench, plan):
        write_table(job.folder / f"{NAME}.csv", table, {**about, "missing": missing})


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, three points, one seed.",
    swaps=tuple(SETTINGS),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
