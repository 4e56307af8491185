"""What a solver is: one class, one method, and attributes that say what it can promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from dtmm.scheduler.evaluate import Decision, Metric
from dtmm.scheduler.problem import Problem


@dataclass(frozen=True)
class Outcome:
    """What a solver found.

    Attributes:
        status: "optimal" within the requested gap, "feasible" without that proof, "infeasible" if
            proven so, "unknown" if nothing was found.
        decision: the best one found, None for "infeasible" and "unknown".
        bound: no feasible decision is below it (unit of the objective); 0 if the solver has none.
    """

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    decision: Decision | None
    bound: float


class Solver(ABC):
    """Base of every solver.

    Class attributes:
        name: what `solve(..., solver=name)` calls it.
        exact: it can prove optimality and infeasibility.
        keeps_time_limit: it stops at `time_limit_s` with the best decision so far.
        needs: what a user installs to get it.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]
    keeps_time_limit: ClassVar[bool]
    needs: ClassVar[str]

    @classmethod
    @abstractmethod
    def version(cls) -> str | None:
        """Version of the program behind it, None if it is not installed."""

    @abstractmethod
    def minimise(
        self, problem: Problem, objective: Metric, gap: float, time_limit_s: float, threads: int
    ) -> Outcome:
        """Minimise `objective` within the problem's budgets; the problem has been validated."""
