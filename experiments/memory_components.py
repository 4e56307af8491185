"""Memory at run time by component, dense and pruned: what takes the flash and the SRAM.

One run of the whole path (experiments.bench): weights, index, parameters and code are read off the
ELF, arena and scratch off the memory plan that it was linked with, the stack is measured by
painting it.

    python -m experiments.memory_components [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dtmm.artifact import write_atomic
from dtmm.table import read_table, to_latex, write_table
from experiments.bench import SETTINGS, run_about, whole_run
from experiments.experiment import Experiment, Job, save_figure

NAME = "memory_components"
SYSTEMS = {"dense": "dense int8", "dtmm": "DTMM"}
SHADES = {
    "weights": ("0.25", ""), "index": ("black", ""), "parameters": ("0.55", "///"),
    "code": ("0.85", ""), "arena": ("0.35", ""), "scratch": ("black", ""),
    "stack": ("0.85", "///"),
}  # fmt: skip


def rows(report: Mapping[str, Any]) -> pd.DataFrame:
    """A row per network, memory and component."""
    return pd.DataFrame(
        [
            {"system": system, "memory": memory, "component": component, "bytes": size,
             "share": round(size / sum(report[system][memory].values()), 5)}
            for system in SYSTEMS
            for memory in ("flash", "sram")
            for component, size in report[system][memory].items()
        ]
    )  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Stacked bars: flash to the left, SRAM to the right."""
    figure = Figure(figsize=(7.0, 2.0))
    panels = figure.subplots(1, 2)
    for axes, (memory, part) in zip(panels, table.groupby("memory", sort=False), strict=True):
        for place, system in enumerate(SYSTEMS):
            left = 0.0
            for _, row in part[part["system"] == system].iterrows():
                color, hatch = SHADES[row["component"]]
                axes.barh(place, row["bytes"] / 1024, 0.6, left, color=color, hatch=hatch,
                          edgecolor="black", linewidth=0.4,
                          label=row["component"] if place == 0 else None)  # fmt: skip
                left += row["bytes"] / 1024
        axes.set_yticks(range(len(SYSTEMS)), SYSTEMS.values())
        axes.invert_yaxis()
        axes.set_xlabel(f"{'Flash' if memory == 'flash' else 'SRAM'} (KiB)")
        axes.legend(loc="lower right")
    return figure


def latex(table: pd.DataFrame) -> str:
    """Bytes of every component and their share."""
    wide = table.pivot(index=["memory", "component"], columns="system", values=["bytes", "share"])
    order = table[["memory", "component"]].drop_duplicates().itertuples(index=False)
    shown = pd.DataFrame(
        [
            {
                "Memory": "Flash" if memory == "flash" else "SRAM",
                "Component": component,
                **{
                    f"{label} ({unit})": scale * wide.loc[(memory, component), (column, system)]
                    for system, label in SYSTEMS.items()
                    for column, unit, scale in (("bytes", "B", 1), ("share", "%", 100))
                },
            }
            for memory, component in order
        ]
    )
    digits = {name: 1 if "(%)" in name else 0 for name in shown if "(" in name}
    return to_latex(shown, "Memory by component.", "tab:memory-components", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("system", "memory", "component"))
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Run what is missing, and write the CSV with its provenance."""
    report, _ = whole_run(job)
    about = run_about(NAME, job, report, "bytes; share: of the memory of the system")
    accuracy = {f"accuracy {name}": f"{report[name]['accuracy']:.4f}" for name in SYSTEMS}
    write_table(job.folder / f"{NAME}.csv", rows(report), {**about, **accuracy})


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
