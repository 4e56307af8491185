"""How far every solver is from the optimum, and what the paper's accuracy rule itself costs.

The networks of the paper on the instances of benchmarks/instances.py (plausible tables, not
measured ones), at several budgets of the estimated loss, with the same limits on flash and SRAM.
Every solver minimises latency; results are ratios to the proven optimum. All of them keep the sum
of losses within the budget, so that like is compared with like:

- lagrangian: the exact solver, which gives the optimum;
- annealing: a well-tuned annealer at the same constraints;
- annealing_paper: the annealer of the paper's code with its rule, a threshold on single units that
  ignores the sum; it gets the best threshold at which the sum is met;
- threshold: the same rule with exact search: the optimum at each of THRESHOLDS thresholds, of which
  the fastest counts whose sum is met. What it loses is the rule's own price, not the search's;
- greedy, halp (channels only), uniform: simpler rivals.

A solver without a point found nothing within the budgets.

    python -m experiments.scheduler_comparison [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from benchmarks.instances import Grid, Shares, instance
from dtmm.artifact import write_atomic
from dtmm.device.provenance import git_commit
from dtmm.errors import DtmmError, InfeasibleError
from dtmm.scheduler import Problem, Schedule, solve
from dtmm.table import read_table, to_latex, write_table
from experiments import STYLE

NETWORKS = ("vgg11", "resnet12", "squeezenet")
QUICK_NETWORKS = ("resnet12",)
GRID = Grid(12, 16)
FLASH, SRAM = 1.0, 1.0
"""Shares of the dense network's: limits that leave the loss to decide, so that all can be compared."""
LOSSES = (0.02, 0.04, 0.08, 0.16, 0.32)
QUICK_LOSSES = (0.08,)
"""Budgets of the summed loss, in nats; removing everything removable would cost 1."""
SEEDS = (0, 1)
QUICK_SEEDS = (0,)
"""Of the instances and of the annealers."""
SOLVERS = ("lagrangian", "annealing", "greedy", "halp", "annealing_paper", "uniform")
QUICK_SOLVERS = ("lagrangian", "annealing", "greedy", "uniform")
THRESHOLDS, QUICK_THRESHOLDS = 40, 6
GAP = 1e-4
TIME_LIMIT_S = 60.0
RESULTS = Path(__file__).with_name("results")
QUICK_RESULTS = Path("runs/experiments")
NAME = "scheduler_comparison"
LABELS = {
    "annealing": "annealing",
    "greedy": "greedy",
    "halp": "HALP-style",
    "annealing_paper": "paper's annealer",
    "threshold": "paper's rule, exact",
    "uniform": "uniform",
}
"""Series of the figure, in the order of its legend."""


def measure(quick: bool) -> pd.DataFrame:
    """One row per instance, budget and solver; empty totals where nothing was found."""
    rows: list[dict[str, Any]] = []
    networks = QUICK_NETWORKS if quick else NETWORKS
    for network, seed in itertools.product(networks, QUICK_SEEDS if quick else SEEDS):
        problem = instance(network, GRID, seed, Shares(FLASH, SRAM, None))
        curve = list(threshold_optima(problem, QUICK_THRESHOLDS if quick else THRESHOLDS))
        for budget in QUICK_LOSSES if quick else LOSSES:
            click.echo(f"{network}, seed {seed}, {budget:g} nats", err=True)
            point = {"network": network, "seed": seed, "loss_budget": budget}
            limited = _with_loss(problem, budget)
            found = {
                solver: _solved(limited, solver, seed)
                for solver in (QUICK_SOLVERS if quick else SOLVERS)
            }
            found["threshold"] = best_within(curve, budget)
            optimum = found["lagrangian"]
            if optimum is None:
                raise DtmmError(f"{network}: nothing fits a loss of {budget:g} nats")
            rows += [{**point, **_row(name, f, optimum)} for name, f in found.items()]
    return pd.DataFrame(rows)


def _with_loss(problem: Problem, budget: float) -> Problem:
    return dataclasses.replace(problem, budgets=dataclasses.replace(problem.budgets, loss=budget))


def _solved(problem: Problem, solver: str, seed: int) -> Schedule | None:
    """None if a heuristic finds nothing within the budgets."""
    try:
        return solve(problem, solver, GAP, TIME_LIMIT_S, seed=seed)
    except InfeasibleError:
        raise
    except DtmmError:
        return None


def threshold_optima(problem: Problem, count: int) -> Iterator[Schedule]:
    """The optimum under the per-unit rule at `count` thresholds, spread evenly over all scores."""
    tables = [group.unit_loss for group in problem.groups]
    tables += [np.where(layer.allowed, layer.unit_loss, 0.0) for layer in problem.layers]
    scores = np.unique(np.concatenate([np.ravel(t) for t in tables if t is not None]))
    for threshold in np.quantile(scores, np.linspace(0, 1, count)):
        budgets = dataclasses.replace(problem.budgets, loss=float(threshold), loss_rule="per_unit")
        try:
            yield solve(
                dataclasses.replace(problem, budgets=budgets),
                "lagrangian",
                GAP,
                TIME_LIMIT_S,
                diagnose=False,
            )
        except InfeasibleError:
            continue


def best_within(found: list[Schedule], budget: float) -> Schedule | None:
    """The fastest whose summed loss is within the budget."""
    return min((f for f in found if f.loss <= budget), key=lambda f: f.latency, default=None)


def _row(solver: str, found: Schedule | None, optimum: Schedule) -> dict[str, Any]:
    names = ("latency", "flash", "sram", "loss", "bound", "seconds")
    if found is None:
        return {"solver": solver, "status": "nothing found", "version": ""}
    values = {name: getattr(found, name) for name in names}
    return {
        "solver": solver,
        "status": found.status,
        "version": found.solver_version,
        **values,
        "ratio": found.latency / optimum.latency,
    }


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ratio over instances per network, budget and solver, and in how many it found one."""
    groups = table.groupby(["network", "loss_budget", "solver"])["ratio"]
    return groups.agg(["mean", "count"]).reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Latency over the optimum against the loss budget: a panel per network, a line per solver."""
    averages = means(table)
    networks = list(dict.fromkeys(table["network"]))
    figure = Figure(figsize=(2.4 * len(networks) + 0.4, 2.6))
    panels = np.atleast_1d(figure.subplots(1, len(networks), sharey=True))
    cycle = matplotlib.rcParams["axes.prop_cycle"]
    styles = list(itertools.islice(itertools.cycle(cycle), len(LABELS)))
    styles[-1] = {"color": "black", "linestyle": (0, (1, 3)), "marker": "v"}
    for axes, network in zip(panels, networks, strict=True):
        for (solver, label), style in zip(LABELS.items(), styles, strict=True):
            line = averages[(averages["network"] == network) & (averages["solver"] == solver)]
            axes.plot(line["loss_budget"], line["mean"], label=label, **style)
        axes.axhline(1, color="black", lw=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sorted(set(table["loss_budget"])))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks([1, 1.2, 1.5, 2, 3])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("Loss budget (nats)")
        axes.set_title(network)
    panels[0].set_ylabel("Latency / optimum")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))
    return figure


def latex(table: pd.DataFrame) -> str:
    """Mean ratios: a row per network and budget, a column per solver."""
    wide = means(table).pivot(index=["network", "loss_budget"], columns="solver", values="mean")
    columns = {LABELS[name]: wide[name] for name in LABELS if name in wide}
    shown = pd.DataFrame(columns).reset_index()
    shown = shown.rename(columns={"network": "Network", "loss_budget": "Loss (nats)"})
    caption = "Latency over the proven optimum at the same budgets (mean over instances)."
    digits = dict.fromkeys(columns, 3) | {"Loss (nats)": 2}
    return to_latex(shown, caption, "tab:scheduler-comparison", digits)


def make_figures(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv")
    with matplotlib.style.context(STYLE):
        figure = draw(table)
        figure.savefig(folder / f"{NAME}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{NAME}.png", dpi=300)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(folder: Path, quick: bool) -> None:
    """Solve everything, and write the CSV with its provenance."""
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": git_commit(Path(__file__).parent) or "unknown",
        "dtmm": dtmm.__version__,
        "instances": f"benchmarks.instances, grid {GRID.name}",
        "flash": f"{FLASH:g} of the dense network's",
        "sram": f"{SRAM:g} of the dense network's",
        "gap": f"{GAP:g}",
        "unit": "cycles, bytes, nats, seconds; ratio: latency over that of lagrangian",
    }
    write_table(folder / f"{NAME}.csv", measure(quick), about)


@click.command(help=__doc__.splitlines()[0])
@click.option("--quick", is_flag=True, help="One network, one budget, fewer solvers.")
@click.option("--figures-only", is_flag=True, help="Draw the CSV that is there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Where results go. [default: {RESULTS.parent.name}/{RESULTS.name}; "
    f"with --quick {QUICK_RESULTS}, so that committed results stay]",
)
def main(quick: bool, figures_only: bool, out: Path | None) -> None:
    """Command line."""
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    try:
        if not figures_only:
            run(folder, quick)
        make_figures(folder)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder / NAME}.csv, .pdf, .png, .tex")


if __name__ == "__main__":
    main()
