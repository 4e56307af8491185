"""Brute force, HiGHS and CBC agree on random small problems, feasible or not."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dtmm.errors import InfeasibleError
from dtmm.scheduler import Budgets, Group, Layer, MemoryStep, Objective, Problem, solve
from dtmm.scheduler.solvers import Settings, get_solver

SETTINGS = settings(max_examples=max(60, settings.default.max_examples))
METRICS = ("latency", "flash", "sram", "loss")


def _group(rng: np.random.Generator, n: int, whole: bool) -> Group:
    size = int(rng.integers(1, 4))
    levels = np.sort(rng.choice(np.arange(1, 9), size, replace=False))[::-1].astype(np.int64)
    return Group(f"g{n}", levels, *(_table(rng, (size,), whole) for _ in range(3)))


def _table(rng: np.random.Generator, shape: tuple[int, ...], whole: bool) -> np.ndarray:
    values = rng.uniform(0, 50, shape)
    return np.round(values) if whole else values


def _layer(rng: np.random.Generator, n: int, groups: list[Group], whole: bool) -> Layer:
    i, j = rng.choice(len(groups), 2, replace=False)
    nk = int(rng.integers(1, 4))
    shape = (len(groups[i].levels), len(groups[j].levels), nk)
    allowed = rng.random(shape) < 0.85
    allowed[0, 0, 0] = True
    return Layer(
        f"l{n}",
        int(i),
        int(j),
        tuple(rng.choice(["dense", "fwcs", "free"], nk)),
        rng.integers(0, 99, shape[1:]),
        *(_table(rng, shape, whole) for _ in range(4)),
        allowed,
    )


def _step(rng: np.random.Generator, n: int, groups: list[Group], layers: int) -> MemoryStep:
    live = rng.choice(len(groups), int(rng.integers(0, len(groups) + 1)), replace=False)
    layer = int(rng.integers(-1, layers))
    sizes = {int(g): groups[g].levels * float(rng.integers(1, 9)) for g in live}
    return MemoryStep(f"s{n}", float(rng.integers(0, 20)), sizes, None if layer < 0 else layer)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Any graph over 2 to 4 groups: layers share groups as residual networks do."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    whole = draw(st.booleans())
    groups = [_group(rng, n, whole) for n in range(draw(st.integers(2, 4)))]
    layers = [_layer(rng, n, groups, whole) for n in range(draw(st.integers(1, 3)))]
    steps = [_step(rng, n, groups, len(layers)) for n in range(draw(st.integers(0, 4)))]
    problem = Problem(
        "random",
        tuple(groups),
        tuple(layers),
        tuple(steps),
        Budgets(),
        *(float(v) for v in rng.integers(0, 30, 4)),
        kernel_code={"dense": 40.0, "fwcs": 60.0},
    )
    return dataclasses.replace(problem, budgets=_budgets(draw, problem))


def _budgets(draw: st.DrawFn, problem: Problem) -> Budgets:
    """Around each metric's own minimum, so that about half of the problems are feasible."""
    budgets: dict[str, float] = {}
    for metric in METRICS[1:]:
        if not draw(st.booleans()):
            continue
        least = _brute(problem, metric)
        if least is not None:
            budgets[metric] = least * draw(st.sampled_from([0.9, 1.0, 1.1, 1.3, 2.0]))
    return Budgets(**budgets)


def _decisions(problem: Problem):
    """Every decision with its totals, summed here once more from the arrays."""
    sizes = [len(g.levels) for g in problem.groups] + [len(x.kernels) for x in problem.layers]
    for picked in itertools.product(*map(range, sizes)):
        b, a = picked[: len(problem.groups)], picked[len(problem.groups) :]
        at = [
            (b[x.input_group], b[x.output_group], k) for x, k in zip(problem.layers, a, strict=True)
        ]
        if not all(x.allowed[p] for x, p in zip(problem.layers, at, strict=True)):
            continue
        totals = {}
        for metric in ("latency", "flash", "loss"):
            totals[metric] = getattr(problem, f"fixed_{metric}") + sum(
                [getattr(g, metric)[j] for g, j in zip(problem.groups, b, strict=True)]
                + [getattr(x, metric)[p] for x, p in zip(problem.layers, at, strict=True)]
            )
        kernels = {x.kernels[k] for x, k in zip(problem.layers, a, strict=True)}
        totals["flash"] += sum(problem.kernel_code.get(kernel, 0) for kernel in kernels)
        totals["sram"] = problem.fixed_sram + max(
            (
                s.fixed
                + sum(size[b[g]] for g, size in s.groups.items())
                + (0 if s.layer is None else problem.layers[s.layer].scratch[at[s.layer]])
                for s in problem.steps
            ),
            default=0,
        )
        yield totals


def _brute(problem: Problem, metric: str) -> float | None:
    """The smallest feasible value of a metric."""

    def fits(totals: dict[str, float]) -> bool:
        limits = {m: getattr(problem.budgets, m) for m in METRICS[1:]}
        return all(v is None or totals[m] <= v * (1 + 1e-9) for m, v in limits.items())

    return min((t[metric] for t in _decisions(problem) if fits(t)), default=None)


@SETTINGS
@given(problem=problems())
def test_all_exact_solvers_agree_with_enumeration(problem: Problem) -> None:
    best = _brute(problem, "latency")
    event("infeasible" if best is None else "feasible")
    for name in ("lagrangian", "highs", "cbc", "brute_force"):
        if best is None:
            with pytest.raises(InfeasibleError):
                solve(problem, name)
            continue
        schedule = solve(problem, name, gap=1e-9)
        assert schedule.objective == pytest.approx(best, rel=1e-6, abs=1e-6), name
        assert schedule.status == "optimal"
        assert schedule.bound <= schedule.objective
        assert schedule.gap <= 1e-8


@SETTINGS
@given(problem=problems())
def test_heuristics_keep_the_budgets_and_never_beat_the_optimum(problem: Problem) -> None:
    best = _brute(problem, "latency")
    for name in ("greedy", "uniform"):
        outcome = get_solver(name).minimise(problem, Settings(0.0))
        if outcome.decision is None:
            assert outcome.status == "unknown"
            continue
        assert best is not None
        schedule = solve(problem, name)
        assert schedule.status == "feasible"
        assert schedule.objective >= best - 1e-9
        assert (schedule.bound, schedule.gap) in [(0.0, 1.0), (0.0, 0.0)]


@SETTINGS
@given(problem=problems(), metric=st.sampled_from(METRICS))
def test_every_metric_can_be_the_objective(problem: Problem, metric: str) -> None:
    best = _brute(problem, metric)
    for name in ("highs", "brute_force"):
        alone = dataclasses.replace(problem, objective=Objective.only(metric))
        outcome = get_solver(name).minimise(alone, Settings(0.0))
        if best is None:
            assert outcome.status == "infeasible"
        else:
            assert outcome.status == "optimal"
            assert outcome.bound == pytest.approx(best, rel=1e-6, abs=1e-6)


@SETTINGS
@given(problem=problems())
def test_infeasible_message_names_the_smallest_feasible_values(problem: Problem) -> None:
    if _brute(problem, "latency") is not None:
        return
    with pytest.raises(InfeasibleError) as caught:
        solve(problem)
    message = str(caught.value)
    assert "\n" not in message
    asked = [m for m in METRICS[1:] if getattr(problem.budgets, m) is not None]
    alone = {}
    for metric in asked:
        others = dataclasses.replace(problem.budgets, **{metric: None})
        alone[metric] = _brute(dataclasses.replace(problem, budgets=others), metric)
    single = any(value is not None for value in alone.values())
    event("one budget suffices" if single else "several budgets must move")
    for metric, value in alone.items():
        if value is None and single:
            assert f"{metric} alone is not enough" in message
            continue
        if not single:
            value = _brute(dataclasses.replace(problem, budgets=Budgets()), metric)
        found = message.split(": ", 1)[1] if single else message.split("others dropped: ")[1]
        text = found.split(f"{metric} ")[1].split(" ")[0]
        named = float(text.replace(",", ""))
        assert value - 1e-6 <= named <= max(value * 1.001, value + 1)
        if single:
            relaxed = dataclasses.replace(problem.budgets, **{metric: named})
            solve(dataclasses.replace(problem, budgets=relaxed))


@pytest.mark.parametrize("solver", ["highs", "cbc", "brute_force"])
def test_a_budget_met_exactly_is_feasible(solver: str) -> None:
    """HiGHS's own presolve called this problem infeasible; ours is not to rely on it."""
    layer = Layer(
        name="l0",
        input_group=1,
        output_group=0,
        kernels=("fwcs", "dense"),
        filterlets=np.array([[53, 91], [27, 71]]),
        latency=np.array([[[48.0, 26], [6, 31]], [[39, 31], [46, 2]]]),
        flash=np.array([[[26.0, 23], [3, 32]], [[43, 30], [13, 42]]]),
        loss=np.array([[[25.0, 26], [38, 7]], [[41, 34], [39, 10]]]),
        scratch=np.array([[[40.0, 10], [4, 43]], [[43, 44], [24, 14]]]),
        allowed=np.array([[[True, True], [True, True]], [[True, False], [False, True]]]),
    )
    groups = (
        Group("g0", np.array([7, 4]), np.array([7.0, 47]), np.array([16.0, 21]),
              np.array([41.0, 20])),
        Group("g1", np.array([4, 1]), np.array([38.0, 27]), np.array([16.0, 39]),
              np.array([15.0, 23])),
    )  # fmt: skip
    problem = Problem(
        name="exact",
        groups=groups,
        layers=(layer,),
        steps=(
            MemoryStep("s0", 19.0, {1: np.array([16.0, 4]), 0: np.array([49.0, 28])}, 0),
            MemoryStep("s1", 17.0, {0: np.array([56.0, 32]), 1: np.array([32.0, 8])}, 0),
        ),
        budgets=Budgets(sram=134.0, loss=56.0),
        fixed_loss=14.0,
        fixed_sram=10.0,
        kernel_code={"dense": 40.0, "fwcs": 60.0},
    )
    found = solve(problem, solver)
    assert (found.sram, found.loss) == (134.0, 56.0)
