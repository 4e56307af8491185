"""Which layers lose how much: the share of filters and of filterlets that a schedule removes.

Schedules within several shares of the dense network's flash (experiments.bench), each the fastest
of nearly the least estimated loss, proven to the gap in the table. Per convolution: filters and
filterlets removed (those of removed filters included), and the weights that left, which counts
the input channels that went with the layers before too. The paper reports 37.5 to 99.0 % per layer.

    python -m experiments.pruned_share [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtmm.artifact import write_atomic
from dtmm.scheduler import Schedule, solve
from dtmm.table import read_table, to_latex, write_table
from experiments.bench import SETTINGS, SLACK, Bench, open_bench
from experiments.experiment import Experiment, Job, save_figure

SHARES = (0.1, 0.2, 0.3, 0.5)
QUICK_SHARES = (0.9,)
NAME = "pruned_share"
PAPER = (37.5, 99.0)
"""Percent of a layer that the paper prunes, least and most."""

KINDS = {"filters": "filters", "filterlets": "filterlets", "weights": "weights"}


def measure(bench: Bench, shares: tuple[float, ...]) -> pd.DataFrame:
    """A row per share and convolution."""
    rows = []
    for share in shares:
        problem = bench.fast_problem(share)
        found = solve(problem, bench.config.schedule.solver, bench.config.schedule.gap)
        network = bench.pruned(found)
        for dense, kept in zip(bench.network.convs(), network.convs(), strict=True):
            rows.append({
                "share": share, "layer": dense.name,
                **_counts(bench.network.params[dense.weight], network.params[kept.weight]),
                "kernel": found.kernels[dense.name], **_solution(found),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _counts(dense: Any, kept: Any) -> dict[str, float]:
    """Of OHWI weights: how many there were, and the percent that left."""
    alive = kept.any(axis=3)
    pairs = {
        "filters": (len(dense), len(kept)),
        "filterlets": (dense[..., 0].size, int(alive.sum())),
        "weights": (dense.size, int(alive.sum()) * kept.shape[3]),
    }
    totals = {name: float(whole) for name, (whole, _) in pairs.items()}
    gone = {f"{name}_removed": 100 * (1 - left / whole) for name, (whole, left) in pairs.items()}
    return {**totals, **{name: round(value, 3) for name, value in gone.items()}}


def _solution(found: Schedule) -> dict[str, Any]:
    return {
        "latency": found.latency, "flash": found.flash, "sram": found.sram, "loss": found.loss,
        "solver": f"{found.solver} {found.solver_version}", "status": found.status,
        "gap": found.gap,
    }  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Percent removed per layer: a panel per size."""
    shares = list(dict.fromkeys(table["share"]))
    figure = Figure(figsize=(7.0, 1.45 * len(shares) + 0.8))
    panels = figure.subplots(len(shares), 1, sharex=True, squeeze=False)[:, 0]
    styles = {"filters": ("0.25", ""), "filterlets": ("0.6", "///"), "weights": ("0.9", "")}
    for axes, share in zip(panels, shares, strict=True):
        rows = table[table["share"] == share]
        places = np.arange(len(rows))
        for n, (kind, label) in enumerate(KINDS.items()):
            color, hatch = styles[kind]
            axes.bar(places + (n - 1) * 0.27, rows[f"{kind}_removed"], 0.27, label=label,
                     color=color, hatch=hatch, edgecolor="black", linewidth=0.4)  # fmt: skip
        for value in PAPER:
            axes.axhline(value, color="black", linewidth=0.6, linestyle=":")
        axes.set_ylim(0, 100)
        axes.set_ylabel("Removed (%)")
        axes.set_title(f"flash at most {share:.0%} of the dense network's")
    panels[-1].set_xticks(np.arange(len(rows)), rows["layer"], rotation=30, ha="right")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def latex(table: pd.DataFrame) -> str:
    """Filters and filterlets removed: a row per layer, a pair of columns per size."""
    layers = list(dict.fromkeys(table["layer"]))
    columns: dict[str, Any] = {"Layer": layers}
    for share, rows in table.groupby("share", sort=False):
        by_layer = rows.set_index("layer").loc[layers]
        for kind in ("filters", "filterlets"):
            columns[f"{kind} {share:.0%}"] = by_layer[f"{kind}_removed"].to_numpy()
    caption = "Percent of filters and of filterlets removed at shares of the dense flash."
    digits = {name: 1 for name in columns if name != "Layer"}
    return to_latex(pd.DataFrame(columns), caption, "tab:pruned-share", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("layer", "kernel", "solver", "status"))
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Schedule, and write the CSV with its provenance."""
    bench = open_bench(job)
    table = measure(bench, QUICK_SHARES if job.quick else SHARES)
    unit = "removed: percent; latency cycles, flash and sram bytes, loss nats"
    about = {**bench.about(NAME, job, unit), "slack": f"{SLACK:g} of the least estimated loss"}
    write_table(job.folder / f"{NAME}.csv", table, about)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits, one size.",
    swaps=tuple(SETTINGS),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
