"""How far budgets must be relaxed until something fits: each one alone, and together.

All answers are exact programs of their own: alone, the total is minimised without its budget;
together, the sum of relative excesses over the budgets is minimised, with an excess variable per
budget ("elastic programming", Chinneck, Feasibility and Infeasibility in Optimization, 2008).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pulp

from dtmm.scheduler.evaluate import BUDGETED, Decision, evaluate, is_per_unit, summed_budgets
from dtmm.scheduler.model import SCALE, Model, ProgramBuilder, Term
from dtmm.scheduler.presolve import Candidates, presolve
from dtmm.scheduler.problem import METRICS, Budgets, Metric, Objective, Problem
from dtmm.scheduler.solvers import Settings, all_solvers, get_solver
from dtmm.scheduler.solvers.pulp_base import PulpSolver

GAP = 1e-6
"""Relative gap of the programs solved here."""


@dataclass(frozen=True)
class Relaxed:
    """The smallest feasible value of one budget.

    Attributes:
        metric, budget: what was asked for.
        needed: the smallest value at which something fits; None if there is none.
        proven: that nothing smaller (or nothing at all) fits; False after a time-out.
    """

    metric: Metric
    budget: float
    needed: float | None
    proven: bool


@dataclass(frozen=True)
class Combination:
    """The budgets nearest to those asked for at which something fits.

    Attributes:
        budgets: the new limit of every budget; those that need not move are as asked.
        relaxation: sum over budgets of (new - asked) / asked; `bound`: no sum below it is enough.
    """

    budgets: Mapping[Metric, float]
    relaxation: float
    bound: float


def limited(problem: Problem) -> list[Metric]:
    """The metrics that have a budget."""
    return [metric for metric in BUDGETED if getattr(problem.budgets, metric) is not None]


def without(budgets: Budgets, *metrics: Metric) -> Budgets:
    """The same budgets with some dropped."""
    return changed(budgets, dict.fromkeys(metrics))


def changed(budgets: Budgets, limits: Mapping[Metric, float | None]) -> Budgets:
    """The same budgets with some at other limits; None is unlimited."""
    values = {m: limits[m] if m in limits else getattr(budgets, m) for m in METRICS}
    return Budgets(**values, loss_rule=budgets.loss_rule)


def smallest_budget(
    problem: Problem,
    metric: Metric,
    keep_others: bool = True,
    time_limit_s: float = 60.0,
    threads: int = 1,
) -> Relaxed:
    """The smallest feasible value of one budget, others kept or dropped."""
    budget = float(getattr(problem.budgets, metric))
    dropped = [metric] if keep_others else limited(problem)
    relaxed = dataclasses.replace(
        problem, budgets=without(problem.budgets, *dropped), objective=Objective.only(metric)
    )
    if metric == "loss" and is_per_unit(problem):
        return _smallest_threshold(relaxed, budget, time_limit_s, threads)
    outcome = get_solver("auto", relaxed).minimise(relaxed, Settings(GAP, time_limit_s, threads))
    if outcome.decision is None:
        return Relaxed(metric, budget, None, outcome.status == "infeasible")
    totals = evaluate(relaxed, outcome.decision.levels, outcome.decision.options)
    return Relaxed(metric, budget, float(getattr(totals, metric)), outcome.status == "optimal")


def _smallest_threshold(
    problem: Problem, budget: float, time_limit_s: float, threads: int
) -> Relaxed:
    """The smallest per-unit threshold with a schedule, by bisection over the scores there are."""
    tables = [g.loss if g.unit_loss is None else g.unit_loss for g in problem.groups]
    tables += [x.loss if x.unit_loss is None else x.unit_loss for x in problem.layers]
    scores = np.unique(np.concatenate([table.ravel() for table in tables]))
    solver = get_solver("auto", problem)

    def status(threshold: float) -> str:
        budgets = dataclasses.replace(problem.budgets, loss=threshold, loss_rule="per_unit")
        at = dataclasses.replace(problem, budgets=budgets, objective=Objective())
        return solver.minimise(at, Settings(1.0 - 1e-9, time_limit_s, threads)).status

    low, high = 0, len(scores) - 1
    proven = True
    last = status(float(scores[high]))
    if last in ("infeasible", "unknown"):
        return Relaxed("loss", budget, None, last == "infeasible")
    while low < high:
        middle = (low + high) // 2
        found = status(float(scores[middle]))
        proven &= found != "unknown"
        low, high = (middle + 1, high) if found in ("infeasible", "unknown") else (low, middle)
    return Relaxed("loss", budget, float(scores[high]), proven)


def smallest_combination(
    problem: Problem, time_limit_s: float = 60.0, threads: int = 1
) -> Combination | None:
    """The budgets with the smallest sum of relative relaxations; None if nothing ever fits.

    Of several with the same sum any one. A per-unit loss threshold is not relaxed. None is also
    the answer if the time limit passes before anything is found.
    """
    asked = {m: b for m, b in summed_budgets(problem).items() if b > 0}
    free = dataclasses.replace(problem, budgets=without(problem.budgets, *asked))
    candidates = presolve(free)
    if candidates.empty or not asked:
        return None
    elastic = _Elastic(free, candidates, asked)
    model = elastic.build()
    bound = _pulp_solver().run(model.program, Settings(GAP, time_limit_s, threads))
    if model.program.sol_status not in (
        pulp.LpSolutionOptimal,
        pulp.LpSolutionIntegerFeasible,
    ):
        return None
    needed = _needed(problem, model.decision(), asked)
    relaxation = sum(needed[m] / b - 1.0 for m, b in asked.items())
    return Combination(needed, relaxation, min(max(bound or 0.0, 0.0) / SCALE, relaxation))


def _pulp_solver() -> PulpSolver:
    """The first one installed; CBC comes with PuLP."""
    known = all_solvers().values()
    return next(cls() for cls in known if issubclass(cls, PulpSolver) and cls.version())


def _needed(
    problem: Problem, decision: Decision, asked: Mapping[Metric, float]
) -> dict[Metric, float]:
    totals = evaluate(problem, decision.levels, decision.options)
    return {m: max(float(getattr(totals, m)), b) for m, b in asked.items()}


class _Elastic(ProgramBuilder):
    """The program without budgets; each one asked for is a row with an excess, in shares of it."""

    def __init__(
        self, problem: Problem, candidates: Candidates, asked: Mapping[Metric, float]
    ) -> None:
        super().__init__(problem, candidates)
        self.asked = asked
        self.excess = {m: self.program.add_variable(f"excess_{m}", 0) for m in asked}

    def build(self) -> Model:
        """Rows and the sum of excesses as the objective; its unit is 1 / SCALE of a budget."""
        model = super().build()
        for metric, budget in self.asked.items():
            for terms, room in self._totals(metric):
                scale = SCALE / budget
                row = [(variable, value * scale) for variable, value in terms]
                self._row(
                    [*row, (self.excess[metric], -1.0)],
                    pulp.LpConstraintLE,
                    (budget + room) * scale,
                )
        objective = pulp.LpAffineExpression([(e, 1.0) for e in self.excess.values()])
        self.program.setObjective(objective)
        return dataclasses.replace(model, unit=1.0 / SCALE, offset=0.0)

    def _totals(self, metric: Metric) -> Iterable[tuple[list[Term], float]]:
        """(terms, what the budget need not cover) of each row: one, or one per step for SRAM."""
        if metric != "sram":
            yield self._terms({metric: 1.0}), -float(getattr(self.problem, f"fixed_{metric}"))
            return
        for step in self.problem.steps:
            yield self._live(step), -(self.problem.fixed_sram + step.fixed)
