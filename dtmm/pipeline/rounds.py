"""Prune a little, tune, estimate anew, prune on: the rounds before the last one.

The last round is the run's own schedule and fine-tuning, on what these rounds leave.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dtmm.config import BudgetConfig, Config
from dtmm.config_values import Bytes, Nats
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import LatencyTable
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.choosing import ROUNDS, Start, choose, dense_start
from dtmm.pipeline.engine import Context
from dtmm.pipeline.remeasure import Choice
from dtmm.pipeline.scheduling import first_problem, levels, measures_sensitivity
from dtmm.planning import select
from dtmm.planning.nested import alive_first
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.equivalence import CHECKED_IMAGES, require_equal_outputs
from dtmm.pruning.importance import Importance
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.pruning.restoration import restore
from dtmm.pruning.sensitivity_measure import measure_sensitivity
from dtmm.scheduler import Problem
from dtmm.scheduler.evaluate import Totals, evaluate
from dtmm.table import write_table
from dtmm.training.finetune import finetune
from dtmm.training.masks import filterlet_masks


@dataclass(frozen=True)
class Round:
    """A line of rounds.csv: limits, and what the schedule taken comes to (bytes, nats, cycles)."""

    round: int
    flash_limit: float | None
    sram_limit: float | None
    loss_limit: float | None
    latency: float
    flash: float
    sram: float
    loss: float


def run_rounds(context: Context) -> str:
    """rounds/: the network after all rounds but the last, its scores, and what it keeps.

    Raises:
        ConfigError: one round is all there is. InfeasibleError: nothing within the budgets.
    """
    config = context.config
    if config.finetune.rounds == 1:
        raise ConfigError("finetune.rounds is 1, expected 2 or more: there are no earlier rounds")
    table = LatencyTable.load(context.folder.file("latency.csv"))
    code = CodeSize.load(context.folder.file("code_size.csv"))
    start = dense_start(context)
    teacher = start.network
    whole = dense_totals(
        first_problem(config, fold(start.network), start.importance, table, code, start.curves)
    )
    context.folder.file(ROUNDS).mkdir(exist_ok=True)
    lines = []
    for number in range(1, config.finetune.rounds):
        context.progress.line(f"round {number} of {config.finetune.rounds}")
        budget = round_budget(config.budget, whole, number, config.finetune.rounds)
        chosen = _choose(context, replace(config, budget=budget), start, table, code)
        found, limit = chosen.schedule, chosen.problem.budgets.loss
        lines.append(
            Round(number, budget.flash, budget.sram, limit, found.latency, found.flash, found.sram,
                  found.loss)
        )  # fmt: skip
        start = _prune_and_tune(context, start, teacher, chosen, number)
    files.save(context, f"{ROUNDS}/network.dtmm", start.network)
    files.save(context, f"{ROUNDS}/importance.dtmm", start.importance)
    assert start.kept is not None
    files.save(context, f"{ROUNDS}/kept.dtmm", start.kept)
    if start.curves is not None:
        start.curves.save(context.folder.file(f"{ROUNDS}/sensitivity.csv"))
    rows = pd.DataFrame([asdict(line) for line in lines])
    write_table(context.folder.file(f"{ROUNDS}/rounds.csv"), rows, {"unit": "cycles, bytes, nats"})
    for number in range(1, config.finetune.rounds):
        _saved(context, number).unlink(missing_ok=True)
    last = lines[-1]
    return f"{len(lines)} rounds, {last.latency / 1e6:.2f} Mcycles, {last.flash / 1024:.1f} KiB"


def dense_totals(problem: Problem) -> Totals:
    """Of the decision that keeps everything."""
    levels = [0] * len(problem.groups)
    options = [int(np.flatnonzero(layer.allowed[0, 0])[0]) for layer in problem.layers]
    return evaluate(problem, levels, options)


def round_budget(last: BudgetConfig, whole: Totals, number: int, rounds: int) -> BudgetConfig:
    """The budgets of round `number` of `rounds`, on the way from the dense network to `last`.

    Flash and SRAM shrink by the same factor from round to round; a limit above what the dense
    network needs stays as it is. The loss limit grows in equal steps.
    """
    share = number / rounds

    def shrunk(limit: Bytes | None, dense: float) -> Bytes | None:
        if limit is None or limit >= dense:
            return limit
        return Bytes(round(limit**share * dense ** (1 - share)))

    return replace(
        last,
        flash=shrunk(last.flash, whole.flash),
        sram=shrunk(last.sram, whole.sram),
        max_loss=None if last.max_loss is None else Nats(last.max_loss * share),
    )


def _choose(
    context: Context, config: Config, start: Start, table: LatencyTable, code: CodeSize
) -> Choice:
    """Within the round's budgets; where nothing that fits loses so little as `max_loss`, within
    `loss_slack` of the least loss."""
    try:
        return choose(context, config, start, table, code)[0]
    except InfeasibleError:
        if config.budget.max_loss is None:
            raise
        relaxed = replace(config.budget, max_loss=None)
        return choose(context, replace(config, budget=relaxed), start, table, code)[0]


def _prune_and_tune(
    context: Context, start: Start, teacher: Network, chosen: Choice, number: int
) -> Start:
    """Carry a schedule out, tune what it leaves, and score that in the original shapes."""
    config, dataset = context.config, context.source.dataset
    selection = select(start.network, start.importance, chosen.schedule)
    small = remove(start.network, selection)
    some = dataset.to_input(dataset.train_images[:CHECKED_IMAGES])
    require_equal_outputs(start.network, selection, small, some)
    with context.progress.bar("steps") as bar:
        tuned = finetune(
            small,
            dataset,
            config.finetune,
            teacher=teacher,
            progress=bar,
            masks=filterlet_masks(small),
            checkpoint=_saved(context, number),
        )
    network = restore(tuned, start.network, selection)
    scores = alive_first(estimate_importance(network, dataset, config.importance), selection)
    return Start(network, scores, _curves(context, network, scores), selection)


def _curves(context: Context, network: Network, scores: Importance) -> Sensitivity | None:
    if not measures_sensitivity(context.config):
        return None
    return measure_sensitivity(
        network,
        scores,
        levels(context.config),
        context.source.dataset,
        context.config.sensitivity,
        context.folder.file("sensitivity.jsonl"),
    )


def _saved(context: Context, number: int) -> Path:
    """A killed run goes on from here; deleted when all rounds are done."""
    return context.folder.file(f"{ROUNDS}/finetune_{number}.pt")
