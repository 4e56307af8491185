"""What experiments.compare_methods and compare_schedules measured, as sections of docs/pruning.md.

python -m experiments.compare_methods_table
"""

from __future__ import annotations

import click
import pandas as pd

from benchmarks.markdown import grid, replace_section
from dtmm.table import read_table
from experiments import compare_schedules
from experiments.cells import read_cells
from experiments.compare_methods import LABELS, NAME
from experiments.experiment import RESULTS
from experiments.loss_fidelity_table import DOCUMENT, END
from experiments.matched import DENSE

BEGIN = "<!-- measured: python -m experiments.compare_methods_table -->"
BEGIN_SCHEDULES = "<!-- measured: python -m experiments.compare_schedules -->"


def render(cells: pd.DataFrame) -> str:
    """A table per task: a row per method, a column per share of the dense network's flash."""
    return "\n".join(
        _task(f"{model} on {task}", rows)
        for (task, model), rows in cells.groupby(["task", "model"], sort=False)
    )


def _task(name: str, cells: pd.DataFrame) -> str:
    dense = cells[cells["method"] == DENSE].iloc[0]
    pruned = cells[(cells["method"] != DENSE) & (cells["status"] == "measured")]
    seeds = ", ".join(str(seed) for seed in sorted(pruned["seed"].unique()))
    text = (
        f"{name}, seeds {seeds or 'none yet'}: accuracy (%), flash (KiB), Mcycles; dense "
        f"{_cell(dense['accuracy'], dense['flash'], dense['cycles'])}."
    )
    if pruned.empty:
        return f"{text}\n"
    shares = sorted(pruned["share"].unique())
    means = pruned.groupby(["method", "share"])[["accuracy", "flash", "cycles"]].mean()
    rows = [["method", *(f"{share:.0%} of the dense flash" for share in shares)]]
    for method, label in LABELS.items():
        keys = [(method, share) for share in shares]
        found = [_cell(*means.loc[key]) if key in means.index else "" for key in keys]
        rows.append([label, *found])
    return f"{text}\n\n{grid(rows)}\n"


def _cell(accuracy: float, flash: float, cycles: float) -> str:
    return f"{100 * accuracy:.1f}; {flash / 1024:.0f}; {cycles / 1e6:.2f}"


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
    schedules, _ = read_table(RESULTS / f"{compare_schedules.NAME}.csv")
    replace_section(DOCUMENT, BEGIN_SCHEDULES, END, render_schedules(schedules))


if __name__ == "__main__":
    main()
