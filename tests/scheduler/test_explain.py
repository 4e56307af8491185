"""Prices and relaxations against enumeration."""

from __future__ import annotations

import dataclasses

import pytest

from dtmm.errors import ConfigError, InfeasibleError
from dtmm.scheduler import Objective, Problem
from dtmm.scheduler.explain import explain
from dtmm.scheduler.relax import smallest_budget, smallest_combination
from tests.scheduler.small import choices, concatenated, fits, tiny, with_budgets

STEPS = {"flash": 2048.0, "sram": 1024.0, "loss": 0.05}


def _best(problem: Problem) -> float | None:
    """The least latency within the budgets, by enumeration."""
    return min(
        (c.totals["latency"] for c in choices(problem) if fits(c, problem.budgets)), default=None
    )


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_prices_are_differences_of_optima(seed: int) -> None:
    problem = tiny(seed)
    found = explain(problem, STEPS)
    now = _best(problem)
    assert found.schedule.latency == pytest.approx(now, rel=1e-6)
    assert [price.metric for price in found.prices] == ["flash", "sram", "loss"]
    for price in found.prices:
        metric, budget = price.metric, getattr(problem.budgets, price.metric)
        assert price.step == STEPS[metric]
        limits = {"dropped": None, "looser": budget + price.step, "tighter": budget - price.step}
        for name, limit in limits.items():
            change, truth = getattr(price, name), _best(with_budgets(problem, **{metric: limit}))
            assert change.limit == limit
            if truth is None:
                assert change.saved is None
                continue
            assert change.objective == pytest.approx(truth, rel=1e-6)
            assert change.low - 1e-6 * now <= now - truth <= change.high + 1e-6 * now
        assert price.binds == (price.dropped.saved > 1e-5 * now)


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_spare_and_next(seed: int) -> None:
    problem = tiny(seed)
    now = _best(problem)
    for price in explain(problem, STEPS).prices:
        free = with_budgets(problem, **{price.metric: None})
        totals = [c.totals for c in choices(free) if fits(c, free.budgets)]
        as_good = [t[price.metric] for t in totals if t["latency"] <= now * (1 + 1e-6)]
        better = [t[price.metric] for t in totals if t["latency"] < now * (1 - 1e-5)]
        assert price.spare == pytest.approx(min(as_good), rel=1e-5, abs=1e-9)
        if better:
            assert price.next == pytest.approx(min(better), rel=1e-5)
        else:
            assert price.next is None


def test_weighted_sums_have_prices_too() -> None:
    problem = dataclasses.replace(tiny(0), objective=Objective(latency=1.0, flash=2.0))
    found = explain(problem)
    assert found.unit == "weighted sum"
    assert all(price.spare is None for price in found.prices)
    truth = min(
        c.totals["latency"] + 2 * c.totals["flash"]
        for c in choices(problem)
        if fits(c, problem.budgets)
    )
    assert found.schedule.objective == pytest.approx(truth, rel=1e-6)


IMPOSSIBLE = [
    with_budgets(tiny(0), flash=15_000.0, loss=0.1),
    with_budgets(tiny(1), flash=20_000.0, sram=5_000.0, loss=0.02),
    with_budgets(concatenated(5), flash=60.0, sram=40.0, latency=80.0),
    with_budgets(concatenated(6), flash=120.0, loss=0.05),
]


@pytest.mark.parametrize("problem", IMPOSSIBLE)
def test_smallest_budgets(problem: Problem) -> None:
    everything = choices(problem)
    assert not any(fits(c, problem.budgets) for c in everything)
    for metric in ("flash", "sram", "loss", "latency"):
        if getattr(problem.budgets, metric) is None:
            continue
        alone = with_budgets(problem, **{metric: None}).budgets
        for keep, budgets in ((True, alone), (False, type(alone)())):
            truth = [c.totals[metric] for c in everything if fits(c, budgets)]
            found = smallest_budget(problem, metric, keep_others=keep)
            assert found.proven
            assert found.needed == (pytest.approx(min(truth), rel=1e-6) if truth else None)


@pytest.mark.parametrize("problem", IMPOSSIBLE)
def test_smallest_combination(problem: Problem) -> None:
    asked = {
        m: v
        for m in ("flash", "sram", "loss", "latency")
        if (v := getattr(problem.budgets, m)) is not None
    }
    truth = min(
        sum(max(c.totals[m] / v - 1.0, 0.0) for m, v in asked.items()) for c in choices(problem)
    )
    found = smallest_combination(problem)
    assert found is not None
    assert found.relaxation == pytest.approx(truth, rel=1e-5)
    assert found.bound <= truth * (1 + 1e-6)
    assert found.bound == pytest.approx(truth, rel=1e-4)
    assert any(fits(c, with_budgets(problem, **found.budgets).budgets) for c in choices(problem))


def test_nothing_to_relax() -> None:
    problem = tiny(0)
    assert smallest_combination(with_budgets(problem, flash=None, sram=None, loss=None)) is None
    fine = smallest_combination(problem)
    assert fine is not None
    assert fine.relaxation == 0
    assert fine.budgets == {m: getattr(problem.budgets, m) for m in ("flash", "sram", "loss")}


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="step of flash is 0"):
        explain(tiny(0), {"flash": 0.0})
    with pytest.raises(ConfigError, match="'greedy' proves nothing"):
        explain(tiny(0), solver="greedy")
    with pytest.raises(InfeasibleError, match="nearest together"):
        explain(IMPOSSIBLE[1])
