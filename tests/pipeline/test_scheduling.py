"""The problem that a run's settings state: its loss model, its files, another cost model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtmm import artifact
from dtmm.config import Config, load_config, save_config
from dtmm.config_values import Share
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import Cost
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.pipeline.scheduling import candidates_within_plan, first_problem, levels
from dtmm.pipeline.variants import run_problem
from dtmm.planning import layout, required_points
from dtmm.planning.sensitivity import Curve, Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.scheduler import Objective, solve, validate
from tests.planning.conftest import FormulaCost, NetworkBuilder

SETTINGS = ("table.channel_levels=2", "table.filterlet_levels=3", "budget.flash=64KiB")


@pytest.fixture
def network() -> Network:
    """Two convolutions and a classifier."""
    net = NetworkBuilder(8, 8, 3)
    b = net.conv("b", net.conv("a", "image", 32), 48)
    return net.build(net.dense("classifier", net.mean("mean", b), 10))


@pytest.fixture
def scores(network: Network) -> Importance:
    rng = np.random.default_rng(0)
    channels = {g.name: rng.lognormal(0, 1, g.channels) for g in channel_groups(network)}
    filterlets = {
        conv.name: rng.lognormal(0, 1, network.params[conv.weight].shape[:3])
        for conv in network.convs()
    }
    return Importance("random", channels, filterlets, "none", 0)


@pytest.fixture
def code(network: Network) -> CodeSize:
    """100 bytes for every kernel that the network may use."""
    points = required_points(network, layout(network), levels(_config()))
    return CodeSize(dict.fromkeys({point.kernel for point in points}, 100), 1000)


def _config(*more: str) -> Config:
    return load_config(overrides=[*SETTINGS, *more])


def test_loss_models_are_settings(
    network: Network, scores: Importance, code: CodeSize, tmp_path: Path
) -> None:
    plain = first_problem(_config(), network, scores, FormulaCost(), code)
    validate(plain)
    assert plain.budgets.flash == 64 * 1024
    curves = {"a": Curve(32, np.array([1, 16]), np.array([1.0, 0.5]))}
    Sensitivity(curves, {}, {}).save(tmp_path / "measured.csv")
    table = f"schedule.sensitivity={tmp_path / 'measured.csv'}"
    settings = _config("schedule.loss_model=calibrated", table)
    found = first_problem(settings, network, scores, FormulaCost(), code)
    a = next(n for n, group in enumerate(plain.groups) if group.name == "a")
    factors = found.groups[a].loss[1:] / plain.groups[a].loss[1:]
    assert factors == pytest.approx(factors[0])
    assert factors[0] != pytest.approx(1)
    with pytest.raises(ConfigError, match="needs a measured sensitivity table"):
        first_problem(_config("schedule.loss_model=measured"), network, scores, FormulaCost(), code)
    with pytest.raises(ConfigError, match="'hessian' is unknown"):
        first_problem(_config("schedule.loss_model=hessian"), network, scores, FormulaCost(), code)


class TwiceAsSlow(FormulaCost):
    def cost(self, point):
        one = super().cost(point)
        return Cost(2 * one.cycles, one.instructions, one.scratch)


def test_another_cost_model_for_a_finished_run(
    network: Network, scores: Importance, code: CodeSize, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no config\.yaml in this run"):
        run_problem(tmp_path, FormulaCost())
    config = _config("budget.max_loss=1")
    save_config(config, tmp_path / "config.yaml")
    artifact.save(network, tmp_path / "network.dtmm")
    artifact.save(scores, tmp_path / "importance.dtmm")
    code.save(tmp_path / "code_size.csv")
    once = first_problem(config, network, scores, FormulaCost(), code)
    twice = run_problem(tmp_path, TwiceAsSlow())
    for layer, slower in zip(once.layers, twice.layers, strict=True):
        np.testing.assert_allclose(slower.latency, 2 * layer.latency)
        np.testing.assert_array_equal(slower.flash, layer.flash)
    assert twice.budgets == once.budgets


@pytest.mark.parametrize("pool", [1, 4])
def test_a_loss_slack_takes_the_place_of_the_loss_budget(
    network: Network, scores: Importance, code: CodeSize, pool: int
) -> None:
    """The least loss within flash and SRAM is found, and the budget set by it."""
    tight = _config("budget.max_loss=0", "budget.flash=6KiB", f"schedule.pool={pool}")
    with pytest.raises(InfeasibleError, match="loss"):
        candidates_within_plan(tight, network, scores, FormulaCost(), code)
    unlimited = first_problem(
        replace(tight, budget=replace(tight.budget, max_loss=None)),
        network, scores, FormulaCost(), code,
    )  # fmt: skip
    least = solve(replace(unlimited, objective=Objective.only("loss")), gap=0.0).loss
    for slack in (0.0, 0.5):
        budget = replace(tight.budget, max_loss=None, loss_slack=Share(slack))
        asked = replace(tight, budget=budget)
        found = candidates_within_plan(asked, network, scores, FormulaCost(), code)
        assert found.problem.budgets.loss == pytest.approx((1 + slack) * least, rel=1e-3)
        for schedule in found.schedules:
            assert schedule.loss <= (1 + slack) * least * 1.001
            assert schedule.flash <= 6 * 1024
