"""DTMM against CHIP, PatDNN, stripe-wise and unstructured pruning at equal flash and equal tuning.

Every cell is a trained network, pruned by one method to a share of the dense int8 network's flash,
fine-tuned, quantized, and measured from one ELF on the simulated Cortex-M55 (experiments.methods).
Cells are kept as they finish and a rerun makes only what is missing; what is missing is named.

    python -m experiments.compare_methods                    the plan, cell by cell
    python -m experiments.compare_methods --minutes 60       no new cell after an hour
    python -m experiments.compare_methods --summary --json   at matched accuracy, beside the paper
    python -m experiments.compare_methods --quick            a tiny network on digits
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.device.provenance import git_commit
from dtmm.errors import DtmmError
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, to_latex, write_table
from experiments import STYLE, methods
from experiments.matched import DENSE, PAPER, Comparison, paired

NAME = "compare_methods"
RESULTS = Path(__file__).with_name("results")
QUICK_RESULTS = Path("runs/experiments")
WORK = Path("runs/compare_methods")
OURS = "dtmm"
LABELS = {
    "chip": "CHIP",
    "chip_scheduled": "CHIP, our scheduler",
    "patdnn": "PatDNN",
    "stripe": "stripe-wise",
    "unstructured": "unstructured",
    "dtmm_paper": "DTMM, paper's estimate",
    "dtmm": "DTMM",
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
        """All pruned cells: every method of a size before the next size, a seed before the next."""
        order = (OURS, *(name for name in methods.METHODS if name != OURS))
        for (task, model), seed, share, method in itertools.product(
            self.tasks, self.seeds, self.shares, order
        ):
            yield {"task": task, "model": model, "method": method, "share": share, "seed": seed}


FULL = Plan(
    tasks=(("fashion_mnist", "resnet12"), ("fashion_scenes", "resnet12")),
    shares=(0.2, 0.1, 0.3),
    seeds=(0, 1, 2),
    tuning={"epochs": 3, "images_per_epoch": 8192, "batch": 128},
    test_images=4000,
)
QUICK = Plan(
    tasks=(("digits", "tiny_resnet"),),
    shares=(0.9,),
    seeds=(0,),
    tuning={"epochs": 1, "images_per_epoch": 512, "batch": 64},
    test_images=100,
)


def run(plan: Plan, work: Path, until: float) -> None:
    """Measure missing cells; starts none after `until` (time.monotonic)."""
    for (task, model), cells in itertools.groupby(plan.cells(), lambda c: (c["task"], c["model"])):
        dense = _evaluate(plan, work, task=task, model=model, method=DENSE, share=1.0, seed=0)
        if dense is None:
            return
        for each in cells:
            if time.monotonic() > until:
                return
            flash = round(each["share"] * dense["flash"])
            began = time.monotonic()
            found = _evaluate(plan, work, **each, flash=flash, code=dense["flash_code"])
            if found is not None and time.monotonic() - began > 1:
                shown = f"{100 * found['accuracy']:.2f} %" if "accuracy" in found else "infeasible"
                click.echo(
                    f"{task} {model} {each['method']} {each['share']:g} seed {each['seed']}: "
                    f"{shown} ({time.monotonic() - began:.0f} s)",
                    err=True,
                )


def _evaluate(plan: Plan, work: Path, **point: Any) -> dict[str, Any] | None:
    """A cell's result from the store or measured now; None, and a line, where it fails."""
    whole = {
        **point,
        "work": str(work),
        "tuning": dict(plan.tuning),
        "test_images": plan.test_images,
    }
    try:
        found: dict[str, Any] = run_sweep(
            methods.cell, [whole], work / "cells.jsonl", InProcessExecutor()
        )[0]
    except DtmmError as error:
        click.echo(f"{point}: {error}", err=True)
        return None
    row = {key: point[key] for key in KEYS} | found
    _keep(row, plan, work)
    return found


def _keep(row: dict[str, Any], plan: Plan, work: Path) -> None:
    """Add or replace a cell in the table of the work folder."""
    path = work / f"{NAME}.csv"
    provenance = row.pop("provenance", {})
    rows = pd.DataFrame([row])
    if path.is_file():
        old, before = read_cells(path)
        same = (old[KEYS] == pd.Series(row)[KEYS]).all(axis=1)
        rows = pd.concat([old[~same], rows], ignore_index=True)
        provenance = provenance or before
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": git_commit(Path(__file__).parent) or "unknown",
        "dtmm": dtmm.__version__,
        "tuning": json.dumps(dict(plan.tuning)).replace(":", " ="),
        "test_images": f"the first {plan.test_images}",
        "unit": "flash, sram in bytes; cycles, instructions of one inference; accuracy a share; "
        "right base64 of one bit per test image",
    }
    write_table(path, rows, {**provenance, **about})


def read_cells(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of cells and its provenance."""
    return read_table(path, text=("task", "model", "method", "right", "status", "kernels"))


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

    A comparison with a method that has no cell is None.
    """
    found: dict[str, Any] = {"paper": PAPER, "tasks": {}, "missing": missing(plan, cells)}
    measured = cells[cells["status"] == "measured"]
    for (task, model), rows in measured.groupby(["task", "model"], sort=False):
        comparison = Comparison(rows)
        entry: dict[str, Any] = {
            "dense_accuracy": float(rows[rows["method"] == DENSE]["accuracy"].iloc[0]),
            "seeds": sorted({int(seed) for seed in rows["seed"]}),
        }
        for name, metric in (("size", "flash"), ("latency", "cycles")):
            for rival in methods.METHODS:
                if rival == OURS:
                    continue
                there = {OURS, rival} <= set(comparison.methods)
                entry[f"{name}_vs_{rival}"] = (
                    comparison.versus(metric, OURS, rival) if there else None
                )
        found["tasks"][f"{task} {model}"] = entry
    return found


def draw(cells: pd.DataFrame) -> Figure:
    """Accuracy against flash and against latency, a row per task, a line per method."""
    cells = cells[cells["status"] == "measured"]
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
                    wide = {"linewidth": 2.0} if method == OURS else {}
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


def make_figures(folder: Path) -> None:
    """The figure (PDF, PNG), the LaTeX table and the paired tests, from the CSV alone."""
    cells, provenance = read_cells(folder / f"{NAME}.csv")
    with matplotlib.style.context(STYLE):
        figure = draw(cells)
        figure.savefig(folder / f"{NAME}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{NAME}.png", dpi=300)
    measured = cells[cells["status"] == "measured"]
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


@click.command(help=__doc__.splitlines()[0])
@click.option("--quick", is_flag=True, help="A tiny network on digits, one size.")
@click.option("--minutes", type=float, default=np.inf, help="Begin no cell after so many.")
@click.option("--figures-only", is_flag=True, help="Draw the CSV that is there.")
@click.option("--summary", "only_summary", is_flag=True, help="Print sizes at matched accuracy.")
@click.option("--json", "as_json", is_flag=True, help="With --summary: as JSON.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Where results go. [default: {RESULTS.parent.name}/{RESULTS.name}; "
    f"with --quick {QUICK_RESULTS}, so that committed results stay]",
)
def main(
    quick: bool,
    minutes: float,
    figures_only: bool,
    only_summary: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Command line."""
    plan, folder = (QUICK, QUICK_RESULTS) if quick else (FULL, RESULTS)
    folder = out or folder
    try:
        if not (figures_only or only_summary):
            work = folder / f"{NAME}_work" if quick else WORK
            run(plan, work, time.monotonic() + 60 * minutes)
            table, provenance = read_cells(work / f"{NAME}.csv")
            write_table(folder / f"{NAME}.csv", table, provenance)
        if only_summary:
            _print_summary(summary(plan, read_cells(folder / f"{NAME}.csv")[0]), as_json)
            return
        make_figures(folder)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder / NAME}.csv, .pdf, .png, .tex, {NAME}_paired.csv")


def _print_summary(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for task, entry in found["tasks"].items():
        click.echo(f"{task}: dense {100 * entry['dense_accuracy']:.2f} %, seeds {entry['seeds']}")
        for name, value in entry.items():
            if "_vs_" not in name:
                continue
            paper = f", paper {PAPER[name]:+.2f} %" if name in PAPER else ""
            shown = (
                "no cells"
                if value is None
                else f"{value['percent']:+.2f} % [{value['low']:+.2f}, {value['high']:+.2f}]"
            )
            click.echo(f"  {name}: {shown}{paper}")
    click.echo(f"missing: {len(found['missing'])} cells")
    for line in found["missing"]:
        click.echo(f"  {line}")


if __name__ == "__main__":
    main()
