"""Why nothing fits, in one line: which budget to relax, and to what."""

from __future__ import annotations

import math

from dtmm.scheduler.problem import Metric, Problem
from dtmm.scheduler.relax import Relaxed, limited, smallest_budget, smallest_combination

UNITS = {"latency": "cycles", "flash": "B", "sram": "B", "loss": "nat"}


def explain_infeasible(problem: Problem, time_limit_s: float = 60.0, threads: int = 1) -> str:
    """One line: the smallest feasible value of each budget while the others are kept.

    Where relaxing one budget alone is not enough, the line gives the budgets with the smallest sum
    of relative relaxations, and each one's smallest value when all others are dropped. Every value
    named is one that a schedule reaches, rounded up; under a time limit it may not be the smallest,
    and is then called "at most".
    """
    metrics = limited(problem)
    if not metrics:
        return f"problem {problem.name!r}: the allowed options contradict each other"
    asked = ", ".join(f"{m}<={_exact(m, getattr(problem.budgets, m))}" for m in metrics)
    head = f"no schedule fits {asked}: "
    alone = [smallest_budget(problem, m, True, time_limit_s, threads) for m in metrics]
    if any(each.needed is not None for each in alone):
        return head + "; ".join(_alone(each) for each in alone)
    free = [smallest_budget(problem, m, False, time_limit_s, threads) for m in metrics]
    parts = [f"{x.metric} {_value(x)}" for x in free if x.needed is not None]
    if not parts:
        return head + "not even without budgets: the allowed options contradict each other"
    return (
        head
        + "relaxing one alone is not enough"
        + _together(problem, time_limit_s, threads)
        + "; smallest with the others dropped: "
        + ", ".join(parts)
    )


def _together(problem: Problem, time_limit_s: float, threads: int) -> str:
    best = smallest_combination(problem, time_limit_s, threads)
    if best is None:
        return ""
    values = ", ".join(f"{m} {rounded_up(m, value)}" for m, value in best.budgets.items())
    return f"; nearest together: {values}"


def _alone(relaxed: Relaxed) -> str:
    metric = relaxed.metric
    if relaxed.needed is not None:
        return f"smallest feasible {metric} {_value(relaxed)} (others kept)"
    return f"{metric} alone is not enough" if relaxed.proven else f"{metric}: not found in time"


def _value(relaxed: Relaxed) -> str:
    assert relaxed.needed is not None
    return ("" if relaxed.proven else "at most ") + rounded_up(relaxed.metric, relaxed.needed)


def _exact(metric: Metric, value: float) -> str:
    return f"{value:.6g} nat" if metric == "loss" else f"{value:.10g} {UNITS[metric]}"


def rounded_up(metric: Metric, value: float) -> str:
    """A budget that a schedule of this total meets: whole bytes or cycles, four digits of nats."""
    if metric != "loss":
        return f"{math.ceil(value):,} {UNITS[metric]}"
    if value == 0:
        return "0 nat"
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / step) * step:.4g} nat"
