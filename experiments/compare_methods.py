"""DTMM against CHIP, PatDNN, stripe-wise and unstructured pruning at equal flash and equal tuning.

Every cell is a trained network, pruned by one method to a share of the dense int8 network's flash,
fine-tuned, quantized, and measured from one ELF on the simulated Cortex-M55 (experiments.methods).
A cell stands in the table when it is finished; a run can be stopped at any time and a rerun makes
only what is missing. The summary names what is.

    python -m experiments.compare_methods [--quick] [--figures-only] [--out FOLDER]
    python -m experiments.compare_methods --summary [--json]     at matched accuracy
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import matplotlib
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.errors import DtmmError
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, to_latex, write_table
from experiments import methods
from experiments.experiment import QUICK_RESULTS, RESULTS, Experiment, Job, commit, save_figure
from experiments.matched import DENSE, PAPER, Comparison, paired

NAME = "compare_methods"
WORK = Path("runs/compare_methods")
OURS, FAST = "dtmm", "dtmm_fast"
"""Two settings of one scheduler: the least loss at a size, and the fastest network near it."""
LABELS = {
    "chip": "CHIP",
    "chip_scheduled": "CHIP, our scheduler",
    "patdnn": "PatDNN",
    "stripe": "stripe-wise",
    "unstructured": "unstructured",
    "dtmm_paper": "DTMM, paper's estimate",
    "dtmm": "DTMM",
    "dtmm_fast": "DTMM, fast",
}
KEYS = ["task", "model", "method", "share", "seed"]


@dataclass(frozen=True)
class Plan:
    """What is compared: the tasks (dataset, model), in order of importance, and how.

    Attributes:
        shares: of the dense network's flash. tuning: see `experiments.methods.cell`.
        test_images: the first so many of the test set.
    """

    tasks: tuple[tuple[str, str], ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    tuning: Mapping[str, Any] = field(default_factory=dict)
    test_images: int = 10_000

    def cells(self) -> Iterator[dict[str, Any]]:
        """All pruned cells: a seed of every task before the next seed, a size before the next."""
        order = (OURS, *(name for name in methods.METHODS if name != OURS))
        for seed, (task, model), share, method in itertools.product(
            self.seeds, self.tasks, self.shares, order
        ):
            yield {"task": task, "model": model, "method": method, "share": share, "seed": seed}


FULL = Plan(
    tasks=(
        ("fashion_mnist", "resnet12"),
        ("fashion_mnist", "vgg11"),
        ("fashion_scenes", "resnet12"),
    ),
    shares=(0.1, 0.3, 0.5),
    seeds=(0, 1, 2),
    tuning={"epochs": 2, "images_per_epoch": 15_000, "batch": 128, "lr": 0.02, "distill": 0.0},
    test_images=5000,
)
QUICK = Plan(
    tasks=(("digits", "tiny_resnet"),),
    shares=(0.9,),
    seeds=(0,),
    tuning={"epochs": 1, "images_per_epoch": 512, "batch": 64},
    test_images=100,
)


def run(job: Job) -> None:
    """Measure the missing cells."""
    plan = QUICK if job.quick else FULL
    work = job.folder / f"{NAME}_work" if job.quick else WORK
    for (task, model), cells in itertools.groupby(plan.cells(), lambda c: (c["task"], c["model"])):
        store = Cells(plan, work, job.folder / f"{NAME}.csv")
        dense = store.evaluate(task=task, model=model, method=DENSE, share=1.0, seed=0)
        if dense is not None:
            for each in cells:
                flash = round(each["share"] * dense["flash"])
                store.evaluate(**each, flash=flash, code=dense["flash_code"])


@dataclass(frozen=True)
class Cells:
    """Evaluates cells; results stay in `work`, the table is rewritten after each."""

    plan: Plan
    work: Path
    table: Path

    def evaluate(self, **point: Any) -> dict[str, Any] | None:
        """A cell's result; None, and a line on stderr, where it failed."""
        whole = {
            **point,
            "work": str(self.work),
            "tuning": dict(self.plan.tuning),
            "test_images": self.plan.test_images,
        }
        name = " ".join(str(point[key]) for key in KEYS)
        store = self.work / "cells.jsonl"
        try:
            found: dict[str, Any] = run_sweep(methods.cell, [whole], store, InProcessExecutor())[0]
        except DtmmError as error:
            click.echo(f"{name}: {error}", err=True)
            return None
        accuracy = f", {100 * found['accuracy']:.2f} %" if "accuracy" in found else ""
        click.echo(f"{name}: {found['status']}{accuracy}", err=True)
        self._keep({key: point[key] for key in KEYS} | found)
        return found

    def _keep(self, row: dict[str, Any]) -> None:
        """Add the cell to the table, or replace it."""
        provenance = row.pop("provenance", {})
        rows = pd.DataFrame([row])
        if self.table.is_file():
            old, before = read_cells(self.table)
            same = (old[KEYS] == pd.Series(row)[KEYS]).all(axis=1)
            rows = pd.concat([old[~same], rows], ignore_index=True)
            provenance = provenance or before
        about = {
            "experiment": f"experiments.{NAME}",
            "commit": commit(),
            "dtmm": dtmm.__version__,
            "tuning": ", ".join(f"{key} {value}" for key, value in self.plan.tuning.items()),
            "test_images": f"the first {self.plan.test_images}",
            "unit": "flash, sram in bytes; cycles, instructions of one inference; accuracy a "
            "share; right base64 of one bit per test image",
        }
        write_table(self.table, rows, {**provenance, **about})


def read_cells(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of cells and its provenance."""
    text = ("task", "model", "method", "right", "status", "kernels", "commit", "dataset_sha256")
    return read_table(path, text=text)


def missing(plan: Plan, cells: pd.DataFrame) -> list[str]:
    """The plan's cells that the table lacks, or that could not be made so small."""
    status = {tuple(row[key] for key in KEYS): row["status"] for _, row in cells.iterrows()}
    wanted = [tuple(cell[key] for key in KEYS) for cell in plan.cells()]
    return [
        f"{' '.join(str(part) for part in key)}: {status.get(key, 'not measured')}"
        for key in wanted
        if status.get(key) != "measured"
    ]


def summary(plan: Plan, cells: pd.DataFrame) -> dict[str, Any]:
    """Per task what DTMM needs against rivals at matched accuracy, in percent, and what is missing.

    Sizes are those of the schedules that lose least at a size, latencies those of the fast ones;
    keys that end in `_of_METHOD` have it the other way round. A comparison with a method that has
    no cell is None.
    """
    found: dict[str, Any] = {"paper": PAPER, "tasks": {}, "missing": missing(plan, cells)}
    measured = cells[cells["status"] == "measured"]
    for (task, model), rows in measured.groupby(["task", "model"], sort=False):
        comparison = Comparison(rows)
        entry: dict[str, Any] = {
            "dense_accuracy": float(rows[rows["method"] == DENSE]["accuracy"].iloc[0]),
            "seeds": sorted({int(seed) for seed in rows["seed"]}),
        }
        for name, metric, first, other in (
            ("size", "flash", OURS, FAST),
            ("latency", "cycles", FAST, OURS),
        ):
            for rival in (each for each in methods.METHODS if each not in (OURS, FAST)):
                entry[f"{name}_vs_{rival}"] = comparison.versus(metric, first, rival)
                entry[f"{name}_vs_{rival}_of_{other}"] = comparison.versus(metric, other, rival)
        found["tasks"][f"{task} {model}"] = entry
    return found


def draw(cells: pd.DataFrame) -> Figure:
    """Accuracy against flash and against latency, a row per task, a line per method."""
    tasks = list(dict.fromkeys(zip(cells["task"], cells["model"], strict=True)))
    figure = Figure(figsize=(7.0, 2.5 * len(tasks)))
    panels = figure.subplots(len(tasks), 2, squeeze=False, sharey="row")
    for (task, model), pair in zip(tasks, panels, strict=True):
        rows = cells[(cells["task"] == task) & (cells["model"] == model)]
        for axes, metric, scale, name in (
            (pair[0], "flash", 1024, "Flash (KiB)"),
            (pair[1], "cycles", 1e6, "Latency (Mcycles)"),
        ):
            cycle = itertools.cycle(matplotlib.rcParams["axes.prop_cycle"])
            for (method, label), style in zip(LABELS.items(), cycle, strict=False):
                each = rows[rows["method"] == method].groupby("share")[[metric, "accuracy"]].mean()
                each = each.sort_values(metric)
                if len(each):
                    wide = {"linewidth": 2.0} if method in (OURS, FAST) else {}
                    axes.plot(
                        each[metric] / scale, 100 * each["accuracy"], label=label, **style, **wide
                    )
            dense = rows[rows["method"] == DENSE].iloc[0]
            axes.axhline(100 * dense["accuracy"], color="black", linewidth=0.6)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if str(x)[0] in "235" else "")
            axes.set_xlabel(name)
        pair[0].set_ylabel(f"{model}, {task.replace('_', ' ')}\nint8 accuracy (%)")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    return figure


def draw_all(folder: Path) -> None:
    """The figure, the LaTeX table and the paired tests, from the table of cells alone."""
    cells, provenance = read_cells(folder / f"{NAME}.csv")
    measured = cells[cells["status"] == "measured"]
    save_figure(draw(measured), folder, NAME)
    tests = [
        paired(rows, OURS).assign(task=task, model=model)
        for (task, model), rows in measured.groupby(["task", "model"], sort=False)
    ]
    about = {key: provenance[key] for key in ("experiment", "commit", "dtmm", "tuning")}
    unit = "accuracy of DTMM less the rival's in points, 95 % interval; McNemar's exact test"
    write_table(folder / f"{NAME}_paired.csv", pd.concat(tests), {**about, "unit": unit})
    write_atomic(folder / f"{NAME}.tex", latex(measured))


def latex(cells: pd.DataFrame) -> str:
    """Means over seeds of every method and size."""
    names = {DENSE: "dense int8", **LABELS}
    means = cells.groupby(["task", "model", "method", "share"], sort=False)[
        ["accuracy", "flash", "cycles"]
    ].mean()
    rows = means.reset_index()
    table = pd.DataFrame(
        {
            "Task": rows["task"],
            "Network": rows["model"],
            "Method": rows["method"].map(names),
            "Share": rows["share"],
            "Accuracy (%)": 100 * rows["accuracy"],
            "Flash (KiB)": rows["flash"] / 1024,
            "Mcycles": rows["cycles"] / 1e6,
        }
    )
    digits = {"Share": 1, "Accuracy (%)": 2, "Flash (KiB)": 1, "Mcycles": 2}
    return to_latex(table, "Pruning methods at equal flash.", "tab:compare-methods", digits)


def print_summary(found: Mapping[str, Any]) -> None:
    """The summary for people."""
    for task, entry in found["tasks"].items():
        click.echo(f"{task}: dense {100 * entry['dense_accuracy']:.2f} %, seeds {entry['seeds']}")
        for name, value in entry.items():
            if "_vs_" not in name:
                continue
            paper = f", paper {PAPER[name]:+.2f} %" if name in PAPER else ""
            shown = "no cells"
            if value is not None:
                shown = f"{value['percent']:+.2f} % [{value['low']:+.2f}, {value['high']:+.2f}]"
            click.echo(f"  {name}: {shown}{paper}")
    click.echo(f"missing: {len(found['missing'])} cells")
    for line in found["missing"]:
        click.echo(f"  {line}")


EXPERIMENT = Experiment(
    NAME, __doc__, run, draw_all, quick="A tiny network on digits, one size, seconds of tuning."
)


def command() -> click.Command:
    """The common command line, and `--summary`."""
    common = EXPERIMENT.command()
    measure = common.callback
    assert measure is not None

    def main(summarise: bool, as_json: bool, quick: bool, out: Path | None, **rest: Any) -> None:
        if not summarise:
            measure(quick=quick, out=out, **rest)
            return
        folder = out or (QUICK_RESULTS if quick else RESULTS)
        try:
            cells, _ = read_cells(folder / f"{NAME}.csv")
            found = summary(QUICK if quick else FULL, cells)
        except DtmmError as error:
            raise click.ClickException(str(error)) from None
        if as_json:
            click.echo(json.dumps(found, indent=1))
        else:
            print_summary(found)

    text = "Print sizes and latencies at matched accuracy, of the table that is there."
    options = [
        click.Option(["--summary", "summarise"], is_flag=True, help=text),
        click.Option(["--json", "as_json"], is_flag=True, help="With --summary: as JSON."),
    ]
    return click.Command(NAME, callback=main, params=[*common.params, *options], help=common.help)


main = command()

if __name__ == "__main__":
    main()
