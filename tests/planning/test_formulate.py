"""Every table of the problem against a separate, hand-written evaluation of random choices."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtmm.errors import ConfigError, DtmmError
from dtmm.latency.table import OpShape, Point
from dtmm.planning import Levels, formulate, layout, required_points, select
from dtmm.planning.levels import choices
from dtmm.scheduler import Budgets, Decision, evaluate, solve, validate
from dtmm.scheduler.evaluate import broken_rules
from dtmm.scheduler.problem import Problem, Schedule
from dtmm.storage.kernel_ids import POINT_KERNEL_IDS, RUN_VARIANTS, family

LEVELS = Levels(channels=3, filterlets=4)
CODE = {
    "conv_im2col": 1000, "conv_dense": 2000, "conv_fwcs": 3000, "add": 100, "mean": 200,
    "fully_connected": 300, "max_pool": 400,
    **{f"conv_fwcs_{name}": 10 * n for n, name in enumerate(RUN_VARIANTS)},
    **{name: 20 * n for n, name in enumerate(POINT_KERNEL_IDS)},
}  # fmt: skip

# Of the residual network, by hand: input group, output group and shape.
SAME = OpShape("conv2d", (8, 8), (8, 8), (3, 3), pad=(1, 1), in_halo=1, out_halo=1)
DOWN = OpShape("conv2d", (8, 8), (4, 4), (3, 3), stride=(2, 2), pad=(1, 1), in_halo=1)
CONVS = {
    "stem": ("image", "stem", SAME),
    "a": ("stem", "a", SAME),
    "b": ("a", "stem", SAME),
    "down": ("stem", "down", DOWN),
    "shortcut": ("stem", "down", dataclasses.replace(DOWN, kernel=(1, 1), pad=(0, 0))),
}
OTHERS = {
    "block": ("stem", OpShape("add", (8, 8), (8, 8), in_halo=1, out_halo=1)),
    "join": ("down", OpShape("add", (4, 4), (4, 4))),
    "mean": ("down", OpShape("mean", (4, 4), (1, 1))),
    "classifier": ("down", OpShape("fully_connected", (1, 1), (1, 1))),
}
LIVE = {  # (group, pixels with halo) of the live buffers
    "stem": [("image", 91), ("stem", 91)],
    "a": [("stem", 91), ("a", 91)],
    "b": [("stem", 91), ("a", 91), ("stem", 91)],
    "block": [("stem", 91), ("stem", 91)],
    "down": [("stem", 91), ("down", 16)],
    "shortcut": [("stem", 91), ("down", 16), ("down", 16)],
    "join": [("down", 16), ("down", 16)],
    "mean": [("down", 16), ("down", 1)],
    "classifier": [("down", 1), ("classifier", 1)],
}


def _round16(value: int) -> int:
    return (value + 15) // 16 * 16


def _formulate(network, importance, cost_model, budgets=None) -> Problem:
    return formulate(
        network, importance, cost_model, layout(network), budgets or Budgets(), LEVELS, CODE,
        fixed_flash=50.0, fixed_sram=60.0, fixed_latency=70.0,
    )  # fmt: skip


def _random_decision(problem: Problem, rng: np.random.Generator) -> Decision:
    levels = [int(rng.integers(len(group.levels))) for group in problem.groups]
    options = []
    for layer in problem.layers:
        at = layer.allowed[levels[layer.input_group], levels[layer.output_group]]
        options.append(int(rng.choice(np.flatnonzero(at))))
    return Decision(tuple(levels), tuple(options))


def _schedule(problem: Problem, decision: Decision) -> Schedule:
    channels = {
        g.name: int(g.levels[j]) for g, j in zip(problem.groups, decision.levels, strict=True)
    }
    filterlets, kernels = {}, {}
    for layer, k in zip(problem.layers, decision.options, strict=True):
        filterlets[layer.name] = int(layer.filterlets[decision.levels[layer.output_group], k])
        kernels[layer.name] = layer.kernels[k]
    numbers = dict.fromkeys(("objective", "bound", "gap", "seconds"), 0.0)
    totals = dataclasses.asdict(evaluate(problem, decision.levels, decision.options))
    return Schedule(
        channels, filterlets, kernels, status="feasible", solver="test", **numbers, **totals
    )


def _lowest(values: list[float], count: int) -> float:
    return sum(sorted(values)[:count])


def _by_hand(importance, cost_model, schedule: Schedule) -> dict[str, float]:
    """Totals of a schedule of the residual network, from the tables above."""
    c = schedule.channels
    latency, flash, loss = 70.0, 50.0 + 100 + 200 + 300, 0.0
    flash += sum(CODE[kernel] for kernel in set(schedule.kernels.values()))
    scratch = {}
    for name, (source, target, shape) in CONVS.items():
        kept, positions = schedule.filterlets[name], shape.kernel[0] * shape.kernel[1]
        cost = cost_model.cost(Point(shape, schedule.kernels[name], c[source], c[target], kept))
        latency += cost.cycles
        scratch[name] = cost.scratch
        flash += 12 * c[target]
        if family(schedule.kernels[name]) == "conv_im2col":
            flash += _round16(positions * c[source]) * c[target]
        else:
            flash += kept * _round16(c[source])
        if family(schedule.kernels[name]) == "conv_fwcs":
            flash += -(-positions // 8) * c[target]  # a bit of mask for each position
        ranking = importance.channels[target].tolist()
        filters = sorted(range(len(ranking)), key=lambda n: -ranking[n])[: c[target]]
        spare = []
        for n in filters:
            spare += sorted(importance.filterlets[name][n].ravel().tolist())[:-1]
        loss += _lowest(spare, positions * len(filters) - kept)
    for group, scores in importance.channels.items():
        loss += _lowest(scores.tolist(), len(scores) - c[group])
    for name, (group, shape) in OTHERS.items():
        out = 10 if name == "classifier" else c[group]
        cost = cost_model.cost(Point(shape, shape.kind, c[group], out))
        latency += cost.cycles
        scratch[name] = cost.scratch
    flash += 10 * (c["down"] + 12)
    stride = {group: count if group == "image" else _round16(count) for group, count in c.items()}
    sram = 60.0 + max(
        sum(pixels * stride[group] for group, pixels in live) + scratch[name]
        for name, live in LIVE.items()
    )
    return {"latency": latency, "flash": flash, "sram": sram, "loss": loss}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_totals_equal_a_separate_evaluation(residual, scores, cost_model, seed: int) -> None:
    importance = scores(residual, seed)
    problem = _formulate(residual, importance, cost_model)
    validate(problem)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        decision = _random_decision(problem, rng)
        schedule = _schedule(problem, decision)
        expected = _by_hand(importance, cost_model, schedule)
        for metric, value in expected.items():
            assert getattr(schedule, metric) == pytest.approx(value, rel=1e-12, abs=1e-12), metric


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_selection_has_the_schedules_counts_and_loss(
    residual, chain, scores, cost_model, seed
) -> None:
    for network in (residual, chain):
        importance = scores(network, seed)
        problem = _formulate(network, importance, cost_model)
        schedule = _schedule(problem, _random_decision(problem, np.random.default_rng(seed)))
        selection = select(network, importance, schedule)
        assert {n: int(m.sum()) for n, m in selection.channels.items()} == schedule.channels
        counts = {n: int(m.sum()) for n, m in selection.filterlets.items()}
        assert counts == schedule.filterlets
        group_of = {layer.name: problem.groups[layer.output_group].name for layer in problem.layers}
        loss = sum(importance.channels[n][~m].sum() for n, m in selection.channels.items())
        for conv in network.convs():
            mask, kept = selection.filterlets[conv.name], selection.channels[group_of[conv.name]]
            assert mask.shape == (*network.params[conv.weight].shape[:3], 1)
            assert mask.any(axis=(1, 2, 3)).tolist() == kept.tolist()  # the quota
            loss += importance.filterlets[conv.name][kept][~mask[kept, ..., 0]].sum()
        assert schedule.loss == pytest.approx(loss, rel=1e-12, abs=1e-12)


def test_required_points_are_exactly_what_is_asked(residual, chain, scores, cost_model) -> None:
    for network in (residual, chain):
        cost_model.asked.clear()
        _formulate(network, scores(network, 0), cost_model)
        points = required_points(network, layout(network), LEVELS)
        assert len(set(points)) == len(points)
        assert sorted(points) == sorted(cost_model.asked)


def test_points_of_the_chain(chain) -> None:
    points = required_points(chain, layout(chain), LEVELS)
    first = [p for p in points if p.kernel == "conv_im2col_p16"]
    assert {(p.in_channels, p.out_channels, p.filterlets) for p in first} == {
        (1, 24, 216), (1, 16, 144), (1, 8, 72),
    }  # fmt: skip
    flattened = [p for p in points if p.shape.in_hw == (2, 2) and p.kernel == "fully_connected"]
    assert {(p.in_channels, p.out_channels) for p in flattened} == {(40, 20), (24, 20), (8, 20)}
    pools = {
        (p.shape.in_hw, p.shape.kernel, p.shape.stride) for p in points if p.kernel == "max_pool"
    }
    assert pools == {((12, 12), (2, 2), (2, 2)), ((4, 4), (2, 2), (2, 2))}
    assert not [p for p in points if p.kernel == "conv_fwcs" and p.shape.kernel == (1, 1)]


def test_fully_connected_after_flattening_pays_for_every_pixel(chain, scores, cost_model) -> None:
    problem = _formulate(chain, scores(chain, 0), cost_model)
    groups = {group.name: group for group in problem.groups}
    assert groups["second"].levels.tolist() == [40, 24, 8]
    assert groups["second"].flash.tolist() == [20 * (4 * c + 12) for c in (40, 24, 8)]
    assert groups["hidden"].levels.tolist() == [20]
    assert groups["hidden"].flash.tolist() == [10 * (20 + 12)]


def test_solved_and_selected_within_budgets(residual, scores, cost_model) -> None:
    importance = scores(residual, 3)
    free = _formulate(residual, importance, cost_model)
    dense = evaluate(free, [0] * len(free.groups), [0] * len(free.layers))
    budgets = Budgets(flash=dense.flash * 0.6, sram=dense.sram * 0.8, loss=300.0)
    schedule = solve(_formulate(residual, importance, cost_model, budgets))
    assert schedule.status == "optimal"
    assert schedule.latency < dense.latency
    expected = _by_hand(importance, cost_model, schedule)
    assert schedule.flash == expected["flash"] <= budgets.flash
    assert schedule.sram == expected["sram"] <= budgets.sram
    select(residual, importance, schedule)


def test_missing_pieces_are_named(residual, scores, cost_model) -> None:
    importance = scores(residual, 0)
    without = dataclasses.replace(
        importance, channels={k: v for k, v in importance.channels.items() if k != "a"}
    )
    with pytest.raises(DtmmError, match="no scores for channel group 'a'"):
        _formulate(residual, without, cost_model)
    short = dataclasses.replace(importance, channels=importance.channels | {"a": np.ones(15)})
    with pytest.raises(DtmmError, match=r"'a' has shape \(15,\), expected \(16,\)"):
        _formulate(residual, short, cost_model)
    importance.filterlets["b"][0, 0, 0] = np.nan
    with pytest.raises(DtmmError, match="'b' holds negative or non-finite"):
        _formulate(residual, importance, cost_model)
    with pytest.raises(DtmmError, match="no size for kernel 'mean'"):
        formulate(
            residual, scores(residual, 0), cost_model, layout(residual), Budgets(), LEVELS,
            {k: v for k, v in CODE.items() if k != "mean"},
        )  # fmt: skip


def test_schedule_of_another_network_is_refused(residual, scores, cost_model) -> None:
    importance = scores(residual, 0)
    problem = _formulate(residual, importance, cost_model)
    schedule = _schedule(problem, Decision((0,) * len(problem.groups), (0,) * len(problem.layers)))
    missing = dataclasses.replace(schedule, channels={})
    with pytest.raises(DtmmError, match="no channels for 'image'"):
        select(residual, importance, missing)
    many = dataclasses.replace(schedule, filterlets=schedule.filterlets | {"a": 145})
    with pytest.raises(DtmmError, match="keeps 145 filterlets of 'a', expected 16 to 144"):
        select(residual, importance, many)


def test_convolution_within_one_group(builder, scores, cost_model) -> None:
    """One channel index: only equal counts are asked for and allowed."""
    net = builder(8, 8, 3)
    stem = net.conv("stem", "image", 32)
    total = net.add("total", stem, net.conv("same", stem, 32))
    network = net.build(net.dense("fc", net.mean("mean", total), 10))
    points = required_points(network, layout(network), LEVELS)
    own = [p for p in points if p.shape.kind == "conv2d" and p.in_channels > 3]
    assert own and all(p.in_channels == p.out_channels for p in own)
    problem = _formulate(network, scores(network, 0), cost_model, Budgets(loss=40.0))
    same = problem.layers[1]
    assert (same.name, same.input_group) == ("same", same.output_group)
    counts = len(problem.groups[same.input_group].levels)
    assert (same.allowed.any(axis=2) == np.eye(counts, dtype=bool)).all()
    best = min(
        evaluate(problem, levels, options).latency
        for levels in itertools.product(*(range(len(g.levels)) for g in problem.groups))
        for options in itertools.product(*(range(len(x.kernels)) for x in problem.layers))
        if not broken_rules(problem, Decision(levels, options), evaluate(problem, levels, options))
    )
    for name in ("lagrangian", "highs", "cbc"):
        assert solve(problem, name, gap=1e-9).latency == pytest.approx(best)


def test_per_unit_tables_hold_the_highest_removed_score(residual, scores, cost_model) -> None:
    importance = scores(residual, 0)
    budgets = Budgets(loss=0.5, loss_rule="per_unit")
    problem = _formulate(residual, importance, cost_model, budgets)
    found = solve(problem)
    selection = select(residual, importance, found)
    for group, kept in selection.channels.items():
        removed = importance.channels[group][~kept] if not kept.all() else np.zeros(1)
        assert removed.max() <= 0.5
    for conv, mask in selection.filterlets.items():
        alive = mask.any(axis=(1, 2, 3))
        removed = ~mask[alive][..., 0]
        if removed.any():
            assert importance.filterlets[conv][alive][removed].max() <= 0.5


def test_pinned_convolutions_minimum_and_multiple(residual) -> None:
    options = choices(residual, Levels(pinned=("a",)))
    assert len(options.levels["a"]) == 1
    assert set(options.convs["a"].filterlets.ravel()) == {9 * 16}
    assert len(options.levels["stem"]) > 1
    assert choices(residual, Levels(minimum=20)).levels["stem"].tolist() == [32, 24]
    assert choices(residual, Levels(multiple=16)).levels["down"].tolist() == [48, 32, 16]
    with pytest.raises(ConfigError, match=r"levels\.pinned names 'x', expected a convolution"):
        choices(residual, Levels(pinned=("x",)))
