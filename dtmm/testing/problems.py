"""Small random scheduling problems of every kind, to be compared with brute force."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.evaluate import Decision, Totals, broken_rules, evaluate, objective_value
from dtmm.scheduler.problem import (
    METRICS,
    Budgets,
    Concat,
    Group,
    Layer,
    MemoryStep,
    Metric,
    Objective,
    Problem,
)
from dtmm.scheduler.solvers.walk import completed

Floats = npt.NDArray[np.float64]


def random_problem(seed: int, objective: Metric | None = "latency") -> Problem:
    """Two to four free groups, one to three layers; half of the problems are feasible or so.

    Groups are shared by layers as residual networks do; there are layers within one group, concats
    (also of concats and of a group with itself), kernels whose code is paid once, steps with three
    live groups, forbidden levels and options, summed and per-unit loss budgets, whole numbers
    (ties) and real ones.

    Args:
        objective: what to minimise; None for a random weighted sum of all totals.
    """
    rng = np.random.default_rng(seed)
    whole = bool(rng.random() < 0.5)
    groups = [_group(rng, f"g{n}", whole) for n in range(int(rng.integers(2, 5)))]
    concats: list[Concat] = []
    while rng.random() < 0.3 and len(groups) < 6:
        concats.append(_add_concat(rng, groups, whole))
    layers = tuple(_layer(rng, n, groups, whole) for n in range(int(rng.integers(1, 4))))
    steps = tuple(_step(rng, n, groups, len(layers)) for n in range(int(rng.integers(0, 5))))
    weights = {m: float(rng.random() < 0.7) * rng.uniform(0.1, 2) for m in METRICS}
    weights["latency"] = max(weights["latency"], 0.1)
    fixed = [float(v) for v in rng.integers(0, 30, 4)]
    problem = Problem(
        f"random{seed}",
        tuple(groups),
        layers,
        steps,
        Budgets(),
        fixed_latency=fixed[0],
        fixed_flash=fixed[1],
        fixed_loss=fixed[2],
        fixed_sram=fixed[3],
        kernel_code={"dense": 40.0, "fwcs": 60.0} if rng.random() < 0.7 else None,
        concats=tuple(concats),
        objective=Objective(**weights) if objective is None else Objective.only(objective),
    )
    return dataclasses.replace(problem, budgets=_budgets(rng, problem))


def best_by_enumeration(problem: Problem) -> tuple[float, Decision] | None:
    """(objective, decision) of the optimum, by trying every decision; None if nothing fits."""
    best: tuple[float, Decision] | None = None
    for decision, totals in _decisions(problem):
        value = objective_value(problem, totals)
        if (best is None or value < best[0]) and not broken_rules(problem, decision, totals):
            best = (value, decision)
    return best


def _decisions(problem: Problem) -> Iterator[tuple[Decision, Totals]]:
    """All decisions but those whose concats do not add up or whose options are not allowed."""
    virtual = {concat.group for concat in problem.concats}
    free = [g for g in range(len(problem.groups)) if g not in virtual]
    for picked in itertools.product(*(range(len(problem.groups[g].levels)) for g in free)):
        levels = [0] * len(problem.groups)
        for g, j in zip(free, picked, strict=True):
            levels[g] = j
        full = completed(problem, tuple(levels))
        if full is None:
            continue
        options = [
            np.flatnonzero(x.allowed[full[x.input_group], full[x.output_group]]).tolist()
            for x in problem.layers
        ]
        for chosen in itertools.product(*options):
            yield Decision(full, chosen), evaluate(problem, full, chosen)


def _table(rng: np.random.Generator, shape: tuple[int, ...], whole: bool) -> Floats:
    values = rng.uniform(0, 50, shape)
    return np.round(values) if whole else values


def _group(rng: np.random.Generator, name: str, whole: bool, levels: Floats | None = None) -> Group:
    if levels is None:
        levels = rng.choice(np.arange(1, 9), int(rng.integers(1, 4)), replace=False)
    counts = np.sort(levels)[::-1].astype(np.int64)
    shape = counts.shape
    allowed = rng.random(shape) < 0.9
    return Group(
        name,
        counts,
        latency=_table(rng, shape, whole),
        flash=_table(rng, shape, whole),
        loss=_table(rng, shape, whole),
        allowed=allowed if allowed.any() and rng.random() < 0.3 else None,
        unit_loss=_table(rng, shape, whole) if rng.random() < 0.5 else None,
    )


def _add_concat(rng: np.random.Generator, groups: list[Group], whole: bool) -> Concat:
    segments = tuple(int(g) for g in rng.integers(0, len(groups), int(rng.integers(2, 4))))
    sums = np.zeros(1)
    for g in segments:
        sums = np.unique(sums[:, None] + groups[g].levels)
    if len(sums) > 6:
        sums = np.sort(rng.choice(sums, 6, replace=False))
    groups.append(_group(rng, f"concat{len(groups)}", whole, sums))
    return Concat(len(groups) - 1, segments)


def _layer(rng: np.random.Generator, n: int, groups: list[Group], whole: bool) -> Layer:
    i, j = rng.choice(len(groups), 2, replace=bool(rng.random() < 0.4))
    nk = int(rng.integers(1, 4))
    shape = (len(groups[i].levels), len(groups[j].levels), nk)
    allowed = rng.random(shape) < 0.85
    allowed[0, 0, 0] = True
    return Layer(
        f"l{n}",
        int(i),
        int(j),
        tuple(str(kernel) for kernel in rng.choice(["dense", "fwcs", "free"], nk)),
        rng.integers(0, 99, shape[1:]),
        latency=_table(rng, shape, whole),
        flash=_table(rng, shape, whole),
        loss=_table(rng, shape, whole),
        scratch=_table(rng, shape, whole),
        allowed=allowed,
        unit_loss=_table(rng, shape, whole) if rng.random() < 0.5 else None,
    )


def _step(rng: np.random.Generator, n: int, groups: list[Group], layers: int) -> MemoryStep:
    live = rng.choice(len(groups), int(rng.integers(0, min(len(groups), 4) + 1)), replace=False)
    layer = int(rng.integers(-1, layers))
    sizes = {int(g): groups[g].levels * float(rng.integers(1, 9)) for g in live}
    return MemoryStep(f"s{n}", float(rng.integers(0, 20)), sizes, None if layer < 0 else layer)


def _budgets(rng: np.random.Generator, problem: Problem) -> Budgets:
    """Around each metric's own minimum."""
    rule = "per_unit" if rng.random() < 0.25 else "sum"
    found: dict[Metric, float] = {}
    for metric in METRICS:
        if rng.random() < (0.8 if metric == "latency" else 0.4):
            continue
        factor = float(rng.choice([0.9, 1.0, 1.1, 1.3, 2.0]))
        if metric == "loss" and rule == "per_unit":
            found[metric] = float(rng.uniform(15, 50))
            continue
        alone = dataclasses.replace(problem, objective=Objective.only(metric))
        least = best_by_enumeration(alone)
        if least is not None:
            found[metric] = least[0] * factor
    limits = Budgets(**{str(m): b for m, b in found.items()})  # type: ignore[arg-type]
    return dataclasses.replace(limits, loss_rule="per_unit") if rule == "per_unit" else limits
