"""A loss budget for who knows none: so much above the least loss that the other budgets allow."""

from __future__ import annotations

import dataclasses

from dtmm.scheduler.problem import Objective, Problem
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import Solver


def near_least_loss(
    problem: Problem,
    slack: float,
    solver: str | Solver = "auto",
    gap: float = 1e-4,
    time_limit_s: float = 60.0,
) -> Problem:
    """The problem with 1 + `slack` times the least loss that its other budgets allow as its loss
    budget, in place of its own.

    A slack of 0 leaves the networks that lose least, of which the objective takes the fastest.

    Raises:
        InfeasibleError: nothing fits the other budgets.
        DtmmError: see `solve`.
    """
    unlimited = dataclasses.replace(problem.budgets, loss=None)
    question = dataclasses.replace(problem, budgets=unlimited, objective=Objective.only("loss"))
    least = solve(question, solver, gap, time_limit_s).loss
    budgets = dataclasses.replace(problem.budgets, loss=(1 + slack) * least)
    return dataclasses.replace(problem, budgets=budgets)
