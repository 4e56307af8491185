"""The table of a comparison, a cell at a time: the CSV itself says what is measured already.

A cell is a row, known by its `keys`. It is written when it is measured, so a comparison can be
stopped at any time, a checkout goes on where the committed table ends, and several processes may
measure different cells of one table.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dtmm.errors import ConfigError, DataError
from dtmm.table import read_table, write_table

TEXT = (
    "task", "model", "method", "right", "status", "reason", "kernels", "commit", "dataset_sha256",
)  # fmt: skip
MEASURED = "measured"

Cell = Mapping[str, Any]


def read_cells(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The cells at `path` and their provenance. Raises DataError, see `read_table`."""
    return read_table(path, text=TEXT)


@dataclass(frozen=True)
class CellTable:
    """The table at `path`.

    Attributes:
        keys: columns that tell cells apart.
        conditions: header lines that hold for every cell (how long is tuned, how many test
            images): a table of other conditions is neither used nor overwritten.
        about: the header's other lines.
    """

    path: Path
    keys: tuple[str, ...]
    conditions: Mapping[str, str]
    about: Mapping[str, str]

    def evaluate(self, cell: Cell, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of a cell, from the table or else measured and written with the wall time.

        Args:
            measure: gives the row's other columns, and as "provenance" the header lines of the
                device if any.

        Raises:
            DataError: the table is of other conditions, or cannot be read.
            DtmmError: of `measure`; the table then stays as it was.
        """
        rows, _ = self.read()
        found = rows[self._same(rows, cell)]
        if len(found):
            return {str(name): value for name, value in found.iloc[0].items()}
        start = time.perf_counter()
        row = {key: cell[key] for key in self.keys} | measure()
        row["seconds"] = round(time.perf_counter() - start)
        self._keep(row)
        return row

    def _keep(self, row: dict[str, Any]) -> None:
        provenance = row.pop("provenance", {})
        with self._locked():
            rows, before = self.read()
            others = rows[~self._same(rows, row)]
            table = pd.concat([others, pd.DataFrame([row])]) if len(others) else pd.DataFrame([row])
            header = {**(provenance or before), **self.about, **self.conditions}
            write_table(self.path, table, header)

    def read(self) -> tuple[pd.DataFrame, dict[str, str]]:
        """All cells and the header; no cells where there is no file.

        Raises:
            DataError: the table is of other conditions, or cannot be read.
        """
        if not self.path.is_file():
            return pd.DataFrame(columns=list(self.keys)), {}
        rows, header = read_cells(self.path)
        for name, value in self.conditions.items():
            if header.get(name) != value:
                raise DataError(
                    f"{self.path} was made with {name} {header.get(name)}, expected {value}; "
                    "move it away, or write to another folder (--out)"
                )
        return rows, header

    def _same(self, rows: pd.DataFrame, cell: Cell) -> pd.Series:
        keys = list(self.keys)
        return (rows[keys] == pd.Series({key: cell[key] for key in keys})).all(axis=1)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Between reading and writing no other process writes: its folder is locked."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def parse_only(texts: Sequence[str], cells: Sequence[Cell]) -> Callable[[Cell], bool]:
    """Whether a cell is asked for, by KEY=VALUE; several values of a key are alternatives.

    Args:
        cells: all there are.

    Raises:
        ConfigError: no KEY=VALUE, or no cell has that key or value.
    """
    wanted: dict[str, set[str]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        known = sorted({str(cell[key]) for cell in cells if key in cell})
        if not known:
            keys = ", ".join(dict.fromkeys(name for cell in cells for name in cell))
            raise ConfigError(f"--only {text}: expected KEY=VALUE with a key of {keys}")
        if value not in known:
            raise ConfigError(f"--only {text}: expected for {key} one of {', '.join(known)}")
        wanted.setdefault(key, set()).add(value)
    return lambda cell: all(str(cell[key]) in values for key, values in wanted.items())
