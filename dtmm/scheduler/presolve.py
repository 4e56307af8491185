"""Exact eliminations before the model is built.

An option (l, i, j, k) that breaks a budget even when everything else is as small as it can be is
deleted. For SRAM, where that is decided within each step, it makes most rows redundant: only steps
where a further group decides keep one. The LP bound becomes much tighter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.evaluate import is_per_unit, limit, summed_budgets
from dtmm.scheduler.problem import Concat, MemoryStep, Problem

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
    """Delete what cannot be part of a feasible decision."""
    levels = [
        np.ones(len(g.levels), dtype=np.bool_) if g.allowed is None else g.allowed.copy()
        for g in problem.groups
    ]
    options = [layer.allowed.copy() for layer in problem.layers]
    for layer, option in zip(problem.layers, options, strict=True):
        if layer.input_group == layer.output_group:  # (9)
            option &= np.eye(len(option), dtype=np.bool_)[:, :, None]
    if is_per_unit(problem):
        _forbid_high_scores(problem, levels, options)
    return reduce(problem, Candidates(tuple(levels), tuple(options), ()))


def reduce(problem: Problem, candidates: Candidates) -> Candidates:
    """The same eliminations, starting from fewer candidates; repeats until nothing changes."""
    work = _Work(problem, [m.copy() for m in candidates.levels],
                 [m.copy() for m in candidates.options])  # fmt: skip
    work.run()
    return Candidates(tuple(work.levels), tuple(work.options), work.rows)


def _forbid_high_scores(problem: Problem, levels: list[Bools], options: list[Bools]) -> None:
    """The paper's code's rule: nothing with a score above the threshold is removed."""
    most = limit(problem.budgets.loss)
    for group, level in zip(problem.groups, levels, strict=True):
        level &= (group.loss if group.unit_loss is None else group.unit_loss) <= most
    for layer, option in zip(problem.layers, options, strict=True):
        option &= (layer.loss if layer.unit_loss is None else layer.unit_loss) <= most


@dataclass
class _Work:
    """Masks in the making, changed in place."""

    problem: Problem
    levels: list[Bools]
    options: list[Bools]
    rows: tuple[MemoryStep, ...] = field(default=())

    def run(self) -> None:
        """Delete until nothing changes; then see which SRAM rows are left to be needed."""
        if self.problem.fixed_sram > limit(self.problem.budgets.sram):
            self.levels[0][:] = False
        before = -1
        while (left := sum(int(m.sum()) for m in (*self.levels, *self.options))) != before:
            before = left
            self._propagate()
            if not self._alive():
                return
            for step in self.problem.steps:
                self._delete_by_sram(step)
                if not self._alive_at(step):
                    return
            self._delete_by_sums()
        self.rows = tuple(step for step in self.problem.steps if self._needs_row(step))

    def _alive(self) -> bool:
        return all(bool(mask.any()) for mask in (*self.levels, *self.options))

    def _alive_at(self, step: MemoryStep) -> bool:
        """The same for what one step touches: asking for all at every step would be quadratic."""
        masks = [self.levels[g] for g in (0, *step.groups)]
        masks += [self.options[step.layer]] if step.layer is not None else []
        return all(bool(mask.any()) for mask in masks)

    def _propagate(self) -> None:
        """A level needs an option in every layer at it; an option needs both of its levels."""
        for layer, option in zip(self.problem.layers, self.options, strict=True):
            i, j = layer.input_group, layer.output_group
            self.levels[i] &= option.any(axis=(1, 2))
            self.levels[j] &= option.any(axis=(0, 2))
            option &= self.levels[i][:, None, None] & self.levels[j][None, :, None]
        for concat in self.problem.concats:
            self._propagate_concat(concat)

    def _propagate_concat(self, concat: Concat) -> None:
        """(8): a virtual level needs segments that sum to it, a segment's level such a sum."""
        kept = [self._kept(s) for s in concat.segments]
        total = self._kept(concat.group)
        before: list[set[int]] = [{0}]
        after: list[set[int]] = [{0}]
        for n in range(len(kept)):
            before.append({p + c for p in before[-1] for c in kept[n]})
            after.append({p + c for p in after[-1] for c in kept[-1 - n]})
        self._keep(concat.group, before[-1])
        for n, segment in enumerate(concat.segments):
            rest = {p + q for p in before[n] for q in after[len(kept) - 1 - n]}
            self._keep(segment, {c for c in kept[n] if any(c + r in total for r in rest)})

    def _kept(self, group: int) -> set[int]:
        return set(self.problem.groups[group].levels[self.levels[group]].tolist())

    def _keep(self, group: int, counts: set[int]) -> None:
        self.levels[group] &= np.isin(self.problem.groups[group].levels, sorted(counts))

    def _delete_by_sums(self) -> None:
        """Options and levels that break a budget though all the rest is as cheap as possible."""
        for metric, budget in summed_budgets(self.problem).items():
            if metric == "sram" or not self._alive():
                continue
            tables = [getattr(group, metric) for group in self.problem.groups]
            tables += [getattr(layer, metric) for layer in self.problem.layers]
            masks = [*self.levels, *self.options]
            least = [float(t[m].min()) for t, m in zip(tables, masks, strict=True)]
            spare = limit(budget) - getattr(self.problem, f"fixed_{metric}") - sum(least)
            for table, mask, own in zip(tables, masks, least, strict=True):
                mask &= table <= own + spare + 1e-9 * abs(budget)

    def _delete_by_sram(self, step: MemoryStep) -> None:
        """Levels and options that alone break this step's budget (7)."""
        budget = self.problem.budgets.sram
        if budget is None:
            return
        smallest = {g: float(size[self.levels[g]].min()) for g, size in step.groups.items()}
        floor = self.problem.fixed_sram + step.fixed + sum(smallest.values())
        least_scratch = 0.0
        if step.layer is not None:
            layer = self.problem.layers[step.layer]
            least_scratch = float(layer.scratch[self.options[step.layer]].min())
            used = floor + layer.scratch
            for axis, g in _sides(layer.input_group, layer.output_group):
                if g in step.groups:
                    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
                    used = used + (step.groups[g] - smallest[g]).reshape(shape)
            self.options[step.layer] &= used <= limit(budget)
        for g, size in step.groups.items():
            self.levels[g] &= floor + least_scratch - smallest[g] + size <= limit(budget)
        if floor + least_scratch > limit(budget):  # nothing live can be blamed
            self.levels[0][:] = False

    def _needs_row(self, step: MemoryStep) -> bool:
        """Whether decisions left can still break this step's budget together."""
        if self.problem.budgets.sram is None:
            return False
        decided = set(step.groups)
        scratch = 0.0
        if step.layer is not None:
            layer = self.problem.layers[step.layer]
            decided -= {layer.input_group, layer.output_group}
            if not decided:
                return False
            scratch = float(layer.scratch[self.options[step.layer]].max())
        elif len(decided) <= 1:
            return False
        largest = sum(float(size[self.levels[g]].max()) for g, size in step.groups.items())
        worst = self.problem.fixed_sram + step.fixed + largest + scratch
        return worst > limit(self.problem.budgets.sram)


def _sides(input_group: int, output_group: int) -> tuple[tuple[int, int], ...]:
    """(axis, group) of a layer's tables; a coincident layer has one."""
    if input_group == output_group:
        return ((0, input_group),)
    return ((0, input_group), (1, output_group))
