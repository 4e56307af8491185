"""Pools against the sorted list of all decisions."""

from __future__ import annotations

import dataclasses

import pytest

from dtmm.errors import ConfigError, InfeasibleError
from dtmm.scheduler import Exclusion, Problem
from dtmm.scheduler.pool import pool
from tests.scheduler.small import Choice, choices, concatenated, fits, tiny, with_budgets

GAP = 1e-9


def _best_apart(problem: Problem, count: int, differ: int) -> list[Choice]:
    """The pool by enumeration: always the best that is far enough from those before it."""
    feasible = [c for c in choices(problem) if fits(c, problem.budgets)]
    feasible.sort(key=lambda c: c.totals["latency"])
    found: list[Choice] = []
    for choice in feasible:
        if len(found) < count and all(_differences(choice, other) >= differ for other in found):
            found.append(choice)
    return found


def _differences(one: Choice, other: Choice) -> int:
    mine, theirs = (*one.levels, *one.options), (*other.levels, *other.options)
    return sum(a != b for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("solver", ["lagrangian", "highs", "cbc", "brute_force"])
def test_the_k_best(solver: str) -> None:
    problem = tiny(7)
    truth = _best_apart(problem, 8, 1)
    found = pool(problem, 8, solver=solver, gap=GAP)
    latencies = [choice.totals["latency"] for choice in truth]
    assert [s.latency for s in found.schedules] == pytest.approx(latencies, rel=1e-6)
    assert len({(s.levels, s.options) for s in found.schedules}) == len(truth)


@pytest.mark.parametrize("differ", [2, 3, 5])
@pytest.mark.parametrize("problem", [tiny(8), with_budgets(concatenated(4), loss=1.1)],
                         ids=["residual", "concat"])  # fmt: skip
def test_apart(problem: Problem, differ: int) -> None:
    truth = _best_apart(problem, 6, differ)
    found = pool(problem, 6, differ, gap=GAP)
    assert [s.latency for s in found.schedules] == pytest.approx(
        [choice.totals["latency"] for choice in truth], rel=1e-6
    )
    assert found.exhausted == (len(truth) < 6)
    for n, one in enumerate(found.schedules):
        for other in found.schedules[:n]:
            pair = ((*s.levels, *s.options) for s in (one, other))
            assert sum(a != b for a, b in zip(*pair, strict=True)) >= differ


def test_it_ends_when_there_are_no_more() -> None:
    problem = tiny(0)
    count = sum(fits(c, problem.budgets) for c in choices(problem))
    found = pool(problem, count + 5)
    assert found.exhausted
    assert len(found.schedules) == count


def test_known_schedules_stay_excluded() -> None:
    problem = tiny(7)
    first, second = pool(problem, 2, gap=GAP).schedules
    known = Exclusion(first.levels, first.options)
    without = pool(dataclasses.replace(problem, exclusions=(known,)), 1, gap=GAP)
    assert without.schedules[0].latency == pytest.approx(second.latency, rel=1e-6)


def test_refusals() -> None:
    problem = tiny(0)
    with pytest.raises(ConfigError, match="'greedy' cannot provide a pool"):
        pool(problem, 2, solver="greedy")
    with pytest.raises(ConfigError, match="pool size is 0"):
        pool(problem, 0)
    with pytest.raises(ConfigError, match="differ is 99"):
        pool(problem, 2, 99)
    with pytest.raises(InfeasibleError):
        pool(with_budgets(problem, flash=10_000.0), 2)
