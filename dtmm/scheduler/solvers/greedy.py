"""Steepest descent: always the move that gains most per nat of loss (a rival, and first aid)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from dtmm.scheduler.evaluate import (
    Decision,
    Metric,
    Totals,
    broken_rules,
    evaluate,
    limit,
    step_bytes,
)
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Solver

FREE = 1e-12
"""Loss increase (nat) below which a move counts as free: it then wins by its gain alone."""


class Greedy(Solver):
    """From the first level and option of everything, first into the budgets, then down.

    A move is one group to any lower level (one level at a time would stop at padded channel counts
    that save no SRAM) or one layer to another option. While flash or SRAM are over
    budget the gain is the overshoot removed, after that the decrease of the objective.
    """

    name: ClassVar[str] = "greedy"
    exact: ClassVar[bool] = False
    keeps_time_limit: ClassVar[bool] = True
    needs: ClassVar[str] = "nothing"

    @classmethod
    def version(cls) -> str | None:
        """It is part of this package."""
        return "1"

    def minimise(
        self, problem: Problem, objective: Metric, gap: float, time_limit_s: float, threads: int
    ) -> Outcome:
        """See `Solver.minimise`; `gap` and `threads` mean nothing here."""
        stop = time.perf_counter() + time_limit_s
        here = Decision((0,) * len(problem.groups), (0,) * len(problem.layers))
        while time.perf_counter() < stop:
            there = _best_move(problem, objective, here)
            if there is None:
                break
            here = there
        totals = evaluate(problem, here.levels, here.options)
        if broken_rules(problem, here, totals):
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", here, 0.0)


def _moves(problem: Problem, here: Decision) -> Iterator[Decision]:
    for g, group in enumerate(problem.groups):
        for j in range(here.levels[g] + 1, len(group.levels)):
            yield Decision(_with(here.levels, g, j), here.options)
    for n, layer in enumerate(problem.layers):
        for k in range(len(layer.kernels)):
            if k != here.options[n]:
                yield Decision(here.levels, _with(here.options, n, k))


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _best_move(problem: Problem, objective: Metric, here: Decision) -> Decision | None:
    """The allowed move with the largest gain per loss, None if no move gains anything."""
    totals = evaluate(problem, here.levels, here.options)
    over = _overshoot(problem, here, totals)
    best: tuple[bool, float] | None = None
    chosen = None
    for there in _moves(problem, here):
        after = evaluate(problem, there.levels, there.options)
        if after.loss > limit(problem.budgets.loss) or not _allowed(problem, there):
            continue
        still = _overshoot(problem, there, after)
        gain = over - still if over > 0 else getattr(totals, objective) - getattr(after, objective)
        if gain <= 0 or (over <= 0 < still):
            continue
        extra = after.loss - totals.loss
        score = (extra <= FREE, gain / max(extra, FREE))
        if best is None or score > best:
            best, chosen = score, there
    return chosen


def _allowed(problem: Problem, decision: Decision) -> bool:
    return all(
        layer.allowed[decision.levels[layer.input_group], decision.levels[layer.output_group], k]
        for layer, k in zip(problem.layers, decision.options, strict=True)
    )


def _overshoot(problem: Problem, decision: Decision, totals: Totals) -> float:
    """How far flash and every step's SRAM are over budget, as shares of the budgets."""
    over = 0.0
    flash, sram = problem.budgets.flash, problem.budgets.sram
    if flash is not None:
        over += max(totals.flash - limit(flash), 0.0) / max(flash, 1.0)
    if sram is not None:
        used = step_bytes(problem, decision.levels, decision.options)
        over += sum(max(size - limit(sram), 0.0) for size in used) / max(sram, 1.0)
    return over
