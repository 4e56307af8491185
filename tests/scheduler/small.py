"""Small instances whose every decision can be listed, and their totals summed by hand."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.instances import Grid, Shares, instance
from dtmm.scheduler import METRICS, Budgets, Concat, Group, Layer, MemoryStep, Problem

TOLERANCE = 1e-7


@dataclass(frozen=True)
class Choice:
    """A decision that keeps all rules but the budgets, and its totals."""

    levels: tuple[int, ...]
    options: tuple[int, ...]
    totals: dict[str, float]


def tiny(seed: int, shares: Shares | None = None) -> Problem:
    """The residual network of the public set under other random scores."""
    return instance("tiny_resnet", Grid(2, 3), seed, shares)


def concatenated(seed: int) -> Problem:
    """Two convolutions side by side, a third reads both; random tables, no budgets."""
    rng = np.random.default_rng(seed)
    counts = ([3], [2, 1], [3, 2, 1], [5, 4, 3, 2], [4, 1])

    def group(n: int) -> Group:
        size = len(counts[n])
        down = -np.sort(-rng.uniform(0, 9, (2, size)))
        up = np.sort(rng.uniform(0, 0.3, size))
        return Group(f"g{n}", np.array(counts[n]), down[0], down[1], up)

    def layer(n: int, i: int, j: int) -> Layer:
        shape = (len(counts[i]), len(counts[j]), 2)
        scale = np.array(counts[i])[:, None, None] * np.array(counts[j])[None, :, None]
        tables = [scale * np.sort(rng.uniform(1, 9, shape), axis=2)[..., ::-1] for _ in range(2)]
        tables += [rng.uniform(0, 0.2, shape), rng.uniform(0, 20, shape)]
        for table in tables[:2]:
            for axis in (0, 1):
                np.minimum.accumulate(table, axis=axis, out=table)
        kept = np.array(counts[j])[:, None] * np.array([9, 4])
        return Layer(
            f"l{n}", i, j, ("dense", "fwcs"), kept, *tables, np.ones(shape, dtype=np.bool_)
        )

    layers = (layer(0, 0, 1), layer(1, 0, 2), layer(2, 3, 4))
    sizes = [np.array(c) * 10.0 for c in counts]
    steps = (
        MemoryStep("s0", 5.0, {1: sizes[1]}, 0),
        MemoryStep("s1", 5.0, {3: sizes[3]}, 1),
        MemoryStep("s2", 0.0, {3: sizes[3], 4: sizes[4]}, 2),
    )
    code = {"dense": 11.0, "fwcs": 17.0}
    groups = tuple(group(n) for n in range(5))
    return Problem(
        "concatenated", groups, layers, steps, Budgets(), 1.0, 2.0, 0.01, 3.0, code,
        (Concat(3, (1, 2)),),
    )  # fmt: skip


def choices(problem: Problem) -> list[Choice]:
    """Every decision that the rules allow, whatever it costs."""
    return list(_choices(problem))


def _choices(problem: Problem) -> Iterator[Choice]:
    count = len(problem.groups)
    sizes = [len(g.levels) for g in problem.groups] + [len(x.kernels) for x in problem.layers]
    for picked in itertools.product(*map(range, sizes)):
        b, a = picked[:count], picked[count:]
        kept = [int(g.levels[j]) for g, j in zip(problem.groups, b, strict=True)]
        if any(kept[c.group] != sum(kept[s] for s in c.segments) for c in problem.concats):
            continue
        at = [
            (b[x.input_group], b[x.output_group], k) for x, k in zip(problem.layers, a, strict=True)
        ]
        if not all(x.allowed[p] for x, p in zip(problem.layers, at, strict=True)):
            continue
        yield Choice(b, a, _totals(problem, b, at, a))


def _totals(problem, b, at, a) -> dict[str, float]:
    totals = {}
    for metric in ("latency", "flash", "loss"):
        parts = [float(getattr(g, metric)[j]) for g, j in zip(problem.groups, b, strict=True)]
        parts += [float(getattr(x, metric)[p]) for x, p in zip(problem.layers, at, strict=True)]
        totals[metric] = getattr(problem, f"fixed_{metric}") + sum(parts)
    kernels = {x.kernels[k] for x, k in zip(problem.layers, a, strict=True)}
    totals["flash"] += sum(problem.kernel_code[kernel] for kernel in kernels)
    totals["sram"] = problem.fixed_sram + max(
        step.fixed
        + sum(float(size[b[g]]) for g, size in step.groups.items())
        + (0.0 if step.layer is None else float(problem.layers[step.layer].scratch[at[step.layer]]))
        for step in problem.steps
    )
    return totals


def fits(choice: Choice, budgets: Budgets) -> bool:
    """Within every budget (sums only)."""
    limits = {m: getattr(budgets, m) for m in METRICS}
    return all(v is None or choice.totals[m] <= v * (1 + TOLERANCE) for m, v in limits.items())


def with_budgets(problem: Problem, **budgets: float | None) -> Problem:
    """The same problem with some budgets changed."""
    return dataclasses.replace(problem, budgets=dataclasses.replace(problem.budgets, **budgets))
