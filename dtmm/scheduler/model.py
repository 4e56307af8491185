"""The integer program in PuLP; numbers in parentheses are the equations of docs/scheduler.md.

b[g,j], binary, picks a level per group; a[l,k], binary, an option per layer; z[l,i,j,k],
continuous, is the combination that costs hang on; y[v], binary, pays a kernel's code once. The
marginals of z are tied to b and a ("tight linking"), so integral b and a make z integral too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pulp

from dtmm.scheduler.evaluate import BUDGET_TOLERANCE, Decision, summed_budgets
from dtmm.scheduler.presolve import Candidates
from dtmm.scheduler.problem import Concat, Exclusion, MemoryStep, Metric, Problem

SCALE = 100.0
"""Objective and budget rows are normalised to about this, where solvers' tolerances fit."""

Term = tuple[pulp.LpVariable, float]


@dataclass(frozen=True)
class _Combinations:
    """The candidates (i, j, k) of one layer: `index` [n, 3] and their z."""

    index: npt.NDArray[np.int64]
    variables: list[pulp.LpVariable]


@dataclass(frozen=True)
class Model:
    """A built program and how to read it.

    Attributes:
        unit: of the problem's objective per unit of the program's.
        offset: what the objective leaves out because no decision changes it.
        levels, options: per group and per layer, index to variable; an option that has no
            alternative has no variable and stands as None.
    """

    program: pulp.LpProblem
    unit: float
    offset: float
    levels: tuple[dict[int, pulp.LpVariable], ...]
    options: tuple[dict[int, pulp.LpVariable | None], ...]

    def decision(self) -> Decision:
        """The integer decision in the variables' present values."""
        return Decision(
            tuple(_chosen(group) for group in self.levels),
            tuple(_chosen(layer) for layer in self.options),
        )

    def value(self, scaled: float) -> float:
        """An objective value or bound of the program in the problem's unit."""
        return scaled * self.unit + self.offset


def _chosen(variables: dict[int, pulp.LpVariable] | dict[int, pulp.LpVariable | None]) -> int:
    def value(index: int) -> float:
        variable = variables[index]
        return 1.0 if variable is None else float(variable.varValue or 0.0)

    return max(variables, key=value)


def build(problem: Problem, candidates: Candidates) -> Model:
    """Build the program that minimises the problem's objective within its budgets.

    `candidates` comes from `presolve(problem)`, or is a part of it.
    """
    return ProgramBuilder(problem, candidates).build()


class ProgramBuilder:
    """Variables at once, rows and the objective by `build`; a subclass may add more of both."""

    def __init__(self, problem: Problem, candidates: Candidates) -> None:
        self.problem = problem
        self.program = pulp.LpProblem("schedule", pulp.LpMinimize)
        self.rows = 0
        self.b = tuple(
            {int(j): self._binary(f"b{g}_{j}") for j in np.flatnonzero(mask)}
            for g, mask in enumerate(candidates.levels)
        )
        self.z = tuple(self._combinations(n, mask) for n, mask in enumerate(candidates.options))
        self.a = tuple(self._options(n, mask) for n, mask in enumerate(candidates.options))
        code = problem.kernel_code or {}
        used = {
            layer.kernels[k] for layer, a in zip(problem.layers, self.a, strict=True) for k in a
        }
        self.y = {v: self._binary(f"y{n}") for n, v in enumerate(sorted(used)) if code.get(v)}
        self.sram_rows = candidates.rows

    def build(self) -> Model:
        """Assemble the rows and the objective."""
        for variables in self.b:  # (2); for options it follows from (3)
            self._row([(b, 1.0) for b in variables.values()], pulp.LpConstraintEQ, 1.0)
        for n in range(len(self.z)):
            self._link(n)
            self._use_kernels(n)
        for metric, budget in summed_budgets(self.problem).items():
            self._limit_sram(budget) if metric == "sram" else self._limit(metric, budget)
        for concat in self.problem.concats:
            self._concat(concat)
        for known in self.problem.exclusions:
            self._exclude(known)
        unit, offset = self._objective()
        return Model(self.program, unit, offset, self.b, self.a)

    def _binary(self, name: str) -> pulp.LpVariable:
        return self.program.add_variable(name, cat=pulp.LpBinary)

    def _row(self, terms: Iterable[Term], sense: int, rhs: float) -> None:
        expression = pulp.LpAffineExpression(list(terms))
        self.program.addConstraint(pulp.LpConstraint(expression, sense, f"r{self.rows}", rhs))
        self.rows += 1

    def _combinations(self, n: int, mask: npt.NDArray[np.bool_]) -> _Combinations:
        index = np.argwhere(mask)
        names = (f"z{n}_{i}_{j}_{k}" for i, j, k in index.tolist())
        return _Combinations(index, [self.program.add_variable(name, 0) for name in names])

    def _options(self, n: int, mask: npt.NDArray[np.bool_]) -> dict[int, pulp.LpVariable | None]:
        alive = np.flatnonzero(mask.any(axis=(0, 1)))
        if alive.size == 1:
            return {int(alive[0]): None}
        return {int(k): self._binary(f"a{n}_{k}") for k in alive}

    def _link(self, n: int) -> None:
        """(3a-c): the marginals of z are b of the input group, b of the output group, and a.

        Where the groups coincide (9), z has one channel index and (3a) and (3b) are the same.
        """
        layer, z = self.problem.layers[n], self.z[n]
        sides = [(0, self.b[layer.input_group]), (2, self.a[n])]
        if layer.input_group != layer.output_group:
            sides.insert(1, (1, self.b[layer.output_group]))
        for axis, side in sides:
            marginal: dict[int, list[Term]] = {index: [] for index in side}
            for index, variable in zip(z.index[:, axis].tolist(), z.variables, strict=True):
                marginal[index].append((variable, 1.0))
            for index, terms in marginal.items():
                owner = side[index]
                if owner is not None:
                    self._row([*terms, (owner, -1.0)], pulp.LpConstraintEQ, 0.0)

    def _use_kernels(self, n: int) -> None:
        """(4): a layer's options need the code of their kernel."""
        kernels = self.problem.layers[n].kernels
        for kernel, y in self.y.items():
            using = [a for k, a in self.a[n].items() if kernels[k] == kernel]
            terms = [(a, 1.0) for a in using if a is not None]
            if len(terms) < len(using):  # the layer's only option
                y.lowBound = 1
            elif terms:
                self._row([*terms, (y, -1.0)], pulp.LpConstraintLE, 0.0)

    def _terms(self, weights: Mapping[Metric, float]) -> list[Term]:
        """The weighted sum of totals (latency, flash, loss) but for what no decision changes."""
        terms: list[Term] = []
        if not weights:
            return terms
        for group, b in zip(self.problem.groups, self.b, strict=True):
            values = sum(w * getattr(group, m) for m, w in weights.items())
            terms += [(variable, float(values[j])) for j, variable in b.items()]
        for layer, z in zip(self.problem.layers, self.z, strict=True):
            at = tuple(z.index.T)
            values = sum(w * getattr(layer, m)[at] for m, w in weights.items())
            terms += zip(z.variables, values.tolist(), strict=True)
        if "flash" in weights:
            code = self.problem.kernel_code or {}
            terms += [(y, weights["flash"] * code[kernel]) for kernel, y in self.y.items()]
        return [(variable, value) for variable, value in terms if value]

    def _largest(self, metric: Metric) -> float:
        """The total if every group and layer took its most expensive candidate."""
        total = sum((self.problem.kernel_code or {}).values()) if metric == "flash" else 0.0
        for group, b in zip(self.problem.groups, self.b, strict=True):
            total += float(getattr(group, metric)[list(b)].max())
        for layer, z in zip(self.problem.layers, self.z, strict=True):
            total += float(getattr(layer, metric)[tuple(z.index.T)].max())
        return total

    def _limit(self, metric: Metric, budget: float) -> None:
        """(5) loss, (6) flash, and latency likewise; left out where nothing can exceed it."""
        fixed = getattr(self.problem, f"fixed_{metric}")
        room, largest = max(_row_limit(budget) - fixed, 0.0), self._largest(metric)
        if largest <= room:
            return
        scale = SCALE / max(room, largest / SCALE)
        self._row(self._terms({metric: scale}), pulp.LpConstraintLE, room * scale)

    def _limit_sram(self, budget: float) -> None:
        """(7) for the steps where it is not decided by the candidates alone."""
        scale = SCALE / max(budget, 1.0)
        for step in self.sram_rows:
            room = _row_limit(budget) - self.problem.fixed_sram - step.fixed
            self._row(_scaled(self._live(step), scale), pulp.LpConstraintLE, room * scale)

    def _live(self, step: MemoryStep) -> list[Term]:
        """SRAM that the decision adds to a step's fixed bytes."""
        terms = [
            (variable, float(size[j]))
            for g, size in step.groups.items()
            for j, variable in self.b[g].items()
        ]
        if step.layer is not None:
            scratch = self.problem.layers[step.layer].scratch
            z = self.z[step.layer]
            terms += zip(z.variables, scratch[tuple(z.index.T)].tolist(), strict=True)
        return [(variable, value) for variable, value in terms if value]

    def _concat(self, concat: Concat) -> None:
        """(8): a virtual group keeps the sum of its segments."""
        scale = SCALE / float(self.problem.groups[concat.group].levels[0])
        signs = {concat.group: -scale}
        for segment in concat.segments:  # the same group may stand twice
            signs[segment] = signs.get(segment, 0.0) + scale
        terms = [
            (variable, sign * float(self.problem.groups[g].levels[j]))
            for g, sign in signs.items()
            for j, variable in self.b[g].items()
        ]
        self._row(terms, pulp.LpConstraintEQ, 0.0)

    def _exclude(self, known: Exclusion) -> None:
        """(10): at most so many choices are those of a known decision."""
        terms: list[Term] = []
        same = len(known.levels) + len(known.options) - known.differ
        for chosen, variables in (
            *zip(known.levels, self.b, strict=True),
            *zip(known.options, self.a, strict=True),
        ):
            if chosen in variables:
                variable = variables[chosen]
                if variable is None:
                    same -= 1
                else:
                    terms.append((variable, 1.0))
        self._row(terms, pulp.LpConstraintLE, float(same))

    def _objective(self) -> tuple[float, float]:
        """(1): set the objective; returns (unit, offset) of `Model`."""
        weights = self.problem.objective.weights()
        peak_weight = weights.pop("sram", 0.0)
        largest = sum(w * self._largest(m) for m, w in weights.items())
        offset = sum(w * getattr(self.problem, f"fixed_{m}") for m, w in weights.items())
        if not peak_weight:
            unit = max(largest, 1e-12) / SCALE
        else:
            live = [(step.fixed, self._live(step)) for step in self.problem.steps]
            most = max((fixed + sum(v for _, v in terms) for fixed, terms in live), default=0)
            unit = max(largest + peak_weight * most, 1e-12) / SCALE
            offset += peak_weight * self.problem.fixed_sram
        terms = self._terms({m: w / unit for m, w in weights.items()})
        if peak_weight:
            peak = self.program.add_variable("peak", 0)  # at least every step's bytes
            scale = SCALE / max(most, 1.0)
            for fixed, step_terms in live:
                row = [*_scaled(step_terms, scale), (peak, -1.0)]
                self._row(row, pulp.LpConstraintLE, -fixed * scale)
            terms.append((peak, peak_weight / scale / unit))
        self.program.setObjective(pulp.LpAffineExpression(terms))
        return unit, offset


def _row_limit(budget: float) -> float:
    """Half of what `evaluate` tolerates: solvers' own tolerance then stays on the right side."""
    return budget * (1.0 + BUDGET_TOLERANCE / 2)


def _scaled(terms: list[Term], scale: float) -> list[Term]:
    return [(variable, value * scale) for variable, value in terms]
