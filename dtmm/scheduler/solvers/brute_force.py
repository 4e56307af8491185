"""Every decision there is: the truth the other solvers are tested against, for small problems."""

from __future__ import annotations

import itertools
import math
import time
from typing import ClassVar

from dtmm.errors import DtmmError
from dtmm.scheduler.evaluate import Decision, broken_rules, evaluate, objective_value
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver

MOST_DECISIONS = 2_000_000


class BruteForce(Solver):
    """Enumerates all level and option combinations (at most MOST_DECISIONS)."""

    name: ClassVar[str] = "brute_force"
    exact: ClassVar[bool] = True
    proves_bound: ClassVar[bool] = True
    pool: ClassVar[bool] = True
    keeps_time_limit: ClassVar[bool] = True

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap` and `threads` are not needed.

        Raises:
            DtmmError: the problem has too many decisions.
        """
        choices = [range(len(group.levels)) for group in problem.groups]
        choices += [range(len(layer.kernels)) for layer in problem.layers]
        count = math.prod(len(choice) for choice in choices)
        if count > MOST_DECISIONS:
            raise DtmmError(
                f"problem {problem.name!r} has {count:.3g} decisions, "
                f"expected at most {MOST_DECISIONS:,} for solver {self.name}"
            )
        stop = time.perf_counter() + settings.time_limit_s
        best: tuple[float, Decision] | None = None
        complete = True
        for picked in itertools.product(*choices):
            if time.perf_counter() > stop:
                complete = False
                break
            decision = Decision(picked[: len(problem.groups)], picked[len(problem.groups) :])
            totals = evaluate(problem, decision.levels, decision.options)
            value = objective_value(problem, totals)
            if (best is None or value < best[0]) and not broken_rules(problem, decision, totals):
                best = (value, decision)
        if best is None:
            return Outcome("infeasible" if complete else "unknown", None, 0.0)
        return Outcome("optimal" if complete else "feasible", best[1], best[0] if complete else 0.0)
