"""The same ratios everywhere: what a user without a scheduler would do (a rival)."""

from __future__ import annotations

import time
from typing import ClassVar

from dtmm.scheduler.evaluate import Decision, broken_rules, evaluate, objective_value
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.walk import completed


class Uniform(Solver):
    """All groups at the same position of their levels, all layers of their options.

    Every pair of positions that tells any two levels or options apart is tried.
    """

    name: ClassVar[str] = "uniform"
    keeps_time_limit: ClassVar[bool] = True

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap`, `threads` and `seed` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        level_counts = [len(group.levels) for group in problem.groups]
        option_counts = [len(layer.kernels) for layer in problem.layers]
        best: tuple[float, Decision] | None = None
        for position in _positions(level_counts):
            levels = completed(problem, position)
            if levels is None:
                continue
            for options in _positions(option_counts):
                if time.perf_counter() > stop:
                    break
                decision = Decision(levels, options)
                totals = evaluate(problem, levels, options)
                value = objective_value(problem, totals)
                if (best is None or value < best[0]) and not broken_rules(
                    problem, decision, totals
                ):
                    best = (value, decision)
        if best is None:
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", best[1], 0.0)


def _positions(counts: list[int]) -> list[tuple[int, ...]]:
    """Indices at evenly spaced shares of the way from the first choice to the last."""
    steps = max(counts, default=1)
    return [
        tuple(round(step * (count - 1) / max(steps - 1, 1)) for count in counts)
        for step in range(steps)
    ]
