"""The same ratios everywhere: what a user without a scheduler would do (a rival)."""

from __future__ import annotations

from typing import ClassVar

from dtmm.scheduler.evaluate import Decision, Metric, broken_rules, evaluate
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Solver


class Uniform(Solver):
    """All groups at the same position of their levels, all layers of their options.

    Every pair of positions that tells any two levels or options apart is tried.
    """

    name: ClassVar[str] = "uniform"
    exact: ClassVar[bool] = False
    keeps_time_limit: ClassVar[bool] = False
    needs: ClassVar[str] = "nothing"

    @classmethod
    def version(cls) -> str | None:
        """It is part of this package."""
        return "1"

    def minimise(
        self, problem: Problem, objective: Metric, gap: float, time_limit_s: float, threads: int
    ) -> Outcome:
        """See `Solver.minimise`; `gap`, `time_limit_s` and `threads` mean nothing here."""
        level_counts = [len(group.levels) for group in problem.groups]
        option_counts = [len(layer.kernels) for layer in problem.layers]
        best: tuple[float, Decision] | None = None
        for levels in _positions(level_counts):
            for options in _positions(option_counts):
                decision = Decision(levels, options)
                totals = evaluate(problem, levels, options)
                value = float(getattr(totals, objective))
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
