"""How much of each layer goes: an exact scheduler that knows arrays only.

>>> from dtmm.scheduler import solve
>>> schedule = solve(problem, gap=1e-4)          # doctest: +SKIP
>>> schedule.channels, schedule.gap              # doctest: +SKIP
"""

from __future__ import annotations

from dtmm.scheduler.evaluate import Decision, Totals, evaluate
from dtmm.scheduler.problem import Budgets, Group, Layer, MemoryStep, Problem, Schedule
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import SOLVERS, Solver, get_solver, list_solvers
from dtmm.scheduler.validate import validate

__all__ = [
    "SOLVERS",
    "Budgets",
    "Decision",
    "Group",
    "Layer",
    "MemoryStep",
    "Problem",
    "Schedule",
    "Solver",
    "Totals",
    "evaluate",
    "get_solver",
    "list_solvers",
    "solve",
    "validate",
]
