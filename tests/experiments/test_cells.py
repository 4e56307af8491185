"""The table of cells: it grows by one row at a time and is never measured twice."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtmm.errors import ConfigError, DataError, MeasurementError
from experiments.cells import CellTable, parse_only

KEYS = ("task", "share", "seed")
CELLS = [{"task": t, "share": s, "seed": 0} for t in ("a", "b") for s in (0.1, 0.5)]


def table_in(folder: Path, **conditions: str) -> CellTable:
    return CellTable(folder / "cells.csv", KEYS, conditions or {"tuning": "short"}, {"unit": "%"})


def measured(value: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"status": "measured", "accuracy": value, **more}


def never() -> dict[str, Any]:
    raise AssertionError("measured again")


def test_a_cell_is_measured_once_and_found_again(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    for n, cell in enumerate(CELLS):
        made = table.evaluate(cell, lambda n=n: measured(n / 8, provenance={"qemu": "7"}))
        assert made == {**cell, **measured(n / 8), "seconds": 0}
    again = table_in(tmp_path)
    for n, cell in enumerate(CELLS):
        assert again.evaluate(cell, never) == {**cell, **measured(n / 8), "seconds": 0}
    rows, header = again.read()
    assert len(rows) == len(CELLS)
    assert header == {"qemu": "7", "unit": "%", "tuning": "short"}


def test_a_cell_that_fails_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    table.evaluate(CELLS[0], measured)
    before = table.path.read_bytes()

    def fails() -> dict[str, Any]:
        raise MeasurementError("no device")

    with pytest.raises(MeasurementError):
        table.evaluate(CELLS[1], fails)
    assert table.path.read_bytes() == before


def test_rows_without_some_columns_stand_beside_others(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    table.evaluate(CELLS[0], lambda: {"status": "infeasible", "reason": "too small"})
    table.evaluate(CELLS[1], measured)
    found = table.evaluate(CELLS[0], never)
    assert found["reason"] == "too small" and np.isnan(found["accuracy"])
    assert table.evaluate(CELLS[1], never)["accuracy"] == 1.0


def test_a_table_of_other_conditions_is_neither_used_nor_changed(tmp_path: Path) -> None:
    table = table_in(tmp_path)
    table.evaluate(CELLS[0], measured)
    before = table.path.read_bytes()
    other = table_in(tmp_path, tuning="long")
    for cell in CELLS[:2]:
        with pytest.raises(
            DataError, match=r"cells\.csv was made with tuning short, expected long"
        ):
            other.evaluate(cell, never)
    assert table.path.read_bytes() == before


def _measure_some(folder: str, task: str) -> None:
    for cell in CELLS:
        if cell["task"] == task:
            for seed in range(20):
                table_in(Path(folder)).evaluate({**cell, "seed": seed}, measured)


def test_two_processes_lose_no_row_of_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_measure_some, args=(str(tmp_path), t)) for t in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    rows, _ = table_in(tmp_path).read()
    assert len(rows) == len(rows.drop_duplicates(list(KEYS))) == 80


def test_only() -> None:
    def chosen(*texts: str) -> list[dict[str, Any]]:
        return list(filter(parse_only(texts, CELLS), CELLS))

    assert chosen() == CELLS
    assert chosen("task=a") == CELLS[:2]
    assert chosen("share=0.1", "share=0.5") == CELLS
    assert chosen("task=b", "share=0.5") == [CELLS[3]]
    for text, said in (
        ("task=c", "--only task=c: expected for task one of a, b"),
        ("kind=a", "expected KEY=VALUE with a key of task, share, seed"),
        ("a", "--only a: expected KEY=VALUE"),
    ):
        with pytest.raises(ConfigError, match=said):
            chosen(text)
