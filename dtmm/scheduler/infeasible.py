"""Why nothing fits: which budget to relax, and to what."""

from __future__ import annotations

import dataclasses
import math

from dtmm.scheduler.evaluate import BUDGETED, Metric, evaluate
from dtmm.scheduler.problem import Budgets, Problem
from dtmm.scheduler.solvers import get_solver


def explain_infeasible(problem: Problem, time_limit_s: float = 60.0, threads: int = 1) -> str:
    """One line: the smallest feasible value of each budget while the others are kept.

    Where relaxing one budget alone is not enough, the line gives each one's smallest value when
    all others are dropped. Every value named is one that a schedule reaches, rounded up; under a
    time limit it may not be the smallest, and is then called "at most".
    """
    limited = [metric for metric in BUDGETED if getattr(problem.budgets, metric) is not None]
    asked = ", ".join(f"{m}<={_exact(m, getattr(problem.budgets, m))}" for m in limited)
    if not limited:
        return f"problem {problem.name!r}: the allowed options contradict each other"
    head = f"no schedule fits {asked}: "
    alone = {m: _smallest(problem, m, True, time_limit_s, threads) for m in limited}
    if any(alone.values()):
        parts = [
            f"smallest feasible {m} {value} (others kept)" if value else f"{m} alone is not enough"
            for m, value in alone.items()
        ]
        return head + "; ".join(parts)
    free = {m: _smallest(problem, m, False, time_limit_s, threads) for m in limited}
    if not any(free.values()):
        return head + "not even without budgets: the allowed options contradict each other"
    parts = [f"{m} {value}" for m, value in free.items() if value]
    return (
        head
        + "relaxing one alone is not enough; smallest with the others dropped: "
        + (", ".join(parts))
    )


def _smallest(
    problem: Problem, metric: Metric, keep_others: bool, time_limit_s: float, threads: int
) -> str | None:
    """The smallest value of one total, as text; None if there is no schedule at all."""
    budgets = problem.budgets if keep_others else Budgets()
    relaxed = dataclasses.replace(problem, budgets=dataclasses.replace(budgets, **{metric: None}))
    outcome = get_solver().minimise(relaxed, metric, 1e-6, time_limit_s, threads)
    if outcome.decision is None:
        return "not found in time" if outcome.status == "unknown" else None
    totals = evaluate(relaxed, outcome.decision.levels, outcome.decision.options)
    at_most = "" if outcome.status == "optimal" else "at most "
    return at_most + _rounded_up(metric, getattr(totals, metric))


def _exact(metric: Metric, value: float) -> str:
    return f"{value:.6g} nat" if metric == "loss" else f"{value:.10g} B"


def _rounded_up(metric: Metric, value: float) -> str:
    if metric != "loss":
        return f"{math.ceil(value):,} B"
    if value == 0:
        return "0 nat"
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / step) * step:.4g} nat"
