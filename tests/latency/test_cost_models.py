"""Every cost model passes the shipped conformance suite; names, files and functions of users."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtmm.errors import ConfigError, MeasurementError
from dtmm.latency import Cost, CostModel, LatencyTable, Point
from dtmm.latency.cost_models import (
    COST_MODELS,
    ENTRY_POINTS,
    MacCount,
    analytic_model,
    macs,
    make_cost_model,
    tabulate,
)
from dtmm.latency.fitted import FittedModel
from dtmm.testing.cost_models import CHECKS, POINTS, unknown_kernels_are_errors


def measure(points: Sequence[Point]) -> LatencyTable:
    """Stands for the device: the analytic model's answers, each a little off."""
    rng = np.random.default_rng(len(points))
    costs = {}
    for point in points:
        cost = analytic_model().cost(point)
        costs[point] = replace(cost, cycles=cost.cycles * rng.uniform(0.999, 1.001))
    return LatencyTable(costs, {"pattern_seed": "1", "cycle_model": "made up"})


def twice(point: Point) -> Cost:
    """A user's function."""
    cost = analytic_model().cost(point)
    return replace(cost, cycles=2 * cost.cycles)


def model_of(name: str, tmp_path: Path) -> CostModel:
    """The model of that name; a table of the user's where it names a CSV."""
    if name.endswith(".csv"):
        name = str(tmp_path / name)
        measure(POINTS).save(Path(name))
    return make_cost_model(name, POINTS, measure)


NAMES = [*COST_MODELS, "mine.csv", "tests.latency.test_cost_models:twice"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_conformance(name: str, check: Callable[..., None], tmp_path: Path) -> None:
    check(model_of(name, tmp_path), POINTS)


class Careless:
    """Answers whatever it is asked."""

    def cost(self, point: Point) -> Cost:
        return Cost(1000.0 / (1 + point.filterlets), -1.0, 0)


def test_the_suite_notices_a_careless_model() -> None:
    failed = []
    for check in CHECKS:
        try:
            check(Careless(), POINTS)
        except AssertionError:
            failed.append(check.__name__)
    assert len(failed) == len(CHECKS) - 1  # it does answer the same again


def test_a_table_says_whose_answers_it_holds(tmp_path: Path) -> None:
    for name in NAMES:
        table = tabulate(name, model_of(name, tmp_path), POINTS)
        table.save(tmp_path / "latency.csv")
        again = LatencyTable.load(tmp_path / "latency.csv")
        assert again.costs == table.costs
        assert again.provenance["cost_model"] == name


def test_macs_are_counted() -> None:
    """Against the definition, on a shape of every kind that has weights."""
    conv = next(point for point in POINTS if point.kernel == "conv_fwcs_c32_1x8")
    assert macs(conv) == 8 * 8 * conv.filterlets * 32
    by_kind = {point.shape.kind: point for point in POINTS}
    assert macs(by_kind["depthwise_conv"]) == 8 * 8 * 9 * 32
    assert macs(by_kind["fully_connected"]) == 64 * 10
    assert macs(by_kind["add"]) == 0
    grouped = replace(conv, kernel="conv_grouped", shape=replace(conv.shape, groups=4))
    assert macs(grouped) == macs(conv) // 4
    assert MacCount().cost(conv).cycles == macs(conv)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("measurd", "'measurd' is unknown: did you mean 'measured'"),
        ("nothing_like_it", "is unknown: expected measured, fitted, analytic, mac"),
        ("no.such.module:cost", "no.such.module cannot be imported: ModuleNotFoundError"),
        ("no_such.py:cost", "no_such.py cannot be imported"),
        ("math:no_such", "math has no function or class 'no_such'"),
    ],
)
def test_unknown_models_are_errors(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_cost_model(name, POINTS, measure)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 'many'", "returned 'many'"),
        ("return -1", "expected finite numbers >= 0"),
        ("return point.nonsense", "AttributeError"),
    ],
)
def test_what_a_users_function_does_wrong_is_named(body: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"def cycles(point):\n    {body}\n")
    model = make_cost_model(f"{tmp_path / 'mine.py'}:cycles", POINTS, measure)
    with pytest.raises(MeasurementError, match=says):
        model.cost(POINTS[0])


def test_a_missing_point_of_a_users_table_names_the_nearest(tmp_path: Path) -> None:
    few = LatencyTable({POINTS[0]: Cost(1.0, 1.0, 2000)}, {})
    few.save(tmp_path / "few.csv")
    model = make_cost_model(str(tmp_path / "few.csv"), POINTS, measure)
    with pytest.raises(MeasurementError, match=r"the latency table has no .* nearest: conv_fwcs"):
        tabulate("few.csv", model, POINTS)


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint(
        "third", "tests.latency.test_cost_models:third_party", ENTRY_POINTS
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    assert isinstance(make_cost_model("third", POINTS, measure), MacCount)


def third_party(points: Sequence[Point], measure: Callable[..., LatencyTable]) -> CostModel:
    """What another package's entry point names."""
    return MacCount()


def test_the_analytic_model_prices_every_kernel() -> None:
    """Or a network that uses one could not be scheduled with it."""
    from benchmarks.latency_design import design

    for point in design(3, seed=9):
        assert analytic_model().cost(point).cycles > 0
    unknown_kernels_are_errors(analytic_model(), POINTS)


def test_a_fitted_model_is_made_of_few_measurements() -> None:
    asked: list[Point] = []

    def count(points: Sequence[Point]) -> LatencyTable:
        asked.extend(points)
        return measure(points)

    grid = tuple(
        replace(point, out_channels=outputs, filterlets=outputs + extra)
        for point in POINTS[:12]
        for outputs in range(16, 64)
        for extra in range(0, 8 * outputs, 16)
    )
    model = make_cost_model("fitted", grid, count)
    assert isinstance(model, FittedModel)
    assert len(asked) <= 0.05 * len(set(grid))
    for point in grid[::50]:
        assert model.cost(point).cycles == pytest.approx(analytic_model().cost(point).cycles, 0.01)
