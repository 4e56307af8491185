"""Fronts as tables and figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.instances import Grid, Shares, instance
from dtmm.errors import DataError
from dtmm.report.fronts import LABELS, draw_fronts, front_table, save_figure
from dtmm.scheduler import METRICS
from dtmm.scheduler.pareto import pareto


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """An exact front, complete, and a heuristic's, over tiny instances."""
    problem = instance("tiny_resnet", Grid(2, 2), 0, Shares(None, None, 0.2))
    exact = pareto(problem, "latency", "flash", points=50, gap=1e-9)
    assert exact.complete
    return front_table({"exact": exact, "greedy": pareto(problem, "latency", "flash", points=3,
                                                         solver="greedy")})  # fmt: skip


def test_table(table: pd.DataFrame) -> None:
    exact = table[table["series"] == "exact"]
    assert set(METRICS) <= set(table.columns)
    assert set(exact["x"]) == {"latency"}
    assert exact["latency"].is_monotonic_increasing
    assert exact["flash"].is_monotonic_decreasing
    limited = exact["limit_flash"].dropna()
    assert (exact.loc[limited.index, "flash"] <= limited * (1 + 1e-7)).all()
    assert (exact["bound"] <= exact["latency"]).all()
    assert exact["complete"].all()


def test_figure(table: pd.DataFrame) -> None:
    axes = draw_fronts(table, "latency", "flash").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (LABELS["latency"][0], LABELS["flash"][0])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["exact", "greedy"]
    exact, proven, hollow = axes.lines[:3]
    assert exact.get_drawstyle() == "steps-post"
    shown = table[table["series"] == "exact"]["latency"] / 1e6
    assert list(exact.get_xdata()) == pytest.approx(list(shown))
    assert (len(proven.get_xdata()), len(hollow.get_xdata())) == (len(shown), 0)
    greedy = axes.lines[4]
    assert greedy.get_drawstyle() == "default"
    assert {line.get_linestyle() for line in (exact, greedy)} == {"-", "--"}


def test_a_third_axis_is_a_shade(table: pd.DataFrame) -> None:
    figure = draw_fronts(table, "latency", "flash", "loss")
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == LABELS["loss"][0]


def test_the_same_table_gives_the_same_files(table: pd.DataFrame, tmp_path: Path) -> None:
    files = [
        save_figure(draw_fronts(table, "latency", "flash"), tmp_path / f"{n}.csv") for n in "ab"
    ]
    for one, other in zip(*files, strict=True):
        assert one.suffix in (".pdf", ".png")
        assert one.read_bytes() == other.read_bytes()


def test_refusals(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="lacks columns flash, complete"):
        draw_fronts(table.drop(columns=["flash", "complete"]), "latency", "flash")
