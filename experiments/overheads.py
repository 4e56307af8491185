"""What DTMM itself costs: wall time of every stage on the computer, bytes of what it keeps there.

One run of the whole path (experiments.bench). On the device its cost is the index in flash and the
code of its operators: experiments.memory_components.

    python -m experiments.overheads [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dtmm.artifact import write_atomic
from dtmm.pipeline.stages import STAGES
from dtmm.table import read_table, to_latex, write_table
from experiments.bench import SETTINGS, run_about, whole_run
from experiments.experiment import Experiment, Job, save_figure

NAME = "overheads"
OURS = ("importance", "sensitivity", "profile", "schedule", "finetune")
"""Stages that a network deployed dense does not need."""


def rows(report: Mapping[str, Any], folder: Path) -> pd.DataFrame:
    """A row per stage that ran: seconds, and bytes of its files in the run folder."""
    found = []
    for stage in STAGES:
        if stage.name in report["stage_seconds"]:
            size = sum(_bytes(folder / name) for name in stage.outputs)
            found.append(
                {"stage": stage.name, "what": stage.title, "only_dtmm": stage.name in OURS,
                 "seconds": report["stage_seconds"][stage.name], "bytes": size}
            )  # fmt: skip
    return pd.DataFrame(found)


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def draw(table: pd.DataFrame) -> Figure:
    """Seconds per stage; dark: what a dense network does not need."""
    figure = Figure(figsize=(3.4, 0.22 * len(table) + 0.7))
    axes = figure.add_subplot()
    shades = ["0.3" if ours else "0.8" for ours in table["only_dtmm"]]
    axes.barh(table["stage"], table["seconds"], color=shades, edgecolor="black", linewidth=0.4)
    axes.invert_yaxis()
    axes.set_xlabel("Wall time (s)")
    return figure


def latex(table: pd.DataFrame) -> str:
    """Stages, seconds and KiB."""
    shown = pd.DataFrame(
        {
            "Stage": table["stage"],
            "What it does": table["what"],
            "Time (s)": table["seconds"],
            "Kept (KiB)": table["bytes"] / 1024,
        }
    )
    caption = "Time and storage of the stages of a run."
    return to_latex(shown, caption, "tab:overheads", {"Time (s)": 1, "Kept (KiB)": 1})


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("stage", "what"))
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Run what is missing, and write the CSV with its provenance."""
    report, folder = whole_run(job)
    about = run_about(NAME, job, report, "seconds of wall time; bytes in the run folder")
    about["machine"] = (
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f} at the end"
    )
    write_table(job.folder / f"{NAME}.csv", rows(report, folder), about)


EXPERIMENT = Experiment(
    NAME,
    __doc__,
    run,
    draw_all,
    quick="A tiny network on digits.",
    swaps=tuple(SETTINGS),
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
