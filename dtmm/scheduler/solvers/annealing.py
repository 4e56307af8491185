"""Simulated annealing at the same constraints as the exact solvers, tuned with the same care.

One group or layer moves at a time; a decision outside the budgets costs a penalty that grows until
the walk stays inside; several restarts, the first from a greedy decision, the later ones from the
best so far. Parameters were tuned on invented tables over VGG-11, ResNet-12 and SqueezeNet. For the
paper's own annealer see annealing_paper.py.
"""

from __future__ import annotations

import math
import random
import time
from typing import ClassVar

import numpy as np

from dtmm.scheduler.evaluate import Decision
from dtmm.scheduler.presolve import Candidates, presolve
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.greedy import descend
from dtmm.scheduler.solvers.walk import Walk, starting_point

PENALTIES = (2.0, 20.0)
"""Of exceeding all budgets by their own size, as multiples of the first objective: first, last."""


class Annealing(Solver):
    """Metropolis walk over levels and options, geometric cooling.

    Args:
        moves: per variable (group or layer) and restart.
        restarts: how often the temperature is raised again.
        hot, cold: first and last temperature, as shares of the starting objective.
    """

    name: ClassVar[str] = "annealing"
    keeps_time_limit: ClassVar[bool] = True
    randomised: ClassVar[bool] = True

    def __init__(
        self, moves: int = 3000, restarts: int = 4, hot: float = 0.01, cold: float = 1e-4
    ) -> None:
        self.moves, self.restarts, self.hot, self.cold = moves, restarts, hot, cold

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap` and `threads` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        candidates = presolve(problem)
        start = None if candidates.empty else starting_point(problem, candidates, "loss")
        if start is None:
            return Outcome("unknown", None, 0.0)
        chance = random.Random(settings.seed)
        walk = Walk(problem, candidates, start)
        descend(walk, stop)
        inside = walk.excess() <= 0
        best = (walk.objective if inside else math.inf, walk.decision)
        for _ in range(self.restarts):
            best = min(best, self._anneal(problem, candidates, best[1], chance, stop),
                       key=lambda found: found[0])  # fmt: skip
        if not math.isfinite(best[0]):
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", best[1], 0.0)

    def _anneal(
        self,
        problem: Problem,
        candidates: Candidates,
        start: Decision,
        chance: random.Random,
        stop: float,
    ) -> tuple[float, Decision]:
        """(objective, decision) of the best feasible decision of one cooling; infinite if none."""
        walk = Walk(problem, candidates, start)
        scale = max(walk.objective, 1e-12)
        best = (walk.objective, walk.decision) if walk.excess() <= 0 else (math.inf, start)
        variables = _variables(walk)
        count = self.moves * len(variables)
        energy = walk.objective / scale + PENALTIES[0] * walk.excess()
        for move in range(count if variables else 0):
            done = move / count
            temperature = self.hot * (self.cold / self.hot) ** done
            penalty = PENALTIES[0] * (PENALTIES[1] / PENALTIES[0]) ** done
            if move % 64 == 0:
                walk.forget()
                energy = walk.objective / scale + penalty * walk.excess()
                if time.perf_counter() > stop:
                    return best
            if not _random_move(walk, variables, chance):
                continue
            over, value = walk.excess(), walk.objective
            after = value / scale + penalty * over
            if after > energy and chance.random() >= math.exp((energy - after) / temperature):
                walk.undo()
                continue
            energy = after
            if over <= 0 and value < best[0]:
                best = (value, walk.decision)
        if math.isfinite(best[0]):
            walk = Walk(problem, candidates, best[1])
            descend(walk, stop)
            best = (walk.objective, walk.decision)
        return best


def _variables(walk: Walk) -> list[tuple[bool, int, list[int]]]:
    """(is a group, index, what it may be moved to) of everything that has a choice."""
    found = [(True, g, np.flatnonzero(walk.candidates.levels[g]).tolist()) for g in walk.free]
    for n, mask in enumerate(walk.candidates.options):
        found.append((False, n, np.flatnonzero(mask.any(axis=(0, 1))).tolist()))
    return [variable for variable in found if len(variable[2]) > 1]


def _random_move(
    walk: Walk, variables: list[tuple[bool, int, list[int]]], chance: random.Random
) -> bool:
    """One or two steps along the choices of a random variable, at times anywhere."""
    is_group, index, choices = variables[int(chance.random() * len(variables))]
    now = walk.levels[index] if is_group else walk.options[index]
    if chance.random() < 0.2:
        target = choices[int(chance.random() * len(choices))]
    else:
        at = choices.index(now) if now in choices else 0
        step = (1 if chance.random() < 0.7 else 2) * (1 if chance.random() < 0.5 else -1)
        target = choices[min(max(at + step, 0), len(choices) - 1)]
    if target == now:
        return False
    return walk.set_level(index, target) if is_group else walk.set_option(index, target)
