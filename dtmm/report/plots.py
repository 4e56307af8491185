"""The report's figures, from the report dictionary alone. Each function returns SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtmm.report.style import DENSE, DTMM, SHADES, bars, name_bars, svg_element

Report = Mapping[str, Any]


def layers_kept(report: Report) -> str:
    """Share of filters and of filterlets that stay, per convolution."""
    layers = report["layers"]
    names = [layer["name"] for layer in layers]
    figure, axes = bars(len(names))
    rows = range(len(names))
    channels = [100 * layer["channels_kept"] / layer["channels"] for layer in layers]
    filterlets = [100 * layer["filterlets_kept"] / layer["filterlets"] for layer in layers]
    axes.barh([r - 0.2 for r in rows], channels, 0.38, color=DENSE, label="filters")
    axes.barh([r + 0.2 for r in rows], filterlets, 0.38, color=DTMM, label="filterlets")
    axes.set_xlim(0, 100)
    axes.set_xlabel("kept, % of the dense layer")
    return _finish(figure, axes, names)


def layer_cycles(report: Report) -> str:
    """Modelled cycles of every operator, dense against DTMM."""
    dense = {row["name"]: row["cycles"] for row in report["dense"]["layers"]}
    ours = {row["name"]: row["cycles"] for row in report["dtmm"]["layers"]}
    names = [name for name in dense if max(dense[name], ours.get(name, 0)) > 0]
    figure, axes = bars(len(names))
    rows = range(len(names))
    axes.barh([r - 0.2 for r in rows], [dense[n] / 1e3 for n in names], 0.38, color=DENSE,
              label="dense int8")  # fmt: skip
    axes.barh([r + 0.2 for r in rows], [ours.get(n, 0) / 1e3 for n in names], 0.38, color=DTMM,
              label="DTMM")  # fmt: skip
    axes.set_xlabel("modelled kilocycles per inference")
    return _finish(figure, axes, names)


def flash(report: Report) -> str:
    """Flash by section."""
    return _stacked(report, "flash", ("weights", "index", "parameters", "code"))


def sram(report: Report) -> str:
    """Peak SRAM by component."""
    return _stacked(report, "sram", ("arena", "scratch", "stack"))


def memory_over_time(report: Report) -> str:
    """Bytes of live buffers and scratch while each operator of the DTMM network runs."""
    steps: Sequence[Mapping[str, Any]] = report["memory"]["steps"]
    figure, axes = bars(len(steps))
    rows = list(range(len(steps)))
    live = [step["live"] / 1024 for step in steps]
    scratch = [step["scratch"] / 1024 for step in steps]
    axes.barh(rows, live, 0.7, color=DTMM, label="live tensors")
    axes.barh(rows, scratch, 0.7, left=live, color=SHADES[1], label="scratch")
    arena = report["dtmm"]["sram"]["arena"] / 1024
    axes.axvline(arena, color="black", lw=1, ls="--", label="arena as planned")
    axes.set_xlabel("KiB")
    return _finish(figure, axes, [step["op"] for step in steps])


def _stacked(report: Report, section: str, parts: tuple[str, ...]) -> str:
    figure, axes = bars(2)
    for row, system in enumerate(("dense", "dtmm")):
        left = 0.0
        for part, color in zip(parts, SHADES, strict=False):
            size = report[system][section][part] / 1024
            axes.barh(row, size, 0.6, left=left, color=color, label=part if row == 0 else None)
            left += size
    axes.set_xlabel("KiB")
    return _finish(figure, axes, ["dense int8", "DTMM"])


def _finish(figure: Figure, axes: Axes, names: Sequence[str]) -> str:
    name_bars(figure, axes, names)
    return svg_element(figure)
