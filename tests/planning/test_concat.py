"""Concatenations: a virtual group keeps what its segments keep, from the levels to the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.errors import DtmmError
from dtmm.network import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Concat, Network
from dtmm.planning import Levels, formulate, layout, required_points, select
from dtmm.planning.levels import choices
from dtmm.pruning.importance import Importance
from dtmm.pruning.removal import remove
from dtmm.scheduler import Budgets, Objective, solve, validate
from dtmm.scheduler.problem import Problem
from dtmm.training.executor import run_float
from tests.planning.test_formulate import CODE
from tests.training.networks import Builder, squeeze

LEVELS = Levels(channels=3, filterlets=3, smallest=0.0)
SEGMENTS = {
    "fire1": ("expand1_1", "expand1_3"),
    "fire2": ("expand2_1", "expand2_3"),
    "all": ("fire2", "squeeze2"),
}


def wide(seed: int = 0) -> Network:
    """`squeeze` with enough channels to choose from, folded."""
    b = Builder(seed, (1, 8, 8, 2))
    stem = b.unit("stem", "x", 16)
    parts = tuple(b.unit(f"part{n}", stem, width) for n, width in enumerate((16, 24)))
    inner = b.append(Concat("inner", parts, "inner"))
    outer = b.append(Concat("outer", (stem, inner), "outer"))
    last = b.unit("last", b.pool("pool", outer), 8)
    return fold(b.build("wide", b.fc("classifier", b.mean(last), 10)))


def problem_of(network: Network, scores, cost_model, budgets: Budgets) -> Problem:
    return formulate(
        network, scores, cost_model, layout(network), budgets, LEVELS, {"concat": 10, **CODE}
    )


def own_scores(network: Network, seed: int) -> Importance:
    """Scores of decided groups only: what the criteria give."""
    rng = np.random.default_rng(seed)
    channels = {
        g.name: rng.lognormal(0, 1, g.channels)
        for g in channel_groups(network)
        if g.prunable and not g.segments
    }
    filterlets = {
        conv.name: rng.lognormal(0, 1, network.params[conv.weight].shape[:3])
        for conv in network.convs()
    }
    return Importance("random", channels, filterlets, "none", 0)


def test_groups_know_their_segments() -> None:
    network = squeeze()
    for form in (network, fold(network)):
        groups = {group.name: group for group in channel_groups(form)}
        assert {n: g.segments for n, g in groups.items() if g.segments} == SEGMENTS
        assert {n for n, g in groups.items() if not g.prunable} == {"x", "classifier"}
        assert {n: groups[n].channels for n in SEGMENTS} == {"fire1": 11, "fire2": 17, "all": 21}


def whole_groups(network: Network) -> set[str]:
    return {group.name for group in channel_groups(network) if not group.prunable}


def test_where_a_concatenation_must_stay_whole_so_must_its_segments() -> None:
    b = Builder(0, (1, 4, 4, 2))
    parts = [b.conv(name, "x", 4) for name in ("a", "b", "c")]
    inner = b.append(Concat("inner", tuple(parts[:2]), "inner"))
    output = b.append(Concat("output", (inner, parts[2]), "output"))
    network = b.build("out", output)
    assert whole_groups(network) == {"x", "a", "b", "c", "inner", "output"}


def test_concatenations_that_are_added_stay_whole() -> None:
    b = Builder(0, (1, 4, 4, 2))
    parts = [b.conv(name, "x", 4) for name in ("a", "b", "c", "d")]
    pairs = [
        b.append(Concat(name, tuple(two), name))
        for name, two in (("left", parts[:2]), ("right", parts[2:]))
    ]
    after = b.conv("after", b.add("sum", *pairs), 4)
    network = b.build("added", b.fc("classifier", b.mean(after), 3))
    assert whole_groups(network) == {"x", "a", "b", "c", "d", "left", "classifier"}


def test_a_filter_added_to_a_concatenation_keeps_it_whole() -> None:
    b = Builder(0, (1, 4, 4, 2))
    pair = b.append(Concat("pair", (b.conv("a", "x", 4), b.conv("b", "x", 4)), "pair"))
    total = b.add("sum", pair, b.conv("c", "x", 8))
    network = b.build("sum", b.fc("classifier", b.mean(b.conv("d", total, 4)), 3))
    assert {"a", "b", "c"} <= whole_groups(network)


def test_levels_of_a_concatenation_are_the_sums_of_its_segments() -> None:
    options = choices(wide(), LEVELS)
    assert options.levels["part0"].tolist() == [16, 8]
    assert options.levels["part1"].tolist() == [24, 16, 8]
    assert options.levels["inner"].tolist() == [40, 32, 24, 16]
    assert options.levels["outer"].tolist() == [56, 48, 40, 32, 24]
    assert options.segments == {"inner": ("part0", "part1"), "outer": ("stem", "inner")}
    assert not options.decided("inner") and options.decided("part0")


@pytest.mark.parametrize("metric", ["latency", "flash", "sram"])
def test_the_optimum_is_that_of_brute_force(cost_model, metric) -> None:
    network = wide()
    scores = own_scores(network, 1)
    problem = dataclasses.replace(
        problem_of(network, scores, cost_model, Budgets(loss=30.0)),
        objective=Objective.only(metric),
    )
    validate(problem)
    found = solve(problem)
    best = solve(problem, solver="brute_force")
    assert found.objective == pytest.approx(best.objective, rel=1e-6)
    kept = found.channels
    assert kept["inner"] == kept["part0"] + kept["part1"]
    assert kept["outer"] == kept["stem"] + kept["inner"] < 56


def test_required_points_are_what_is_asked(cost_model) -> None:
    network = wide()
    problem_of(network, own_scores(network, 0), cost_model, Budgets())
    points = required_points(network, layout(network), LEVELS)
    assert sorted(points) == sorted(cost_model.asked)
    assert {p.in_channels for p in points if p.shape.kind == "concat"} == {56, 48, 40, 32, 24}


def test_selected_and_removed(cost_model) -> None:
    network = wide()
    scores = own_scores(network, 2)
    schedule = solve(problem_of(network, scores, cost_model, Budgets(loss=40.0)))
    selection = select(network, scores, schedule)
    assert {n: int(m.sum()) for n, m in selection.channels.items()} == schedule.channels
    pieces = [selection.channels[name] for name in ("stem", "part0", "part1")]
    np.testing.assert_array_equal(selection.channels["outer"], np.concatenate(pieces))
    loss = sum(scores.channels[n][~selection.channels[n]].sum() for n in scores.channels)
    for conv in network.convs():
        kept, mask = selection.channels[conv.name], selection.filterlets[conv.name]
        loss += scores.filterlets[conv.name][kept][~mask[kept, ..., 0]].sum()
    assert schedule.loss == pytest.approx(loss)
    small = remove(network, selection)
    assert {g.name: g.channels for g in channel_groups(small)} == schedule.channels
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
    assert run_float(small, images).shape == (2, 10)


def test_a_schedule_whose_sum_is_wrong_is_refused(cost_model) -> None:
    network = wide()
    scores = own_scores(network, 2)
    schedule = solve(problem_of(network, scores, cost_model, Budgets(loss=40.0)))
    channels = {**schedule.channels, "inner": schedule.channels["inner"] - 8}
    with pytest.raises(DtmmError, match=r"of 'inner', expected the .* part0, part1"):
        select(network, scores, dataclasses.replace(schedule, channels=channels))
