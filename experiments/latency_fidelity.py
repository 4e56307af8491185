"""How well cost models foresee the latency of whole pruned networks: predicted against measured.

Random schedules of many sizes (experiments/random_schedules.py) of the bench's network are pruned,
quantized and run on the simulated Cortex-M55; predictions are the sums that the scheduler minimises
under each cost model (docs/latency.md):

- measured: the table, every operator measured alone;
- fitted: a twentieth of the table, and prices for what the kernels' loops count;
- analytic: the same counts at the prices that the package ships; nothing is measured;
- mac: multiply-accumulates; a cycle each, so that only its ranking and its error after scaling mean
  something.

`latency_fidelity_choices.csv` says what a wrong model costs: the schedule that is fastest by each
model, within the same flash and SLACK times the least estimated loss there, and its latency by the
measured table over that of the best schedule.

    python -m experiments.latency_fidelity [--quick] [--figures-only] [--out FOLDER]
    python -m experiments.latency_fidelity --cost-model my_table.csv       yours beside them

The full run can be stopped and goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtmm import runtime_c
from dtmm.artifact import write_atomic
from dtmm.deploy import plan, run_on_device
from dtmm.executors import open_executor
from dtmm.latency.cost_models import COST_MODELS, make_cost_model
from dtmm.latency.measure import measure_points
from dtmm.network.fold import fold
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.scheduling import levels
from dtmm.planning import layout, required_points
from dtmm.planning.levels import choices
from dtmm.quantization import quantize, quantize_input
from dtmm.scheduler import Problem, evaluate, solve
from dtmm.sweep import run_sweep
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.calibrate import activation_ranges
from experiments.bench import Bench, open_bench
from experiments.experiment import Experiment, Job, run_script, save_figure
from experiments.random_schedules import Draw, dense, draw, schedule
from experiments.rank_correlation import spearman

NAME = "latency_fidelity"
SHARES = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
"""Of the dense network's cycles, as the formulas of the benchmark instances count them."""
DRAWS, QUICK_DRAWS = 2, 1
QUICK_SHARES = (0.8, 0.9)
CALIBRATION_IMAGES = 64
CHOICES = f"{NAME}_choices"
FLASH, QUICK_FLASH = (0.1, 0.2, 0.3), (0.9,)
"""Shares of the dense network's flash at which schedules are chosen."""
SLACK = 1.3


def drawn(bench: Bench, share: float, number: int) -> Draw:
    """Random schedule `number` of a size."""
    options = choices(bench.folded, levels(bench.config))
    wanted = share * dense(bench.folded, options).cycles
    return draw(bench.folded, options, "cycles", wanted, round(1000 * share) + number)


def measured_cycles(share: float, number: int, code: str, bench: Bench) -> float:
    """Cycles per inference of a random schedule's network.

    Args:
        code: digest of the C runtime, for the results store.
    """
    options = choices(bench.folded, levels(bench.config))
    found = schedule(options, drawn(bench, share, number))
    folded = fold(bench.pruned(found))
    images = bench.dataset.to_input(bench.dataset.train_images[:CALIBRATION_IMAGES])
    quantized = quantize(folded, activation_ranges(folded, images))
    deployment = plan(quantized, layout(folded), found.kernels)
    return run_on_device(deployment, quantize_input(quantized, images[:1]), 1).cycles


def predicted(problem: Problem, chosen: Draw) -> float:
    """Cycles of a schedule by a problem's tables."""
    at = [chosen.levels[group.name] for group in problem.groups]
    return evaluate(problem, at, [chosen.options[layer.name] for layer in problem.layers]).latency


def problems(bench: Bench, names: Sequence[str]) -> dict[str, Problem]:
    """By cost model."""
    place = layout(bench.folded)
    points = required_points(bench.folded, place, levels(bench.config))
    measure = partial(measure_points, store=bench.folder / "latency.jsonl")
    found = {}
    for name in names:
        model = bench.table if name == "measured" else make_cost_model(name, points, measure)
        found[name] = bench.problem(None, cost_model=model)
    return found


def measure(bench: Bench, by_model: Mapping[str, Problem], job: Job) -> pd.DataFrame:
    """A row per schedule and cost model."""
    shares, draws = (QUICK_SHARES, QUICK_DRAWS) if job.quick else (SHARES, DRAWS)
    code = runtime_c.digest()
    points: list[dict[str, Any]] = [
        {"share": share, "number": number, "code": code}
        for number in range(draws)
        for share in shares
    ]
    store = bench.folder / f"{NAME}.jsonl"
    with open_executor(job.swap.executor or "here") as executor, Progress().bar("networks") as bar:
        cycles = run_sweep(partial(measured_cycles, bench=bench), points, store, executor, bar)
    rows: list[dict[str, Any]] = []
    for name, problem in by_model.items():
        for point, true in zip(points, cycles, strict=True):
            told = predicted(problem, drawn(bench, point["share"], point["number"]))
            rows.append({"cost_model": name, "share": point["share"], "draw": point["number"],
                         "predicted": round(told), "measured": round(true)})  # fmt: skip
    return pd.DataFrame(rows)


def choose(bench: Bench, by_model: Mapping[str, Problem], shares: Sequence[float]) -> pd.DataFrame:
    """A row per share of the flash and cost model: the schedule it takes for the fastest."""
    rows = []
    for share in shares:
        true = bench.fast_problem(share, SLACK)
        best = solve(true)
        for name, problem in by_model.items():
            found = solve(dataclasses.replace(problem, budgets=true.budgets))
            real = evaluate(true, found.levels, found.options).latency
            rows.append({"share": share, "cost_model": name, "believed": round(found.latency),
                         "latency": round(real), "over_best": round(real / best.latency, 4),
                         "status": found.status, "gap": found.gap})  # fmt: skip
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per cost model: mean and worst error in percent, mean error after the one factor that makes
    it smallest in the square of logarithms, and Spearman's coefficient."""
    rows = []
    for name, part in table.groupby("cost_model", sort=False):
        told, true = part["predicted"].to_numpy(float), part["measured"].to_numpy(float)
        scaled = told * np.exp(np.mean(np.log(true / told)))
        errors, rest = (100 * np.abs(each / true - 1) for each in (told, scaled))
        rank = float(spearman(told[None], true[None])[0])
        rows.append({"cost_model": name, "networks": len(part), "mean_error": errors.mean(),
                     "worst_error": errors.max(), "scaled_error": rest.mean(),
                     "spearman": rank})  # fmt: skip
    return pd.DataFrame(rows)


def figure(table: pd.DataFrame) -> Figure:
    """Predicted against measured cycles; the dashed line is a perfect prediction."""
    found = Figure(figsize=(3.4, 2.8))
    axes = found.add_subplot()
    for name, part in table.groupby("cost_model", sort=False):
        style: dict[str, Any] = {"linestyle": "none", "markersize": 3.5}
        axes.plot(part["measured"] / 1e6, part["predicted"] / 1e6, label=str(name), **style)
    ends = np.array([table["measured"].min(), table["measured"].max()]) / 1e6
    axes.plot(ends, ends, color="gray", linestyle="--", linewidth=0.7, marker="")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda x, _: f"{x:g}" if str(x)[0] in "235" else "")
    axes.set_xlabel("Measured (Mcycles)")
    axes.set_ylabel("Predicted (Mcycles)")
    axes.legend()
    return found


def latex(table: pd.DataFrame) -> str:
    """The summary."""
    names = {
        "cost_model": "Cost model",
        "networks": "Networks",
        "mean_error": "Mean error (%)",
        "worst_error": "Worst error (%)",
        "scaled_error": "Mean error, scaled (%)",
        "spearman": "Spearman",
    }
    digits = {name: 2 for name in names.values() if "error" in name} | {"Spearman": 3}
    caption = "Predicted against measured cycles of whole networks."
    return to_latex(summary(table).rename(columns=names), caption, "tab:latency-fidelity", digits)


def latex_choices(table: pd.DataFrame) -> str:
    """Latency over the best schedule's: a row per share, a column per cost model."""
    wide = table.pivot(index="share", columns="cost_model", values="over_best")
    shown = wide[list(dict.fromkeys(table["cost_model"]))].reset_index()
    shown = shown.rename(columns={"share": "Share of flash"})
    caption = "Measured latency of each model's fastest schedule over that of the best."
    digits = {name: 2 if name == "Share of flash" else 3 for name in shown}
    return to_latex(shown, caption, "tab:latency-choices", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("cost_model",))
    save_figure(figure(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))
    chosen, _ = read_table(folder / f"{CHOICES}.csv", text=("cost_model", "status"))
    write_atomic(folder / f"{CHOICES}.tex", latex_choices(chosen))


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    bench = open_bench(Job(job.folder, job.quick))
    own = [job.swap.cost_model] if job.swap.cost_model else []
    by_model = problems(bench, list(dict.fromkeys((*COST_MODELS, *own))))
    table = measure(bench, by_model, job)
    about = bench.about(NAME, job, "cycles of one inference; share: of the dense network's")
    write_table(job.folder / f"{NAME}.csv", table, about)
    chosen = choose(bench, by_model, QUICK_FLASH if job.quick else FLASH)
    unit = "cycles; share: of the dense network's flash; over_best: by the measured table"
    write_table(job.folder / f"{CHOICES}.csv", chosen, {**about, "unit": unit})


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, two schedules.",
    swaps=("cost_model", "executor"),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
