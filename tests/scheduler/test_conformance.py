"""Every registered solver passes the shipped conformance suite; so does one from outside."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from dtmm.artifact import fingerprint, load, save
from dtmm.errors import ConfigError
from dtmm.scheduler import (
    SOLVERS,
    Exclusion,
    Metric,
    Outcome,
    Problem,
    Settings,
    evaluate,
    objective_value,
    solve,
    solvers,
)
from dtmm.scheduler.evaluate import broken_rules
from dtmm.scheduler.solvers import ENTRY_POINTS
from dtmm.scheduler.solvers.annealing import Annealing
from dtmm.scheduler.solvers.annealing_paper import PaperAnnealing
from dtmm.testing.problems import best_by_enumeration, random_problem
from dtmm.testing.solvers import (
    CHECKS,
    SEEDS,
    exact_solvers_find_the_optimum,
    excluded_decisions_do_not_come_back,
)
from tests.scheduler.plugin import FirstFeasible

FEW = range(14)
QUICK = {"annealing": Annealing(moves=60, restarts=2), "annealing_paper": PaperAnnealing(steps=1)}
"""Shorter walks: the suite is about promises, not about how good the results are."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [*SOLVERS, "plugin"])
def test_conformance(name: str, check: Callable[..., None], full: bool) -> None:
    cls = SOLVERS.get(name, FirstFeasible)
    if cls.version() is None:
        pytest.skip(f"{name} is not installed")
    few = FEW if name != "annealing_paper" else range(3)
    check(QUICK.get(name) or cls(), SEEDS if full else few)


class _Liar(FirstFeasible):
    """Claims to be exact."""

    exact = True
    proves_bound = True

    def minimise(self, problem, settings: Settings) -> Outcome:  # type: ignore[no-untyped-def]
        found = super().minimise(problem, settings)
        return Outcome("infeasible" if found.decision is None else "optimal", found.decision, 0.0)


@pytest.mark.parametrize(
    "check", [exact_solvers_find_the_optimum, excluded_decisions_do_not_come_back]
)
def test_the_suite_notices_a_liar(check: Callable[..., None]) -> None:
    _Liar.pool = True
    with pytest.raises(AssertionError):
        check(_Liar())


EXACT = ("lagrangian", "highs", "cbc")
OBJECTIVES = ("latency", "flash", "sram", "loss", None)
EXAMPLES = settings(max_examples=max(200, settings.default.max_examples))


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), objective=st.sampled_from(OBJECTIVES))
@example(seed=1_539_762_922, objective="latency")  # CBC's preprocessing loses its optimum
@example(seed=364_154, objective="latency")  # CBC crashes on its infeasible root
def test_enumeration_confirms_the_optimum(seed: int, objective: Metric | None) -> None:
    """All group kinds, kernel code, SRAM, both loss rules, every objective."""
    problem = random_problem(seed, objective)
    best = best_by_enumeration(problem)
    event("infeasible" if best is None else "feasible")
    for name in EXACT:
        if SOLVERS[name].lacks(problem) is not None:
            continue
        outcome = SOLVERS[name]().minimise(problem, Settings(gap=0.0))
        if best is None:
            assert outcome.status == "infeasible", name
            continue
        assert outcome.decision is not None, name
        totals = evaluate(problem, outcome.decision.levels, outcome.decision.options)
        assert not broken_rules(problem, outcome.decision, totals)
        value = objective_value(problem, totals)
        assert value == pytest.approx(best[0], rel=1e-6, abs=1e-6), name
        assert best[0] * (1 - 1e-6) - 1e-6 <= outcome.bound <= best[0] * (1 + 1e-6) + 1e-6, name


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint(
        "first_feasible", "tests.scheduler.plugin:FirstFeasible", ENTRY_POINTS
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    solvers._plugins.cache_clear()
    try:
        feasible = next(p for p in map(random_problem, range(99)) if best_by_enumeration(p))
        assert solve(feasible, "first_feasible").solver == "first_feasible"
    finally:
        monkeypatch.undo()
        solvers._plugins.cache_clear()


def test_a_solver_says_what_it_cannot_do() -> None:
    problem = random_problem(3)
    known = Exclusion((0,) * len(problem.groups), (0,) * len(problem.layers))
    with pytest.raises(ConfigError, match=r"'greedy' cannot handle excluded decisions .*highs"):
        solve(replace(problem, exclusions=(known,)), "greedy")


def test_a_problem_survives_its_file(tmp_path: Path) -> None:
    for seed in range(20):
        problem = random_problem(seed, None)
        again = load(save(problem, tmp_path / "problem.dtmm"), Problem)
        assert fingerprint(again) == fingerprint(problem)
        assert best_by_enumeration(again) == best_by_enumeration(problem)
