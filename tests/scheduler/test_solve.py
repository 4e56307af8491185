"""Behaviour of `solve` on a residual network of ResNet-12's size and on hand-made problems."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from dtmm.errors import ConfigError, DtmmError, InfeasibleError, ToolchainError
from dtmm.scheduler import (
    SOLVERS,
    Budgets,
    Decision,
    Group,
    Layer,
    MemoryStep,
    Problem,
    evaluate,
    list_solvers,
    solve,
)
from dtmm.scheduler.solvers import Outcome
from dtmm.scheduler.solvers.pulp_highs import Highs

# ResNet-12's convolutions: (input group, output group, output pixels per side, kernel side).
RESNET12 = [
    (0, 1, 32, 3),
    (1, 2, 32, 3),
    (2, 1, 32, 3),
    (1, 3, 16, 3),
    (3, 4, 16, 3),
    (1, 4, 16, 1),
    (4, 5, 8, 3),
    (5, 6, 8, 3),
    (4, 6, 8, 1),
    (6, 7, 4, 3),
    (7, 8, 4, 3),
    (6, 8, 4, 1),
]
CHANNELS = [3, 32, 32, 64, 64, 128, 128, 256, 256]
EXTRA_LIVE = {2: 1, 4: 1, 5: 4, 7: 4, 8: 6, 10: 6, 11: 8}


def _levels(channels: int) -> np.ndarray:
    if channels == 3:
        return np.array([3])
    return np.unique(np.linspace(channels // 8, channels, 12).astype(np.int64))[::-1].copy()


def _conv(rng: np.random.Generator, n: int, levels: list[np.ndarray]) -> Layer:
    i, j, side, kernel = RESNET12[n]
    taps = kernel * kernel
    ratios = np.linspace(1, 1 / taps, 12) if taps > 1 else np.ones(1)
    ci, co = levels[i][:, None, None].astype(float), levels[j][None, :, None].astype(float)
    kept = np.round(taps * levels[j][:, None] * ratios)
    dense = np.arange(len(ratios)) == 0
    pixels = side * side
    cycles = np.where(dense, 1.0, 1.15) * kept * pixels * (np.ceil(ci / 16) * 2 + 1) + pixels * co
    flash = kept * np.ceil(ci / 16) * 16 + co * (12 + np.where(dense, 0, 2))
    score = rng.lognormal(0, 1, (levels[j][0], taps)) * rng.lognormal(0, 0.7)
    order = np.sort(score.ravel())
    loss = np.array(
        [
            [order[: int(c * taps - m)].sum() for m in row]
            for c, row in zip(levels[j], kept, strict=True)
        ]
    )
    full = np.ones_like(cycles)
    return Layer(
        f"conv{n}",
        i,
        j,
        tuple("conv_dense" if d else "conv_fwcs" for d in dense),
        kept.astype(np.int64),
        cycles,
        flash,
        loss * full / 2e4,
        full * 64,
        np.ones(cycles.shape, dtype=bool),
    )


def resnet12(seed: int) -> Problem:
    """Invented but plausible tables on ResNet-12's real graph."""
    rng = np.random.default_rng(seed)
    levels = [_levels(c) for c in CHANNELS]
    side = {j: s for _, j, s, _ in RESNET12} | {0: 32}
    groups = []
    for n, level in enumerate(levels):
        score = np.sort(rng.lognormal(0, 1, level[0])) / 2e3
        loss = np.array([score[: level[0] - c].sum() for c in level])
        groups.append(Group(f"g{n}", level, level * 10.0 * side[n], level * 1.0, loss))
    layers = tuple(_conv(rng, n, levels) for n in range(len(RESNET12)))
    steps = []
    for n, (i, j, _, _) in enumerate(RESNET12):
        live = {i, j} | ({EXTRA_LIVE[n]} if n in EXTRA_LIVE else set())
        sizes = {g: (side[g] + 2.0) ** 2 * np.ceil(levels[g] / 16) * 16 for g in live}
        steps.append(MemoryStep(f"conv{n}", 0.0, sizes, n))
    code = {"conv_dense": 4000.0, "conv_fwcs": 5200.0}
    return Problem("resnet12", tuple(groups), layers, tuple(steps), Budgets(), kernel_code=code)


def _limited(problem: Problem, flash: float, sram: float, loss: float) -> Problem:
    """Budgets as shares of the unpruned network's flash and SRAM, and of the loss at the bottom."""
    nothing = [0] * len(problem.layers)
    dense = evaluate(problem, [0] * len(problem.groups), nothing)
    least = evaluate(
        problem,
        [len(g.levels) - 1 for g in problem.groups],
        [len(x.kernels) - 1 for x in problem.layers],
    )
    budgets = Budgets(dense.flash * flash, dense.sram * sram, least.loss * loss)
    return dataclasses.replace(problem, budgets=budgets)


@pytest.mark.parametrize(
    ("seed", "shares"), [(0, (0.3, 0.75, 0.25)), (1, (0.15, 0.6, 0.35)), (2, (0.5, 0.8, 0.1))]
)
def test_resnet12_is_proven_optimal_in_seconds(seed: int, shares: tuple[float, ...]) -> None:
    problem = _limited(resnet12(seed), *shares)
    schedule = solve(problem, "highs", gap=1e-4, time_limit_s=60)
    assert schedule.status == "optimal"
    assert schedule.gap <= 1e-4 + 1e-8
    assert schedule.seconds < 30  # measured: 1 to 5 s; room for a loaded machine
    assert schedule.flash <= problem.budgets.flash
    assert schedule.sram <= problem.budgets.sram
    assert schedule.loss <= problem.budgets.loss * (1 + 1e-7)
    assert schedule.objective == schedule.latency


@pytest.mark.parametrize(("solver", "limit"), [("cbc", 1.0), ("highs", 2.0), ("highs", 0.1)])
def test_time_limit_gives_the_true_gap_and_never_says_optimal(solver: str, limit: float) -> None:
    problem = _limited(resnet12(0), 0.3, 0.75, 0.25)  # takes 4 s with HiGHS, 11 s with CBC
    early = solve(problem, solver, gap=0.0, time_limit_s=limit)
    optimum = 1_531_021.6  # both solvers, gap 0
    assert early.objective >= optimum * (1 - 1e-9) >= early.bound * (1 - 1e-9)
    assert early.gap == pytest.approx((early.objective - early.bound) / early.objective)
    assert early.status == ("feasible" if early.gap > 1e-8 else "optimal")
    assert early.flash <= problem.budgets.flash


def test_rivals_on_resnet12_are_worse_than_the_optimum() -> None:
    problem = _limited(resnet12(2), 0.5, 0.9, 0.4)
    best = solve(problem, "highs")
    for rival in ("greedy", "uniform"):
        schedule = solve(problem, rival)
        assert best.bound <= schedule.objective <= 4 * best.objective
        assert schedule.status == "feasible"


def test_kernel_code_is_paid_once_and_can_change_the_choice() -> None:
    groups = tuple(
        Group(name, np.array([16]), *(np.zeros(1) for _ in range(3)))
        for name in ("in", "mid", "out")
    )

    def layer(name: str, i: int, j: int) -> Layer:
        fast_and_slow = np.array([[[10.0, 30.0]]])
        zero = np.zeros((1, 1, 2))
        kept = np.array([[8, 9]])
        allowed = np.ones((1, 1, 2), dtype=bool)
        flash = np.full((1, 1, 2), 5.0)
        return Layer(name, i, j, ("fast", "slow"), kept, fast_and_slow, flash, zero, zero, allowed)

    layers = (layer("a", 0, 1), layer("b", 1, 2))
    code = {"fast": 100.0, "slow": 20.0}
    problem = Problem("code", groups, layers, (), Budgets(flash=110.0), kernel_code=code)
    both_fast = solve(problem)
    assert (both_fast.latency, both_fast.flash) == (20.0, 110.0)
    assert both_fast.kernels == {"a": "fast", "b": "fast"}
    assert both_fast.filterlets == {"a": 8, "b": 8}
    smaller = dataclasses.replace(problem, budgets=Budgets(flash=109.0))
    assert solve(smaller).kernels == {"a": "slow", "b": "slow"}
    with pytest.raises(InfeasibleError, match=r"flash<=29 B: smallest feasible flash 30 B"):
        solve(dataclasses.replace(problem, budgets=Budgets(flash=29.0)))


class _Cheat(Highs):
    """Returns the unpruned network whatever the budgets say."""

    def minimise(self, problem, settings):  # type: ignore[no-untyped-def]
        levels = (0,) * len(problem.groups)
        return Outcome("optimal", Decision(levels, (0,) * len(problem.layers)), 0.0)


def test_a_schedule_that_breaks_a_budget_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "cheat", _Cheat)
    problem = _limited(resnet12(0), 0.4, 0.8, 0.3)
    with pytest.raises(DtmmError, match=r"flash .* exceeds its budget"):
        solve(problem, "cheat")


class _Absent(Highs):
    """A solver that is not installed."""

    @classmethod
    def version(cls) -> str | None:
        return None


def test_solver_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(list_solvers()) >= {"highs", "cbc", "brute_force"}
    assert all(list_solvers().values())
    problem = resnet12(0)
    with pytest.raises(ConfigError, match="'gurobi' is unknown, expected auto, lagrangian"):
        solve(problem, "gurobi")
    for name in ("lagrangian", "highs"):
        monkeypatch.setitem(SOLVERS, name, _Absent)
    with pytest.raises(ToolchainError, match="pip install highspy"):
        solve(problem, "highs")
    assert solve(problem).solver == "cbc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gap": -0.1}, "gap is -0.1"),
        ({"gap": float("nan")}, "gap is nan"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        solve(resnet12(0), **arguments)


def test_brute_force_refuses_large_problems() -> None:
    with pytest.raises(DtmmError, match="decisions, expected at most 2,000,000"):
        solve(resnet12(0), "brute_force")


def test_threads_may_differ_between_calls() -> None:
    problem = _limited(resnet12(0), 0.4, 0.8, 0.3)
    first = solve(problem, "highs", gap=1e-2, threads=2)
    second = solve(problem, "highs", gap=1e-2, threads=1)
    assert first.status == second.status == "optimal"


def test_import_leaves_torch_out() -> None:
    code = "import sys, dtmm.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _contradiction() -> Problem:
    """Two layers that share both groups but allow different levels."""
    groups = tuple(
        Group(name, np.array([16, 8]), *(np.ones(2) for _ in range(3))) for name in ("in", "out")
    )

    def layer(name: str, level: int) -> Layer:
        allowed = np.zeros((2, 2, 1), dtype=bool)
        allowed[level, level] = True
        tables = (np.ones((2, 2, 1)) for _ in range(4))
        return Layer(name, 0, 1, ("conv_dense",), np.ones((2, 1), int), *tables, allowed)

    return Problem("odd", groups, (layer("a", 0), layer("b", 1)), (), Budgets())


def test_contradicting_options_are_not_blamed_on_budgets() -> None:
    with pytest.raises(InfeasibleError, match="the allowed options contradict each other"):
        solve(_contradiction())
    limited = dataclasses.replace(_contradiction(), budgets=Budgets(loss=1.0))
    with pytest.raises(InfeasibleError, match=r"loss<=1 nat: not even without budgets"):
        solve(limited)


def test_a_rival_that_finds_nothing_says_so() -> None:
    problem = _limited(resnet12(1), 0.15, 0.6, 0.35)
    with pytest.raises(DtmmError, match=r"uniform found no schedule .* try an exact one"):
        solve(problem, "uniform")
