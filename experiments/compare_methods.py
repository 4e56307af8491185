"""DTMM against CHIP, PatDNN, stripe-wise and unstructured pruning at equal flash and equal tuning.

Every cell is a trained network, pruned by one method to a share of the dense int8 network's flash,
fine-tuned, quantized, and measured from one ELF on the simulated Cortex-M55 (experiments.methods).
A cell stands in the table when it is finished; a run measures only what the table lacks, so it can
be stopped at any time, and a checkout goes on where the committed table ends. Several processes may
work on one table, each on another task. The summary names what is missing.

    python -m experiments.compare_methods [--quick] [--figures-only] [--out FOLDER]
    python -m experiments.compare_methods --only task=fashion_mnist --only model=vgg11
    python -m experiments.compare_methods --summary [--json]     at matched accuracy
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
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
from dtmm.table import to_latex, write_table
from experiments import methods
from experiments.cells import MEASURED, Cell, CellTable, parse_only, read_cells
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
KEYS = ("task", "model", "method", "share", "seed")


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
        ("fashion_mnist", "squeezenet"),
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


def run(job: Job, only: Sequence[str] = ()) -> None:
    """Measure the missing cells, of those that `only` asks for (`experiments.cells.parse_only`)."""
    plan = QUICK if job.quick else FULL
    work = job.folder / f"{NAME}_work" if job.quick else WORK
    table = cell_table(plan, job.folder)
    table.read()  # is it of this plan? before anything is measured
    asked = parse_only(only, list(plan.cells()))
    cells = (cell for cell in plan.cells() if asked(cell))
    for (task, model), group in itertools.groupby(cells, lambda c: (c["task"], c["model"])):
        dense = {"task": task, "model": model, "method": DENSE, "share": 1.0, "seed": 0}
        budget = _evaluate(table, plan, work, dense)
        if budget is not None:
            for cell in group:
                flash = round(cell["share"] * budget["flash"])
                _evaluate(table, plan, work, cell, flash=flash)


def cell_table(plan: Plan, folder: Path) -> CellTable:
    """The plan's table in `folder`."""
    conditions = {
        "tuning": ", ".join(f"{key} {value}" for key, value in plan.tuning.items()),
        "test_images": f"the first {plan.test_images}",
    }
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "unit": "flash, sram in bytes; cycles, instructions of one inference; accuracy a "
        "share; right base64 of one bit per test image; seconds of wall time",
    }
    return CellTable(folder / f"{NAME}.csv", KEYS, conditions, about)


def _evaluate(
    table: CellTable, plan: Plan, work: Path, cell: Cell, **budget: int
) -> dict[str, Any] | None:
    """A cell's row; None, and a line on stderr, where it failed."""
    settings = {"work": str(work), "tuning": plan.tuning, "test_images": plan.test_images}
    measure = functools.partial(methods.cell, **{**cell, **budget, **settings})
    name = " ".join(str(cell[key]) for key in KEYS)
    try:
        found = table.evaluate(cell, measure)
    except DtmmError as error:
        click.echo(f"{name}: {error}", err=True)
        return None
    measured = found["status"] == MEASURED
    accuracy = f", {100 * found['accuracy']:.2f} %" if measured else ""
    click.echo(f"{name}: {found['status']}{accuracy}", err=True)
    return found


def missing(plan: Plan, cells: pd.DataFrame) -> list[str]:
    """The plan's cells that the table lacks, or that could not be made so small."""
    status = {tuple(row[key] for key in KEYS): row["status"] for _, row in cells.iterrows()}
    wanted = [tuple(cell[key] for key in KEYS) for cell in plan.cells()]
    return [
        f"{' '.join(str(part) for part in key)}: {status.get(key, 'not measured')}"
        for key in wanted
        if status.get(key) != MEASURED
    ]


def summary(plan: Plan, cells: pd.DataFrame) -> dict[str, Any]:
    """Per task what DTMM needs against rivals at matched accuracy, in percent, and what is missing.

    Sizes are those of the schedules that lose least at a size, latencies those of the fast ones;
    keys that end in `_of_METHOD` have it the other way round. A comparison of methods that do not
    both have cells of two sizes is None.
    """
    found: dict[str, Any] = {"paper": PAPER, "tasks": {}, "missing": missing(plan, cells)}
    measured = cells[cells["status"] == MEASURED]
    for (task, model), rows in measured.groupby(["task", "model"], sort=False):
        sizes = rows.groupby("method")["share"].nunique()
        comparison = Comparison(rows[rows["method"].map(sizes).gt(1) | (rows["method"] == DENSE)])
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
    measured = cells[cells["status"] == MEASURED]
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
    """The common command line, with `--only` and `--summary`."""
    common = EXPERIMENT.command()

    def main(
        summarise: bool,
        as_json: bool,
        only: tuple[str, ...],
        quick: bool,
        out: Path | None,
        **rest: Any,
    ) -> None:
        if not summarise:
            chosen = dataclasses.replace(EXPERIMENT, run=functools.partial(run, only=only))
            measure = chosen.command().callback
            assert measure is not None
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

    which = f"Only the cells of one {', '.join(KEYS)} or several (KEY=VALUE, repeatable)."
    text = "Print sizes and latencies at matched accuracy, of the table that is there."
    options = [
        click.Option(["--only"], multiple=True, metavar="KEY=VALUE", help=which),
        click.Option(["--summary", "summarise"], is_flag=True, help=text),
        click.Option(["--json", "as_json"], is_flag=True, help="With --summary: as JSON."),
    ]
    return click.Command(NAME, callback=main, params=[*common.params, *options], help=common.help)


main = command()

if __name__ == "__main__":
    main()
