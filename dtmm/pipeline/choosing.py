"""From scores to one schedule: of the scheduler's candidates that of the lowest measured loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dtmm.config import Config
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import LatencyTable
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.engine import Context
from dtmm.pipeline.remeasure import Choice
from dtmm.pipeline.reranking import rerank
from dtmm.pipeline.scheduling import candidates_within_plan, measures_sensitivity
from dtmm.planning.nouns import Selection
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance

ROUNDS = "rounds"
"""Folder of a run: where its earlier rounds of pruning and tuning ended."""


@dataclass(frozen=True)
class Start:
    """What is pruned next.

    Attributes:
        network: in its original shapes; what is gone is zero. importance, curves: its own.
        kept: what is not gone; None: everything.
    """

    network: Network
    importance: Importance
    curves: Sensitivity | None
    kept: Selection | None = None


def dense_start(context: Context) -> Start:
    """The trained network of a run."""
    curves = None
    if measures_sensitivity(context.config):
        curves = Sensitivity.load(context.folder.file("sensitivity.csv"))
    network = files.load(context, "network.dtmm", Network)
    return Start(network, files.load(context, "importance.dtmm", Importance), curves)


def last_start(context: Context) -> Start:
    """Where the earlier rounds of a run ended; the trained network if it has none."""
    if context.config.finetune.rounds == 1:
        return dense_start(context)
    curves = None
    if measures_sensitivity(context.config):
        curves = Sensitivity.load(context.folder.file(f"{ROUNDS}/sensitivity.csv"))
    return Start(
        files.load(context, f"{ROUNDS}/network.dtmm", Network),
        files.load(context, f"{ROUNDS}/importance.dtmm", Importance),
        curves,
        files.load(context, f"{ROUNDS}/kept.dtmm", Selection),
    )


def choose(
    context: Context,
    config: Config,
    start: Start,
    table: LatencyTable,
    code: CodeSize,
    factors: Mapping[str, float] | None = None,
) -> tuple[Choice, pd.DataFrame]:
    """The best of the scheduler's candidates by measured loss, and the ranking of all of them.

    Args:
        config: the run's, or one with other budgets.
        factors: see `scheduling.corrected_problem`.

    Raises:
        InfeasibleError: no schedule meets the budgets.
    """
    with context.progress.bar("schedules") as bar:
        candidates = candidates_within_plan(
            config, fold(start.network), start.importance, table, code, start.curves, bar, factors,
            start.kept,
        )  # fmt: skip
    with context.progress.bar("measured schedules") as bar:
        ranking = rerank(
            start.network,
            start.importance,
            candidates.schedules,
            context.source.dataset,
            config.schedule.pool_images,
            context.folder.file("pool.jsonl"),
            config.run.seed,
            bar,
        )
    best = candidates.schedules[int(ranking["taken"].to_numpy().argmax())]
    return Choice(candidates.problem, best, candidates.rounds), ranking
