"""The loss budget that is set by the least loss, against the list of all decisions."""

from __future__ import annotations

import dataclasses

import pytest

from dtmm.errors import InfeasibleError
from dtmm.scheduler import Problem, solve
from dtmm.scheduler.least_loss import near_least_loss
from tests.scheduler.small import choices, concatenated, fits, tiny, with_budgets

GAP = 1e-9


@pytest.mark.parametrize("slack", [0.0, 0.001, 0.3])
@pytest.mark.parametrize("problem", [tiny(3), tiny(11), concatenated(5)], ids=["3", "11", "concat"])
def test_the_fastest_near_the_least_loss(problem: Problem, slack: float) -> None:
    sizes = sorted(choice.totals["flash"] for choice in choices(problem))
    problem = with_budgets(problem, flash=sizes[len(sizes) // 3], loss=1e-6)
    others = dataclasses.replace(problem.budgets, loss=None)
    fitting = [choice.totals for choice in choices(problem) if fits(choice, others)]
    limit = (1 + slack) * min(totals["loss"] for totals in fitting)
    best = min(t["latency"] for t in fitting if t["loss"] <= limit + 1e-9)

    found = near_least_loss(problem, slack, gap=GAP)
    assert found.budgets.loss == pytest.approx(limit)
    assert solve(found, gap=GAP).latency == pytest.approx(best)


def test_other_budgets_that_nothing_fits_are_named() -> None:
    with pytest.raises(InfeasibleError, match="flash"):
        near_least_loss(with_budgets(tiny(3), flash=1.0), 0.0)
