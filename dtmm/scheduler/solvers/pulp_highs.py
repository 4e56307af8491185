"""HiGHS through PuLP and highspy: the fast one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from typing import ClassVar

import pulp

from dtmm.scheduler.solvers.base import Settings
from dtmm.scheduler.solvers.pulp_base import PulpSolver

TIGHT = 1e-9
"""Feasibility and integrality tolerance: with the default 1e-6 a budget row can be cheated."""


class Highs(PulpSolver):
    """Branch and cut by HiGHS (https://highs.dev)."""

    name: ClassVar[str] = "highs"
    needs: ClassVar[str] = "pip install highspy"

    @classmethod
    def version(cls) -> str | None:
        """highspy's version."""
        if importlib.util.find_spec("highspy") is None:
            return None
        return importlib.metadata.version("highspy")

    def run(self, program: pulp.LpProblem, settings: Settings) -> float | None:
        """See `PulpSolver.run`."""
        import highspy

        # HiGHS keeps one thread pool per process and refuses another size unless it is reset.
        highspy.Highs.resetGlobalScheduler(True)
        program.solve(
            pulp.HiGHS(
                msg=False,
                gapRel=settings.gap,
                timeLimit=settings.time_limit_s,
                threads=settings.threads,
                presolve="off",  # HiGHS 1.15 presolves a feasible program to "infeasible"
                mip_feasibility_tolerance=TIGHT,
                primal_feasibility_tolerance=TIGHT,
            )
        )
        bound = float(program.solverModel.getInfo().mip_dual_bound)
        return bound if math.isfinite(bound) else None
