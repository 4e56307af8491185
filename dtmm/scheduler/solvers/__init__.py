"""The solvers by name. A new one is a file with a `Solver` subclass and a line in SOLVERS.

A solver from another package is one class, registered by the entry point group "dtmm.solvers":

    [project.entry-points."dtmm.solvers"]
    mine = "my_package:MySolver"

or named where it is used, as `my_package:MySolver` or `my_file.py:MySolver`.
`dtmm.testing.solvers` holds the checks that it should pass.
"""

from __future__ import annotations

import functools
import importlib.metadata

from dtmm.errors import ConfigError, ToolchainError
from dtmm.importing import load_callable
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.annealing import Annealing
from dtmm.scheduler.solvers.annealing_paper import PaperAnnealing
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.brute_force import BruteForce
from dtmm.scheduler.solvers.dynamic_programming import DynamicProgramming
from dtmm.scheduler.solvers.greedy import Greedy
from dtmm.scheduler.solvers.halp import Halp
from dtmm.scheduler.solvers.lagrangian import Lagrangian
from dtmm.scheduler.solvers.pulp_any import found
from dtmm.scheduler.solvers.pulp_cbc import Cbc
from dtmm.scheduler.solvers.pulp_highs import Highs
from dtmm.scheduler.solvers.uniform import Uniform

ENTRY_POINTS = "dtmm.solvers"

SOLVERS: dict[str, type[Solver]] = {
    solver.name: solver
    for solver in (
        Lagrangian,
        Highs,
        Cbc,
        BruteForce,
        DynamicProgramming,
        Annealing,
        PaperAnnealing,
        Halp,
        Greedy,
        Uniform,
    )
}
"""Our own, in order of preference: "auto" takes the first exact one that is installed."""


def all_solvers() -> dict[str, type[Solver]]:
    """Our own, those that PuLP finds and those of other packages; our names cannot be taken."""
    others = {solver.name: solver for solver in found()}
    return {**SOLVERS, **{name: cls for name, cls in (others | _plugins()).items()
                          if name not in SOLVERS}}  # fmt: skip


@functools.cache
def _plugins() -> dict[str, type[Solver]]:
    plugins: dict[str, type[Solver]] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        solver = entry.load()
        if not (isinstance(solver, type) and issubclass(solver, Solver)):
            raise ConfigError(
                f"entry point {entry.name!r} of {ENTRY_POINTS} is {solver!r}, "
                "expected a subclass of dtmm.scheduler.Solver"
            )
        plugins[solver.name] = solver
    return plugins


def get_solver(name: str = "auto", problem: Problem | None = None) -> Solver:
    """The solver of that name; "auto" is the first exact one installed that can do `problem`.

    Args:
        name: of `all_solvers()`, or a class of the user's, MODULE:CLASS or FILE.py:CLASS.

    Raises:
        ConfigError: unknown name, or the solver cannot do `problem`.
        ToolchainError: known, but not installed.
    """
    known = all_solvers()
    if name == "auto":
        return next(cls() for cls in known.values() if cls.exact and _usable(cls, problem))
    if ":" in name and name not in known:
        known = {**known, name: _own(name)}
    if name not in known:
        raise ConfigError(f"solver {name!r} is unknown, expected auto, {', '.join(known)}")
    if known[name].version() is None:
        raise ToolchainError(f"solver {name!r} is not installed: {known[name].needs}")
    if problem is not None and (lack := known[name].lacks(problem)):
        able = [n for n, cls in known.items() if _usable(cls, problem)]
        raise ConfigError(
            f"solver {name!r} cannot handle {lack} (problem {problem.name!r}), "
            f"expected one of {', '.join(able)}"
        )
    return known[name]()


def _own(name: str) -> type[Solver]:
    found = load_callable(name, "solver")
    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise ConfigError(
            f"solver {name} is {found!r}, expected a subclass of dtmm.scheduler.Solver"
        )
    return found


def _usable(cls: type[Solver], problem: Problem | None) -> bool:
    return cls.version() is not None and (problem is None or cls.lacks(problem) is None)


def list_solvers() -> dict[str, str | None]:
    """Every solver's version by name, None where it is not installed."""
    return {name: cls.version() for name, cls in all_solvers().items()}


__all__ = [
    "SOLVERS",
    "Outcome",
    "Settings",
    "Solver",
    "all_solvers",
    "get_solver",
    "list_solvers",
]
