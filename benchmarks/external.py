"""Figures of code that we do not ship: CMSIS-NN, the authors' kernel, the prototype."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.shapes import Shape
from dtmm.errors import DataError
from dtmm.table import read_table

FOLDER = Path(__file__).with_name("external")
KERNEL_FILES = ("cmsis_nn", "dtmm_authors", "prototype")
COLUMNS = (
    "kernel",
    "operator",
    "h",
    "w",
    "cin",
    "cout",
    "kernel_h",
    "kernel_w",
    "stride",
    "sparsity_pct",
    "instructions",
    "cycles",
)
HEADER = ("software", "compiler", "flags", "memory_map", "cycle_model", "note")
"""What the header of every file says at least."""

Key = tuple[str, Shape, int]
"""(kernel, shape, percent of filterlets removed)"""


def load_external(name: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """One of KERNEL_FILES with its provenance.

    Raises DataError: the file lacks a column or a line of its header, or holds a cell twice.
    """
    path = FOLDER / f"{name}.csv"
    table, provenance = read_table(path, text=("kernel", "operator"))
    if absent := [column for column in COLUMNS if column not in table.columns]:
        raise DataError(f"{path} lacks columns {', '.join(absent)}")
    if absent := [key for key in HEADER if key not in provenance]:
        raise DataError(f"{path} does not say its {', '.join(absent)}")
    if not (table["cycles"] > 0).all():
        raise DataError(f"{path}: expected cycles > 0 in every row")
    cells = [*COLUMNS[:-2]]
    if table.duplicated(cells).any():
        twice = table[table.duplicated(cells)].iloc[0]
        raise DataError(f"{path} has two rows for {dict(twice[cells])}")
    return table, provenance


def external_cycles() -> dict[Key, float]:
    """Cycles of every row of every file."""
    found: dict[Key, float] = {}
    for name in KERNEL_FILES:
        table, _ = load_external(name)
        found |= dict(keyed(table))
    return found


def keyed(table: pd.DataFrame) -> list[tuple[Key, float]]:
    """((kernel, shape, sparsity), cycles) of each row of a table with COLUMNS."""
    fields = COLUMNS[2:9]
    return [
        (
            (
                str(row["kernel"]),
                Shape(str(row["operator"]), *(int(row[name]) for name in fields)),
                int(row["sparsity_pct"]),
            ),
            float(row["cycles"]),
        )
        for row in table.to_dict("records")
    ]
