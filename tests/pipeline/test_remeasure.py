"""Chosen layers measured again: when the table is corrected, how often, and what is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtmm.config import Config, load_config
from dtmm.errors import DataError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.cost_models import tabulate
from dtmm.latency.patterns import Kept
from dtmm.latency.table import LatencyTable, Point
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.pipeline import remeasure
from dtmm.pipeline.remeasure import Scheduled, load_checks, save_checks, schedule_and_measure
from dtmm.pipeline.scheduling import corrected_problem, levels
from dtmm.planning import layout, required_points
from dtmm.pruning.importance import Importance
from tests.planning.conftest import FormulaCost, NetworkBuilder

LAYERS = {"a", "b", "c", "mean", "classifier"}


@pytest.fixture
def network() -> Network:
    """b and c are convolutions of one shape."""
    net = NetworkBuilder(8, 8, 3)
    c = net.conv("c", net.conv("b", net.conv("a", "image", 32), 32), 32)
    return net.build(net.dense("classifier", net.mean("mean", c), 10))


@pytest.fixture
def scores(network: Network) -> Importance:
    """Channels are worth too much to go, a third of the filterlets very little."""
    rng = np.random.default_rng(0)
    shapes = {conv.name: network.params[conv.weight].shape[:3] for conv in network.convs()}
    channels = {group.name: np.full(group.channels, 1e3) for group in channel_groups(network)}
    filterlets = {name: rng.choice([0.001, 1.0, 1.0], shape) for name, shape in shapes.items()}
    return Importance("random", channels, filterlets, "none", 0)


class Device:
    """Stands for the simulator: a formula, times `factors` in turn where filterlets are gone."""

    def __init__(self, *factors: float) -> None:
        self.factors = list(factors)
        self.calls: list[dict[int, Kept]] = []
        self.rounds = 0

    def measure(
        self, points: Sequence[Point], seed: int, kept: Mapping[int, Kept], cycle_model: str
    ) -> LatencyTable:
        assert len(set(points)) == len(points)
        self.rounds += any(point.kernel == "mean" for point in points)
        factor = self.factors[min(self.rounds, len(self.factors)) - 1]
        costs = {}
        for number, point in enumerate(points):
            cost = FormulaCost().cost(point)
            if number in kept:
                assert kept[number].shape == (point.out_channels, 9)
                assert kept[number].sum() == point.filterlets
            if number in kept and not kept[number].all():
                cost = replace(cost, cycles=factor * cost.cycles)
            costs[point] = cost
        self.calls.append(dict(kept))
        return LatencyTable(costs, {})


def config(*more: str) -> Config:
    grid = ("table.channel_levels=1", "table.filterlet_levels=5")
    budgets = ("budget.flash=null", "budget.sram=null", "budget.max_loss=1")
    return load_config(overrides=[*grid, *budgets, *more])


def scheduled(
    network: Network,
    scores: Importance,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    *more: str,
) -> Scheduled:
    """The result with a table that the formula filled."""
    settings = config(*more)
    points = required_points(network, layout(network), levels(settings))
    table = tabulate("formula", FormulaCost(), points)
    code = CodeSize(dict.fromkeys({point.kernel for point in points}, 100), 1000)
    monkeypatch.setattr(remeasure, "measure_once", device.measure)
    return schedule_and_measure(settings, network, scores, table, code)


def test_a_table_that_holds_is_left_alone(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scheduled(network, scores, Device(1.02), monkeypatch)
    assert found.corrections == found.changed == 0
    assert found.first_off == ()
    assert {check.name for check in found.checks} == LAYERS
    assert any(check.off == pytest.approx(0.02) for check in found.checks)
    assert "all 5 layers within 3% of the table" in found.sentence()


def test_alike_layers_are_measured_with_what_each_keeps(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(1.0)
    found = scheduled(network, scores, device, monkeypatch)
    by_name = {check.name: check for check in found.checks}
    assert by_name["b"].filterlets == by_name["c"].filterlets < 288
    masks = [mask for call in device.calls for mask in call.values() if not mask.all()]
    assert len(masks) == 2
    for name, mask in zip("bc", masks, strict=True):
        assert np.array_equal(mask, found.selection.filterlets[name].reshape(32, 9))


def test_what_is_off_is_corrected(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scheduled(network, scores, Device(1.1), monkeypatch)
    assert found.corrections == 1
    assert {check.name for check in found.first_off} == {"b", "c"}
    for check in found.checks:
        assert check.predicted == pytest.approx(check.measured)
        assert check.off == pytest.approx(0.1 if check.name in "bc" else 0.0)
    assert found.schedule.latency == pytest.approx(sum(c.measured for c in found.checks))
    assert "2 of 5 layers more than 3% off the table, most" in found.sentence()
    assert "corrected (rounds: 1, schedules changed: 0)" in found.sentence()


def test_a_correction_may_change_the_schedule(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pruned layers take three times as long nothing should be pruned."""
    found = scheduled(network, scores, Device(3.0), monkeypatch)
    assert (found.corrections, found.changed) == (1, 1)
    assert all(mask.all() for mask in found.selection.filterlets.values())


def test_corrections_end(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that says something else each time is believed the last time, and told apart."""
    device = Device(1.1, 1.2, 1.3, 1.4)
    found = scheduled(network, scores, device, monkeypatch, "table.corrections=2")
    assert found.corrections == 2
    assert device.rounds == 3
    assert any(abs(check.surprise) > 0.03 for check in found.checks)


def test_nothing_is_measured_without_corrections(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(2.0)
    found = scheduled(network, scores, device, monkeypatch, "table.corrections=0")
    assert (device.calls, found.checks, found.sentence()) == ([], (), "")


def test_a_users_cost_model_is_not_corrected_but_reported_on(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scheduled(network, scores, Device(1.5), monkeypatch, "table.cost_model=mac")
    assert found.corrections == 0
    assert {check.name for check in found.first_off} == {"b", "c"}
    assert "not corrected" in found.sentence()
    assert found.schedule.latency == pytest.approx(sum(c.table for c in found.checks))


def test_the_file_of_a_runs_layers(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = scheduled(network, scores, Device(1.1), monkeypatch)
    save_checks(tmp_path / "layers.csv", found, {"cycle_model": "made up"})
    checks, header = load_checks(tmp_path / "layers.csv")
    assert checks == found.checks
    assert (header["corrections"], header["cycle_model"]) == ("1", "made up")
    assert header["first_off"].count("+0.1") == 2
    (tmp_path / "layers.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no table of measured layers"):
        load_checks(tmp_path / "layers.csv")


def test_only_pruned_options_are_corrected(
    network: Network, scores: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = scheduled(network, scores, Device(1.0), monkeypatch).problem
    scaled = corrected_problem(problem, {"b": 1.5})
    for before, after in zip(problem.layers, scaled.layers, strict=True):
        whole = before.filterlets == 288
        factor = np.where(whole, 1.0, 1.5 if before.name == "b" else 1.0)
        np.testing.assert_allclose(after.latency, before.latency * factor[None])
