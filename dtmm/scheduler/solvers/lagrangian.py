"""Prices on the budgets first, then a tiny exact program: the fast exact solver.

1. `Relaxation` gives a lower bound at any prices; Kelley's cutting planes find the best prices.
2. Every candidate whose own bound is above a target is deleted ("reduced-cost fixing"): it is in no
   solution that good.
3. What remains, often about a hundred columns, goes to PuLP. If its optimum is within the target it
   is the problem's optimum; otherwise the target was too low and is raised.

The target is the best known solution's objective, or slightly above the bound where that is less.
Lagrangian bound and fixing: Geoffrion, "Lagrangean relaxation for integer programming" (1974);
cutting planes for the dual: Kelley (1960).
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from dtmm.scheduler.evaluate import Decision, broken_rules, evaluate, objective_value
from dtmm.scheduler.presolve import Candidates, presolve, reduce
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.relaxation import SCALE, Point, Relaxation
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.peak import FINEST_GAP, minimise_peak
from dtmm.scheduler.solvers.pulp_base import PulpSolver
from dtmm.scheduler.solvers.pulp_cbc import Cbc
from dtmm.scheduler.solvers.pulp_highs import Highs

MOST_STEPS = 80
MOST_PRICE = 50.0 * SCALE
"""Kelley's box: at this price a whole budget is worth 50 times the objective."""
CONVERGED = 2e-6
"""Relative difference between the cutting planes' and the best bound at which prices are final."""
FIRST_MARGIN = 2e-5
"""How far above the bound the first target is at least; the gap asked for, if that is more: large
networks have solutions so close to the bound, and for others the attempt costs little."""
WIDEN = 3.0
"""By how much the margin grows while nothing is found."""
SAFE = 1e-9
"""Relative rounding error allowed for in bounds."""


@dataclass
class PriceSearch:
    """The state of one solve: best prices and bound, best decision."""

    problem: Problem
    relaxation: Relaxation
    settings: Settings
    stop: float
    prices: npt.NDArray[np.float64]
    bound: float = -math.inf
    best: float = math.inf
    decision: Decision | None = None

    def left(self) -> float:
        return self.stop - time.perf_counter()

    def offer(self, decision: Decision | None) -> float:
        """Keep a decision if it is feasible and better; its objective, infinite if infeasible."""
        if decision is None:
            return math.inf
        totals = evaluate(self.problem, decision.levels, decision.options)
        if broken_rules(self.problem, decision, totals):
            return math.inf
        value = objective_value(self.problem, totals)
        if value < self.best:
            self.best, self.decision = value, decision
        return value

    def proven(self) -> bool:
        """Whether the best decision is within the gap of the bound that prices alone prove."""
        lower = self.relaxation.value(self.bound)
        return self.best * (1 - 0.5 * self.settings.gap) <= lower

    def outcome(self, bound: float) -> Outcome:
        """`bound` is in the problem's unit."""
        bound = max(bound - SAFE * abs(bound), 0.0)
        if self.decision is None:
            return Outcome("unknown", None, bound)
        gap = (self.best - bound) / self.best if self.best > 0 else 0.0
        proven = gap <= self.settings.gap + 1e-8
        return Outcome("optimal" if proven else "feasible", self.decision, bound)


class Lagrangian(Solver):
    """Lagrangian presolve, remainder by HiGHS (CBC where that is not installed)."""

    name: ClassVar[str] = "lagrangian"
    needs: ClassVar[str] = "pip install highspy"
    exact: ClassVar[bool] = True
    proves_bound: ClassVar[bool] = True
    keeps_time_limit: ClassVar[bool] = True
    pool: ClassVar[bool] = True

    @classmethod
    def version(cls) -> str | None:
        """Ours, with the solver of the remainder and its version."""
        inner = _inner()
        return f"1 ({inner.name} {inner.version()})" if inner else None

    @classmethod
    def lacks(cls, problem: Problem) -> str | None:
        """The SRAM peak can be minimised alone, but not in a sum with others."""
        weights = problem.objective.weights()
        if "sram" in weights and len(weights) > 1:
            return "the SRAM peak in a sum of objectives"
        return super().lacks(problem)

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`."""
        if not problem.objective.sram:
            return _minimise(problem, settings)
        if settings.gap >= FINEST_GAP:
            return minimise_peak(_minimise, problem, settings)
        inner = _inner()
        assert inner is not None
        return inner().minimise(problem, settings)


def _minimise(problem: Problem, settings: Settings) -> Outcome:
    stop = time.perf_counter() + settings.time_limit_s
    candidates = presolve(problem)
    if candidates.empty:
        return Outcome("infeasible", None, 0.0)
    relaxation = Relaxation(problem, candidates)
    prices = np.zeros(len(relaxation.resources))
    search = PriceSearch(problem, relaxation, settings, stop, prices)
    if not find_prices(search):
        return Outcome("infeasible", None, 0.0)
    return _finish(search, candidates)


def _inner() -> type[PulpSolver] | None:
    return next((cls for cls in (Highs, Cbc) if cls.version()), None)


def find_prices(search: PriceSearch) -> bool:
    """Raise the bound as far as prices can; False if the problem is infeasible."""
    for rounds in range(4):
        before = search.bound
        if not _kelley(search):
            return False
        enough = search.bound - before < 1e-4 * SCALE if rounds else False
        if (
            enough
            or search.left() <= 0
            or search.proven()
            or not search.relaxation.share_code(search.prices)
        ):
            break
    return True


def _kelley(search: PriceSearch) -> bool:
    """Maximise the concave bound by its tangents; False if it grows without limit."""
    relaxation = search.relaxation
    count = len(relaxation.resources)
    points: list[Point] = []
    prices = search.prices
    for step in range(MOST_STEPS):
        point = relaxation.solve(prices)
        if point.decision is None or point.value > relaxation.most * (1 + 1e-6):
            return False  # dearer than the dearest decision
        points.append(point)
        if point.value > search.bound:
            search.bound, search.prices = point.value, prices
        if (point.usage <= 1.0).all():
            search.offer(point.decision)
        if not count or search.left() <= 0 or search.proven():
            return True
        ceiling, target = _tangents(points, count)
        if ceiling - search.bound <= CONVERGED * max(abs(search.bound), 1.0):
            return True
        prices = target if step < 3 or step % 3 == 0 else 0.6 * target + 0.4 * search.prices
    return True


def _tangents(points: list[Point], count: int) -> tuple[float, npt.NDArray[np.float64]]:
    """The highest value below all tangents within the box, and where it is."""
    rows = np.array([[1.0, *(1.0 - point.usage)] for point in points])
    costs = np.array([point.cost for point in points])
    found = linprog(
        [-1.0, *[0.0] * count],
        A_ub=rows,
        b_ub=costs,
        bounds=[(None, 2 * MOST_PRICE), *[(0.0, MOST_PRICE)] * count],
        method="highs",
    )
    return float(found.x[0]), np.maximum(found.x[1:], 0.0)


def _finish(search: PriceSearch, candidates: Candidates) -> Outcome:
    """Solve what may be as good as a target, raising the target until it is met."""
    relaxation, settings = search.relaxation, search.settings
    lower = relaxation.value(search.bound)
    inner = _inner()
    assert inner is not None
    margin = max(FIRST_MARGIN, 0.9 * settings.gap)
    floor = lower
    while search.left() > 0 and not search.best * (1 - 0.5 * settings.gap) <= floor:
        target = min(search.best, lower + margin * max(abs(lower), relaxation.unit))
        everything = margin > 1.0
        rest = candidates
        if not everything:
            most = relaxation.own(target + SAFE * abs(target)) + SAFE * SCALE
            rest = reduce(search.problem, relaxation.within(search.prices, most))
        tight = dataclasses.replace(
            settings, gap=settings.gap * 0.95, time_limit_s=max(search.left(), 0.1)
        )
        outcome = inner().minimise_among(search.problem, rest, tight)
        found = search.offer(outcome.decision)
        if outcome.status == "infeasible" and everything:
            return Outcome("infeasible", None, 0.0)
        if outcome.status != "infeasible":
            proven = outcome.bound if everything else min(outcome.bound, target)
            floor = max(floor, proven)
        else:
            floor = max(floor, target)
        met = outcome.status == "optimal" and found <= target * (1 + SAFE)
        if everything or met:
            break
        margin *= WIDEN  # even where something was found: it may be far from the best
    return search.outcome(min(floor, search.best))
