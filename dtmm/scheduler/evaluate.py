"""What a decision really costs, straight from the problem's arrays (no model, no solver)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dtmm.scheduler.problem import Problem

Metric = Literal["latency", "flash", "sram", "loss"]
"""A total that can be minimised or, but for latency, limited. cycles, bytes, bytes, nats."""

BUDGETED: tuple[Metric, ...] = ("flash", "sram", "loss")

BUDGET_TOLERANCE = 1e-7
"""A total may exceed its budget by this share: rounding of sums, far below one byte."""


@dataclass(frozen=True)
class Decision:
    """One level index per group and one option index per layer, in the problem's order."""

    levels: tuple[int, ...]
    options: tuple[int, ...]


@dataclass(frozen=True)
class Totals:
    """Totals of a decision: latency in cycles, flash and sram in bytes, loss in nats."""

    latency: float
    flash: float
    sram: float
    loss: float


def evaluate(problem: Problem, levels: Sequence[int], options: Sequence[int]) -> Totals:
    """Totals of one level index per group and one option index per layer.

    Budgets and `allowed` are not looked at: see `broken_rules`.
    """
    latency, flash, loss = problem.fixed_latency, problem.fixed_flash, problem.fixed_loss
    for group, j in zip(problem.groups, levels, strict=True):
        latency += float(group.latency[j])
        flash += float(group.flash[j])
        loss += float(group.loss[j])
    used: set[str] = set()
    for layer, k in zip(problem.layers, options, strict=True):
        at = (levels[layer.input_group], levels[layer.output_group], k)
        latency += float(layer.latency[at])
        flash += float(layer.flash[at])
        loss += float(layer.loss[at])
        used.add(layer.kernels[k])
    code = problem.kernel_code or {}
    flash += sum(code.get(kernel, 0.0) for kernel in sorted(used))
    sram = max(step_bytes(problem, levels, options), default=problem.fixed_sram)
    return Totals(latency, flash, sram, loss)


def step_bytes(problem: Problem, levels: Sequence[int], options: Sequence[int]) -> list[float]:
    """SRAM in use at every step of the problem, in bytes."""
    used = []
    for step in problem.steps:
        size = problem.fixed_sram + step.fixed
        size += sum(float(at_level[levels[g]]) for g, at_level in step.groups.items())
        if step.layer is not None:
            layer = problem.layers[step.layer]
            at = (levels[layer.input_group], levels[layer.output_group], options[step.layer])
            size += float(layer.scratch[at])
        used.append(size)
    return used


def limit(budget: float | None) -> float:
    """The largest value that counts as within `budget`; infinite for None (unlimited)."""
    return math.inf if budget is None else budget * (1.0 + BUDGET_TOLERANCE)


def broken_rules(problem: Problem, decision: Decision, totals: Totals) -> list[str]:
    """What a decision violates: one phrase per exceeded budget or forbidden option."""
    broken = [
        f"layer {layer.name}: option {k} is not allowed at these levels"
        for layer, k in zip(problem.layers, decision.options, strict=True)
        if not layer.allowed[
            decision.levels[layer.input_group], decision.levels[layer.output_group], k
        ]
    ]
    for metric in BUDGETED:
        value, budget = getattr(totals, metric), getattr(problem.budgets, metric)
        if value > limit(budget):
            broken.append(f"{metric} {value:.10g} exceeds its budget {budget:.10g}")
    return broken
