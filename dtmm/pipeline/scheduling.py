"""Scheduling until the real memory plan fits: the sum of live tensors is only a lower bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dtmm.config import Config
from dtmm.deploy.arena import plan_arena
from dtmm.errors import InfeasibleError
from dtmm.latency.base import CostModel
from dtmm.latency.code_size import CodeSize
from dtmm.network.ir import Conv2D, Network
from dtmm.planning import Layout, Levels, Selection, formulate, layout
from dtmm.planning.kernels import depthwise_scratches
from dtmm.planning.levels import choices
from dtmm.planning.loss_models import MEASURED, loss_model
from dtmm.planning.nested import nested
from dtmm.planning.schedule_cost import conv_scratch
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.scheduler import Budgets, Problem, Schedule, get_solver, solve
from dtmm.scheduler.least_loss import near_least_loss
from dtmm.scheduler.pool import pool

SCHEDULED_MODES = ("dtmm", "structured")
"""Values of prune.mode that the scheduler decides; `structured` removes channels alone."""

MOST_ROUNDS = 5
"""How often the SRAM row is tightened before giving up."""


@dataclass(frozen=True)
class Candidates:
    """Schedules to choose from.

    Attributes:
        problem: what they solve: the settings' problem, its SRAM row tightened if need be.
        schedules: best first, one without `schedule.pool`; the memory plan of each fits.
        rounds: how often the program was solved.
    """

    problem: Problem
    schedules: tuple[Schedule, ...]
    rounds: int


def candidates_within_plan(
    config: Config,
    folded: Network,
    importance: Importance,
    cost_model: CostModel,
    code: CodeSize,
    sensitivity: Sensitivity | None = None,
    progress: Callable[[int, int], None] | None = None,
    factors: Mapping[str, float] | None = None,
    kept: Selection | None = None,
) -> Candidates:
    """Solve, plan the arenas, and where no plan fits the SRAM budget tighten it and solve again.

    Args:
        sensitivity: the run's own; `schedule.sensitivity` names another.
        progress: called with (schedules found, schedules wanted).
        factors: see `corrected_problem`.
        kept: of a network that is pruned already, what is not gone; None: all of it.

    Raises:
        InfeasibleError: no schedule meets the budgets, or none whose plan does was found.
    """
    place = layout(folded)
    budget = config.budget
    problem = first_problem(config, folded, importance, cost_model, code, sensitivity)
    problem = corrected_problem(problem, factors or {})
    if kept is not None:
        problem = nested(problem, importance, kept)
    for rounds in range(1, MOST_ROUNDS + 1):
        problem = with_loss_slack(problem, config)
        found = _best_schedules(problem, config, progress)
        planned = [planned_sram(folded, place, each) + budget.stack for each in found]
        fitting = [
            each
            for each, size in zip(found, planned, strict=True)
            if budget.sram is None or size <= budget.sram
        ]
        if fitting:
            return Candidates(problem, tuple(fitting), rounds)
        limit = problem.budgets.sram
        assert limit is not None and budget.sram is not None
        excess = planned[0] - budget.sram
        problem = replace(problem, budgets=replace(problem.budgets, sram=limit - excess))
    raise InfeasibleError(
        f"no schedule found in {MOST_ROUNDS} rounds whose memory plan fits sram={budget.sram} B; "
        f"the last one needs {planned[0]} B"
    )


def _best_schedules(
    problem: Problem, config: Config, progress: Callable[[int, int], None] | None
) -> list[Schedule]:
    settings = config.schedule
    if settings.pool == 1 or not get_solver(settings.solver).pool:
        return [solve(problem, settings.solver, settings.gap, settings.time_limit_s)]
    most = len(problem.groups) + len(problem.layers)
    found = pool(
        problem,
        settings.pool,
        min(settings.pool_differ, most),
        settings.solver,
        settings.gap,
        settings.time_limit_s,
        progress,
    ).schedules
    slowest = found[0].objective * (1 + settings.pool_slack)
    return [each for each in found if each.objective <= slowest]


def with_loss_slack(problem: Problem, config: Config) -> Problem:
    """The problem with the loss budget that `budget.loss_slack` asks for, if `max_loss` is none."""
    budget, settings = config.budget, config.schedule
    if budget.max_loss is not None:
        return problem
    return near_least_loss(
        problem, budget.loss_slack, settings.solver, settings.gap, settings.time_limit_s
    )


def measures_sensitivity(config: Config) -> bool:
    """Whether a run under these settings measures its own sensitivity."""
    settings = config.schedule
    return settings.loss_model in MEASURED and settings.sensitivity is None


def first_problem(
    config: Config,
    folded: Network,
    importance: Importance,
    cost_model: CostModel,
    code: CodeSize,
    sensitivity: Sensitivity | None = None,
) -> Problem:
    """The problem as the settings state it, before any row is tightened (`with_loss_slack` too).

    Args:
        sensitivity: the run's own; `schedule.sensitivity` names another.

    Raises:
        ConfigError: an unknown loss model, or one without the sensitivity table it needs.
        DtmmError: as `formulate`.
    """
    budget, settings, grid = config.budget, config.schedule, levels(config)
    if settings.sensitivity is not None:
        sensitivity = Sensitivity.load(Path(settings.sensitivity))
    return formulate(
        folded,
        importance,
        cost_model,
        layout(folded),
        Budgets(flash=budget.flash, sram=budget.sram, loss=budget.max_loss),
        grid,
        code.kernels,
        fixed_flash=code.fixed(len(folded.ops), possible_kernels(folded, grid)),
        fixed_sram=budget.stack,
        loss_model=loss_model(settings.loss_model, sensitivity),
    )


def corrected_problem(problem: Problem, factors: Mapping[str, float]) -> Problem:
    """The problem with the latency of the pruned options of some layers, by name, multiplied."""
    layers = []
    for layer in problem.layers:
        pruned = layer.filterlets < layer.filterlets.max(axis=1, keepdims=True)
        scale = np.where(pruned, factors.get(layer.name, 1.0), 1.0)
        layers.append(replace(layer, latency=layer.latency * scale[None]))
    return replace(problem, layers=tuple(layers))


def possible_kernels(folded: Network, grid: Levels) -> set[str]:
    """Ids of the kernels that some choice uses for a convolution."""
    return {kernel for conv in choices(folded, grid).convs.values() for kernel in conv.kernels}


def levels(config: Config) -> Levels:
    """The grid of the latency table and of the scheduling problem."""
    grid = config.table
    return Levels(
        grid.channel_levels,
        1 if config.prune.mode == "structured" else grid.filterlet_levels,
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
