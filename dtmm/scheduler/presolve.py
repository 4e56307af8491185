"""Exact eliminations before the model is built.

An option (l, i, j, k) that breaks the SRAM budget in its own step even when everything else that is
live is as small as it can be is deleted. That makes most SRAM rows redundant: only steps where a
further group decides keep one. The LP bound becomes much tighter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.evaluate import limit
from dtmm.scheduler.problem import MemoryStep, Problem

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """What may still be chosen.

    Attributes:
        levels: per group, bool [n].
        options: per layer, bool [ni, nj, nk].
        rows: the steps whose SRAM has to be limited by a row of the model.
    """

    levels: tuple[Bools, ...]
    options: tuple[Bools, ...]
    rows: tuple[MemoryStep, ...]

    @property
    def empty(self) -> bool:
        """True if some group has no level or some layer no option left: infeasible."""
        return not all(mask.any() for mask in (*self.levels, *self.options))


def presolve(problem: Problem) -> Candidates:
    """Delete what cannot be part of a feasible decision; repeat until nothing changes."""
    if _fixed_parts_break(problem):
        return _none(problem)
    levels = [np.ones(len(group.levels), dtype=np.bool_) for group in problem.groups]
    options = [layer.allowed.copy() for layer in problem.layers]
    before = -1
    while (left := _count(levels) + _count(options)) != before:
        before = left
        _propagate(problem, levels, options)
        if not _alive(levels) or not _alive(options):
            return Candidates(tuple(levels), tuple(options), ())
        for step in problem.steps:
            _delete(problem, step, levels, options)
    rows = tuple(s for s in problem.steps if _needs_row(problem, s, levels, options))
    return Candidates(tuple(levels), tuple(options), rows)


def _fixed_parts_break(problem: Problem) -> bool:
    budgets = problem.budgets
    largest_step = max((step.fixed for step in problem.steps), default=0.0)
    return (
        problem.fixed_flash > limit(budgets.flash)
        or problem.fixed_loss > limit(budgets.loss)
        or problem.fixed_sram + largest_step > limit(budgets.sram)
    )


def _none(problem: Problem) -> Candidates:
    levels = tuple(np.zeros(len(group.levels), dtype=np.bool_) for group in problem.groups)
    return Candidates(levels, tuple(np.zeros_like(x.allowed) for x in problem.layers), ())


def _count(masks: list[Bools]) -> int:
    return sum(int(mask.sum()) for mask in masks)


def _alive(masks: list[Bools]) -> bool:
    return all(bool(mask.any()) for mask in masks)


def _propagate(problem: Problem, levels: list[Bools], options: list[Bools]) -> None:
    """A level needs an option in every layer at it; an option needs both of its levels."""
    for layer, option in zip(problem.layers, options, strict=True):
        i, j = layer.input_group, layer.output_group
        levels[i] &= option.any(axis=(1, 2))
        levels[j] &= option.any(axis=(0, 2))
        option &= levels[i][:, None, None] & levels[j][None, :, None]


def _delete(problem: Problem, step: MemoryStep, levels: list[Bools], options: list[Bools]) -> None:
    """Delete in place the levels and options that alone break this step's budget."""
    budget = problem.budgets.sram
    if budget is None or not _alive(levels) or not _alive(options):
        return
    smallest = {g: float(size[levels[g]].min()) for g, size in step.groups.items()}
    floor = problem.fixed_sram + step.fixed + sum(smallest.values())
    least_scratch = 0.0
    if step.layer is not None:
        layer = problem.layers[step.layer]
        least_scratch = float(layer.scratch[options[step.layer]].min())
        used = floor + layer.scratch
        if layer.input_group in step.groups:
            size = step.groups[layer.input_group] - smallest[layer.input_group]
            used = used + size[:, None, None]
        if layer.output_group in step.groups:
            size = step.groups[layer.output_group] - smallest[layer.output_group]
            used = used + size[None, :, None]
        options[step.layer] &= used <= limit(budget)
    for g, size in step.groups.items():
        levels[g] &= floor + least_scratch - smallest[g] + size <= limit(budget)


def _needs_row(
    problem: Problem, step: MemoryStep, levels: list[Bools], options: list[Bools]
) -> bool:
    """Whether decisions left after `_delete` can still break this step's budget together."""
    if problem.budgets.sram is None:
        return False
    decided = set(step.groups)
    scratch = 0.0
    if step.layer is not None:
        layer = problem.layers[step.layer]
        decided -= {layer.input_group, layer.output_group}
        if not decided:
            return False
        scratch = float(layer.scratch[options[step.layer]].max())
    elif len(decided) <= 1:
        return False
    largest = sum(float(size[levels[g]].max()) for g, size in step.groups.items())
    worst = problem.fixed_sram + step.fixed + largest + scratch
    return worst > limit(problem.budgets.sram)
