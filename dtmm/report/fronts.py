"""Pareto fronts as a table and as a figure: the figure is drawn from the table alone."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtmm.artifact import write_atomic
from dtmm.errors import DataError
from dtmm.scheduler.pareto import Front
from dtmm.scheduler.problem import METRICS

LABELS: Mapping[str, tuple[str, float]] = {
    "latency": ("Latency (Mcycles)", 1e6),
    "flash": ("Flash (KiB)", 1024.0),
    "sram": ("SRAM (KiB)", 1024.0),
    "loss": ("Estimated loss increase (nats)", 1.0),
}
"""Axis label and the unit that values are divided by."""

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "pdf.fonttype": 42,
}
# Series differ in lightness, line and marker, so that they can be told apart in grey.
_COLORS = ("#0d0887", "#b5367a", "#e16462", "#fca636", "#888888")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "x")


def front_table(fronts: Mapping[str, Front]) -> pd.DataFrame:
    """One row per point: series (the mapping's keys), totals, the limits, the proof, the choices.

    `x` names the total that was minimised; `bound` and `gap` are its.
    """
    rows = []
    for series, front in fronts.items():
        for point in front.points:
            found = point.schedule
            row: dict[str, Any] = {"series": series, "problem": front.problem, "x": front.axes[0]}
            row |= {metric: getattr(found, metric) for metric in METRICS}
            row |= {f"limit_{m}": point.limits.get(m, float("nan")) for m in front.axes[1:]}
            row |= {"bound": found.bound, "gap": found.gap, "status": found.status}
            row |= {"solver": found.solver, "version": found.solver_version}
            row |= {"seconds": round(found.seconds, 3), "complete": front.complete}
            rows.append(row)
    return pd.DataFrame(rows)


def draw_fronts(table: pd.DataFrame, x: str, y: str, z: str | None = None) -> Figure:
    """The fronts of `front_table`, a series each; z as the shade of the points.

    Points whose optimality was not proven are hollow. A complete front is a staircase, which is
    what lies between its points; of others the line only guides the eye.

    Raises:
        DataError: a column is missing.
    """
    missing = [
        m for m in (x, y, z, "series", "status", "complete") if m is not None and m not in table
    ]
    if missing:
        raise DataError(f"the table of fronts lacks columns {', '.join(missing)}")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.0), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        styles = itertools.cycle(zip(_COLORS, _LINES * 2, _MARKERS, strict=False))
        for (series, rows), style in zip(table.groupby("series", sort=False), styles, strict=False):
            if z is None:
                _line(axes, rows, x, y, str(series), style)
            else:
                _shaded(figure, axes, rows, (x, y, z), table[z], str(series), style[2])
        axes.set_xlabel(LABELS[x][0])
        axes.set_ylabel(LABELS[y][0])
        if table["series"].nunique() > 1:
            axes.legend()
        return figure


def _scaled(rows: pd.DataFrame, metric: str) -> Any:
    return rows[metric].to_numpy(dtype=np.float64) / LABELS[metric][1]


def _line(axes: Any, rows: pd.DataFrame, x: str, y: str, label: str, style: Sequence[str]) -> None:
    color, line, marker = style
    rows = rows.sort_values(x)
    at, value = _scaled(rows, x), _scaled(rows, y)
    steps = "steps-post" if rows["complete"].all() else "default"
    axes.plot(at, value, drawstyle=steps, color=color, linestyle=line, linewidth=0.9)
    proven = (rows["status"] == "optimal").to_numpy()
    for mask, face in ((proven, color), (~proven, "white")):
        axes.plot(at[mask], value[mask], marker, ms=3.5, color=color, mfc=face)
    axes.plot([], [], color=color, linestyle=line, marker=marker, ms=3.5, label=label)


def _shaded(
    figure: Figure,
    axes: Any,
    rows: pd.DataFrame,
    names: tuple[str, str, str],
    shades: pd.Series,
    label: str,
    marker: str,
) -> None:
    x, y, z = names
    scale = LABELS[z][1]
    points = axes.scatter(
        _scaled(rows, x),
        _scaled(rows, y),
        c=_scaled(rows, z),
        marker=marker,
        s=18,
        cmap="viridis_r",
        vmin=shades.min() / scale,
        vmax=shades.max() / scale,
        edgecolors="0.3" if marker != "x" else None,
        linewidths=0.4 if marker != "x" else 0.8,
        label=label,
    )
    if not any(each.get_label() == "<colorbar>" for each in figure.axes):
        figure.colorbar(points, ax=axes, label=LABELS[z][0])


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """The figure as PDF and PNG beside `path`, whatever its ending; same table, same bytes."""
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {})):
        data = io.BytesIO()
        figure.savefig(data, format=suffix[1:], metadata=metadata)
        written.append(write_atomic(path.with_suffix(suffix), data.getvalue()))
    return written
