"""The paper's main comparison: model size, latency, peak SRAM and accuracy of every method.

Read off the measured cells of experiments.compare_methods and, for tiny YOLO, of
experiments.detection, where accuracy stands for the mean average precision at an overlap of 0.5:
means over seeds, the spread (a standard deviation) of the accuracy, and whether a method's accuracy
differs from DTMM's at the same size by more than both spreads. Networks, datasets and methods of
the paper that have no cell stand in the table as not measured. `overall_averages.csv` has DTMM
against CHIP and PatDNN at matched accuracy, beside the paper's averages.

    python -m experiments.overall [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.table import read_table, to_latex, write_table
from experiments import compare_methods, detection
from experiments.cells import MEASURED, read_cells
from experiments.compare_methods import FULL, LABELS, OURS
from experiments.experiment import RESULTS, Experiment, Job, commit, save_figure
from experiments.matched import DENSE, PAPER

NAME = "overall"
AVERAGES = f"{NAME}_averages"
MODELS = ("vgg11", "resnet12", "squeezenet")
TASKS = ("fashion_mnist", "fashion_scenes", "cifar10", "gtsrb", "visual_wake_words")
DETECTION = ("fashion_boxes", "fddb")
METHODS = (DENSE, "chip", "patdnn", "stripe", OURS)
NAMES = {DENSE: "dense int8", **LABELS}
MISSING = "not measured"


def overall(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per task, network, method and share of the dense network's flash."""
    rows: list[dict[str, Any]] = []
    known = cells[cells["status"] == MEASURED]
    keys = ["task", "model", "method", "share"]
    for key, part in known.groupby(keys, sort=False):
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "status": MEASURED,
                "seeds": len(part),
                "flash": part["flash"].mean(),
                "cycles": part["cycles"].mean(),
                "sram": part["sram"].mean(),
                "accuracy": part["accuracy"].mean(),
                "spread": part["accuracy"].std(),
            }
        )
    table = pd.DataFrame(rows)
    table["differs_from_dtmm"] = [_differs(row, table) for _, row in table.iterrows()]
    have = set(zip(table["task"], table["model"], table["method"], strict=True))
    missing = [
        {"task": task, "model": model, "method": method, "status": MISSING, "seeds": 0}
        for task, model, method in (
            *itertools.product(TASKS, MODELS, METHODS),
            *itertools.product(DETECTION, (detection.MODEL,), METHODS),
        )
        if (task, model, method) not in have
    ]
    return pd.concat([table, pd.DataFrame(missing)], ignore_index=True)


def _differs(row: pd.Series, table: pd.DataFrame) -> str:
    """Whether the accuracy is another than DTMM's of the same cell, as far as seeds say."""
    same = (table[["task", "model", "share"]] == row[["task", "model", "share"]]).all(axis=1)
    ours = table[same & (table["method"] == OURS)]
    if ours.empty or row["method"] in (OURS, DENSE):
        return ""
    spread = float(np.hypot(row["spread"], ours["spread"].iloc[0]))
    difference = abs(row["accuracy"] - ours["accuracy"].iloc[0])
    return "one seed" if np.isnan(spread) else "yes" if difference > spread else "no"


def averages(cells: pd.DataFrame) -> pd.DataFrame:
    """DTMM against the paper's two rivals at matched accuracy, in percent, and the paper's."""
    found = compare_methods.summary(FULL, cells)["tasks"]
    rows = []
    for (task, entry), (name, paper) in itertools.product(found.items(), PAPER.items()):
        ours = entry.get(name) or {}
        rows.append({"task": task, "comparison": name, "paper_percent": paper,
                     "percent": ours.get("percent"), "low": ours.get("low"),
                     "high": ours.get("high"), "seeds": len(entry["seeds"]),
                     "status": MEASURED if ours else MISSING})  # fmt: skip
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Flash, latency, SRAM and accuracy per task: a line per method and share, DTMM's dark."""
    known = table[table["status"] == MEASURED]
    tasks = list(known.groupby(["task", "model"], sort=False))
    heights = [0.16 * len(rows) + 0.9 for _, rows in tasks]
    figure = Figure(figsize=(7.0, sum(heights)))
    panels = figure.subplots(len(tasks), 4, squeeze=False, sharey="row", height_ratios=heights)
    metrics = (("flash", 1024, "Flash (KiB)"), ("cycles", 1e6, "Latency (Mcycles)"),
               ("sram", 1024, "Peak SRAM (KiB)"), ("accuracy", 0.01, "Accuracy (%)"))  # fmt: skip
    for row_of_axes, ((task, model), rows) in zip(panels, tasks, strict=True):
        rows = rows.sort_values(["share", "method"], ascending=[False, True])
        labels = [
            f"{NAMES[m]}, {s:.0%}" for m, s in zip(rows["method"], rows["share"], strict=True)
        ]
        shades = ["0.2" if method == OURS else "0.75" for method in rows["method"]]
        for axes, (metric, scale, label) in zip(row_of_axes, metrics, strict=True):
            if metric == "accuracy":  # points, on an axis that need not begin at 0
                for text, shade, (_, row) in zip(labels, shades, rows.iterrows(), strict=True):
                    axes.errorbar(100 * row["accuracy"], text, capsize=2, color=shade, marker="D",
                                  xerr=np.nan_to_num(100 * row["spread"]),
                                  markeredgecolor="black", markersize=4)  # fmt: skip
            else:
                axes.barh(labels, rows[metric] / scale, color=shades, edgecolor="black",
                          linewidth=0.4)  # fmt: skip
            detects = model == detection.MODEL and metric == "accuracy"
            axes.set_xlabel("mAP at 0.5 (%)" if detects else label)
        row_of_axes[0].invert_yaxis()
        row_of_axes[0].set_title(f"{model} on {task}", loc="left")
    return figure


def latex(table: pd.DataFrame) -> str:
    """What is measured."""
    known = table[table["status"] == MEASURED]
    shown = pd.DataFrame(
        {
            "Task": known["task"],
            "Network": known["model"],
            "Method": known["method"].map(NAMES),
            "Share": known["share"],
            "Flash (KiB)": known["flash"] / 1024,
            "Mcycles": known["cycles"] / 1e6,
            "SRAM (KiB)": known["sram"] / 1024,
            "Accuracy (%)": 100 * known["accuracy"],
            "Spread": 100 * known["spread"],
            "Seeds": known["seeds"],
        }
    )
    digits = {"Share": 2, "Flash (KiB)": 1, "Mcycles": 2, "SRAM (KiB)": 1, "Accuracy (%)": 2,
              "Spread": 2}  # fmt: skip
    caption = "Methods at equal flash: means over seeds."
    return to_latex(shown, caption, "tab:overall", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    text = ("task", "model", "method", "status", "differs_from_dtmm")
    table, _ = read_table(folder / f"{NAME}.csv", text=text)
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Summarise the committed cells; nothing is measured."""
    cells, about = read_cells(RESULTS / f"{compare_methods.NAME}.csv")
    detectors, _ = read_cells(RESULTS / f"{detection.NAME}.csv")
    every = pd.concat([cells, detectors.assign(accuracy=detectors["map50"])], ignore_index=True)
    own = {
        **about,
        "experiment": f"experiments.{NAME}, of experiments.{compare_methods.NAME}",
        "commit": about.get("commit", commit()),
        "dtmm": dtmm.__version__,
        "unit": "flash, sram bytes; accuracy a share (of detectors: mAP at 0.5); share: of the "
        "dense network's flash",
    }
    write_table(job.folder / f"{NAME}.csv", overall(every), own)
    write_table(job.folder / f"{AVERAGES}.csv", averages(cells), {**own, "unit": "percent"})


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="The same: nothing is measured.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
