"""How the report's figures look, and how they become files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DENSE = "#9aa5b1"
DENSE_LIGHT = "#d5dae0"
DTMM = "#1f6f8b"
DTMM_LIGHT = "#8fc1d1"
SHADES = ("#1f6f8b", "#e07a3f", "#7a5195", "#4c956c")


def bars(rows: int) -> tuple[Figure, Axes]:
    """A figure for so many horizontal bars."""
    figure = Figure(figsize=(7.2, 1.3 + 0.34 * rows), layout="constrained")
    return figure, figure.add_subplot()


def name_bars(figure: Figure, axes: Axes, names: Sequence[str], columns: int = 4) -> None:
    """Names the bars, the first one on top; the legend stands above them in so many columns."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", lw=0.4, color="#cccccc")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=columns, frameon=False)


def file_bytes(figure: Figure, file_format: str) -> bytes:
    """A figure as a file of format svg, png or pdf; the same figure gives the same bytes of svg."""
    data = io.BytesIO()
    # A fixed salt and no metadata: the same report gives the same bytes, without foreign links.
    keys = {"svg": ("Creator", "Date", "Format", "Type"), "png": ("Software",)}
    nothing = dict.fromkeys(keys.get(file_format, ("Creator", "Producer", "CreationDate")))
    with matplotlib.rc_context({"svg.hashsalt": "dtmm", "svg.fonttype": "none"}):
        figure.savefig(data, format=file_format, metadata=nothing, dpi=150)
    return data.getvalue()


def svg_element(figure: Figure) -> str:
    """A figure as an element of a page."""
    text = file_bytes(figure, "svg").decode()
    return text[text.index("<svg") :]
