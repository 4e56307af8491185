"""The report's figures, from the report dictionary alone. Each function returns SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtmm.report.rows import cycle_model
from dtmm.report.style import (
    DENSE,
    DENSE_LIGHT,
    DTMM,
    DTMM_LIGHT,
    SHADES,
    bars,
    name_bars,
    svg_element,
)

Report = Mapping[str, Any]

SYSTEMS = ("dense", "dtmm")


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
    """Cycles of every operator, dense against DTMM: all in TCM, and what cached memory adds."""
    model = cycle_model(report)
    rows = {system: {row["name"]: row for row in report[system]["layers"]} for system in SYSTEMS}
    names = [name for name, row in rows["dense"].items() if row["cycles"] > 0]
    figure, axes = bars(len(names))
    for system, title, place, colors in (
        ("dense", "dense int8", -0.2, (DENSE, DENSE_LIGHT)),
        ("dtmm", "DTMM", 0.2, (DTMM, DTMM_LIGHT)),
    ):
        at = [n + place for n in range(len(names))]
        found = [rows[system].get(name, {"cycles": 0.0}) for name in names]
        cycles = [row["cycles"] / 1e3 for row in found]
        added = [max(0.0, (row.get("cached_cycles") or 0.0) / 1e3 - base)
                 for row, base in zip(found, cycles, strict=True)]  # fmt: skip
        axes.barh(at, cycles, 0.38, color=colors[0], label=f"{title}, cycles ({model})")
        if any(added):
            axes.barh(at, added, 0.38, left=cycles, color=colors[1],
                      label=f"{title}, added in cycles (m55-v2)")  # fmt: skip
    axes.set_xlabel("thousand cycles per inference")
    return _finish(figure, axes, names, columns=2)


def flash(report: Report) -> str:
    """Flash by section."""
    return _stacked(report, "flash", ("weights", "index", "parameters", "code"))


def sram(report: Report) -> str:
    """Peak SRAM by component."""
    return _stacked(report, "sram", ("arena", "scratch", "stack"))


def front(report: Report) -> str:
    """The exact trade-off of latency and estimated loss within flash and SRAM, and this run."""
    found = report["tradeoff"]
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    points = sorted(found["front"], key=lambda point: point["latency"])
    axes.plot([point["latency"] / 1e6 for point in points], [point["loss"] for point in points],
              "o-", color=DENSE, markersize=4, label="optimal schedules")  # fmt: skip
    chosen = found["chosen"]
    axes.plot(chosen["latency"] / 1e6, chosen["loss"], "D", color=DTMM, label="this run")
    axes.set_xlabel(f"million cycles per inference ({cycle_model(report)})")
    axes.set_ylabel("estimated loss (nats)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(lw=0.4, color="#cccccc")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return svg_element(figure)


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


def _finish(figure: Figure, axes: Axes, names: Sequence[str], columns: int = 4) -> str:
    name_bars(figure, axes, names, columns)
    return svg_element(figure)
