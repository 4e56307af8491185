"""What a decision really costs, straight from the problem's arrays (no model, no solver)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.problem import METRICS, Metric, Problem

BUDGETED: tuple[Metric, ...] = ("flash", "sram", "loss", "latency")

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

    Budgets, `allowed`, concats and exclusions are not looked at: see `broken_rules`.
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


def objective_value(problem: Problem, totals: Totals) -> float:
    """The weighted sum (1) that the problem minimises."""
    weights = problem.objective.weights()
    return float(sum(weight * getattr(totals, metric) for metric, weight in weights.items()))


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


def unit_losses(problem: Problem, decision: Decision) -> Iterator[tuple[str, float]]:
    """(name, highest score removed there) of every group and layer, for the per-unit rule."""
    for group, j in zip(problem.groups, decision.levels, strict=True):
        scores = group.loss if group.unit_loss is None else group.unit_loss
        yield f"group {group.name}", float(scores[j])
    for layer, k in zip(problem.layers, decision.options, strict=True):
        scores = layer.loss if layer.unit_loss is None else layer.unit_loss
        at = (decision.levels[layer.input_group], decision.levels[layer.output_group], k)
        yield f"layer {layer.name}", float(scores[at])


def all_unit_losses(problem: Problem) -> npt.NDArray[np.float64]:
    """Every value that a per-unit threshold can be compared with, ascending, each once."""
    tables = [g.loss if g.unit_loss is None else g.unit_loss for g in problem.groups]
    tables += [x.loss if x.unit_loss is None else x.unit_loss for x in problem.layers]
    return np.unique(np.concatenate([table.ravel() for table in tables]))


def limit(budget: float | None) -> float:
    """The largest value that counts as within `budget`; infinite for None (unlimited)."""
    return math.inf if budget is None else budget * (1.0 + BUDGET_TOLERANCE)


def summed_budgets(problem: Problem) -> dict[Metric, float]:
    """The budgets that limit a total, by metric: all but a loss threshold per unit."""
    found: dict[Metric, float] = {}
    for metric in BUDGETED:
        budget = getattr(problem.budgets, metric)
        if budget is not None and not (metric == "loss" and is_per_unit(problem)):
            found[metric] = budget
    return found


def is_per_unit(problem: Problem) -> bool:
    """Whether the loss budget is a threshold per unit."""
    return problem.budgets.loss_rule == "per_unit"


def broken_rules(problem: Problem, decision: Decision, totals: Totals) -> list[str]:
    """What a decision violates: one phrase per exceeded budget or forbidden choice."""
    broken = list(_broken_structure(problem, decision))
    for metric, budget in summed_budgets(problem).items():
        value = getattr(totals, metric)
        if value > limit(budget):
            broken.append(f"{metric} {value:.10g} exceeds its budget {budget:.10g}")
    if is_per_unit(problem):
        threshold = problem.budgets.loss
        broken += [
            f"{name}: score {score:.10g} of a removed unit exceeds the threshold {threshold:.10g}"
            for name, score in unit_losses(problem, decision)
            if score > limit(threshold)
        ]
    return broken


def _broken_structure(problem: Problem, decision: Decision) -> Iterator[str]:
    """Rules that hold whatever the budgets are."""
    for group, j in zip(problem.groups, decision.levels, strict=True):
        if group.allowed is not None and not group.allowed[j]:
            yield f"group {group.name}: {group.levels[j]} channels are not allowed"
    for layer, k in zip(problem.layers, decision.options, strict=True):
        i, j = decision.levels[layer.input_group], decision.levels[layer.output_group]
        if not layer.allowed[i, j, k]:
            yield f"layer {layer.name}: option {k} is not allowed at these levels"
    kept = [g.levels[j] for g, j in zip(problem.groups, decision.levels, strict=True)]
    for concat in problem.concats:
        total = sum(kept[s] for s in concat.segments)
        if kept[concat.group] != total:
            name = problem.groups[concat.group].name
            yield f"group {name}: keeps {kept[concat.group]} channels, its segments {total}"
    for known in problem.exclusions:
        if (differ := distance(decision, known.levels, known.options)) < known.differ:
            yield f"differs in {differ} choices from an excluded decision, expected {known.differ}"


def distance(decision: Decision, levels: Sequence[int], options: Sequence[int]) -> int:
    """In how many groups and layers two decisions differ."""
    mine, other = (*decision.levels, *decision.options), (*levels, *options)
    return sum(a != b for a, b in zip(mine, other, strict=True))


__all__ = [
    "BUDGETED",
    "BUDGET_TOLERANCE",
    "METRICS",
    "Decision",
    "Metric",
    "Totals",
    "all_unit_losses",
    "broken_rules",
    "distance",
    "evaluate",
    "is_per_unit",
    "limit",
    "objective_value",
    "step_bytes",
    "summed_budgets",
    "unit_losses",
]
