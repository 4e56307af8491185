"""What every solver has to keep, as checks that a plug-in's own tests can run.

    import pytest
    from dtmm.testing.solvers import CHECKS
    from my_package import MySolver

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_solver(check):
        check(MySolver())

Each check takes a solver object and raises AssertionError with a sentence that says what is wrong.
Only problems that the solver says it can do (`Solver.lacks`) are put to it, so capability flags are
promises too. A second argument `seeds` chooses the random problems (`dtmm.testing.problems`); the
two checks that need larger ones ignore it.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError, InfeasibleError
from dtmm.scheduler.evaluate import Decision, Totals, broken_rules, evaluate, objective_value
from dtmm.scheduler.problem import Budgets, Exclusion, Group, Layer, MemoryStep, Problem
from dtmm.scheduler.solve import solve
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.testing.problems import best_by_enumeration, random_problem

SEEDS = range(40)
"""Random problems of a check, unless it is told others."""

CLOSE = 1e-6
"""Relative difference between two solvers' optima that rounding may make."""

GRACE_S = 20.0
"""What a solver may take beyond its time limit on a busy machine: more counts as ignoring it."""


def decisions_keep_all_rules(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """Budgets, allowed levels and options, concats, exclusions."""
    for problem in _problems(solver, seeds):
        outcome = solver.minimise(problem, Settings())
        if outcome.decision is None:
            _expect(
                outcome.status in ("infeasible", "unknown"),
                f"{problem.name}: {outcome.status} without a decision",
            )
            continue
        broken = broken_rules(problem, outcome.decision, _totals(problem, outcome.decision))
        _expect(not broken, f"{problem.name}: {'; '.join(broken)}")


def bounds_are_bounds(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """Bound <= optimum <= objective, "infeasible" only where nothing fits, by enumeration."""
    for problem in _problems(solver, seeds):
        best = _best(problem)
        outcome = solver.minimise(problem, Settings())
        if outcome.status == "infeasible":
            _expect(best is None, f"{problem.name}: infeasible, but {best} fits")
        elif best is None:
            _expect(outcome.decision is None, f"{problem.name}: a decision, but nothing fits")
        else:
            room = CLOSE * max(best, 1.0)
            _expect(outcome.bound <= best + room, f"{problem.name}: bound above optimum {best}")
            value = _value(problem, outcome)
            _expect(value >= best - room, f"{problem.name}: {value} below the optimum {best}")
            if not solver.proves_bound:
                _expect(outcome.bound == 0, f"{problem.name}: a bound, but proves_bound is False")


def exact_solvers_find_the_optimum(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """At a gap of 0, with status "optimal" and a bound that proves it; else "infeasible"."""
    if not solver.exact:
        return
    for problem in _problems(solver, seeds):
        best = _best(problem)
        outcome = solver.minimise(problem, Settings(gap=0.0))
        if best is None:
            _expect(outcome.status == "infeasible", f"{problem.name}: not found to be infeasible")
            continue
        value = _value(problem, outcome)
        room = CLOSE * max(best, 1.0)
        _expect(abs(value - best) <= room, f"{problem.name}: {value}, the optimum is {best}")
        _expect(outcome.bound >= best - room, f"{problem.name}: bound {outcome.bound} is too low")


def only_proofs_are_called_optimal(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """A schedule is "optimal" only within the gap that was asked for, by its own bound."""
    for problem in _problems(solver, seeds):
        try:
            schedule = solve(problem, solver, gap=1e-3)
        except InfeasibleError:
            _expect(
                solver.exact, f"{problem.name}: InfeasibleError from a solver that is not exact"
            )
            continue
        except DtmmError:
            _expect(not solver.exact, f"{problem.name}: an exact solver gave up")
            continue
        gap = 1.0 - schedule.bound / schedule.objective if schedule.objective else 0.0
        _expect(
            schedule.status == "feasible" or gap <= 1e-3 + CLOSE,
            f"{problem.name}: called optimal with a gap of {gap:.3g}",
        )
        if not solver.proves_bound and schedule.objective > 0:
            _expect(schedule.status == "feasible", f"{problem.name}: optimal without any bound")


def the_same_again_gives_the_same(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """Same problem, same seed, same decision."""
    for problem in _problems(solver, list(seeds)[:10]):
        first, second = (solver.minimise(problem, Settings(seed=3)) for _ in range(2))
        _expect(first == second, f"{problem.name}: {first} and then {second}")


def budgets_may_be_met_exactly(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """With the optimum's own totals as budgets it is still the optimum."""
    if not solver.exact:
        return
    for problem in _problems(solver, list(seeds)[:20]):
        optimum = _best_decision(problem)
        if optimum is None:
            continue
        totals = _totals(problem, optimum)
        budgets = Budgets(totals.flash, totals.sram, totals.loss)
        if problem.budgets.loss_rule == "per_unit":
            budgets = dataclasses.replace(budgets, loss=problem.budgets.loss, loss_rule="per_unit")
        tight = dataclasses.replace(problem, budgets=budgets)
        outcome = solver.minimise(tight, Settings(gap=0.0))
        best = objective_value(problem, totals)
        _expect(
            abs(_value(tight, outcome) - best) <= CLOSE * max(best, 1.0),
            f"{problem.name}: {outcome.status}, with budgets that its optimum meets exactly",
        )


def impossible_budgets_are_errors(solver: Solver, seeds: Iterable[int] = ()) -> None:
    """An exact solver proves that nothing fits, any other finds nothing; neither makes it up."""
    problem = dataclasses.replace(large_problem(4), budgets=Budgets(flash=1.0))
    if solver.lacks(problem) is not None:
        return
    try:
        solve(_small_enough(solver, problem), solver)
    except InfeasibleError:
        _expect(solver.exact, "InfeasibleError from a solver that is not exact")
    except DtmmError:
        _expect(not solver.exact, "an exact solver did not find an impossible budget infeasible")
    else:
        _expect(False, "a schedule for an impossible budget")


def time_limits_are_honest(solver: Solver, seeds: Iterable[int] = ()) -> None:
    """Cut short, a schedule has the gap that its bound leaves, and the clock is kept."""
    problem = large_problem(24)
    if solver.lacks(problem) is not None:
        return
    for limit in (0.01, 0.3):
        started = time.perf_counter()
        try:
            schedule = solve(problem, solver, gap=0.0, time_limit_s=limit)
        except InfeasibleError:
            raise AssertionError("a feasible problem called infeasible at a time limit") from None
        except DtmmError:
            continue  # nothing found in time, or too large for it: both are said
        took = time.perf_counter() - started
        _expect(not solver.keeps_time_limit or took < limit + GRACE_S, f"took {took:.3g} s")
        gap = 1.0 - schedule.bound / schedule.objective
        _expect(abs(schedule.gap - gap) <= CLOSE, f"gap {schedule.gap}, the bound says {gap}")
        _expect(schedule.status == "feasible" or gap <= CLOSE, f"optimal with a gap of {gap:.3g}")


def excluded_decisions_do_not_come_back(solver: Solver, seeds: Iterable[int] = SEEDS) -> None:
    """The next best decision that differs enough from all known ones, three times over."""
    if not (solver.pool and solver.exact):
        return
    for problem in _problems(solver, list(seeds)[:12]):
        current = problem
        for differ in (1, 2, 1):
            found = _best_decision(current)
            if found is None:
                break
            known = Exclusion(found.levels, found.options, differ)
            current = dataclasses.replace(current, exclusions=(*current.exclusions, known))
            best = _best(current)
            outcome = solver.minimise(current, Settings(gap=0.0))
            if best is None:
                _expect(outcome.decision is None, f"{problem.name}: found what is excluded")
                break
            value = _value(current, outcome)
            _expect(
                abs(value - best) <= CLOSE * max(best, 1.0),
                f"{problem.name}: {value} with exclusions, the optimum is {best}",
            )


CHECKS: tuple[Callable[..., None], ...] = (
    decisions_keep_all_rules,
    bounds_are_bounds,
    exact_solvers_find_the_optimum,
    only_proofs_are_called_optimal,
    the_same_again_gives_the_same,
    budgets_may_be_met_exactly,
    impossible_budgets_are_errors,
    time_limits_are_honest,
    excluded_decisions_do_not_come_back,
)


def large_problem(layers: int, seed: int = 0) -> Problem:
    """A chain with two kernels, every budget binding: too much for a tenth of a second.

    Feasible: budgets are above what one decision in the middle takes.
    """
    rng = np.random.default_rng(seed)
    counts = np.arange(64, 8, -8)
    groups = [_chain_group("g0", counts[:1], rng)]
    chain, steps = [], []
    for n in range(layers):
        groups.append(_chain_group(f"g{n + 1}", counts, rng))
        chain.append(_chain_layer(n, groups, rng))
        size = {g: np.asarray(groups[g].levels * 100.0) for g in (n, n + 1)}
        steps.append(MemoryStep(f"s{n}", 0.0, size, n))
    code = {"dense": 2000.0, "fwcs": 3000.0}
    problem = Problem(
        f"chain{layers}", tuple(groups), tuple(chain), tuple(steps), Budgets(), kernel_code=code
    )
    middle = [len(group.levels) // 2 for group in groups]
    totals = evaluate(problem, middle, [3] * layers)
    budgets = Budgets(totals.flash * 1.02, totals.sram * 1.1, totals.loss * 1.02)
    return dataclasses.replace(problem, budgets=budgets)


def _chain_group(name: str, counts: npt.NDArray[np.int64], rng: np.random.Generator) -> Group:
    removed = counts[0] - counts
    loss = removed ** rng.uniform(1.1, 1.6) * rng.uniform(0.5, 2.0)
    latency, flash = (np.asarray(counts * each) for each in (50.0, 4.0))
    return Group(name, counts.copy(), latency, flash, np.asarray(loss, dtype=np.float64))


def _chain_layer(n: int, groups: list[Group], rng: np.random.Generator) -> Layer:
    inputs, outputs = groups[n].levels, groups[n + 1].levels
    shares = np.linspace(1.0, 0.15, 8)
    kept = np.maximum(np.round(9 * outputs[:, None] * shares), outputs[:, None]).astype(np.int64)
    macs = inputs[:, None, None] * kept[None].astype(np.float64)
    dense = np.arange(8) == 0
    removed = 1.0 - kept / (9.0 * outputs[:, None])
    loss = outputs[:, None] * removed ** rng.uniform(1.2, 2.0) * rng.uniform(1.0, 4.0)
    return Layer(
        f"conv{n}",
        n,
        n + 1,
        tuple("dense" if d else "fwcs" for d in dense),
        kept,
        np.asarray(macs * np.where(dense, 1.0, 1.2) * rng.uniform(0.5, 2.0)),
        macs + np.where(dense, 0.0, 2.0) * outputs[:, None],
        np.broadcast_to(loss, macs.shape).copy(),
        np.broadcast_to(np.where(dense, 64.0, 2.0 * kept), macs.shape).copy(),
        np.ones(macs.shape, dtype=np.bool_),
    )


def _small_enough(solver: Solver, problem: Problem) -> Problem:
    """Enumeration refuses more than two layers of this size."""
    if solver.name != "brute_force":
        return problem
    return dataclasses.replace(large_problem(2), budgets=problem.budgets)


def _problems(solver: Solver, seeds: Iterable[int]) -> Iterator[Problem]:
    """Those that the solver says it can do, with latency, another total and a sum as objective."""
    for seed in seeds:
        objective = ("latency", "latency", "flash", "loss", "sram", None)[seed % 6]
        problem = _random(seed, objective)
        if solver.lacks(problem) is None:
            yield problem


@functools.lru_cache(maxsize=4096)
def _random(seed: int, objective: str | None) -> Problem:
    return random_problem(seed, objective)  # type: ignore[arg-type]


_truth: dict[tuple[int, int], tuple[Problem, tuple[float, Decision] | None]] = {}


def _enumerated(problem: Problem) -> tuple[float, Decision] | None:
    """Enumeration, remembered: every solver is compared with the same one."""
    key = (id(problem), len(problem.exclusions))
    if key not in _truth or _truth[key][0] is not problem:
        _truth[key] = (problem, best_by_enumeration(problem))
    return _truth[key][1]


def _best(problem: Problem) -> float | None:
    found = _enumerated(problem)
    return None if found is None else found[0]


def _best_decision(problem: Problem) -> Decision | None:
    found = _enumerated(problem)
    return None if found is None else found[1]


def _totals(problem: Problem, decision: Decision) -> Totals:
    return evaluate(problem, decision.levels, decision.options)


def _value(problem: Problem, outcome: Outcome) -> float:
    if outcome.decision is None:
        return float("inf")
    return objective_value(problem, _totals(problem, outcome.decision))


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
