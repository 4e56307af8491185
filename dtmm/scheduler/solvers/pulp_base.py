"""What the solvers behind PuLP share: build, run, read the status, never more than was proven."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import pulp

from dtmm.errors import ToolchainError
from dtmm.scheduler.evaluate import Metric
from dtmm.scheduler.model import Model, build
from dtmm.scheduler.presolve import presolve
from dtmm.scheduler.problem import Problem
from dtmm.scheduler.solvers.base import Outcome, Solver


class PulpSolver(Solver):
    """A solver that PuLP drives; a subclass runs it and reports its dual bound."""

    exact: ClassVar[bool] = True
    keeps_time_limit: ClassVar[bool] = True

    @abstractmethod
    def run(
        self, program: pulp.LpProblem, gap: float, time_limit_s: float, threads: int
    ) -> float | None:
        """Solve in place; returns the dual bound of the program's objective if it is known."""

    def minimise(
        self, problem: Problem, objective: Metric, gap: float, time_limit_s: float, threads: int
    ) -> Outcome:
        """See `Solver.minimise`."""
        candidates = presolve(problem)
        if candidates.empty:
            return Outcome("infeasible", None, 0.0)
        model = build(problem, candidates, objective)
        try:
            bound = self.run(model.program, gap, time_limit_s, threads)
        except pulp.PulpSolverError as error:
            raise ToolchainError(f"solver {self.name} failed: {error}") from error
        return _read(model, gap, bound)


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
