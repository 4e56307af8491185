"""A profile as rows and as a figure: one stacked bar per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dtmm.deploy.profile import PMU, Profile
from dtmm.report.style import SHADES, bars, file_bytes, name_bars

UNITS = {PMU: "of the core's own counter, with the memories and caches that it has"}


def profile_rows(found: Profile) -> list[dict[str, Any]]:
    """One row per step; share and MAC/cycle are by the first of the profile's models."""
    first = found.models[0]
    total = found.total(first) or 1.0
    return [
        {
            "layer": step.name,
            "kernel": step.kernel,
            "instructions": step.instructions,
            "cycles": dict(step.cycles),
            "share": step.cycles[first] / total,
            "macs": step.macs,
            "mac_per_cycle": step.macs / step.cycles[first] if step.cycles[first] else 0.0,
            "bytes_read": step.bytes_read,
            "bytes_written": step.bytes_written,
            "lines_missed": step.lines_missed,
        }
        for step in found.steps
    ]


def profile_figure(found: Profile, file_format: str) -> bytes:
    """A stacked bar per step, as a file of format svg, png or pdf."""
    rows = profile_rows(found)
    figure, axes = bars(len(rows))
    cycles = {model: [row["cycles"][model] for row in rows] for model in found.models}
    stack_cycles(axes, cycles)
    name_bars(figure, axes, [row["layer"] for row in rows])
    return file_bytes(figure, file_format)


def stack_cycles(axes: Axes, cycles: Mapping[str, Sequence[float]]) -> None:
    """Per bar the first model's cycles, and beside them what each further model adds to those.

    cycles: by model, a figure per bar.
    """
    left = [0.0] * len(next(iter(cycles.values())))
    for number, (model, values) in enumerate(cycles.items()):
        size = [max(0.0, value / 1e3 - before) for value, before in zip(values, left, strict=True)]
        label = f"cycles ({model})" if number == 0 else f"added in cycles ({model})"
        axes.barh(range(len(left)), size, 0.7, left=left, color=SHADES[number], label=label)
        left = [before + more for before, more in zip(left, size, strict=True)]
    axes.set_xlabel("thousand cycles per inference")
