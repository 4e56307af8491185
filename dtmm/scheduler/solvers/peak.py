"""The smallest SRAM peak, by bisection: "does anything fit into that much?" is the easier question.

Every answer is a proof: yes comes with a schedule, whose own peak is the new upper end; no is a
lower bound.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from dtmm.scheduler.evaluate import BUDGET_TOLERANCE, Decision, evaluate
from dtmm.scheduler.problem import Objective, Problem
from dtmm.scheduler.solvers.base import Outcome, Settings

FINEST_GAP = 10 * BUDGET_TOLERANCE
"""Budgets are kept to a tolerance, so bisection cannot prove a smaller gap."""

ANY_GAP = 0.999
"""The first schedule found will do."""


def minimise_peak(
    minimise: Callable[[Problem, Settings], Outcome], problem: Problem, settings: Settings
) -> Outcome:
    """Minimise the peak alone with a solver that can take it as a budget.

    Args:
        settings: its gap is at least FINEST_GAP.
    """
    stop = time.perf_counter() + settings.time_limit_s
    weight = problem.objective.sram
    low, budget = 0.0, problem.budgets.sram
    best: tuple[float, Decision] | None = None
    below = True
    while True:
        found = minimise(_within(problem, budget), _yes_or_no(settings, stop))
        if found.decision is not None:
            peak = evaluate(problem, found.decision.levels, found.decision.options).sram
            best = (peak, found.decision)
        elif best is None:
            return found
        elif found.status == "unknown":
            return Outcome("feasible", best[1], low * weight)
        elif budget is not None:
            low = budget
        if best[0] - low <= settings.gap * best[0]:
            return Outcome("optimal", best[1], low * weight)
        if stop <= time.perf_counter():
            return Outcome("feasible", best[1], low * weight)
        # Just below the best is often the proof at once: memory comes in large steps.
        budget = best[0] * (1.0 - settings.gap) if below else (low + best[0]) / 2
        below = not below


def _within(problem: Problem, budget: float | None) -> Problem:
    budgets = dataclasses.replace(problem.budgets, sram=budget)
    return dataclasses.replace(problem, budgets=budgets, objective=Objective())


def _yes_or_no(settings: Settings, stop: float) -> Settings:
    left = max(stop - time.perf_counter(), 0.1)
    return dataclasses.replace(settings, gap=ANY_GAP, time_limit_s=left)
