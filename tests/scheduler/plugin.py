"""A user's solver: one class. The first decision that fits, in order of enumeration."""

from __future__ import annotations

import itertools
import time
from typing import ClassVar

from dtmm.scheduler import Decision, Outcome, Problem, Settings, Solver, evaluate
from dtmm.scheduler.evaluate import broken_rules


class FirstFeasible(Solver):
    """Not good, but honest."""

    name: ClassVar[str] = "first_feasible"
    keeps_time_limit: ClassVar[bool] = True

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`."""
        stop = time.perf_counter() + min(settings.time_limit_s, 2.0)
        sizes = [len(group.levels) for group in problem.groups]
        sizes += [len(layer.kernels) for layer in problem.layers]
        for picked in itertools.product(*map(range, sizes)):
            decision = Decision(picked[: len(problem.groups)], picked[len(problem.groups) :])
            totals = evaluate(problem, decision.levels, decision.options)
            if not broken_rules(problem, decision, totals):
                return Outcome("feasible", decision, 0.0)
            if time.perf_counter() > stop:
                break
        return Outcome("unknown", None, 0.0)
