"""The rank correlations of experiments.loss_fidelity as a section of docs/pruning.md.

python -m experiments.loss_fidelity_table
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from benchmarks.markdown import grid, replace_section
from dtmm.table import read_table
from experiments.experiment import RESULTS
from experiments.loss_fidelity import ESTIMATORS, NAME

BEGIN = "<!-- measured: python -m experiments.loss_fidelity_table -->"
END = "<!-- end of measured -->"
DOCUMENT = Path(__file__).parents[1] / "docs" / "pruning.md"
WORDS = {"raw": "raw", "reestimated": "BN re-estimated", "finetuned": "fine-tuned"}


def render(table: pd.DataFrame) -> str:
    """Spearman's coefficient with its interval, Kendall's beside it: a row per estimator."""
    cases = list(dict.fromkeys(zip(table["network"], table["size"], table["truth"], strict=True)))
    heads = [f"{network}, equal {size}, {WORDS[truth]}" for network, size, truth in cases]
    rows = [["estimator", *heads]]
    cells = table.set_index(["network", "size", "truth", "estimator"])
    for estimator in ESTIMATORS:
        row = [f"`{estimator}`"]
        for case in cases:
            found = cells.loc[(*case, estimator)]
            row.append(
                f"{found['spearman']:.2f} ({found['spearman_low']:.2f} to "
                f"{found['spearman_high']:.2f}); {found['kendall']:.2f}"
            )
        rows.append(row)
    counts = table.groupby(["network", "size"], sort=False)["schedules"].max()
    said = ", ".join(f"{count} of {n} at equal {size}" for (n, size), count in counts.items())
    text = f"Spearman (95 % interval); Kendall, over random schedules: {said}."
    return f"{text}\n\n{grid(rows)}\n"


@click.command(help=__doc__.splitlines()[0])
def main() -> None:
    """Command line."""
    table, _ = read_table(RESULTS / f"{NAME}_ranks.csv")
    replace_section(DOCUMENT, BEGIN, END, render(table))


if __name__ == "__main__":
    main()
