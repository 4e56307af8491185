"""What the scheduled methods of experiments.compare_methods choose, and what it costs untuned.

Accuracy after fine-tuning is in compare_methods.csv; here stand, for each scheduled method and
size, the schedule's cycles and flash, the mean cross-entropy of the pruned network before tuning
(raw, and with batch normalization re-estimated), and the filters and the share of filterlets that
each convolution keeps. Nothing is trained; importance and curves are those of the comparison.

    python -m experiments.compare_schedules [--share SHARE]...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd

import dtmm
from dtmm.errors import DtmmError
from dtmm.pipeline.reranking import rerank
from dtmm.planning import select
from dtmm.pruning.counts import kept_counts
from dtmm.pruning.removal import remove
from dtmm.table import write_table
from experiments import methods
from experiments.cells import read_cells
from experiments.compare_methods import FULL, WORK
from experiments.experiment import RESULTS, commit
from experiments.matched import DENSE
from experiments.methods import METHODS, Scheduled, Task

NAME = "compare_schedules"
SCHEDULED = {name: how for name, how in METHODS.items() if isinstance(how, Scheduled)}


def chosen(task: Task, name: str, share: float, flash: int) -> dict[str, Any]:
    """One method's schedule within `flash` bytes: a row of the table."""
    how = SCHEDULED[name]
    found = methods.schedule(task, how, flash)
    scores = methods.importance_of(task, how.criterion)
    store = task.work / f"{NAME}.jsonl"
    losses = rerank(task.network, scores, [found], task.dataset, methods.JUDGED_IMAGES, store).iloc[
        0
    ]
    small = remove(task.network, select(task.network, scores, found))
    kept = [
        f"{c.name} {c.channels}/{c.original_channels} "
        f"{c.filterlets * c.original_channels / (c.channels * c.original_filterlets):.2f}"
        for c in kept_counts(task.network, small)
    ]
    return {
        "task": task.name,
        "model": task.model,
        "method": name,
        "share": share,
        "cycles": found.latency,
        "flash": found.flash,
        "raw_loss": float(losses["raw_loss"]),
        "reestimated_loss": float(losses["measured_loss"]),
        "kept": "; ".join(kept),
    }


@click.command(help=__doc__.splitlines()[0])
@click.option("--share", "shares", multiple=True, type=float, default=FULL.shares)
@click.option("--work", type=click.Path(path_type=Path), default=WORK, help="Of the comparison.")
def main(shares: tuple[float, ...], work: Path) -> None:
    """Command line."""
    cells, _ = read_cells(RESULTS / "compare_methods.csv")
    rows = []
    try:
        for _, dense in cells[cells["method"] == DENSE].iterrows():
            task = methods.load_task(dense["task"], dense["model"], str(work))
            for share in shares:
                for name in SCHEDULED:
                    rows.append(chosen(task, name, share, round(share * dense["flash"])))
                    click.echo(f"{name} {share}: {rows[-1]['reestimated_loss']:.3f} nats", err=True)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "images": methods.JUDGED_IMAGES,
        "unit": "cycles as the table predicts; bytes; mean cross-entropy on training images, nats; "
        "kept: filters, share of their filterlets",
    }
    write_table(RESULTS / f"{NAME}.csv", pd.DataFrame(rows).round(4), about)


if __name__ == "__main__":
    main()
