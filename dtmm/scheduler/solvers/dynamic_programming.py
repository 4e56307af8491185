"""Dynamic programming over the groups that are open at a time, with prices on the budgets.

The first half of `lagrangian`, without the integer program that settles the rest: budgets shared by
all layers become prices, and what each price asks for is found exactly by eliminating one group
after the other (`dtmm.scheduler.elimination`). The best decision met on the way to the best prices
is kept, or one at slightly higher prices, improved by steepest descent, where that is better
(greedy's where none keeps the budgets). It proves a bound, and with it a gap, but not always that
the gap is zero.
"""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np

from dtmm.scheduler.presolve import presolve
from dtmm.scheduler.problem import Metric, Problem
from dtmm.scheduler.relaxation import Relaxation
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.greedy import Greedy, descend
from dtmm.scheduler.solvers.lagrangian import PriceSearch, find_prices
from dtmm.scheduler.solvers.walk import Walk

FACTORS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0)
"""Above the best prices decisions keep more of the budgets: each is a start for the walk."""


class DynamicProgramming(Solver):
    """Best prices by cutting planes, an exact dynamic program at each."""

    name: ClassVar[str] = "dp"
    proves_bound: ClassVar[bool] = True
    objectives: ClassVar[frozenset[Metric]] = frozenset(("latency", "flash", "loss"))

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `threads` and `seed` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        candidates = presolve(problem)
        if candidates.empty:
            return Outcome("unknown", None, 0.0)
        relaxation = Relaxation(problem, candidates)
        prices = np.zeros(len(relaxation.resources))
        search = PriceSearch(problem, relaxation, settings, stop, prices)
        if not find_prices(search):
            return Outcome("unknown", None, 0.0)
        for factor in FACTORS:
            near = relaxation.solve(search.prices * factor).decision
            if near is not None:
                walk = Walk(problem, candidates, near)
                descend(walk, stop)
                search.offer(walk.decision)
        if search.decision is None:
            search.offer(Greedy().minimise(problem, settings).decision)
        return search.outcome(relaxation.value(search.bound))
