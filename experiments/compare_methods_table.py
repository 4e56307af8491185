"""The cells of experiments.compare_methods that are measured, as a section of docs/pruning.md.

python -m experiments.compare_methods_table
"""

from __future__ import annotations

import click
import pandas as pd

from benchmarks.markdown import grid, replace_section
from experiments.compare_methods import LABELS, NAME, read_cells
from experiments.experiment import RESULTS
from experiments.loss_fidelity_table import DOCUMENT, END
from experiments.matched import DENSE

BEGIN = "<!-- measured: python -m experiments.compare_methods_table -->"


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


@click.command(help=__doc__.splitlines()[0])
def main() -> None:
    """Command line."""
    cells, _ = read_cells(RESULTS / f"{NAME}.csv")
    replace_section(DOCUMENT, BEGIN, END, render(cells))


if __name__ == "__main__":
    main()
