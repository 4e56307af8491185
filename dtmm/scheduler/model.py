"""The integer program in PuLP.

b[g,j], binary, picks a level per group; a[l,k], binary, an option per layer; z[l,i,j,k],
continuous, is the combination that costs hang on; y[v], binary, pays a kernel's code once. The
marginals of z are tied to b and a ("tight linking"), so integral b and a make z integral too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pulp

from dtmm.scheduler.evaluate import BUDGET_TOLERANCE, Decision, Metric
from dtmm.scheduler.presolve import Candidates
from dtmm.scheduler.problem import MemoryStep, Problem

SCALE = 100.0
"""Objective and budget rows are normalised to about this, where solvers' tolerances fit."""

Term = tuple[pulp.LpVariable, float]
SumMetric = Literal["latency", "flash", "loss"]


@dataclass(frozen=True)
class _Combinations:
    """The candidates (i, j, k) of one layer: `index` [n, 3] and their z."""

    index: npt.NDArray[np.int64]
    variables: list[pulp.LpVariable]


@dataclass(frozen=True)
class Model:
    """A built program and how to read it.

    Attributes:
        unit: cycles, bytes or nats per unit of the program's objective.
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
        """An objective value or bound of the program in cycles, bytes or nats."""
        return scaled * self.unit + self.offset


def _chosen(variables: dict[int, pulp.LpVariable] | dict[int, pulp.LpVariable | None]) -> int:
    def value(index: int) -> float:
        variable = variables[index]
        return 1.0 if variable is None else float(variable.varValue or 0.0)

    return max(variables, key=value)


def build(problem: Problem, candidates: Candidates, objective: Metric = "latency") -> Model:
    """Build the program that minimises `objective` within the problem's budgets.

    `candidates` comes from `presolve(problem)`. If the objective is itself budgeted, its budget is
    kept as a row: pass a problem without it to find its smallest feasible value.
    """
    return _Builder(problem, candidates).build(objective)


class _Builder:
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
        used = {kernel for layer in problem.layers for kernel in layer.kernels}
        self.y = {v: self._binary(f"y{n}") for n, v in enumerate(sorted(used)) if code.get(v)}
        self.sram_rows = candidates.rows

    def build(self, objective: Metric) -> Model:
        """Assemble the rows and the objective."""
        for variables in self.b:
            self._row([(b, 1.0) for b in variables.values()], pulp.LpConstraintEQ, 1.0)
        for n in range(len(self.z)):
            self._link(n)
            self._use_kernels(n)
        self._limit("flash", self.problem.budgets.flash)
        self._limit("loss", self.problem.budgets.loss)
        if self.problem.budgets.sram is not None:
            scale = SCALE / max(self.problem.budgets.sram, 1.0)
            for step in self.sram_rows:
                room = _row_limit(self.problem.budgets.sram) - self.problem.fixed_sram - step.fixed
                self._row(_scaled(self._live(step), scale), pulp.LpConstraintLE, room * scale)
        unit, offset = self._objective(objective)
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
        """The three marginals of z: b of the input group, b of the output group, a."""
        layer, z = self.problem.layers[n], self.z[n]
        sides = (self.b[layer.input_group], self.b[layer.output_group], self.a[n])
        for axis, side in enumerate(sides):
            marginal: dict[int, list[Term]] = {index: [] for index in side}
            for index, variable in zip(z.index[:, axis].tolist(), z.variables, strict=True):
                marginal[index].append((variable, 1.0))
            for index, terms in marginal.items():
                owner = side[index]
                if owner is not None:
                    self._row([*terms, (owner, -1.0)], pulp.LpConstraintEQ, 0.0)

    def _use_kernels(self, n: int) -> None:
        """sum of a[l,k] over the options k that use kernel v <= y[v]."""
        kernels = self.problem.layers[n].kernels
        for kernel, y in self.y.items():
            using = [a for k, a in self.a[n].items() if kernels[k] == kernel]
            terms = [(a, 1.0) for a in using if a is not None]
            if len(terms) < len(using):  # the layer's only option
                y.lowBound = 1
            elif terms:
                self._row([*terms, (y, -1.0)], pulp.LpConstraintLE, 0.0)

    def _terms(self, metric: SumMetric) -> list[Term]:
        terms: list[Term] = []
        for group, b in zip(self.problem.groups, self.b, strict=True):
            values = getattr(group, metric)
            terms += [(variable, float(values[j])) for j, variable in b.items()]
        for layer, z in zip(self.problem.layers, self.z, strict=True):
            values = getattr(layer, metric)[tuple(z.index.T)]
            terms += zip(z.variables, values.tolist(), strict=True)
        if metric == "flash":
            code = self.problem.kernel_code or {}
            terms += [(y, code[kernel]) for kernel, y in self.y.items()]
        return [(variable, value) for variable, value in terms if value]

    def _largest(self, metric: SumMetric) -> float:
        """The total if every group and layer took its most expensive candidate."""
        total = sum((self.problem.kernel_code or {}).values()) if metric == "flash" else 0.0
        for group, b in zip(self.problem.groups, self.b, strict=True):
            total += float(getattr(group, metric)[list(b)].max())
        for layer, z in zip(self.problem.layers, self.z, strict=True):
            total += float(getattr(layer, metric)[tuple(z.index.T)].max())
        return total

    def _limit(self, metric: Literal["flash", "loss"], budget: float | None) -> None:
        """One budget row, left out where nothing can exceed it."""
        if budget is None:
            return
        fixed = self.problem.fixed_flash if metric == "flash" else self.problem.fixed_loss
        room, largest = max(_row_limit(budget) - fixed, 0.0), self._largest(metric)
        if largest <= room:
            return
        scale = SCALE / max(room, largest / SCALE)
        self._row(_scaled(self._terms(metric), scale), pulp.LpConstraintLE, room * scale)

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

    def _objective(self, metric: Metric) -> tuple[float, float]:
        """Set the objective; returns (unit, offset) of `Model`."""
        if metric == "sram":
            return self._peak_objective()
        unit = max(self._largest(metric), 1e-12) / SCALE
        terms = _scaled(self._terms(metric), 1.0 / unit)
        self.program.setObjective(pulp.LpAffineExpression(terms))
        offsets = {
            "latency": self.problem.fixed_latency,
            "flash": self.problem.fixed_flash,
            "loss": self.problem.fixed_loss,
        }
        return unit, offsets[metric]

    def _peak_objective(self) -> tuple[float, float]:
        """Minimise a variable that is at least every step's bytes."""
        peak = self.program.add_variable("peak", 0)
        live = [(step.fixed, self._live(step)) for step in self.problem.steps]
        total = max((fixed + sum(value for _, value in terms) for fixed, terms in live), default=0)
        unit = max(total, 1.0) / SCALE
        for fixed, terms in live:
            row = [*_scaled(terms, 1.0 / unit), (peak, -1.0)]
            self._row(row, pulp.LpConstraintLE, -fixed / unit)
        self.program.setObjective(pulp.LpAffineExpression([(peak, 1.0)]))
        return unit, self.problem.fixed_sram


def _row_limit(budget: float) -> float:
    """Half of what `evaluate` tolerates: solvers' own tolerance then stays on the right side."""
    return budget * (1.0 + BUDGET_TOLERANCE / 2)


def _scaled(terms: list[Term], scale: float) -> list[Term]:
    return [(variable, value * scale) for variable, value in terms]
