"""What a solver is: one class, one method, and attributes that say what it can promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from dtmm.scheduler.evaluate import Decision
from dtmm.scheduler.problem import METRICS, Metric, Problem


@dataclass(frozen=True)
class Settings:
    """How hard to try.

    Attributes:
        gap: relative gap at which optimality counts as proven.
        time_limit_s: seconds after which to return the best so far.
        threads: for solvers that can use several.
        seed: of solvers that draw random numbers; the same seed gives the same result.
    """

    gap: float = 1e-4
    time_limit_s: float = 60.0
    threads: int = 1
    seed: int = 0


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
        needs: what a user installs to get it.
        exact: it can prove optimality and infeasibility.
        proves_bound: its outcomes carry a lower bound.
        keeps_time_limit: it stops at `time_limit_s` with the best decision so far.
        randomised: `seed` plays a part.
        objectives: the metrics that may have a weight in the objective.
        coincident, concat, kernel_code, per_unit, pool: it handles layers whose two groups
            coincide, concatenations, kernel code paid once, the per-unit loss rule, exclusions
            (that is what a pool of schedules needs).
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "nothing"
    exact: ClassVar[bool] = False
    proves_bound: ClassVar[bool] = False
    keeps_time_limit: ClassVar[bool] = False
    randomised: ClassVar[bool] = False
    objectives: ClassVar[frozenset[Metric]] = frozenset(METRICS)
    coincident: ClassVar[bool] = True
    concat: ClassVar[bool] = True
    kernel_code: ClassVar[bool] = True
    per_unit: ClassVar[bool] = True
    pool: ClassVar[bool] = False

    @classmethod
    def version(cls) -> str | None:
        """Version of the program behind it, None if it is not installed."""
        return "1"

    @abstractmethod
    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """Minimise the problem's objective within its budgets; the problem has been validated."""

    @classmethod
    def lacks(cls, problem: Problem) -> str | None:
        """What a problem needs that this solver cannot do, in words; None if it can do it all."""
        needed = {
            "coincident": any(x.input_group == x.output_group for x in problem.layers),
            "concat": bool(problem.concats),
            "kernel_code": any((problem.kernel_code or {}).values()),
            "per_unit": problem.budgets.loss_rule == "per_unit",
            "pool": bool(problem.exclusions),
        }
        for capability, wanted in needed.items():
            if wanted and not getattr(cls, capability):
                return _WORDS[capability]
        unknown = [m for m in problem.objective.weights() if m not in cls.objectives]
        return f"{unknown[0]} in the objective" if unknown else None


_WORDS = {
    "coincident": "layers whose input and output group coincide",
    "concat": "concatenations",
    "kernel_code": "kernel code that is paid once",
    "per_unit": "the loss rule per_unit",
    "pool": "excluded decisions",
}
