"""After selection: the chosen layers measured with what they really keep, against their table.

A table is measured with random filterlets, but importance does not choose at random: which
neighbours stay together decides how many runs a layer has, and so its cycles. Where a layer is off
by more than LIMIT its pruned options are corrected by what was found, and the schedule is solved
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from dtmm.config import Config, TableConfig
from dtmm.errors import DataError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.measure import measure_once
from dtmm.latency.patterns import Kept
from dtmm.latency.table import LatencyTable, Point
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.pipeline.scheduling import candidates_within_plan
from dtmm.planning import Selection, layout, select
from dtmm.planning.points import scheduled_points
from dtmm.pruning.importance import Importance
from dtmm.scheduler import Problem, Schedule
from dtmm.storage.kernel_ids import CONV_FWCS, family
from dtmm.table import read_table, write_table

LIMIT = 0.03
"""Relative difference from the table above which a layer is corrected."""

CORRECTED = ("measured", "fitted")
"""Cost models whose answers are corrected; any other is the user's word, and only reported on."""


@dataclass(frozen=True)
class LayerCheck:
    """One operator of a schedule, in cycles.

    Attributes:
        table: as the latency table says. predicted: corrected by what was measured before.
        measured: with what the layer really keeps.
    """

    name: str
    kernel: str
    in_channels: int
    out_channels: int
    filterlets: int
    table: float
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """How far the measurement is from the table, relative to the table."""
        return _relative(self.measured, self.table)

    @property
    def surprise(self) -> float:
        """How far it is from the corrected prediction, likewise."""
        return _relative(self.measured, self.predicted)


def _relative(value: float, expected: float) -> float:
    return value / expected - 1 if expected else float(value > 0)


@dataclass(frozen=True)
class Scheduled:
    """A schedule whose layers were measured.

    Attributes:
        problem, schedule, selection: the last ones, corrected.
        checks: every operator of this schedule; empty where nothing was to be measured.
        plans: rounds that the memory plan took (`scheduling.candidates_within_plan`).
        corrections: how often the problem was corrected and solved again.
        changed: how many of these solutions chose otherwise.
        first_off: the layers of the first schedule that were off by more than LIMIT.
    """

    problem: Problem
    schedule: Schedule
    selection: Selection
    checks: tuple[LayerCheck, ...]
    plans: int
    corrections: int = 0
    changed: int = 0
    first_off: tuple[LayerCheck, ...] = ()

    def sentence(self) -> str:
        """What measuring the layers again has shown; empty where nothing was measured."""
        if not self.checks:
            return ""
        if not self.first_off:
            return f"; all {len(self.checks)} layers within {LIMIT:.0%} of the table"
        worst = max(self.first_off, key=lambda check: abs(check.off))
        found = (
            f"; {len(self.first_off)} of {len(self.checks)} layers more than {LIMIT:.0%} off the "
            f"table, most {worst.name} ({worst.off:+.1%})"
        )
        if not self.corrections:
            return f"{found}: not corrected"
        return f"{found}: corrected (rounds: {self.corrections}, schedules changed: {self.changed})"


@dataclass(frozen=True)
class Choice:
    """A problem, the schedule that was chosen, and the rounds that its memory plan took."""

    problem: Problem
    schedule: Schedule
    plans: int


def measure_and_correct(
    choose: Callable[[Mapping[str, float]], Choice],
    source: Network,
    importance: Importance,
    table: LatencyTable,
    settings: TableConfig,
) -> Scheduled:
    """Choose, measure the chosen layers, and where the table is off correct it and choose again.

    `settings.corrections` bounds the rounds; with 0 nothing is measured here.

    Args:
        choose: of the factors by which layers are corrected (`scheduling.corrected_problem`).

    Raises:
        InfeasibleError: no schedule meets the budgets. MeasurementError, ToolchainError: see
        `dtmm.latency.measure`.
    """
    folded = fold(source)
    factors: dict[str, float] = {}
    first_off: tuple[LayerCheck, ...] = ()
    changed, rounds = 0, 0
    chosen = choose(factors)
    while True:
        found = chosen.schedule
        selection = select(source, importance, found)
        if settings.corrections == 0:
            return Scheduled(chosen.problem, found, selection, (), chosen.plans)
        checks = check_layers(folded, found, selection, table, settings, factors)
        if rounds == 0:
            first_off = tuple(check for check in checks if abs(check.off) > LIMIT)
        new = {
            check.name: 1 + check.off
            for check in checks
            if abs(check.surprise) > LIMIT and _is_pruned(check, selection)
        }
        if not new or settings.cost_model not in CORRECTED or rounds == settings.corrections:
            plans = chosen.plans
            return Scheduled(
                chosen.problem, found, selection, checks, plans, rounds, changed, first_off
            )
        factors |= new
        rounds += 1
        chosen = choose(factors)
        again = chosen.schedule
        changed += (again.levels, again.options) != (found.levels, found.options)


def schedule_and_measure(
    config: Config,
    source: Network,
    importance: Importance,
    table: LatencyTable,
    code: CodeSize,
) -> Scheduled:
    """As measure_and_correct, with the schedule that the program finds best."""
    folded = fold(source)

    def choose(factors: Mapping[str, float]) -> Choice:
        best = candidates_within_plan(config, folded, importance, table, code, factors=factors)
        return Choice(best.problem, best.schedules[0], best.rounds)

    return measure_and_correct(choose, source, importance, table, config.table)


def check_layers(
    folded: Network,
    schedule: Schedule,
    selection: Selection,
    table: LatencyTable,
    settings: TableConfig,
    factors: Mapping[str, float],
) -> tuple[LayerCheck, ...]:
    """Every operator of a schedule, measured with the filterlets that it really keeps.

    Args:
        factors: by convolution, what its table's cycles are multiplied by where it is pruned.
    """
    points = scheduled_points(folded, layout(folded), schedule)
    masks = _masks(folded, selection)
    asked = [
        (point, masks[name] if family(point.kernel) == CONV_FWCS else None)
        for name, point in points.items()
    ]
    measured = [0.0] * len(asked)
    for places in _different(asked):
        kept = {n: mask for n, place in enumerate(places) if (mask := asked[place][1]) is not None}
        here = [asked[place][0] for place in places]
        found = measure_once(here, settings.seed, kept, settings.cycle_model)
        for place, point in zip(places, here, strict=True):
            measured[place] = found.costs[point].cycles
    checks = []
    for (name, point), cycles in zip(points.items(), measured, strict=True):
        said = table.cost(point).cycles
        counts = (point.in_channels, point.out_channels, point.filterlets)
        check = LayerCheck(name, point.kernel, *counts, said, said, cycles)
        if _is_pruned(check, selection):
            check = replace(check, predicted=said * factors.get(name, 1.0))
        checks.append(check)
    return tuple(checks)


def _is_pruned(check: LayerCheck, selection: Selection) -> bool:
    """Whether filterlets of kept filters are gone."""
    mask = selection.filterlets.get(check.name)
    return mask is not None and check.filterlets < check.out_channels * mask[0].size


def save_checks(path: Path, scheduled: Scheduled, provenance: Mapping[str, str]) -> None:
    """Write a tidy CSV, one operator per row. Raises ArtifactError."""
    columns = [*LayerCheck.__dataclass_fields__]
    rows = pd.DataFrame([asdict(check) for check in scheduled.checks], columns=columns)
    header = {
        **provenance,
        "corrections": scheduled.corrections,
        "schedules_changed": scheduled.changed,
        "first_off": "; ".join(f"{c.name} {c.off:+.4f}" for c in scheduled.first_off) or "none",
    }
    write_table(path, rows, header)


def load_checks(path: Path) -> tuple[tuple[LayerCheck, ...], dict[str, str]]:
    """What `save_checks` wrote, and its header. Raises DataError on another file."""
    table, header = read_table(path, text=("name", "kernel"))
    if set(table.columns) != LayerCheck.__dataclass_fields__.keys():
        raise DataError(f"{path} is no table of measured layers")
    return tuple(LayerCheck(**row) for row in table.to_dict("records")), header


def _masks(folded: Network, selection: Selection) -> dict[str, Kept]:
    """bool [filters kept, positions] per convolution."""
    groups = {tensor: group.name for group in channel_groups(folded) for tensor in group.tensors}
    masks = {}
    for conv in folded.convs():
        mask = selection.filterlets[conv.name]
        kept = mask[selection.channels[groups[conv.output]]]
        masks[conv.name] = kept.any(axis=3).reshape(len(kept), -1)
    return masks


def _different(asked: list[tuple[Point, Kept | None]]) -> list[list[int]]:
    """Places in lists that hold no point twice: alike layers may keep different filterlets."""
    runs: list[list[int]] = []
    for place, (point, _) in enumerate(asked):
        fitting = (run for run in runs if all(asked[other][0] != point for other in run))
        run = next(fitting, None)
        if run is None:
            runs.append(run := [])
        run.append(place)
    return runs
