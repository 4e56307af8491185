"""What a user asks of an optimum: which budgets bind, and what moving each one is worth.

Nothing here is read off a relaxation's dual prices: every figure is the difference of two solved
problems, and carries the interval that their gaps leave open.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dtmm.errors import ConfigError, DtmmError, InfeasibleError, ToolchainError
from dtmm.scheduler.evaluate import is_per_unit
from dtmm.scheduler.problem import Metric, Objective, Problem, Schedule
from dtmm.scheduler.relax import changed, limited
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import get_solver

STEPS: Mapping[Metric, float] = {"flash": 1024.0, "sram": 1024.0, "loss": 0.01, "latency": 10_000.0}
"""By how much a budget is moved: 1 KiB, 1 KiB, 0.01 nat, 10,000 cycles."""

GAP = 1e-6
"""Relative gap of every solve: prices are small differences of large numbers."""


@dataclass(frozen=True)
class Change:
    """What another limit on one budget does to the objective.

    Attributes:
        limit: the budget moved to; None: dropped.
        objective: the new optimum's value; None where nothing fits any more.
        saved: how much lower the objective is (negative: higher).
        low, high: what `saved` certainly lies between, from both proven bounds.
        schedule: the new optimum.
    """

    limit: float | None
    objective: float | None
    saved: float | None
    low: float | None
    high: float | None
    schedule: Schedule | None


@dataclass(frozen=True)
class Price:
    """One budget of a solved problem.

    Attributes:
        metric, budget, used: what was allowed and what the optimum takes.
        binds: True if dropping the budget certainly lowers the objective, False if it certainly
            does not by more than the gap, None if the time limit left that open.
        step: by how much it was moved.
        dropped, looser, tighter: the objective without it, with it plus and minus `step`.
        spare: the smallest limit at which the objective is as good as now; None where not asked.
        next: the smallest limit at which it is better by more than the gap; None if none is.
    """

    metric: Metric
    budget: float
    used: float
    binds: bool | None
    step: float
    dropped: Change
    looser: Change
    tighter: Change
    spare: float | None
    next: float | None


@dataclass(frozen=True)
class Explanation:
    """An optimum and the prices of its budgets.

    Attributes:
        unit: of the objective: a metric's name, or "weighted sum".
        seconds: how long everything took.
    """

    problem: str
    unit: str
    schedule: Schedule
    prices: tuple[Price, ...]
    seconds: float


def explain(
    problem: Problem,
    steps: Mapping[Metric, float] | None = None,
    solver: str = "auto",
    gap: float = GAP,
    time_limit_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Solve, then solve again with each budget moved both ways and dropped.

    Where the objective is a single total, also find how far each budget could fall for nothing
    (`spare`), and the first value above it that buys anything (`next`).

    Args:
        steps: by metric, in its unit; `STEPS` where not given.
        solver: an exact one.
        progress: called with (budgets done, budgets).

    Raises:
        InfeasibleError: no schedule meets the budgets; the message says what would.
        ConfigError: a step that is not above 0, or a solver that proves nothing.
    """
    steps = {**STEPS, **(steps or {})}
    for metric, step in steps.items():
        if not step > 0:
            raise ConfigError(f"step of {metric} is {step}, expected more than 0")
    if not get_solver(solver).exact:
        raise ConfigError(f"solver {solver!r} proves nothing, expected an exact one")
    started = time.perf_counter()
    asker = _Asker(problem, solver, gap, time_limit_s)
    metrics = limited(problem)
    prices = []
    for metric in metrics:
        prices.append(asker.price(metric, steps[metric]))
        if progress is not None:
            progress(len(prices), len(metrics))
    weights = problem.objective.weights()
    unit = next(iter(weights)) if len(weights) == 1 else "weighted sum"
    seconds = time.perf_counter() - started
    return Explanation(problem.name, unit, asker.best, tuple(prices), seconds)


class _Asker:
    """The problem, its optimum, and how to solve variations of it."""

    def __init__(self, problem: Problem, solver: str, gap: float, time_limit_s: float) -> None:
        self.problem, self.solver = problem, solver
        self.gap, self.time_limit_s = gap, time_limit_s
        self.best = solve(problem, solver, gap, time_limit_s)

    def price(self, metric: Metric, step: float) -> Price:
        """Everything about one budget."""
        budget = float(getattr(self.problem.budgets, metric))
        dropped = self._change(metric, None)
        per_unit = metric == "loss" and is_per_unit(self.problem)
        used = float(getattr(self.best, metric))
        return Price(
            metric=metric,
            budget=budget,
            used=used,
            binds=self._binds(dropped),
            step=step,
            dropped=dropped,
            looser=self._change(metric, budget + step),
            tighter=self._change(metric, budget - step),
            spare=None if per_unit else self._least(metric, self.best.objective),
            next=None if per_unit else self._next(metric, dropped),
        )

    def _binds(self, dropped: Change) -> bool | None:
        """Certainly, certainly not (by more than both gaps), or unknown."""
        assert dropped.low is not None
        assert dropped.high is not None
        if dropped.low > 0:
            return True
        return False if dropped.high <= 4 * self.gap * abs(self.best.objective) else None

    def _change(self, metric: Metric, limit: float | None) -> Change:
        nothing = Change(limit, None, None, None, None, None)
        if limit is not None and limit < 0:
            return nothing
        budgets = changed(self.problem.budgets, {metric: limit})
        try:
            found = self._solve(dataclasses.replace(self.problem, budgets=budgets))
        except InfeasibleError:
            return nothing
        best = self.best
        return Change(
            limit=limit,
            objective=found.objective,
            saved=best.objective - found.objective,
            low=best.bound - found.objective,
            high=best.objective - found.bound,
            schedule=found,
        )

    def _next(self, metric: Metric, dropped: Change) -> float | None:
        """The smallest limit that buys more than the gap, if dropping the budget does."""
        enough = self.best.objective * (1.0 - 2.0 * self.gap)
        if dropped.objective is None or dropped.objective > enough:
            return None
        return self._least(metric, enough)

    def _least(self, metric: Metric, objective: float) -> float | None:
        """The smallest total at which the objective is at most so high; only of single totals."""
        weights = self.problem.objective.weights()
        if len(weights) != 1 or metric in weights:
            return None
        ((minimised, weight),) = weights.items()
        limits = {metric: None, minimised: objective / weight}
        budgets = changed(self.problem.budgets, limits)
        asked = dataclasses.replace(self.problem, budgets=budgets, objective=Objective.only(metric))
        try:
            return float(getattr(self._solve(asked), metric))
        except (ConfigError, ToolchainError):
            raise
        except DtmmError:
            return None

    def _solve(self, problem: Problem) -> Schedule:
        chosen = self.solver
        if chosen != "auto" and get_solver(chosen).lacks(problem):
            chosen = "auto"
        return solve(problem, chosen, self.gap, self.time_limit_s, diagnose=False)
