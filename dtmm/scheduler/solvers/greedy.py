"""Steepest descent: always the move that gains most per nat of loss (a rival, and first aid)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from dtmm.scheduler.evaluate import limit, summed_budgets
from dtmm.scheduler.presolve import presolve
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.walk import Walk, starting_point

FREE = 1e-12
"""Loss increase (nat) below which a move counts as free: it then wins by its gain alone."""

Variable = tuple[bool, int]
"""(is a group, index)."""

Move = tuple[tuple[bool, float], int]
"""(free of loss, gain or gain per nat) and the index to move to."""


class Greedy(Solver):
    """From the least loss that fits the SRAM, first into the other budgets, then down.

    A move is one group to any other level or one layer to another option. While a budget is
    exceeded the gain is the overshoot removed, after that the decrease of the objective. Moves
    that lower the loss as well are taken first. Each variable's best move is kept until one of its
    neighbours moves.
    """

    name: ClassVar[str] = "greedy"
    keeps_time_limit: ClassVar[bool] = True

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap`, `threads` and `seed` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        candidates = presolve(problem)
        start = None if candidates.empty else starting_point(problem, candidates, "loss")
        if start is None:
            return Outcome("unknown", None, 0.0)
        walk = Walk(problem, candidates, start)
        descend(walk, stop)
        if walk.excess() > 0:
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", walk.decision, 0.0)


def descend(walk: Walk, stop: float) -> None:
    """Move until nothing gains any more or the clock shows `stop`."""
    variables = [(True, g) for g in walk.free]
    variables += [(False, n) for n in range(len(walk.options))]
    near = {variable: _neighbours(walk, variable) for variable in variables}
    known: dict[Variable, Move | None] = {}
    over = walk.excess("loss") > 0
    while time.perf_counter() < stop:
        for variable in variables:
            if variable not in known:
                known[variable] = _best_move(walk, variable)
                if time.perf_counter() >= stop:
                    return
        moves = [(move, variable) for variable, move in known.items() if move is not None]
        if not moves:
            return
        (_, index), variable = max(moves)
        fresh = _best_move(walk, variable)  # budgets may have filled up since
        if fresh is None or fresh[1] != index:
            known[variable] = fresh
            continue
        _set(walk, variable, index)
        walk.forget()
        for changed in near[variable]:
            known.pop(changed, None)
        if over and walk.excess("loss") <= 0:  # gains mean something else from now on
            over = False
            known.clear()


def _neighbours(walk: Walk, variable: Variable) -> set[Variable]:
    """The variables whose gains a move changes: those that share a layer or a step with it."""
    is_group, index = variable
    groups = {index} if is_group else set()
    layers = {index} if not is_group else set(walk.layers_of[index])
    for concat in walk._containing(index) if is_group else ():
        groups |= {concat.group, *concat.segments}
        layers |= set(walk.layers_of[concat.group])
    for n in layers:
        layer = walk.problem.layers[n]
        groups |= {layer.input_group, layer.output_group}
    free = set(walk.free)
    return {variable, *((True, g) for g in groups & free), *((False, n) for n in layers)}


def _choices(walk: Walk, variable: Variable) -> Iterator[int]:
    is_group, index = variable
    now = walk.levels[index] if is_group else walk.options[index]
    count = (
        len(walk.problem.groups[index].levels)
        if is_group
        else len(walk.problem.layers[index].kernels)
    )
    return (other for other in range(count) if other != now)


def _set(walk: Walk, variable: Variable, index: int) -> bool:
    is_group, n = variable
    return walk.set_level(n, index) if is_group else walk.set_option(n, index)


def _best_move(walk: Walk, variable: Variable) -> Move | None:
    """The move of one variable with the largest gain per nat; None if no move gains anything."""
    budgets = summed_budgets(walk.problem)
    most_loss = limit(budgets.get("loss"))
    loss, objective, over = walk.loss, walk.objective, walk.excess("loss")
    best: Move | None = None
    for index in _choices(walk, variable):
        if not _set(walk, variable, index):
            continue
        extra, still = walk.loss - loss, walk.excess("loss")
        gain = over - still if over > 0 else (objective - walk.objective) * (still <= 0)
        if gain > 1e-12 * (1.0 if over > 0 else abs(objective)) and walk.loss <= most_loss:
            move = ((extra <= FREE, gain / max(extra, FREE) if extra > FREE else gain), index)
            best = move if best is None or move > best else best
        walk.undo()
    return best
