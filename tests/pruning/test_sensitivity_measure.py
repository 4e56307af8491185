"""Measured curves against physical removal, one unit at a time, in a fresh executor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtmm.config import SensitivityConfig
from dtmm.data import Dataset
from dtmm.errors import DtmmError
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.planning import Selection
from dtmm.planning.levels import Levels, choices
from dtmm.planning.loss_models import loss_model
from dtmm.planning.ranking import kept_channels, kept_filterlets
from dtmm.pruning.importance import Importance
from dtmm.pruning.l2 import l2
from dtmm.pruning.removal import remove
from dtmm.pruning.sensitivity_measure import measure_sensitivity, sensitivity_units
from dtmm.training.batches import training_batches
from dtmm.training.executor import Executor
from tests.training.networks import residual, squeeze, vgg

LEVELS = Levels(4, 4, smallest=0.0)
CONFIG = SensitivityConfig(points=3, images=48, batch=24, seed=2)


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 96)
    return Dataset("noise", images, labels, images[:1], labels[:1], tuple("0123456789"), 0.5, 0.3)


def _loss(network: Network, data: Dataset) -> float:
    """Of a whole network, batch normalization by the statistics of each batch."""
    executor = Executor(network).eval()
    for norm in executor.batch_norms():
        norm.train()
    batches = list(training_batches(data, CONFIG.images, CONFIG.batch, CONFIG.seed))
    with torch.no_grad():
        return float(np.mean([F.cross_entropy(executor(x), y).item() for x, y in batches]))


def _pruned(network: Network, scores: Importance, kind: str, name: str, count: int) -> Network:
    if kind == "group":
        return remove(network, Selection({name: kept_channels(scores.channels[name], count)}, {}))
    values = scores.filterlets[name]
    mask = kept_filterlets(values.reshape(len(values), -1), count).reshape(*values.shape, 1)
    return remove(network, Selection({}, {name: mask}))


@pytest.mark.parametrize(
    "network", [residual(widths=(16, 24)), vgg(widths=(16, 24)), squeeze()], ids=lambda n: n.name
)
def test_curves_are_those_of_physical_removal(
    network: Network, data: Dataset, tmp_path: Path
) -> None:
    scores = l2(network)
    seen: list[tuple[int, int]] = []
    found = measure_sensitivity(
        network, scores, LEVELS, data, CONFIG, tmp_path / "s", lambda *done: seen.append(done)
    )
    dense = _loss(network, data)
    curves = {("group", n): c for n, c in found.groups.items()}
    curves |= {("conv", n): c for n, c in found.convs.items()}
    assert len(curves) == seen[-1][0] == seen[-1][1] > 2
    for (kind, name), curve in curves.items():
        for count, loss in zip(curve.kept, curve.loss, strict=True):
            small = _pruned(network, scores, kind, name, int(count))
            assert loss == pytest.approx(_loss(small, data) - dense, abs=2e-4), (kind, name, count)


def test_every_choice_of_the_scheduler_has_its_loss(data: Dataset, tmp_path: Path) -> None:
    network = squeeze()
    found = measure_sensitivity(network, l2(network), LEVELS, data, CONFIG, tmp_path / "s")
    options = choices(fold(network), LEVELS)
    tables = loss_model("measured", found)(options, l2(network))
    decided = {name for name in options.levels if options.decided(name)}
    assert found.groups.keys() == decided
    assert any(group.segments for group in channel_groups(network))
    assert all((tables.groups[name][1:] >= 0).all() for name in decided)


def test_a_rerun_measures_what_is_missing(data: Dataset, tmp_path: Path) -> None:
    network, store = residual(widths=(16, 24)), tmp_path / "store"
    scores = l2(network)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(network, scores, LEVELS, data, CONFIG, store, stop)
    first: list[int] = []
    again = measure_sensitivity(
        network, scores, LEVELS, data, CONFIG, store, lambda done, _: first.append(done)
    )
    assert first[0] == 2
    fresh = measure_sensitivity(network, scores, LEVELS, data, CONFIG, tmp_path / "other")
    for name, curve in fresh.groups.items():
        np.testing.assert_allclose(again.groups[name].loss, curve.loss, atol=1e-6)
    for name, curve in fresh.convs.items():
        np.testing.assert_allclose(again.convs[name].loss, curve.loss, atol=1e-6)


def test_results_of_another_network_are_not_taken(data: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for seed in (0, 1):
        network = residual(seed, widths=(16, 24))
        counts: list[tuple[int, int]] = []
        measure_sensitivity(
            network,
            l2(network),
            LEVELS,
            data,
            CONFIG,
            store,
            lambda *c, seen=counts: seen.append(c),
        )
        assert counts[0][0] == 0
    records = [json.loads(line[16:]) for line in store.read_text().splitlines()[1:]]
    assert len({record["point"]["of"] for record in records}) == 2


def test_counts_are_spread_and_end_at_the_least() -> None:
    units = {(u.kind, u.name): u for u in sensitivity_units(residual(widths=(16, 24)), LEVELS, 2)}
    conv = units["conv", "c1"]
    assert conv.total == 24 * 9 and conv.kept[0] == 24 and len(conv.kept) == 2
    assert ("conv", "b_short") not in units  # a 1x1 layer has channel levels only
    starts = [unit.start for unit in units.values()]
    assert starts == sorted(starts)


def test_refusals(data: Dataset, tmp_path: Path) -> None:
    network = residual(widths=(16, 24))
    empty = Importance("none", {}, {}, "none", 0)
    with pytest.raises(DtmmError, match="no scores for"):
        measure_sensitivity(network, empty, LEVELS, data, CONFIG, tmp_path / "s")
