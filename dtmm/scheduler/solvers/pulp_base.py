"""What the solvers behind PuLP share: build, run, read the status, never more than was proven."""

from __future__ import annotations

import dataclasses
import time
from abc import abstractmethod
from typing import ClassVar

import pulp

from dtmm.errors import ToolchainError
from dtmm.scheduler.model import Model, build
from dtmm.scheduler.presolve import Candidates, presolve
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver


class PulpSolver(Solver):
    """A solver that PuLP drives; a subclass runs it and reports its dual bound."""

    exact: ClassVar[bool] = True
    proves_bound: ClassVar[bool] = True
    keeps_time_limit: ClassVar[bool] = True
    pool: ClassVar[bool] = True

    @abstractmethod
    def run(self, program: pulp.LpProblem, settings: Settings) -> float | None:
        """Solve in place; returns the dual bound of the program's objective if it is known."""

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`."""
        return self.minimise_among(problem, presolve(problem), settings)

    def minimise_among(
        self, problem: Problem, candidates: Candidates, settings: Settings
    ) -> Outcome:
        """The same over a part of the candidates; so is what "infeasible" says."""
        if candidates.empty:
            return Outcome("infeasible", None, 0.0)
        started = time.perf_counter()
        model = build(problem, candidates)
        left = max(settings.time_limit_s - (time.perf_counter() - started), 0.1)
        try:
            bound = self.run(model.program, dataclasses.replace(settings, time_limit_s=left))
        except pulp.PulpSolverError as error:
            raise ToolchainError(f"solver {self.name} failed: {error}") from error
        return _read(model, settings.gap, bound)


def _read(model: Model, gap: float, bound: float | None) -> Outcome:
    """Trust `sol_status` for "optimal": PuLP's `status` says Optimal at a time limit too.

    For "infeasible" it is `status`: CBC's "Integer infeasible" reaches only that one.
    """
    solution = model.program.sol_status
    if model.program.status == pulp.LpStatusInfeasible:
        return Outcome("infeasible", None, 0.0)
    known = model.value(0.0 if bound is None else max(bound, 0.0))
    if solution == pulp.LpSolutionOptimal:
        claimed = model.value(float(pulp.value(model.program.objective)) * (1.0 - gap))
        return Outcome("optimal", model.decision(), max(known, claimed))
    if solution == pulp.LpSolutionIntegerFeasible:
        return Outcome("feasible", model.decision(), known)
    return Outcome("unknown", None, known)
