"""What experiments.compare_methods and compare_schedules measured, as sections of docs/pruning.md.

    python -m experiments.compare_methods_table

Sizes and latencies at matched accuracy are those of experiments.overall.
"""

from __future__ import annotations

import click
import pandas as pd

from benchmarks.markdown import grid, replace_section
from dtmm.table import read_table
from experiments import compare_schedules, overall
from experiments.cells import MEASURED, read_cells
from experiments.compare_methods import LABELS, NAME
from experiments.experiment import RESULTS
from experiments.loss_fidelity_table import DOCUMENT, END
from experiments.matched import DENSE, PAPER

BEGIN = "<!-- measured: python -m experiments.compare_methods_table -->"
BEGIN_PAIRED = "<!-- measured: python -m experiments.compare_methods_table, paired -->"
BEGIN_MATCHED = "<!-- measured: python -m experiments.overall -->"
BEGIN_SCHEDULES = "<!-- measured: python -m experiments.compare_schedules -->"
SIGNIFICANT = 0.05
"""Differences with a lower p-value are set in bold."""


def render(cells: pd.DataFrame) -> str:
    """A table per task: a row per method, a column per share of the dense network's flash."""
    return "\n".join(
        _task(f"{model} on {task}", rows)
        for (task, model), rows in cells.groupby(["task", "model"], sort=False)
    )


def _task(name: str, cells: pd.DataFrame) -> str:
    dense = cells[cells["method"] == DENSE].iloc[0]
    pruned = cells[(cells["method"] != DENSE) & (cells["status"] == MEASURED)]
    seeds = ", ".join(str(seed) for seed in sorted(pruned["seed"].unique()))
    text = (
        f"{name}, seeds {seeds or 'none yet'}: accuracy (%), flash (KiB), Mcycles; dense "
        f"{_cell(dense['accuracy'], dense['flash'], dense['cycles'])}."
    )
    if pruned.empty:
        return f"{text}\n"
    shares = sorted(pruned["share"].unique())
    groups = dict(list(pruned.groupby(["method", "share"])))
    rows = [["method", *(f"{share:.0%} of the dense flash" for share in shares)]]
    for method, label in LABELS.items():
        found = [groups.get((method, share)) for share in shares]
        rows.append([label, *("" if each is None else _mean(each) for each in found)])
    return f"{text}\n\n{grid(rows)}\n"


def _mean(seeds: pd.DataFrame) -> str:
    """Of the seeds of one cell, with the spread of the accuracy where there are several."""
    means = seeds[["accuracy", "flash", "cycles"]].mean()
    spread = f" ± {100 * seeds['accuracy'].std():.1f}" if len(seeds) > 1 else ""
    return _cell(means["accuracy"], means["flash"], means["cycles"], spread)


def _cell(accuracy: float, flash: float, cycles: float, spread: str = "") -> str:
    return f"{100 * accuracy:.1f}{spread}; {flash / 1024:.0f}; {cycles / 1e6:.2f}"


def render_paired(tests: pd.DataFrame) -> str:
    """DTMM's accuracy less each rival's, in points: a row per task and rival, a column per size."""
    shares = sorted(tests["share"].unique())
    rows = [["DTMM less", *(f"{share:.0%}" for share in shares)]]
    for (task, model, rival), each in tests.groupby(["task", "model", "rival"], sort=False):
        found = {row["share"]: _difference(row) for _, row in each.iterrows()}
        name = f"{LABELS[rival]}, {model} on {task}"
        rows.append([name, *(found.get(share, "") for share in shares)])
    return f"{grid(rows)}\n"


def _difference(row: pd.Series) -> str:
    sure = "**" if row["p_value"] < SIGNIFICANT else ""
    return f"{sure}{row['difference_points']:+.1f}{sure} [{row['low']:+.1f}, {row['high']:+.1f}]"


def render_matched(averages: pd.DataFrame) -> str:
    """What DTMM needs more or less than its two rivals in the paper, a row per task."""
    names = {name: name.replace("_", " ") for name in PAPER}
    rows = [["percent", *names.values()]]
    for task, each in averages.groupby("task", sort=False):
        found = {row["comparison"]: _percent(row) for _, row in each.iterrows()}
        seeds = int(each["seeds"].iloc[0])
        name = f"{task}, {seeds} seed{'s' if seeds > 1 else ''}"
        rows.append([name, *(found.get(name, "") for name in names)])
    rows.append(["the paper", *(f"{PAPER[name]:+.1f}" for name in names)])
    return f"{grid(rows)}\n"


def _percent(row: pd.Series) -> str:
    if row["status"] != MEASURED:
        return ""
    return f"{row['percent']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"


def render_schedules(table: pd.DataFrame) -> str:
    """The loss before tuning: a row per task and share, a column per scheduled method."""
    methods = [method for method in LABELS if method in set(table["method"])]
    rows = [["network, flash", *(LABELS[method] for method in methods)]]
    cells = table.set_index(["task", "model", "share", "method"])["reestimated_loss"]
    for task, model, share in dict.fromkeys(cells.index.droplevel("method")):
        losses = (f"{cells[task, model, share, method]:.2f}" for method in methods)
        rows.append([f"{model} on {task}, {share:.0%}", *losses])
    return f"{grid(rows)}\n"


@click.command(help=__doc__.splitlines()[0])
def main() -> None:
    """Command line."""
    cells, _ = read_cells(RESULTS / f"{NAME}.csv")
    replace_section(DOCUMENT, BEGIN, END, render(cells))
    tests, _ = read_table(RESULTS / f"{NAME}_paired.csv")
    replace_section(DOCUMENT, BEGIN_PAIRED, END, render_paired(tests))
    averages, _ = read_table(RESULTS / f"{overall.AVERAGES}.csv", text=("status",))
    replace_section(DOCUMENT, BEGIN_MATCHED, END, render_matched(averages))
    schedules, _ = read_table(RESULTS / f"{compare_schedules.NAME}.csv")
    replace_section(DOCUMENT, BEGIN_SCHEDULES, END, render_schedules(schedules))


if __name__ == "__main__":
    main()
