"""The self-contained HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from dtmm.report import plots
from dtmm.report.rows import (
    comparison_rows,
    cycle_model,
    has_front,
    layer_rows,
    pool_line,
    price_rows,
    schedule_line,
    title,
)


def render(report: Mapping[str, Any]) -> str:
    """One HTML page without external references, from the report dictionary."""
    template = resources.files("dtmm.report").joinpath("report.html.jinja").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    figures = [
        ("What stays in each convolution", plots.layers_kept(report)),
        ("Where the cycles go", plots.layer_cycles(report)),
        ("Flash", plots.flash(report)),
        ("SRAM at its peak", plots.sram(report)),
        ("SRAM over time (DTMM network)", plots.memory_over_time(report)),
    ]
    if has_front(report):
        figures.append(("Where the schedule stands", plots.front(report)))
    return environment.from_string(template).render(
        report=report,
        heading=title(report),
        comparison=comparison_rows(report),
        layers=layer_rows(report),
        schedule=schedule_line(report),
        pool=pool_line(report),
        prices=price_rows(report),
        cycle_model=cycle_model(report),
        figures=figures,
    )
