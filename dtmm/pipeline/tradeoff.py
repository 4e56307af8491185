"""Where a run's schedule stands: the price of each of its budgets, and the front it lies on."""

from __future__ import annotations

import dataclasses
from typing import Any

from dtmm.errors import DtmmError
from dtmm.scheduler import Problem, Schedule
from dtmm.scheduler.explain import Price, explain
from dtmm.scheduler.pareto import pareto

GAP = 1e-4
TIME_LIMIT_S = 10.0
"""Of a single solve; a report should not wait longer for what no figure depends on."""
POINTS = 10
"""Of the front at most."""


def tradeoff(problem: Problem, chosen: Schedule) -> dict[str, Any]:
    """Prices and front as JSON values.

    Returns:
        "prices": a row per budget: limit, use, whether it binds, and by how many cycles the optimum
        is faster with one step more and slower with one step less (None: nothing fits);
        "front": cycles and estimated nats of the exact trade-off within flash and SRAM;
        "chosen": the schedule's own; "left_out": why a part is missing, "" if none is.
    """
    found: dict[str, Any] = {
        "chosen": {"latency": chosen.latency, "loss": chosen.loss},
        "prices": [],
        "front": [],
        "left_out": "",
    }
    free = dataclasses.replace(
        problem, budgets=dataclasses.replace(problem.budgets, loss=None, latency=None)
    )
    try:
        prices = explain(problem, gap=GAP, time_limit_s=TIME_LIMIT_S).prices
        found["prices"] = [_price(each) for each in prices]
        front = pareto(free, points=POINTS, gap=GAP, time_limit_s=TIME_LIMIT_S)
        found["front"] = [
            {"latency": point.schedule.latency, "loss": point.schedule.loss,
             "gap": point.schedule.gap}
            for point in front.points
        ]  # fmt: skip
    except DtmmError as error:
        found["left_out"] = str(error)
    return found


def _price(price: Price) -> dict[str, Any]:
    return {
        "budget": price.metric,
        "limit": price.budget,
        "used": price.used,
        "binds": price.binds,
        "step": price.step,
        "saves": price.looser.saved,
        "costs": None if price.tighter.saved is None else -price.tighter.saved,
    }
