"""The solvers by name. A new one is a file with a `Solver` subclass and a line in SOLVERS."""

from __future__ import annotations

from dtmm.errors import ConfigError, ToolchainError
from dtmm.scheduler.solvers.base import Outcome, Solver
from dtmm.scheduler.solvers.brute_force import BruteForce
from dtmm.scheduler.solvers.greedy import Greedy
from dtmm.scheduler.solvers.pulp_cbc import Cbc
from dtmm.scheduler.solvers.pulp_highs import Highs
from dtmm.scheduler.solvers.uniform import Uniform

SOLVERS: dict[str, type[Solver]] = {
    solver.name: solver for solver in (Highs, Cbc, BruteForce, Greedy, Uniform)
}
"""In order of preference: "auto" takes the first exact one that is installed."""


def get_solver(name: str = "auto") -> Solver:
    """The solver of that name.

    Raises:
        ConfigError: unknown name. ToolchainError: known, but not installed.
    """
    if name == "auto":
        return next(cls() for cls in SOLVERS.values() if cls.exact and cls.version())
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is unknown, expected auto, {', '.join(SOLVERS)}")
    if SOLVERS[name].version() is None:
        raise ToolchainError(f"solver {name!r} is not installed: {SOLVERS[name].needs}")
    return SOLVERS[name]()


def list_solvers() -> dict[str, str | None]:
    """Every solver's version by name, None where it is not installed."""
    return {name: cls.version() for name, cls in SOLVERS.items()}


__all__ = ["SOLVERS", "Outcome", "Solver", "get_solver", "list_solvers"]
