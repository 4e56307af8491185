"""Runs side by side: what each found, as a table and as one figure, from their reports alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtmm.errors import DataError
from dtmm.report.rows import cycle_model

REPORT, SETTINGS, STAGES = "report.json", "config.yaml", "stages.json"

_COLORS = ("#0d0887", "#b5367a", "#e16462", "#fca636", "#888888")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "x")
# as many series as there are combinations, told apart in grey by line and marker


def run_folders(root: Path) -> list[Path]:
    """Every run folder at most two levels below `root`, the oldest first."""
    found = {path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/{SETTINGS}")}
    return sorted(found, key=lambda path: ((path / SETTINGS).stat().st_mtime_ns, path))


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a run, None where it has none yet.

    Raises:
        DataError: it is not JSON.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return found


def last_stage(folder: Path) -> str:
    """The stage that finished last, by the order of the run's own index; "" if none did."""
    try:
        index = json.loads((folder / STAGES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return next(reversed(index), "") if isinstance(index, dict) else ""


def row(name: str, folder: Path) -> dict[str, Any]:
    """A run in numbers: bytes, cycles, nats; accuracy a share. None where it is not known yet."""
    report = read_report(folder)
    if report is None:
        return {"run": name, "stage": last_stage(folder)}
    ours, schedule = report["dtmm"], report["schedule"] or {}
    return {
        "run": name,
        "stage": "report",
        "model": report["model"],
        "dataset": report["dataset"],
        "mode": report["mode"],
        "accuracy": ours["accuracy"],
        "accuracy_change": _difference(ours["accuracy"], report["dense"]["accuracy"]),
        "cycles": ours["cycles"],
        "cycle_model": cycle_model(report),
        "flash": sum(ours["flash"].values()),
        "sram": sum(ours["sram"].values()),
        "estimated_loss": schedule.get("loss"),
        "solver": schedule.get("solver"),
        "gap": schedule.get("gap"),
    }


def _difference(ours: float | None, dense: float | None) -> float | None:
    """None for a network without data."""
    return None if ours is None or dense is None else ours - dense


def table(folders: Mapping[str, Path]) -> pd.DataFrame:
    """A row per run, by name."""
    return pd.DataFrame([row(name, folder) for name, folder in folders.items()])


def draw(reports: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Cycles per operator, and accuracy against flash, of every run and of the dense networks."""
    figure = Figure(figsize=(8.0, 3.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    styles = itertools.cycle(zip(_COLORS, _LINES * 2, _MARKERS, strict=False))
    names: list[str] = []
    for (name, report), (color, line, marker) in zip(reports.items(), styles, strict=False):
        steps = {step["name"]: step["cycles"] / 1e3 for step in report["dtmm"]["layers"]}
        names += [step for step in steps if step not in names]
        left.plot(list(steps), list(steps.values()), color=color, linestyle=line, marker=marker,
                  markersize=3, linewidth=1, label=name)  # fmt: skip
        ours = report["dtmm"]
        if ours["accuracy"] is None:
            continue
        right.plot(sum(ours["flash"].values()) / 1024, 100 * ours["accuracy"], marker,
                   color=color, markersize=5)  # fmt: skip
    for report in _networks(reports):
        dense = report["dense"]
        if dense["accuracy"] is None:
            continue
        at = sum(dense["flash"].values()) / 1024, 100 * dense["accuracy"]
        right.plot(*at, "*", color="black", markersize=7)
        right.annotate("dense", at, textcoords="offset points", xytext=(-4, -10), ha="right",
                       fontsize=7)  # fmt: skip
    left.set_xticks(np.arange(len(names)), names, rotation=60, ha="right", fontsize=6)
    left.set_ylabel("Thousand cycles per inference")
    left.set_yscale("log")
    right.set_xlabel("Flash (KiB)")
    right.set_ylabel("Test accuracy (%)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(lw=0.4, color="#cccccc")
        axes.set_axisbelow(True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", frameon=False,
                  ncols=4, fontsize=7)  # fmt: skip
    return figure


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """`path` as PNG and PDF beside each other, whatever its suffix."""
    made = [path.with_suffix(suffix) for suffix in (".png", ".pdf")]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        for each in made:
            figure.savefig(each, metadata={"CreationDate": None} if each.suffix == ".pdf" else None)
    return made


def _networks(reports: Mapping[str, Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """One report of each network and dataset."""
    found = {(report["model"], report["dataset"]): report for report in reports.values()}
    return list(found.values())
