"""Scheduling until the real memory plan fits: the sum of live tensors is only a lower bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dtmm.config import Config
from dtmm.deploy.arena import plan_arena
from dtmm.errors import InfeasibleError
from dtmm.latency.base import CostModel
from dtmm.latency.code_size import CodeSize
from dtmm.network.ir import Conv2D, Network
from dtmm.planning import Layout, Levels, formulate, layout
from dtmm.planning.kernels import depthwise_scratches
from dtmm.planning.levels import choices
from dtmm.planning.loss_models import loss_model
from dtmm.planning.schedule_cost import conv_scratch
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.scheduler import Budgets, Problem, Schedule, solve

MOST_ROUNDS = 5
"""How often the SRAM row is tightened before giving up."""


def schedule_within_plan(
    config: Config,
    folded: Network,
    importance: Importance,
    cost_model: CostModel,
    code: CodeSize,
    factors: Mapping[str, float] | None = None,
) -> tuple[Problem, Schedule, int]:
    """Solve, plan the arena, and where the plan breaks the SRAM budget tighten it and solve again.

    Args:
        factors: see `corrected_problem`.

    Returns:
        The last problem, its schedule, and the number of rounds it took.

    Raises:
        InfeasibleError: no schedule meets the budgets, or none whose plan does was found.
    """
    place = layout(folded)
    budget = config.budget
    problem = first_problem(config, folded, importance, cost_model, code)
    problem = corrected_problem(problem, factors or {})
    settings = config.schedule
    for rounds in range(1, MOST_ROUNDS + 1):
        found = solve(problem, settings.solver, settings.gap, settings.time_limit_s)
        planned = planned_sram(folded, place, found) + budget.stack
        if budget.sram is None or planned <= budget.sram:
            return problem, found, rounds
        limit = problem.budgets.sram
        assert limit is not None
        excess = planned - budget.sram
        problem = replace(problem, budgets=replace(problem.budgets, sram=limit - excess))
    raise InfeasibleError(
        f"no schedule found in {MOST_ROUNDS} rounds whose memory plan fits sram={budget.sram} B; "
        f"the last one needs {planned} B"
    )


def first_problem(
    config: Config,
    folded: Network,
    importance: Importance,
    cost_model: CostModel,
    code: CodeSize,
) -> Problem:
    """The problem as the settings state it, before any row is tightened.

    Raises:
        ConfigError: an unknown loss model, or one without the sensitivity table it needs.
        DtmmError: as `formulate`.
    """
    budget, settings, grid = config.budget, config.schedule, levels(config)
    table = None if settings.sensitivity is None else Sensitivity.load(Path(settings.sensitivity))
    return formulate(
        folded,
        importance,
        cost_model,
        layout(folded),
        Budgets(flash=budget.flash, sram=budget.sram, loss=budget.max_loss),
        grid,
        code.kernels,
        fixed_flash=code.fixed(len(folded.ops), _possible_kernels(folded, grid)),
        fixed_sram=budget.stack,
        loss_model=loss_model(settings.loss_model, table),
    )


def corrected_problem(problem: Problem, factors: Mapping[str, float]) -> Problem:
    """The problem with the latency of the pruned options of some layers, by name, multiplied."""
    layers = []
    for layer in problem.layers:
        pruned = layer.filterlets < layer.filterlets.max(axis=1, keepdims=True)
        scale = np.where(pruned, factors.get(layer.name, 1.0), 1.0)
        layers.append(replace(layer, latency=layer.latency * scale[None]))
    return replace(problem, layers=tuple(layers))


def _possible_kernels(folded: Network, grid: Levels) -> set[str]:
    return {kernel for conv in choices(folded, grid).convs.values() for kernel in conv.kernels}


def levels(config: Config) -> Levels:
    """The grid of the latency table and of the scheduling problem."""
    grid = config.table
    return Levels(
        grid.channel_levels,
        grid.filterlet_levels,
        minimum=grid.minimum_channels,
        multiple=grid.channel_multiple,
        pinned=tuple(name.strip() for name in (grid.pinned or "").split(",") if name.strip()),
    )


def planned_sram(folded: Network, place: Layout, found: Schedule) -> int:
    """Bytes of the arena, scratch included, that a real plan needs for a schedule."""
    channels = {
        name: buffer.channels if buffer.group is None else found.channels[buffer.group]
        for name, buffer in place.buffers.items()
    }
    scratch = {
        op.name: conv_scratch(folded, place, op, found)
        for op in folded.ops
        if isinstance(op, Conv2D)
    } | depthwise_scratches(folded)
    return plan_arena(place, channels, scratch).bytes
