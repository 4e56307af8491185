"""The measured tables as Markdown, between two marks of a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import shapes
from benchmarks.shapes import Shape
from benchmarks.targets import DENSE, FWCS, Figures, Target
from dtmm.artifact import write_atomic
from dtmm.errors import DataError

BEGIN = "<!-- measured: python -m benchmarks.kernels --markdown -->"
END = "<!-- end of measured -->"
SHOWN = (0, 10, 25, 50, 75, 90, 95)
MISSING = "-"


def write_section(
    document: Path, table: pd.DataFrame, targets: Sequence[Target], provenance: Mapping[str, str]
) -> None:
    """Replace what stands between BEGIN and END.

    Raises DataError: the document is missing or lacks the marks.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{document}: {error.strerror}") from None
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise DataError(f"{document} lacks the lines {BEGIN!r} and {END!r}")
    section = f"{BEGIN}\n\n{render(table, targets, provenance)}\n{END}"
    write_atomic(document, pattern.sub(lambda _: section, text))


def render(table: pd.DataFrame, targets: Sequence[Target], provenance: Mapping[str, str]) -> str:
    """All sections."""
    figures = Figures(table)
    parts = [
        "Thousands of cycles of the whole operator call. Convolution 3x3, stride 1; percent of "
        "filterlets removed. `dense` and `FWCS` are ours.",
        _grid(_sparse_rows(figures)),
        "The other operators, dense weights.",
        _grid(_operator_rows(figures)),
        "Targets.",
        _grid(_target_rows(targets)),
        f"Measured with {provenance.get('cycle_model')}, QEMU {provenance.get('qemu')}, "
        f"{provenance.get('compiler')}; {provenance.get('memory_map')}; "
        f"commit {provenance.get('commit')}.",
    ]
    return "\n\n".join(parts) + "\n"


def _sparse_rows(figures: Figures) -> list[list[str]]:
    rows = [["H, Cin, Cout", "CMSIS-NN", "dense", *(f"FWCS {pct} %" for pct in SHOWN)]]
    for shape in (*shapes.TABLE, *shapes.ODD):
        cells = [
            f"{shape.h}, {shape.cin}, {shape.cout}",
            _kilo(lambda s: figures.external("cmsis_nn", s), shape),
            _kilo(lambda s: figures.ours(DENSE, s), shape),
        ]
        cells += [_kilo(lambda s, pct=pct: figures.ours(FWCS, s, pct), shape) for pct in SHOWN]
        rows.append(cells)
    return rows


def _operator_rows(figures: Figures) -> list[list[str]]:
    rows = [["operator", "CMSIS-NN", "ours", "MAC/cycle", "ratio"]]
    for shape in shapes.all_shapes():
        if shape in (*shapes.TABLE, *shapes.ODD):
            continue
        try:
            ours, theirs = figures.operator(shape), figures.external("cmsis_nn", shape)
        except KeyError:
            continue
        rate = f"{shape.macs / ours:.2f}" if shape.macs else MISSING
        rows.append(
            [
                shape.describe(),
                f"{theirs / 1000:.1f}",
                f"{ours / 1000:.1f}",
                rate,
                f"{ours / theirs:.2f}x",
            ]
        )
    return rows


def _target_rows(targets: Sequence[Target]) -> list[list[str]]:
    words = {True: "pass", False: "**fail**", None: "not measured"}
    rows = [["target", "wanted", "found", ""]]
    return rows + [[t.name, t.wanted, t.found, words[t.passed]] for t in targets]


def _kilo(cycles: object, shape: Shape) -> str:
    try:
        return f"{cycles(shape) / 1000:,.0f}"  # type: ignore[operator]
    except KeyError:
        return MISSING


def _grid(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))
