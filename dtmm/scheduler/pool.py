"""The K best schedules that differ enough: candidates to be re-ranked by a measured loss.

    schedules = pool(problem, count=16, differ=3).schedules

Each schedule is the best of all that differ from every better one in the pool in at least `differ`
groups and layers; for `differ` = 1 that is the exact list of the K best. It is enforced by a
no-good cut per schedule found, equation (10) of docs/scheduler.md.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from dtmm.errors import ConfigError, DtmmError, InfeasibleError
from dtmm.scheduler.problem import Exclusion, Problem, Schedule
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers import Solver, all_solvers, get_solver


@dataclass(frozen=True)
class Pool:
    """Schedules, best first.

    Attributes:
        schedules: each with its own bound and gap: no other schedule that differs enough from the
            ones before it is below its bound.
        differ: in how many groups and layers any two differ at least.
        exhausted: there are no more.
        seconds: how long it took.
    """

    schedules: tuple[Schedule, ...]
    differ: int
    exhausted: bool
    seconds: float


def pool(
    problem: Problem,
    count: int = 16,
    differ: int = 1,
    solver: str | Solver = "auto",
    gap: float = 1e-4,
    time_limit_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Pool:
    """The `count` best schedules of which any two differ in at least `differ` groups and layers.

    The order is exact up to `gap`: of two schedules closer to each other than that, either may come
    first. `gap=0` gives the exact order.

    Args:
        solver, gap, time_limit_s: of every single solve, as in `solve`.
        progress: called with (schedules found, count).

    Raises:
        InfeasibleError: no schedule meets the budgets.
        ConfigError: an argument out of range, or a solver that cannot exclude known schedules.
        DtmmError: as `solve`, for the first schedule; later ones end the pool.
    """
    _check(problem, count, differ, solver)
    started = time.perf_counter()
    found: list[Schedule] = []
    exhausted = False
    while len(found) < count:
        known = tuple(Exclusion(s.levels, s.options, differ) for s in found)
        rest = dataclasses.replace(problem, exclusions=(*problem.exclusions, *known))
        try:
            found.append(solve(rest, solver, gap, time_limit_s, diagnose=not found))
        except InfeasibleError:
            if not found:
                raise
            exhausted = True
            break
        except DtmmError:  # nothing found in time
            if not found:
                raise
            break
        if progress is not None:
            progress(len(found), count)
    return Pool(tuple(found), differ, exhausted, time.perf_counter() - started)


def _check(problem: Problem, count: int, differ: int, solver: str | Solver) -> None:
    if count < 1:
        raise ConfigError(f"pool size is {count}, expected at least 1")
    most = len(problem.groups) + len(problem.layers)
    if not 1 <= differ <= most:
        raise ConfigError(
            f"differ is {differ}, expected 1 to {most}, the groups and layers of {problem.name!r}"
        )
    chosen = solver if isinstance(solver, Solver) else get_solver(solver)
    if not chosen.pool:
        able = [n for n, cls in all_solvers().items() if cls.pool and cls.version() is not None]
        raise ConfigError(
            f"solver {chosen.name!r} cannot provide a pool of schedules, "
            f"expected one of {', '.join(able)}"
        )
