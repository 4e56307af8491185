"""CBC through PuLP, which brings its own copy: the one that is always there."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pulp

from dtmm.scheduler.solvers.base import Settings
from dtmm.scheduler.solvers.pulp_base import PulpSolver

LOWER_BOUND = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
TOLERANCES = ("primalTolerance 1e-9", "integerTolerance 1e-9")
PLAIN = (*TOLERANCES, "preprocess off")
LOG_ROUNDING = 1e-3
"""CBC prints its bound with three decimals; the program's objective is about 100."""


class Cbc(PulpSolver):
    """Branch and cut by COIN-OR CBC."""

    name: ClassVar[str] = "cbc"
    needs: ClassVar[str] = "pip install 'pulp<4'"

    @classmethod
    def version(cls) -> str | None:
        """PuLP's version: the CBC binary is part of it."""
        return f"pulp {importlib.metadata.version('pulp')}" if cls._command().available() else None

    @staticmethod
    def _command(**options: object) -> pulp.PULP_CBC_CMD:
        with warnings.catch_warnings():  # PuLP 3 announces that 4 drops the bundled binary
            warnings.simplefilter("ignore")
            return pulp.PULP_CBC_CMD(msg=False, **options)

    def run(self, program: pulp.LpProblem, settings: Settings) -> float | None:
        """See `PulpSolver.run`."""
        bound = self._run_once(program, settings, TOLERANCES)
        if program.status == pulp.LpStatusInfeasible:
            # its preprocessing is wrong about one feasible program in a thousand random ones
            try:
                return self._run_once(program, settings, PLAIN)
            except pulp.PulpSolverError:
                if not self._refutes(program, settings):
                    raise
                program.assignStatus(pulp.LpStatusInfeasible, pulp.LpSolutionInfeasible)
        return bound

    def _refutes(self, program: pulp.LpProblem, settings: Settings) -> bool:
        """Whether it finds the program infeasible before it branches.

        That is where it crashes when it is to write a solution, as PuLP wants, which then cannot
        read what it said.
        """
        with tempfile.TemporaryDirectory() as folder:
            mps = Path(folder) / "program.mps"
            program.writeMPS(str(mps), rename=True)
            options = (*PLAIN, f"sec {settings.time_limit_s}", "solve")
            words = " ".join(f"-{option}" for option in options).split()
            done = subprocess.run(
                [self._command().path, mps, *words], capture_output=True, text=True, check=False
            )
        return done.returncode == 0 and "Problem is infeasible" in done.stdout

    def _run_once(
        self, program: pulp.LpProblem, settings: Settings, options: Sequence[str]
    ) -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "cbc.log"
            command = self._command(
                gapRel=settings.gap,
                timeLimit=settings.time_limit_s,
                threads=settings.threads if settings.threads > 1 else None,
                logPath=str(log),
                options=list(options),
            )
            program.solve(command)
            found = LOWER_BOUND.findall(log.read_text(errors="replace"))
        return float(found[-1]) - LOG_ROUNDING if found else None
