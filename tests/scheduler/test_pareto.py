"""Fronts against the non-dominated set of all decisions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.instances import Shares, instance
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.scheduler import Problem, Schedule, get_solver
from dtmm.scheduler.pareto import FrontPoint, non_dominated, pareto
from tests.scheduler.small import choices, concatenated, fits, tiny, with_budgets

GAP = 1e-9


def _true_front(problem: Problem, axes: tuple[str, ...]) -> np.ndarray:
    """[n, axes] of every non-dominated decision, by enumeration."""
    feasible = [c.totals for c in choices(problem) if fits(c, problem.budgets)]
    values = np.unique(np.array([[t[a] for a in axes] for t in feasible]).round(9), axis=0)
    at_most = (values[None] <= values[:, None] * (1 + 1e-9)).all(axis=2)
    np.fill_diagonal(at_most, False)
    return values[~at_most.any(axis=1)]


@pytest.mark.parametrize(
    ("problem", "axes"),
    [
        (tiny(3, Shares(0.7, 1.0, 0.45)), ("latency", "loss")),
        (tiny(4, Shares(None, None, 0.3)), ("flash", "latency")),
        (tiny(5, Shares(0.9, None, None)), ("loss", "sram")),
        (concatenated(1), ("latency", "loss")),
        (concatenated(2), ("sram", "latency")),
    ],
    ids=["latency-loss", "flash-latency", "loss-sram", "concat", "concat-sram"],
)
def test_with_enough_points_the_front_is_the_whole_one(
    problem: Problem, axes: tuple[str, str]
) -> None:
    front = pareto(problem, *axes, points=400, gap=GAP)
    truth = _true_front(problem, axes)
    assert front.complete
    found = np.array([front.values(point) for point in front.points])
    assert len(found) == len(truth)
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-9)


def test_a_few_points_lie_on_the_front_and_at_both_ends() -> None:
    problem = tiny(0, Shares(0.8, None, None))
    truth = _true_front(problem, ("latency", "loss"))
    front = pareto(problem, points=6, gap=GAP)
    assert len(front.points) == 6
    assert not front.complete
    found = np.array([front.values(point) for point in front.points])
    for row in found:
        assert np.isclose(truth, row, rtol=1e-6).all(axis=1).any()
    np.testing.assert_allclose(found[[0, -1]], truth[[0, -1]], rtol=1e-6)
    for point in front.points:
        assert point.schedule.gap <= GAP + 1e-8
        assert all(getattr(point.schedule, m) <= v * (1 + 1e-7) for m, v in point.limits.items())


def test_three_axes() -> None:
    problem = concatenated(3)
    axes = ("latency", "loss", "flash")
    truth = _true_front(problem, axes)
    front = pareto(problem, *axes, points=25, gap=GAP)
    found = np.array([front.values(point) for point in front.points])
    assert len(found) >= 8
    assert not front.complete
    for row in found:
        assert np.isclose(truth, row, rtol=1e-6).all(axis=1).any()
    assert {tuple(point.limits) for point in front.points} >= {("flash", "loss")}


def test_a_heuristic_is_never_below_the_exact_front() -> None:
    problem = tiny(1, Shares(0.8, None, None))
    truth = _true_front(problem, ("latency", "loss"))
    front = pareto(problem, points=8, solver="greedy")
    assert not front.complete
    for point in front.points:
        fastest = truth[truth[:, 1] <= point.schedule.loss * (1 + 1e-6)][:, 0].min()
        assert point.schedule.latency >= fastest * (1 - 1e-9)
        assert point.schedule.status == "feasible"


def test_resnet12_is_monotone_and_proven() -> None:
    problem = with_budgets(instance("resnet12"), loss=None)
    front = pareto(problem, points=5)
    values = np.array([front.values(point) for point in front.points])
    assert (np.diff(values[:, 0]) > 0).all()
    assert (np.diff(values[:, 1]) < 0).all()
    assert all(point.schedule.gap <= 1e-4 + 1e-8 for point in front.points)


def test_dominated_points_go() -> None:
    base = get_schedule()
    made = [(1.0, 5.0), (2.0, 5.0), (2.0, 4.0), (3.0, 4.5), (2.0, 4.0), (4.0, 1.0)]
    points = [
        FrontPoint(dataclasses.replace(base, latency=x, loss=y), {"loss": y}) for x, y in made
    ]
    kept = non_dominated(points, ("latency", "loss"))
    assert [(p.schedule.latency, p.schedule.loss) for p in kept] == [(1, 5), (2, 4), (4, 1)]


def get_schedule() -> Schedule:
    """Any schedule."""
    return pareto(tiny(0), points=2).points[0].schedule


def test_refusals() -> None:
    problem = tiny(0)
    with pytest.raises(ConfigError, match=r"axis 'energy' is unknown"):
        pareto(problem, "energy")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected different ones"):
        pareto(problem, "loss", "loss")
    with pytest.raises(ConfigError, match="points is 1"):
        pareto(problem, points=1)
    per_unit = dataclasses.replace(problem.budgets, loss_rule="per_unit")
    with pytest.raises(ConfigError, match="per_unit"):
        pareto(dataclasses.replace(problem, budgets=per_unit))
    with pytest.raises(InfeasibleError, match="smallest feasible flash"):
        pareto(with_budgets(problem, flash=10_000.0))


def test_progress_counts_solves() -> None:
    seen: list[tuple[int, int]] = []
    front = pareto(
        tiny(0), points=3, solver=get_solver("highs"), progress=lambda *at: seen.append(at)
    )
    assert len(seen) == front.solves
    assert seen[-1][1] == 6
