"""Exact Pareto fronts by the epsilon-constraint method: minimise one total, limit the others.

    front = pareto(problem, x="latency", y="loss", points=20)

Every point minimises `x` under a limit on `y` (Haimes et al. 1971). Limits are placed where the
front is known least: between two neighbouring points lies a box of what is still possible, and the
largest box is halved next (Hamacher, Pedersen and Ruzika, Operations Research Letters 35, 2007). A
box that proves empty is closed, so few solves find a point twice, and a front whose boxes are all
closed is complete: it holds every non-dominated point, up to the gap.

Every limit is solved as a problem of its own. Keeping one program and changing its right-hand side
would save building it, a few per cent of a solve, and forgo what presolve deletes under each limit.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dtmm.errors import ConfigError, DtmmError, InfeasibleError, ToolchainError
from dtmm.scheduler.evaluate import BUDGET_TOLERANCE, is_per_unit
from dtmm.scheduler.problem import METRICS, Metric, Objective, Problem, Schedule
from dtmm.scheduler.relax import changed
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import Solver, get_solver

SMALLEST_BOX = 1e-7
"""A box whose area is less than this share of the front's is closed."""
EMPTY_HALVES = 2
"""After so many empty halves a box is probably empty: one solve at its edge settles that."""
EDGE = 1e-6
"""How far below the top of a box that solve is at least, as a share of its height."""
SOLVES_PER_POINT = 2
"""A front of n points may take this many times n solves: those in closed boxes find nothing."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FrontPoint:
    """A point of a front.

    Attributes:
        schedule: its `objective`, `bound` and `gap` are of the total on the x axis: no schedule
            within `limits` has less than `bound`.
        limits: the limits on the other axes under which it was found.
    """

    schedule: Schedule
    limits: Mapping[Metric, float]


@dataclass(frozen=True)
class Front:
    """Non-dominated points, by ascending value on the x axis.

    Attributes:
        problem: the problem's name; solver: what found the points, with its version.
        axes: the totals that are traded, first the one that was minimised.
        complete: no further non-dominated point exists, up to the gap (two axes only).
        solves: how many problems were solved; seconds: how long that took.
    """

    problem: str
    solver: str
    axes: tuple[Metric, ...]
    points: tuple[FrontPoint, ...]
    complete: bool
    solves: int
    seconds: float

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """A point's totals on the axes."""
        return tuple(float(getattr(point.schedule, axis)) for axis in self.axes)


def pareto(
    problem: Problem,
    x: Metric = "latency",
    y: Metric = "loss",
    z: Metric | None = None,
    points: int = 20,
    solver: str | Solver = "auto",
    gap: float = 1e-4,
    time_limit_s: float = 60.0,
    progress: Progress | None = None,
) -> Front:
    """The front of two totals, or of three, within the problem's budgets.

    Args:
        x: the total that is minimised; y, z: those that are limited. A budget of the problem on an
            axis bounds the front there. The problem's own objective plays no part.
        points: at most so many; three-way fronts are about sqrt(points) two-way ones, each under
            another limit on z.
        solver, gap, time_limit_s: of every single solve, as in `solve`.
        progress: called with (solves done, solves at most).

    Raises:
        InfeasibleError: no schedule meets the budgets.
        ConfigError: axes or points out of range, or a solver that cannot do the problem.
        DtmmError: as `solve`.
    """
    axes = tuple(axis for axis in (x, y, z) if axis is not None)
    _check(problem, axes, points)
    most = points * SOLVES_PER_POINT if z is None else points * (SOLVES_PER_POINT + 1)
    sweep = _Sweep(problem, axes, solver, gap, time_limit_s, most, progress)
    started = time.perf_counter()
    if z is None:
        complete = sweep.front({}, points)
    else:
        complete = False
        for limit, count in _slices(sweep, z, points):
            sweep.front({z: limit}, count)
    kept = non_dominated(sweep.found, axes)
    first = kept[0].schedule
    return Front(
        problem=problem.name,
        solver=f"{first.solver} {first.solver_version}".strip(),
        axes=axes,
        points=tuple(kept),
        complete=complete,
        solves=sweep.solves,
        seconds=time.perf_counter() - started,
    )


def non_dominated(points: Iterable[FrontPoint], axes: Sequence[Metric]) -> list[FrontPoint]:
    """The points that no other one matches or beats on all axes, by ascending value on the first.

    Totals within `BUDGET_TOLERANCE` of each other count as equal; of equal points the first stays.
    """
    values = {id(p): [float(getattr(p.schedule, a)) for a in axes] for p in points}
    ordered = sorted(points, key=lambda p: values[id(p)])
    kept: list[FrontPoint] = []
    for point in ordered:  # whoever dominates it comes before it, or is within tolerance
        mine = np.array(values[id(point)])
        slack = BUDGET_TOLERANCE * np.abs(mine)
        if not any((np.array(values[id(other)]) <= mine + slack).all() for other in kept):
            kept.append(point)
    return kept


def _check(problem: Problem, axes: Sequence[Metric], points: int) -> None:
    for axis in axes:
        if axis not in METRICS:
            raise ConfigError(f"axis {axis!r} is unknown, expected one of {', '.join(METRICS)}")
    if len(set(axes)) < len(axes):
        raise ConfigError(f"axes are {', '.join(axes)}, expected different ones")
    if points < 2:
        raise ConfigError(f"points is {points}, expected at least 2")
    if "loss" in axes and is_per_unit(problem):
        raise ConfigError(
            "loss_rule is 'per_unit', expected 'sum' for a front over the loss: a threshold per "
            "unit limits no total"
        )


@dataclass(frozen=True)
class _Box:
    """What is open between two neighbours: y in (low, high), x in (bottom, top).

    `empty`: how many halves in a row held nothing.
    """

    low: float
    high: float
    top: float
    bottom: float
    empty: int = 0

    @property
    def area(self) -> float:
        return max(self.edge - self.low, 0.0) * max(self.top - self.bottom, 0.0)

    @property
    def edge(self) -> float:
        """Just below `high`, farther than what `evaluate` lets a total exceed its budget by."""
        return self.high - max(EDGE * (self.high - self.low), 4 * BUDGET_TOLERANCE * self.high)

    def limit(self) -> float:
        """The next limit on y: the middle, or just below the top of a box that looks empty."""
        if self.empty < EMPTY_HALVES:
            return (self.low + self.high) / 2
        return self.edge


@dataclass
class _Sweep:
    """The solves of one front: what was found, and how many are left."""

    problem: Problem
    axes: tuple[Metric, ...]
    solver: str | Solver
    gap: float
    time_limit_s: float
    most: int
    progress: Progress | None
    solves: int = 0
    found: list[FrontPoint] = field(default_factory=list)
    proven: bool = True
    """Whether every solve so far was proven, so that empty boxes are empty."""

    def least(self, metric: Metric, limits: Mapping[Metric, float]) -> FrontPoint | None:
        """The schedule with the smallest total within the limits; None if there is none."""
        budgets = changed(self.problem.budgets, limits)
        limited = dataclasses.replace(
            self.problem, budgets=budgets, objective=Objective.only(metric)
        )
        try:
            found = solve(
                limited,
                self._able(limited),
                self.gap,
                self.time_limit_s,
                diagnose=not self.found,
            )
        except (ConfigError, ToolchainError):
            raise
        except DtmmError as error:  # infeasible, or nothing found in time
            if not self.found:
                raise
            self.proven &= isinstance(error, InfeasibleError)
            return None
        finally:
            self.solves += 1
            if self.progress is not None:
                self.progress(min(self.solves, self.most), self.most)
        self.proven &= found.status == "optimal"
        return FrontPoint(found, dict(limits))

    def _able(self, problem: Problem) -> str | Solver:
        """The chosen solver; for an end of the front whose total it cannot minimise, any exact."""
        if self.axes[0] in problem.objective.weights() or self.solver == "auto":
            return self.solver
        chosen = self.solver if isinstance(self.solver, Solver) else get_solver(self.solver)
        return "auto" if chosen.lacks(problem) else chosen

    def front(self, limits: Mapping[Metric, float], points: int) -> bool:
        """Find up to `points` points of x against y; True if there are no more."""
        x, y = self.axes[:2]
        ends = self._ends(limits)
        if ends is None:
            return self.proven
        fastest, smallest = ends
        boxes = [_box(smallest, fastest, x, y)]
        count, whole = 2, boxes[0].area
        left = SOLVES_PER_POINT * points - 2
        while boxes and count < points and left > 0:
            box = boxes.pop(max(range(len(boxes)), key=lambda n: boxes[n].area))
            if box.area <= SMALLEST_BOX * whole:
                continue
            limit = box.limit()
            point = self.least(x, {**limits, y: limit})
            left -= 1
            value = box.top if point is None else float(getattr(point.schedule, x))
            if point is None or value >= box.top * (1 - self.gap):
                boxes.append(dataclasses.replace(box, low=limit, empty=box.empty + 1))
                continue
            self.found.append(point)
            count += 1
            reached = min(float(getattr(point.schedule, y)), limit)
            boxes.append(_Box(box.low, reached, box.top, value))
            boxes.append(_Box(limit, box.high, value, box.bottom))
        return self.proven and all(box.area <= SMALLEST_BOX * whole for box in boxes)

    def _ends(self, limits: Mapping[Metric, float]) -> tuple[FrontPoint, FrontPoint] | None:
        """The least x, and the least x at the least y; None if nothing is within the limits."""
        x, y = self.axes[:2]
        fastest = self.least(x, limits)
        if fastest is None:
            return None
        self.found.append(fastest)
        smallest = self.least(y, limits)
        if smallest is None:
            return fastest, fastest
        limit = float(getattr(smallest.schedule, y))
        end = self.least(x, {**limits, y: limit}) or smallest
        self.found.append(end)
        return fastest, end


def _box(low: FrontPoint, high: FrontPoint, x: Metric, y: Metric) -> _Box:
    return _Box(
        getattr(low.schedule, y),
        getattr(high.schedule, y),
        getattr(low.schedule, x),
        getattr(high.schedule, x),
    )


def _slices(sweep: _Sweep, z: Metric, points: int) -> list[tuple[float, int]]:
    """Limits on z, from what the ends of the unlimited front take down to above the least."""
    count = max(2, round(points**0.5))
    ends = sweep._ends({})
    least = sweep.least(z, {})
    if ends is None or least is None:
        raise DtmmError(f"problem {sweep.problem.name!r}: no schedule with the least {z} was found")
    most = max(float(getattr(end.schedule, z)) for end in ends)
    limits = np.linspace(most, float(getattr(least.schedule, z)), count + 1)[:-1]
    return [(float(limit), max(2, -(-points // count))) for limit in limits]
