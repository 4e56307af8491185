"""The pool of schedules: ranked by what is measured, within the plan, resumable, and switchable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtmm.config import Config, load_config
from dtmm.data import Dataset
from dtmm.errors import DtmmError
from dtmm.latency.code_size import CodeSize
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.reranking import rerank
from dtmm.pipeline.scheduling import candidates_within_plan, levels, measures_sensitivity
from dtmm.planning import Selection, layout, required_points, select
from dtmm.planning.sensitivity import Curve, Sensitivity
from dtmm.pruning.equivalence import require_equal_outputs
from dtmm.pruning.l2 import l2
from dtmm.pruning.removal import remove
from dtmm.scheduler import Decision, distance
from dtmm.training.batches import training_batches
from dtmm.training.calibrate import reestimate_in_place
from dtmm.training.executor import Executor
from tests.planning.conftest import FormulaCost
from tests.training.networks import residual

SETTINGS = (
    "table.channel_levels=3",
    "table.filterlet_levels=3",
    "budget.flash=null",
    "budget.sram=null",
    "budget.max_loss=2",
    "schedule.pool=5",
    "schedule.pool_slack=0.5",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> Network:
    return residual(widths=(16, 32))


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (160, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 160)
    return Dataset("noise", images, labels, images[:1], labels[:1], tuple("0123456789"), 0.5, 0.3)


def _config(*more: str) -> Config:
    return load_config(overrides=[*SETTINGS, *more])


def _candidates(network: Network, config: Config, sensitivity: Sensitivity | None = None):
    folded = fold(network)
    points = required_points(folded, layout(folded), levels(config))
    code = CodeSize(dict.fromkeys({point.kernel for point in points}, 100), 1000)
    return candidates_within_plan(config, folded, l2(network), FormulaCost(), code, sensitivity)


def test_candidates_differ_and_stay_within_the_slack(network: Network) -> None:
    found = _candidates(network, _config()).schedules
    assert len(found) > 2
    assert max(each.objective for each in found) <= 1.5 * found[0].objective
    for n, one in enumerate(found):
        for other in found[:n]:
            assert distance(Decision(one.levels, one.options), other.levels, other.options) >= 3
    assert len(_candidates(network, _config("schedule.pool=1")).schedules) == 1
    assert len(_candidates(network, _config("schedule.pool_slack=0")).schedules) < len(found)
    greedy = _config("schedule.solver=greedy")
    assert len(_candidates(network, greedy).schedules) == 1  # it cannot exclude known ones


def test_the_lowest_measured_loss_is_taken(network: Network, data: Dataset, tmp_path: Path) -> None:
    schedules = _candidates(network, _config()).schedules
    scores, store = l2(network), tmp_path / "pool.jsonl"
    table = rerank(network, scores, schedules, data, 64, store)
    batches = list(training_batches(data, 128, 128, 0))
    expected = []
    for each in schedules:  # the same by hand: one batch, which calibrates and judges
        executor = Executor(remove(network, select(network, scores, each)))
        reestimate_in_place(executor, [x for x, _ in batches])
        with torch.no_grad():
            expected.append(F.cross_entropy(executor(batches[0][0]), batches[0][1]).item())
    np.testing.assert_allclose(table["measured_loss"], expected, rtol=1e-5)
    assert table["taken"].sum() == 1 and table["taken"].to_numpy().argmax() == np.argmin(expected)
    assert table["latency"].tolist() == [each.latency for each in schedules]
    counts: list[int] = []
    again = rerank(network, scores, schedules, data, 64, store, 0, lambda d, _: counts.append(d))
    assert counts == [len(schedules)]  # nothing was measured again
    assert again.equals(table)


def test_calibration_and_judged_images_differ(network: Network, data: Dataset, tmp_path: Path):
    big = replace(
        data,
        train_images=np.tile(data.train_images, (4, 1, 1, 1)),
        train_labels=np.tile(data.train_labels, 4),
    )
    schedules = _candidates(network, _config()).schedules[:1]
    table = rerank(network, l2(network), schedules, big, 256, tmp_path / "pool.jsonl")
    batches = list(training_batches(big, 512, 128, 0))
    executor = Executor(remove(network, select(network, l2(network), schedules[0])))
    reestimate_in_place(executor, [x for x, _ in batches[2:]])
    with torch.no_grad():
        losses = [F.cross_entropy(executor(x), y).item() for x, y in batches[:2]]
    assert table["measured_loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_run_measures_its_own_sensitivity_if_it_needs_one(network: Network) -> None:
    assert not measures_sensitivity(_config("schedule.loss_model=scores"))
    assert measures_sensitivity(_config("schedule.loss_model=measured"))
    given = _config("schedule.loss_model=measured", "schedule.sensitivity=mine.csv")
    assert not measures_sensitivity(given)
    curves = {"stem": Curve(16, np.array([8]), np.array([0.2])),
              "a1": Curve(16, np.array([8]), np.array([0.1]))}  # fmt: skip
    found = _candidates(network, _config("schedule.loss_model=calibrated", "schedule.pool=1"),
                        Sensitivity(curves, {}, {}))  # fmt: skip
    assert found.schedules[0].loss <= 2


def test_a_removal_that_changes_outputs_is_refused(network: Network, data: Dataset) -> None:
    schedule = _candidates(network, _config("schedule.pool=1")).schedules[0]
    selection = select(network, l2(network), schedule)
    images = data.to_input(data.train_images[:4])
    small = remove(network, selection)
    require_equal_outputs(network, selection, small, images)
    spoiled = {
        k: v * np.float32(1.5 if k == "classifier.weight" else 1) for k, v in small.params.items()
    }
    with pytest.raises(DtmmError, match="masked and removed networks must agree"):
        require_equal_outputs(network, selection, replace(small, params=spoiled), images)
    fewer = selection.filterlets["c1"].copy()
    fewer[:, 0] = False
    other = Selection(selection.channels, {**selection.filterlets, "c1": fewer})
    with pytest.raises(DtmmError, match="masked and removed"):
        require_equal_outputs(network, other, small, images)
