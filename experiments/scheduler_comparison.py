"""How far every solver is from the optimum, and what the paper's accuracy rule itself costs.

The networks of the paper on the instances of benchmarks/instances.py (plausible tables, not
measured ones), at several budgets of the estimated loss: once with so much flash and SRAM that only
the loss decides, once with the tight limits of the benchmark. Every solver minimises latency;
results are ratios to the proven optimum. All of them keep the sum of losses within the budget, so
that like is compared with like:

- lagrangian: the exact solver, which gives the optimum;
- annealing: a well-tuned annealer at the same constraints;
- annealing_paper: the annealer of the paper's code with its rule, a threshold on single units that
  ignores the sum; it gets the best threshold at which the sum is met;
- threshold: the same rule with exact search: the optimum at each of THRESHOLDS thresholds, of which
  the fastest counts whose sum is met. What it loses is the rule's own price, not the search's. It
  can lose more than the annealer of the paper does: whoever searches better under a rule that
  prices nothing takes everything the rule allows, and so needs a lower threshold to meet the sum;
- dp: dynamic programming at the best prices of the budgets, without the exact remainder;
- greedy, halp (channels only), uniform: simpler rivals.

A solver without a point found nothing within the budgets; a budget without points is infeasible.

    python -m experiments.scheduler_comparison [--quick] [--figures-only] [--out FOLDER]
    python -m experiments.scheduler_comparison --solver my_solver.py:Mine   it and the optimum alone
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from benchmarks.instances import SHARES, Grid, Shares, instance
from dtmm.artifact import write_atomic
from dtmm.errors import DtmmError, InfeasibleError
from dtmm.scheduler import Problem, Schedule, get_solver, solve
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, commit, exchanged, save_figure

NETWORKS = ("vgg11", "resnet12", "squeezenet")
QUICK_NETWORKS = ("resnet12",)
GRID = Grid(12, 16)
LOOSE, TIGHT = "loss decides", "tight flash and SRAM"
"""Scenarios: the dense network's flash and SRAM as limits, or the shares of the benchmark."""
LOSSES = (0.06, 0.12, 0.24)
QUICK_LOSSES = (0.12,)
"""Budgets of the summed loss, in nats; removing everything removable would cost 1."""
SEEDS = (0,)
QUICK_SEEDS = (0,)
"""Of the instances and of the annealers."""
SOLVERS = ("lagrangian", "dp", "annealing", "greedy", "halp", "annealing_paper", "uniform")
QUICK_SOLVERS = ("lagrangian", "greedy", "halp", "uniform")
THRESHOLDS, QUICK_THRESHOLDS = 30, 6
GAP = 1e-4
TIME_LIMIT_S = 60.0
NAME = "scheduler_comparison"
LABELS = {
    "dp": "dynamic programming",
    "annealing": "annealing",
    "greedy": "greedy",
    "halp": "HALP-style",
    "annealing_paper": "paper's annealer",
    "threshold": "paper's rule, exact",
    "uniform": "uniform",
}
"""Series of the figure, in the order of its legend."""


def measure(quick: bool, solver: str | None = None) -> pd.DataFrame:
    """One row per instance, budget and solver; empty totals where nothing was found.

    Args:
        solver: one to compare alone with the optimum, None: all of ours.
    """
    solvers: Sequence[str] = QUICK_SOLVERS if quick else SOLVERS
    if solver:
        get_solver(solver)  # one that does not exist fails here, not as one that finds nothing
        solvers = ("lagrangian", solver)
    rows: list[dict[str, Any]] = []
    networks = QUICK_NETWORKS if quick else NETWORKS
    seeds = QUICK_SEEDS if quick else SEEDS
    for scenario, network, seed in itertools.product((LOOSE, TIGHT), networks, seeds):
        tight = dataclasses.replace(SHARES[network], loss=None)
        shares = tight if scenario == TIGHT else Shares(1.0, 1.0, None)
        problem = instance(network, GRID, seed, shares)
        thresholds = 0 if solver else QUICK_THRESHOLDS if quick else THRESHOLDS
        curve = list(threshold_optima(problem, thresholds))
        for budget in QUICK_LOSSES if quick else LOSSES:
            click.echo(f"{scenario}: {network}, seed {seed}, {budget:g} nats", err=True)
            point = {"scenario": scenario, "network": network, "seed": seed, "loss_budget": budget}
            rows += [{**point, **row} for row in _compare(problem, budget, curve, seed, solvers)]
    return pd.DataFrame(rows)


def _compare(
    problem: Problem,
    budget: float,
    curve: list[Schedule],
    seed: int,
    solvers: Sequence[str],
) -> list[dict[str, Any]]:
    """A row per solver, or the one that says that the budget is infeasible."""
    limited = _with_loss(problem, budget)
    try:
        found = {name: _solved(limited, name, seed) for name in solvers}
    except InfeasibleError:
        return [{"solver": solvers[0], "status": "infeasible", "version": ""}]
    if curve:
        found["threshold"] = best_within(curve, budget)
    optimum = found["lagrangian"]
    if optimum is None:
        raise DtmmError(f"{limited.name}: nothing found in {TIME_LIMIT_S:g} s")
    return [_row(name, each, optimum) for name, each in found.items()]


def _with_loss(problem: Problem, budget: float) -> Problem:
    return dataclasses.replace(problem, budgets=dataclasses.replace(problem.budgets, loss=budget))


def _solved(problem: Problem, solver: str, seed: int) -> Schedule | None:
    """None if a heuristic finds nothing within the budgets."""
    try:
        return solve(problem, solver, GAP, TIME_LIMIT_S, seed=seed, diagnose=False)
    except InfeasibleError:
        raise
    except DtmmError:
        return None


def threshold_optima(problem: Problem, count: int) -> Iterator[Schedule]:
    """The optimum under the per-unit rule at `count` thresholds, spread evenly over all scores."""
    tables = [group.unit_loss for group in problem.groups]
    tables += [layer.unit_loss for layer in problem.layers]
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
    """Mean ratio over instances per scenario, network, budget and solver, and of how many."""
    groups = table.groupby(["scenario", "network", "loss_budget", "solver"])["ratio"]
    return groups.agg(["mean", "count"]).reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Latency over the optimum against the loss budget: rows are scenarios, columns networks."""
    averages = means(table)
    networks = list(dict.fromkeys(table["network"]))
    scenarios = list(dict.fromkeys(table["scenario"]))
    figure = Figure(figsize=(2.4 * len(networks) + 0.4, 2.1 * len(scenarios) + 0.6))
    panels = figure.subplots(len(scenarios), len(networks), sharex=True, sharey=True, squeeze=False)
    cycle = matplotlib.rcParams["axes.prop_cycle"]
    labels = _labels(table)
    styles = list(itertools.islice(itertools.cycle(cycle), len(labels)))
    # more series than the style sheet has
    if labels == LABELS:
        styles[-2] = {"color": "seagreen", "linestyle": (0, (6, 2)), "marker": "P"}
        styles[-1] = {"color": "black", "linestyle": (0, (1, 3)), "marker": "v"}
    for axes, (scenario, network) in zip(
        panels.flat, itertools.product(scenarios, networks), strict=True
    ):
        shown = averages[(averages["network"] == network) & (averages["scenario"] == scenario)]
        for (solver, label), style in zip(labels.items(), styles, strict=True):
            line = shown[shown["solver"] == solver]
            axes.plot(line["loss_budget"], line["mean"], label=label, **style)
        axes.axhline(1, color="black", lw=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sorted(set(table["loss_budget"])))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks([1, 1.2, 1.5, 2, 3])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{network}, {scenario}")
    for axes in panels[-1]:
        axes.set_xlabel("Loss budget (nats)")
    for axes in panels[:, 0]:
        axes.set_ylabel("Latency / optimum")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 4))
    return figure


def _labels(table: pd.DataFrame) -> dict[str, str]:
    """The series in order, a solver of the user's last, or alone."""
    present = set(table["solver"]) - {"lagrangian"}
    own = {name: name for name in sorted(present - LABELS.keys())}
    return own if own and not present & LABELS.keys() else {**LABELS, **own}


def latex(table: pd.DataFrame) -> str:
    """Mean ratios: a row per scenario, network and budget, a column per solver."""
    index = ["scenario", "network", "loss_budget"]
    wide = means(table).pivot(index=index, columns="solver", values="mean")
    wide = wide[wide["lagrangian"].notna()]
    columns = {text: wide[name] for name, text in _labels(table).items() if name in wide}
    shown = pd.DataFrame(columns).reset_index()
    names = {"scenario": "Limits", "network": "Network", "loss_budget": "Loss (nats)"}
    shown = shown.rename(columns=names)
    caption = "Latency over the proven optimum at the same budgets (mean over instances)."
    digits = dict.fromkeys(columns, 3) | {"Loss (nats)": 2}
    return to_latex(shown, caption, "tab:scheduler-comparison", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv")
    figure = draw(table)
    save_figure(figure, folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Solve everything, and write the CSV with its provenance."""
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "instances": f"benchmarks.instances, grid {GRID.name}",
        "flash and SRAM": f"{LOOSE} - the dense network's; {TIGHT} - SHARES of the instances",
        "gap": f"{GAP:g}",
        "unit": "cycles, bytes, nats, seconds; ratio: latency over that of lagrangian",
    }
    about |= exchanged(job.swap)
    write_table(job.folder / f"{NAME}.csv", measure(job.quick, job.swap.solver), about)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="One network, one budget, fewer solvers.",
    swaps=("solver",),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
