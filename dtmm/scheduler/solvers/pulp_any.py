"""Every other solver that PuLP finds on this machine: GLPK, SCIP, Gurobi, CPLEX, ..."""

from __future__ import annotations

import functools
import warnings
from typing import ClassVar

import pulp

from dtmm.scheduler.solvers.base import Settings
from dtmm.scheduler.solvers.pulp_base import PulpSolver

OURS = {"PULP_CBC_CMD", "HiGHS", "HiGHS_CMD", "PULP_CHOCO_CMD"}
"""Driven by files of their own (HiGHS and CBC), or unable to stop at a gap."""


class AnyPulp(PulpSolver):
    """Base of the classes that `found` makes: one per solver, named after it.

    PuLP has no common way to ask for the dual bound, so the bound is what an "optimal" at the
    requested gap proves, and nothing at a time limit.
    """

    pulp_name: ClassVar[str]

    @classmethod
    def version(cls) -> str | None:
        """PuLP's version and the interface: the program behind it does not say its own."""
        return f"pulp {pulp.__version__} {cls.pulp_name}" if cls._available() else None

    @classmethod
    def _available(cls) -> bool:
        return cls.pulp_name in available()

    def run(self, program: pulp.LpProblem, settings: Settings) -> float | None:
        """See `PulpSolver.run`."""
        options = {"gapRel": settings.gap, "timeLimit": settings.time_limit_s, "msg": False}
        program.solve(pulp.getSolver(self.pulp_name, **options))
        return None


@functools.cache
def available() -> tuple[str, ...]:
    """PuLP's names of the solvers that it finds here."""
    with warnings.catch_warnings():  # PuLP 3 announces what PuLP 4 will drop
        warnings.simplefilter("ignore")
        return tuple(pulp.listSolvers(onlyAvailable=True))


@functools.cache
def found() -> tuple[type[AnyPulp], ...]:
    """A class for each solver on this machine that has no file of its own here."""
    return tuple(
        type(name, (AnyPulp,), {"name": name.lower(), "pulp_name": name, "needs": name})
        for name in available()
        if name not in OURS
    )
