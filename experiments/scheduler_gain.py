"""What the proven optimum gains after fine-tuning, not only on the estimate.

At each share of the dense network's flash every solver minimises latency under the same flash and
the same budget of the estimated loss, SLACK times the least one there (experiments.bench). Where a
solver finds nothing, that budget alone is raised by steps of STEP until it does, as the table says.
Two more series say what can be made of proofs: at the cycles of each rival that met the budget the
exact solver minimises the estimated loss within the flash; and of a pool of its best schedules the
one with the lowest measured loss is taken, as a run does. Every schedule is carried out and gets
the same fine-tuning, with several seeds.

The table has a row per schedule and seed, accuracies in float on the test images; whether a
difference between two solvers is larger than the spread over seeds stands in the LaTeX table.

    python -m experiments.scheduler_gain [--quick] [--figures-only] [--out FOLDER]

The full run can be stopped and goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtmm.artifact import write_atomic
from dtmm.config import FinetuneConfig
from dtmm.config_values import Count, Share
from dtmm.errors import DtmmError
from dtmm.executors import open_executor
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.reranking import rerank
from dtmm.scheduler import Objective, Problem, Schedule, get_solver, solve
from dtmm.scheduler.pool import pool
from dtmm.sweep import run_sweep
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.loop import accuracy
from experiments.bench import SETTINGS, Bench, counted, open_bench
from experiments.experiment import Experiment, Job, row_provenance, run_script, save_figure

NAME = "scheduler_gain"
EXACT = "lagrangian"
SOLVERS = (EXACT, "annealing", "greedy", "halp", "uniform")
POOLED = f"{EXACT}, pool"
AT_CYCLES = f"{EXACT} at the cycles of "
DIFFER = 2
"""Groups and layers in which schedules of a pool differ at least."""
TOTALS = ("status", "latency", "flash", "sram", "loss", "bound", "gap", "seconds")
SLACK = 1.3
STEP, STEPS = 1.2, 12


@dataclass(frozen=True)
class Plan:
    """Shares of the dense network's flash; `images` that every schedule is tuned on, per epoch;
    schedules of a pool, and training images that they are judged on."""

    shares: tuple[float, ...]
    solvers: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    images: int
    test_images: int
    pool: int
    judged: int


FULL = Plan((0.2,), SOLVERS, (0, 1, 2), 1, 2560, 2000, pool=6, judged=512)
QUICK = Plan((0.9,), (EXACT, "uniform"), (0,), 1, 256, 100, pool=2, judged=64)


def schedules(bench: Bench, plan: Plan) -> list[dict[str, Any]]:
    """A row per share and series: totals and proof; `schedule` where one was found."""
    rows = []
    gap = bench.config.schedule.gap
    for share in plan.shares:
        problem = bench.fast_problem(share, SLACK)
        rivals: dict[str, Schedule] = {}
        for solver in plan.solvers:
            found, raised = _first_found(problem, solver, gap)
            if found is not None and solver != EXACT and raised == problem.budgets.loss:
                rivals[solver] = found
            rows.append(_row(share, solver, raised, found))
        limit = problem.budgets.loss
        rows.append(_row(share, POOLED, limit, _pooled(bench, problem, plan)))
        for solver, rival in rivals.items():
            found = _solved(_within_cycles(problem, rival.latency), EXACT, gap)
            rows.append(_row(share, f"{AT_CYCLES}{solver}", None, found))
    return rows


def _row(share: float, series: str, budget: float | None, found: Schedule | None) -> dict[str, Any]:
    row: dict[str, Any] = {"share": share, "solver": series, "loss_budget": budget,
                           "status": "nothing found"}  # fmt: skip
    if found is not None:
        row |= {name: getattr(found, name) for name in TOTALS}
        row |= {"version": found.solver_version, "schedule": found}
    return row


def _within_cycles(problem: Problem, cycles: float) -> Problem:
    """The least estimated loss within flash and so many cycles."""
    budgets = dataclasses.replace(problem.budgets, loss=None, latency=cycles)
    return dataclasses.replace(problem, budgets=budgets, objective=Objective.only("loss"))


def _pooled(bench: Bench, problem: Problem, plan: Plan) -> Schedule:
    """Of the exact solver's best schedules the one with the lowest measured loss."""
    found = pool(problem, plan.pool, DIFFER, EXACT).schedules
    ranking = rerank(bench.network, bench.importance, found, bench.dataset, plan.judged,
                     bench.folder / f"{NAME}_pool.jsonl")  # fmt: skip
    return found[int(ranking["taken"].to_numpy().argmax())]


def _first_found(problem: Problem, solver: str, gap: float) -> tuple[Schedule | None, float]:
    """A solver's schedule, and the loss budget that it needed."""
    limit = problem.budgets.loss
    assert limit is not None
    found = None
    for _ in range(STEPS):
        budgets = dataclasses.replace(problem.budgets, loss=limit)
        found = _solved(dataclasses.replace(problem, budgets=budgets), solver, gap)
        if found is not None:
            break
        limit *= STEP
    return found, limit


def _solved(problem: Problem, solver: str, gap: float) -> Schedule | None:
    """None if a heuristic finds nothing within the budgets."""
    get_solver(solver)
    try:
        return solve(problem, solver, gap, 60.0, diagnose=False)
    except DtmmError:
        return None


def tuned_accuracy(
    of: str,
    channels: Mapping[str, int],
    filterlets: Mapping[str, int],
    seed: int,
    epochs: int,
    images: int,
    test_images: int,
    bench: Bench,
) -> dict[str, Any]:
    """`accuracy`: share of test images that a schedule's network puts in their class after
    fine-tuning; and the row's provenance.

    Args:
        of: what identifies the bench, for the results store.
    """
    network = bench.pruned(counted(channels, filterlets))
    settings = FinetuneConfig(
        epochs=epochs,
        images_per_epoch=Count(images),
        distill=Share(0.0),
        seed=seed,
        precision="fp32",
    )
    tuned = finetune(network, bench.dataset, settings)
    data = bench.dataset
    few = slice(test_images)
    right = accuracy(Executor(tuned), data, data.test_images[few], data.test_targets[few])
    return {"accuracy": right, **row_provenance(seed, data.hash)}


def measure(bench: Bench, plan: Plan, job: Job) -> pd.DataFrame:
    """A row per schedule and seed; one without a seed where a solver found nothing."""
    rows = []
    store = bench.folder / f"{NAME}.jsonl"
    found = schedules(bench, plan)
    with (
        open_executor(job.swap.executor or "here") as executor,
        Progress().bar("fine-tuned") as bar,
    ):
        points = [
            {
                "of": bench.dataset.hash[:12],
                "channels": dict(row["schedule"].channels),
                "filterlets": dict(row["schedule"].filterlets),
                "seed": seed,
                "epochs": plan.epochs,
                "images": plan.images,
                "test_images": plan.test_images,
            }
            for seed in plan.seeds
            for row in found
            if "schedule" in row
        ]
        values = run_sweep(partial(tuned_accuracy, bench=bench), points, store, executor, bar)
    measured = iter(values)
    tuned = [{**row, **next(measured)} for seed in plan.seeds for row in found if "schedule" in row]
    rows = [*tuned, *(row for row in found if "schedule" not in row)]
    return pd.DataFrame(rows).drop(columns="schedule")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per share and solver: cycles over the optimum's, mean accuracy, its spread over seeds (a
    standard deviation), and whether it differs from the optimum's by more than both spreads."""
    rows = []
    for share, part in table.groupby("share", sort=False):
        best = part[part["solver"] == EXACT]
        for solver, each in part.groupby("solver", sort=False):
            known = each["accuracy"].dropna()
            mean, spread = known.mean(), known.std()
            difference = mean - best["accuracy"].mean()
            both = np.hypot(spread, best["accuracy"].std())
            rows.append(
                {
                    "share": share,
                    "solver": solver,
                    "latency": each["latency"].iloc[0],
                    "loss_budget": each["loss_budget"].iloc[0],
                    "over_optimum": each["latency"].iloc[0] / best["latency"].iloc[0],
                    "accuracy": 100 * mean,
                    "spread": 100 * spread,
                    "seeds": len(known),
                    "difference": 100 * difference,
                    "larger_than_spread": _verdict(solver, difference, both),
                }
            )
    return pd.DataFrame(rows)


def _verdict(solver: str, difference: float, spread: float) -> str:
    if solver == EXACT or np.isnan(difference):
        return ""
    return "unknown" if np.isnan(spread) else "yes" if abs(difference) > spread else "no"


def draw(table: pd.DataFrame) -> Figure:
    """Accuracy after fine-tuning against latency, a panel per share, a point per solver; bars are
    the spread over seeds. Hollow: the exact solver's further series."""
    found = summary(table).dropna(subset=["accuracy"])
    shares = list(dict.fromkeys(found["share"]))
    figure = Figure(figsize=(3.4 * len(shares), 2.6))
    panels = figure.subplots(1, len(shares), squeeze=False)[0]
    styles = list(matplotlib.rcParams["axes.prop_cycle"])
    solvers = list(dict.fromkeys(found["solver"]))
    for axes, share in zip(panels, shares, strict=True):
        for _, row in found[found["share"] == share].iterrows():
            style = styles[solvers.index(row["solver"]) % len(styles)]
            spread = 0.0 if np.isnan(row["spread"]) else row["spread"]
            face = "white" if row["solver"].startswith((POOLED, AT_CYCLES)) else style["color"]
            axes.errorbar(row["latency"] / 1e6, row["accuracy"], spread, capsize=2,
                          color=style["color"], marker=style["marker"], markerfacecolor=face,
                          linestyle="none", label=row["solver"])  # fmt: skip
        axes.set_xlabel("Latency (Mcycles)")
        axes.set_title(f"flash at most {share:.0%} of the dense network's")
    panels[0].set_ylabel("Accuracy after fine-tuning (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def latex(table: pd.DataFrame) -> str:
    """The summary."""
    found = summary(table)
    columns = {
        "Share": found["share"],
        "Solver": found["solver"],
        "Loss budget": found["loss_budget"],
        "Mcycles": found["latency"] / 1e6,
        "Over optimum": found["over_optimum"],
        "Accuracy (%)": found["accuracy"],
        "Spread": found["spread"],
        "Difference (points)": found["difference"],
        "Larger than spread": found["larger_than_spread"],
    }
    places = {"Mcycles": 3, "Over optimum": 3}
    digits = {
        name: places.get(name, 2) for name, values in columns.items() if values.dtype == float
    }
    caption = "Schedules of every solver after the same fine-tuning."
    return to_latex(pd.DataFrame(columns), caption, "tab:scheduler-gain", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(
        folder / f"{NAME}.csv", text=("solver", "status", "version", "commit", "dataset_sha256")
    )
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Schedule, tune, and write the CSV with its provenance."""
    bench, plan = open_bench(job), QUICK if job.quick else FULL
    if job.swap.solver:
        solvers = tuple(dict.fromkeys((EXACT, job.swap.solver)))
        plan = dataclasses.replace(plan, solvers=solvers)
    table = measure(bench, plan, job)
    unit = "latency cycles, flash and sram bytes, loss nats; accuracy a share of the test images"
    tuning = f"{plan.epochs} epochs of {plan.images} images, {plan.test_images} test images"
    about = {**bench.about(NAME, job, unit), "tuning": tuning,
             "loss budget": f"{SLACK:g} of the least estimated within the flash"}  # fmt: skip
    write_table(job.folder / f"{NAME}.csv", table, about)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, two solvers, one seed.",
    swaps=(*SETTINGS, "executor"),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
