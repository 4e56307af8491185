"""Exact Pareto fronts of the paper's networks, and how near rivals come.

Instances of benchmarks/instances.py (plausible tables, not measured ones), flash and SRAM at most
FLASH and SRAM of the dense network's:

- latency against loss by the exact solver and by rivals, each network: `pareto_fronts`;
- latency against loss of ResNet-12 under several limits on flash, `pareto_fronts_flash`: the
  three-way trade-off as a family of two-way fronts.

The authors' published networks are no points here: what is known of them is flash and cycles, not
a loss on these instances' scale. They stand in experiments.trained_fronts, with measured tables.

Every exact point is proven to GAP; rivals sweep the same way, so their points lie at their own
losses. Seconds are those of the whole front.

    python -m experiments.pareto_fronts [--quick] [--solver NAME] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import dtmm
from benchmarks.instances import Grid, Shares, instance
from dtmm.artifact import write_atomic
from dtmm.report.fronts import front_table
from dtmm.scheduler.pareto import Front, pareto
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, commit, exchanged, save_figure

NETWORKS = ("vgg11", "resnet12", "squeezenet")
QUICK_NETWORKS = ("resnet12",)
FAMILY = "resnet12"
GRID = Grid(12, 16)
SEED = 0
FLASH, SRAM = 0.6, 0.8
FLASH_LIMITS = (0.05, 0.1, 0.2, 0.4)
QUICK_FLASH_LIMITS = (0.1,)
"""Shares of the dense network's flash."""
SOLVERS = {
    "exact": "lagrangian",
    "annealing": "annealing",
    "greedy": "greedy",
    "uniform": "uniform",
}
QUICK_SOLVERS = {"exact": "lagrangian", "greedy": "greedy"}
"""Series to solver."""
POINTS, QUICK_POINTS = 20, 5
GAP = 1e-4
NAME = "pareto_fronts"
FAMILY_NAME = f"{NAME}_flash"


def measure(quick: bool, solver: str | None = None) -> pd.DataFrame:
    """The fronts of `front_table` per network and solver, with the network and whole seconds.

    Args:
        solver: one to compare alone with the exact front, None: all of ours.
    """
    solvers = QUICK_SOLVERS if quick else SOLVERS
    if solver:
        solvers = {"exact": solvers["exact"], solver: solver}
    tables = []
    for network in QUICK_NETWORKS if quick else NETWORKS:
        problem = instance(network, GRID, SEED, Shares(FLASH, SRAM, None))
        for series, name in solvers.items():
            click.echo(f"{network}, {series}", err=True)
            front = pareto(problem, points=QUICK_POINTS if quick else POINTS, solver=name, gap=GAP)
            tables.append(_table({series: front}).assign(network=network))
    return pd.concat(tables, ignore_index=True)


def measure_family(quick: bool) -> pd.DataFrame:
    """The exact fronts of one network, a series per limit on flash."""
    fronts: dict[str, Front] = {}
    for share in QUICK_FLASH_LIMITS if quick else FLASH_LIMITS:
        problem = instance(FAMILY, GRID, SEED, Shares(share, SRAM, None))
        assert problem.budgets.flash is not None
        series = f"{problem.budgets.flash / 1024:.0f} KiB"
        click.echo(f"{FAMILY}, flash {series}", err=True)
        fronts[series] = pareto(problem, points=QUICK_POINTS if quick else POINTS, gap=GAP)
    return _table(fronts)


def _table(fronts: Mapping[str, Front]) -> pd.DataFrame:
    seconds = {series: round(front.seconds, 2) for series, front in fronts.items()}
    table = front_table(fronts)
    return table.assign(front_seconds=table["series"].map(seconds))


def draw(table: pd.DataFrame) -> Figure:
    """Loss against latency: a panel per network, a line per solver."""
    networks = list(dict.fromkeys(table["network"]))
    figure = Figure(figsize=(2.4 * len(networks) + 0.4, 2.6))
    panels = np.atleast_1d(figure.subplots(1, len(networks), sharey=True))
    for axes, network in zip(panels, networks, strict=True):
        _lines(axes, table[table["network"] == network])
        axes.set_title(network)
    panels[0].set_ylabel("Estimated loss (nats)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return figure


def draw_family(table: pd.DataFrame) -> Figure:
    """Loss against latency of one network, a line per limit on flash."""
    figure = Figure(figsize=(3.4, 2.4))
    axes = figure.add_subplot()
    _lines(axes, table)
    axes.set_ylabel("Estimated loss (nats)")
    axes.legend(title="Flash at most")
    return figure


def _lines(axes: Axes, table: pd.DataFrame) -> None:
    cycle = itertools.cycle(matplotlib.rcParams["axes.prop_cycle"])
    for (series, rows), style in zip(table.groupby("series", sort=False), cycle, strict=False):
        sized: dict[str, Any] = {**style, "linewidth": 0.9, "markersize": 2.5}
        axes.plot(rows["latency"] / 1e6, rows["loss"], label=str(series), **sized)
    axes.set_xscale("log")
    axes.set_xlabel("Latency (Mcycles)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if str(x)[0] in "235" else "")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per network and solver: points, seconds, the worst gap, and the mean latency over the exact.

    The last is taken at the rival's losses, on the straight lines between exact points.
    """
    rows = []
    for (network, series), points in table.groupby(["network", "series"], sort=False):
        exact = table[(table["network"] == network) & (table["series"] == "exact")]
        exact = exact.sort_values("loss")
        inside = points[points["loss"].between(exact["loss"].min(), exact["loss"].max())]
        best = np.interp(inside["loss"], exact["loss"], exact["latency"])
        rows.append(
            {
                "network": network,
                "solver": series,
                "points": len(points),
                "seconds": points["front_seconds"].iloc[0],
                "worst_gap_percent": 100 * points["gap"].max(),
                "latency_over_exact": float((inside["latency"] / best).mean()),
            }
        )
    return pd.DataFrame(rows)


def draw_all(folder: Path) -> None:
    """Figures (PDF, PNG) and the LaTeX table beside the CSVs, from the CSVs alone.

    Raises:
        DataError: a CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv")
    family, _ = read_table(folder / f"{FAMILY_NAME}.csv")
    for name, figure in ((NAME, draw(table)), (FAMILY_NAME, draw_family(family))):
        save_figure(figure, folder, name)
    shown = summary(table).rename(
        columns={
            "network": "Network",
            "solver": "Solver",
            "points": "Points",
            "seconds": "Seconds",
            "worst_gap_percent": "Worst gap (%)",
            "latency_over_exact": "Latency / exact",
        }
    )
    digits = {"Seconds": 1, "Worst gap (%)": 4, "Latency / exact": 3}
    text = to_latex(shown, "Fronts of latency against loss.", "tab:pareto-fronts", digits)
    write_atomic(folder / f"{NAME}.tex", text)


def run(job: Job) -> None:
    """Find all fronts, and write the CSVs with their provenance."""
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "instances": f"benchmarks.instances, grid {GRID.name}, seed {SEED}",
        "sram": f"{SRAM:g} of the dense network's",
        "gap": f"{GAP:g}",
        "unit": "cycles, bytes, nats, seconds; front_seconds: of the whole front",
    }
    limit = {"flash": f"{FLASH:g} of the dense network's"}
    fronts = measure(job.quick, job.swap.solver)
    write_table(job.folder / f"{NAME}.csv", fronts, {**about, **limit, **exchanged(job.swap)})
    limits = {"network": FAMILY, "flash": f"{FLASH_LIMITS} of the dense network's, by series"}
    write_table(job.folder / f"{FAMILY_NAME}.csv", measure_family(job.quick), {**about, **limits})


EXPERIMENT = Experiment(
    NAME, __doc__, run, draw_all, quick="One network, few points.", swaps=("solver",)
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
