"""From a problem to a schedule: solve, re-evaluate on the problem's arrays, check the budgets."""

from __future__ import annotations

import dataclasses
import time

from dtmm.errors import ConfigError, DtmmError, InfeasibleError
from dtmm.scheduler.evaluate import Decision, broken_rules, evaluate, objective_value
from dtmm.scheduler.infeasible import explain_infeasible
from dtmm.scheduler.problem import Problem, Schedule
from dtmm.scheduler.solvers import Outcome, Settings, Solver, get_solver
from dtmm.scheduler.validate import validate

FIRST_AID_S = 5.0
"""What the greedy search may take after an exact solver's time limit, if that was shorter."""


def solve(
    problem: Problem,
    solver: str | Solver = "auto",
    gap: float = 1e-4,
    time_limit_s: float = 60.0,
    threads: int = 1,
    seed: int = 0,
    diagnose: bool = True,
) -> Schedule:
    """The best schedule within the problem's budgets: the fastest, unless its objective says else.

    Args:
        solver: a name of `list_solvers()`, "auto" for the best exact one installed that can do the
            problem, or a solver object (to set a solver's own parameters).
        gap: relative gap at which optimality counts as proven.
        time_limit_s: at the limit the best schedule so far (a greedy one if the solver has none)
            is returned as "feasible" with its true gap.
        threads, seed: of the solver.
        diagnose: where nothing fits, find out which budgets to relax (several further solves).

    Raises:
        InfeasibleError: nothing fits; the message names the smallest feasible value per budget.
        ConfigError: an argument out of range, an unknown solver, or one that cannot do the problem.
        ToolchainError: the solver is not installed or failed.
        DtmmError: a malformed problem, or no schedule found within the time limit.
    """
    settings = Settings(gap, time_limit_s, threads, seed)
    _check_settings(settings)
    validate(problem)
    chosen = solver if isinstance(solver, Solver) else get_solver(solver, problem)
    started = time.perf_counter()
    outcome = chosen.minimise(problem, settings)
    if outcome.status == "infeasible":
        if not diagnose:
            raise InfeasibleError(f"problem {problem.name!r}: no schedule fits its budgets")
        raise InfeasibleError(explain_infeasible(problem, time_limit_s, threads))
    if outcome.status == "unknown" and chosen.exact:
        outcome = _first_aid(problem, outcome, settings)
    seconds = time.perf_counter() - started
    if outcome.decision is None:
        way_out = "raise the time limit or relax a budget" if chosen.exact else "try an exact one"
        raise DtmmError(
            f"problem {problem.name!r}: solver {chosen.name} found no schedule "
            f"in {time_limit_s:g} s at most; {way_out}"
        )
    return _schedule(problem, chosen, outcome, outcome.decision, gap, seconds)


def _first_aid(problem: Problem, outcome: Outcome, settings: Settings) -> Outcome:
    """A greedy decision for an exact solver that found none in time; its bound still holds."""
    if problem.exclusions:  # greedy knows nothing of them
        return outcome
    seconds = max(settings.time_limit_s, FIRST_AID_S)
    greedy = get_solver("greedy").minimise(
        problem, dataclasses.replace(settings, time_limit_s=seconds)
    )
    return dataclasses.replace(greedy, bound=outcome.bound)


def _check_settings(settings: Settings) -> None:
    if not 0 <= settings.gap < 1:
        raise ConfigError(f"gap is {settings.gap}, expected 0 <= gap < 1")
    if not settings.time_limit_s > 0:
        raise ConfigError(f"time_limit_s is {settings.time_limit_s}, expected more than 0 seconds")
    if settings.threads < 1:
        raise ConfigError(f"threads is {settings.threads}, expected at least 1")
    if settings.seed < 0:
        raise ConfigError(f"seed is {settings.seed}, expected at least 0")


def _schedule(
    problem: Problem,
    solver: Solver,
    outcome: Outcome,
    decision: Decision,
    gap: float,
    seconds: float,
) -> Schedule:
    totals = evaluate(problem, decision.levels, decision.options)
    if broken := broken_rules(problem, decision, totals):
        raise DtmmError(
            f"problem {problem.name!r}: solver {solver.name} returned a schedule that breaks it: "
            + "; ".join(broken)
        )
    objective = objective_value(problem, totals)
    bound = min(outcome.bound, objective)
    true_gap = (objective - bound) / objective if objective > 0 else 0.0
    # 1e-8 covers the rounding between the solver's scaled objective and ours.
    proven = outcome.status == "optimal" and true_gap <= gap + 1e-8
    chosen = [
        (layer, decision.levels[layer.output_group], k)
        for layer, k in zip(problem.layers, decision.options, strict=True)
    ]
    return Schedule(
        channels={
            group.name: int(group.levels[j])
            for group, j in zip(problem.groups, decision.levels, strict=True)
        },
        filterlets={layer.name: int(layer.filterlets[j, k]) for layer, j, k in chosen},
        kernels={layer.name: layer.kernels[k] for layer, _, k in chosen},
        objective=objective,
        bound=bound,
        gap=true_gap,
        status="optimal" if proven else "feasible",
        solver=solver.name,
        seconds=seconds,
        latency=totals.latency,
        flash=totals.flash,
        sram=totals.sram,
        loss=totals.loss,
        solver_version=solver.version() or "",
        levels=decision.levels,
        options=decision.options,
    )
