"""How much of each layer goes: an exact scheduler that knows arrays only.

>>> from dtmm.scheduler import solve
>>> schedule = solve(problem, gap=1e-4)          # doctest: +SKIP
>>> schedule.channels, schedule.gap              # doctest: +SKIP
"""

from __future__ import annotations

from dtmm.scheduler.evaluate import Decision, Totals, distance, evaluate, objective_value
from dtmm.scheduler.problem import (
    METRICS,
    Budgets,
    Concat,
    Exclusion,
    Group,
    Layer,
    MemoryStep,
    Metric,
    Objective,
    Problem,
    Schedule,
)
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import (
    SOLVERS,
    Outcome,
    Settings,
    Solver,
    all_solvers,
    get_solver,
    list_solvers,
)
from dtmm.scheduler.validate import validate

__all__ = [
    "METRICS",
    "SOLVERS",
    "Budgets",
    "Concat",
    "Decision",
    "Exclusion",
    "Group",
    "Layer",
    "MemoryStep",
    "Metric",
    "Objective",
    "Outcome",
    "Problem",
    "Schedule",
    "Settings",
    "Solver",
    "Totals",
    "all_solvers",
    "distance",
    "evaluate",
    "get_solver",
    "list_solvers",
    "objective_value",
    "solve",
    "validate",
]
