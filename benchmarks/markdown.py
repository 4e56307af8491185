"""The measured tables as Markdown, between two marks of a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import rivals, shapes
from benchmarks.external import keyed
from benchmarks.shapes import CONV, Shape
from benchmarks.split import PARTS
from benchmarks.targets import DENSE, FWCS, Figures, Target
from dtmm.artifact import write_atomic
from dtmm.errors import DataError

BEGIN = "<!-- measured: python -m benchmarks.kernels --markdown -->"
END = "<!-- end of measured -->"
SHOWN = (0, 10, 25, 50, 75, 90, 95)
SPLIT_AT = (0, 75, 95)
MISSING = "-"


def write_section(
    document: Path, table: pd.DataFrame, targets: Sequence[Target], provenance: Mapping[str, str]
) -> None:
    """Replace what stands between BEGIN and END.

    Raises DataError: the document is missing or lacks the marks.
    """
    replace_section(document, BEGIN, END, render(table, targets, provenance))


def replace_section(document: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between the lines `begin` and `end` of a document.

    Raises DataError: the document is missing or lacks the marks.
    """
    try:
        old = document.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{document}: {error.strerror}") from None
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(old):
        raise DataError(f"{document} lacks the lines {begin!r} and {end!r}")
    section = f"{begin}\n\n{text}\n{end}"
    write_atomic(document, pattern.sub(lambda _: section, old))


def render(table: pd.DataFrame, targets: Sequence[Target], provenance: Mapping[str, str]) -> str:
    """All sections."""
    figures = Figures(table)
    parts = [
        "Thousands of cycles of the whole operator call. Convolution 3x3, stride 1; percent of "
        "filterlets removed. `dense` and `FWCS` are ours.",
        grid(_sparse_rows(figures)),
        "Where the cycles of our fastest FWCS kernel go, in percent of the call, and how far it is "
        "from its bound (`benchmarks/bounds.py`).",
        grid(_split_rows(table)),
        "The rivals ([above](#rivals)), thousands of cycles; percent of weights removed, one by "
        "one (CSR) or by patterns and whole 3x3 kernels (FKW), beside as many percent of "
        "filterlets (FWCS). `by access`: if a gathering load took a cycle for each value.",
        grid(rivals.rows(table, figures)),
        "Where the rivals break even.",
        grid(rivals.break_even_rows(table, figures)),
        "The other operators, dense weights.",
        grid(_operator_rows(table, figures)),
        "Targets.",
        grid(_target_rows(targets)),
        f"Measured with {provenance.get('cycle_model')}, QEMU {provenance.get('qemu')}, "
        f"{provenance.get('compiler')}; {provenance.get('memory_map')}; "
        f"commit {provenance.get('commit')}"
        f"{_commits(provenance)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _commits(provenance: Mapping[str, str]) -> str:
    """Of kernels that were measured later than the others."""
    later = {key: value for key, value in provenance.items() if key.endswith(" commit")}
    return "".join(f"; {key} {value}" for key, value in later.items())


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


def _split_rows(table: pd.DataFrame) -> list[list[str]]:
    rows = [["H, Cin, Cout", "removed %", *PARTS, "MAC/cycle", "times bound"]]
    ours = table[table["kernel"].str.startswith(FWCS) & table["sparsity_pct"].isin(SPLIT_AT)]
    for _, cell in ours.groupby(["h", "cin", "cout", "sparsity_pct"], sort=False):
        best = cell.loc[cell["cycles"].idxmin()]
        parts = [f"{100 * best[f'{part}_cycles'] / best['cycles']:.0f}" for part in PARTS]
        size = f"{best['h']}, {best['cin']}, {best['cout']}"
        times = best["cycles"] / best["bound_cycles"]
        rate = f"{best['mac_per_cycle']:.2f}"
        rows.append([size, str(best["sparsity_pct"]), *parts, rate, f"{times:.2f}"])
    return rows


def _operator_rows(table: pd.DataFrame, figures: Figures) -> list[list[str]]:
    rows = [["operator", "CMSIS-NN", "ours", "ratio", "MAC/cycle", "times bound"]]
    best: dict[Shape, dict[str, float]] = {}
    for ((kernel, shape, _), cycles), bound in zip(
        keyed(table), table["bound_cycles"], strict=True
    ):
        dense = shape.operator != CONV or kernel.startswith(DENSE)
        if dense and cycles < best.get(shape, {"cycles": float("inf")})["cycles"]:
            best[shape] = {"cycles": cycles, "bound": float(bound)}
    for shape in shapes.all_shapes():
        if shape in (*shapes.TABLE, *shapes.ODD) or shape not in best:
            continue
        ours, theirs = best[shape]["cycles"], figures.external("cmsis_nn", shape)
        rows.append(
            [
                shape.describe(),
                f"{theirs / 1000:.1f}",
                f"{ours / 1000:.1f}",
                f"{ours / theirs:.2f}x",
                f"{shape.macs / ours:.2f}" if shape.macs else MISSING,
                f"{ours / best[shape]['bound']:.2f}",
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


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head, columns of numbers are right-aligned."""
    head, *body = rows
    numbers = [all(_is_number(row[n]) for row in body) for n in range(len(head))]
    rule = ["---:" if number else "---" for number in numbers]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _is_number(text: str) -> bool:
    return text == MISSING or text.rstrip("x").replace(",", "").replace(".", "").isdigit()
