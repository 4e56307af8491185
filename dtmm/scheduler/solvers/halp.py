"""A latency-saliency knapsack in the style of HALP: channels only, layers priced one by one.

After Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (NeurIPS 2022): every level
of a group has a saliency (the loss it avoids) and a latency, looked up with the other groups as
they are; the least loss within a latency is a knapsack problem, solved exactly by dynamic
programming over latencies in cells. As in the paper the latencies are then looked up again around
the result. Its question is "least loss within a latency"; ours is the reverse, so the table's whole
front is tried and the best decision that keeps all budgets counts.

Filterlets stay dense, as HALP knows channels only; of each layer's options that keep everything the
fastest is used.
"""

from __future__ import annotations

import math
import time
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.evaluate import Decision, broken_rules, evaluate, objective_value
from dtmm.scheduler.presolve import Candidates, presolve
from dtmm.scheduler.problem import Layer, Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.walk import completed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 1000
"""Resolution of the latency axis."""
ROUNDS = 4
"""How often latencies are looked up anew."""


class Halp(Solver):
    """HALP-style knapsack over channel levels."""

    name: ClassVar[str] = "halp"
    keeps_time_limit: ClassVar[bool] = True

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap`, `threads` and `seed` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        candidates = presolve(problem)
        if candidates.empty:
            return Outcome("unknown", None, 0.0)
        around = [int(np.argmax(mask)) for mask in candidates.levels]
        best: tuple[float, Decision] | None = None
        for _ in range(ROUNDS):
            found = _best_of_front(problem, candidates, around, stop)
            if found is None or time.perf_counter() > stop:
                break
            if best is None or found[0] < best[0]:
                best = found
            if list(found[1].levels) == around:
                break
            around = list(found[1].levels)
        if best is None:
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", best[1], 0.0)


def _best_of_front(
    problem: Problem, candidates: Candidates, around: list[int], stop: float
) -> tuple[float, Decision] | None:
    """The best feasible decision among the knapsack's answers for every latency."""
    virtual = {concat.group for concat in problem.concats}
    free = [g for g in range(len(problem.groups)) if g not in virtual]
    choices = [np.flatnonzero(candidates.levels[g]) for g in free]
    costs = [_latencies(problem, g, around)[own] for g, own in zip(free, choices, strict=True)]
    losses = [_losses(problem, g, around)[own] for g, own in zip(free, choices, strict=True)]
    best: tuple[float, Decision] | None = None
    for picked in _knapsack(costs, losses):
        if time.perf_counter() > stop:
            break
        levels = list(around)
        for g, own, at in zip(free, choices, picked, strict=True):
            levels[g] = int(own[at])
        full = completed(problem, tuple(levels))
        options = None if full is None else _dense_options(problem, candidates, full)
        if full is None or options is None:
            continue
        decision = Decision(full, options)
        totals = evaluate(problem, full, options)
        value = objective_value(problem, totals)
        if (best is None or value < best[0]) and not broken_rules(problem, decision, totals):
            best = (value, decision)
    return best


def _dense(layer: Layer, j: int) -> Ints:
    """The options that keep the most filterlets."""
    return np.flatnonzero(layer.filterlets[j] == layer.filterlets[j].max())


def _latencies(problem: Problem, g: int, around: list[int]) -> Floats:
    """[n] latency of what a group's level decides, the other groups as they are."""
    total = problem.groups[g].latency.astype(np.float64).copy()
    for layer in problem.layers:
        if g not in (layer.input_group, layer.output_group):
            continue
        for own in range(len(total)):
            i = own if layer.input_group == g else around[layer.input_group]
            j = own if layer.output_group == g else around[layer.output_group]
            total[own] += layer.latency[i, j, _dense(layer, j)].min()
    return total


def _losses(problem: Problem, g: int, around: list[int]) -> Floats:
    total = problem.groups[g].loss.astype(np.float64).copy()
    for layer in problem.layers:
        if layer.output_group == g:
            for own in range(len(total)):
                i = own if layer.input_group == g else around[layer.input_group]
                total[own] += layer.loss[i, own, _dense(layer, own)].min()
    return total


def _dense_options(
    problem: Problem, candidates: Candidates, levels: tuple[int, ...]
) -> tuple[int, ...] | None:
    options = []
    for layer, allowed in zip(problem.layers, candidates.options, strict=True):
        i, j = levels[layer.input_group], levels[layer.output_group]
        left = [k for k in _dense(layer, j).tolist() if allowed[i, j, k]]
        if not left:
            return None
        options.append(min(left, key=lambda k: float(layer.latency[i, j, k])))
    return tuple(options)


def _knapsack(costs: list[Floats], losses: list[Floats]) -> list[list[int]]:
    """For every reachable latency cell the choice of least loss, dominated ones left out."""
    least = sum(float(cost.min()) for cost in costs)
    span = sum(float(cost.max()) for cost in costs) - least
    cell = max(span / CELLS, 1e-12)
    loss = np.full(CELLS + len(costs) + 2, math.inf)
    loss[0] = 0.0
    traces: list[Ints] = []
    weights = [np.round((cost - cost.min()) / cell).astype(np.int64) for cost in costs]
    for weight, item in zip(weights, losses, strict=True):
        new = np.full_like(loss, math.inf)
        trace = np.zeros(len(loss), dtype=np.int64)
        for at, (w, added) in enumerate(zip(weight.tolist(), item.tolist(), strict=True)):
            shifted = np.full_like(loss, math.inf)
            shifted[w:] = loss[: len(loss) - w] + added
            better = shifted < new
            new[better], trace[better] = shifted[better], at
        loss = new
        traces.append(trace)
    found, lowest = [], math.inf
    for cell_index in np.flatnonzero(np.isfinite(loss)).tolist():
        if loss[cell_index] >= lowest:
            continue
        lowest = float(loss[cell_index])
        picked, left = [], cell_index
        for weight, trace in zip(reversed(weights), reversed(traces), strict=True):
            picked.append(int(trace[left]))
            left -= int(weight[picked[-1]])
        found.append(picked[::-1])
    return found
