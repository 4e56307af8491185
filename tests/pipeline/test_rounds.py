"""Prune, tune, estimate anew, prune on: budgets met, masks nested and exact. No device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dtmm.config import BudgetConfig, load_config
from dtmm.config_values import Bytes, Nats
from dtmm.errors import ConfigError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import LatencyTable
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline import files, prune_stages
from dtmm.pipeline.engine import Context, open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.rounds import round_budget
from dtmm.pipeline.scheduling import levels
from dtmm.pipeline.stages import STAGES, stages
from dtmm.planning import Selection, layout, required_points
from dtmm.pruning.counts import kept_counts
from dtmm.pruning.importance import Importance
from dtmm.pruning.modes import Pruned
from dtmm.pruning.registry import CRITERIA
from dtmm.scheduler import Schedule
from dtmm.scheduler.evaluate import Totals
from dtmm.table import read_table
from dtmm.training.executor import Executor
from dtmm.training.loop import accuracy
from tests.planning.conftest import FormulaCost

FLASH, SRAM = 7000, 16_000
LOSS = {"taylor_squared": 0.4, "random": 1.2}
SETTINGS = ("model.name=tiny_resnet", "data.name=digits", "table.channel_levels=3",
            "table.filterlet_levels=9", "importance.batches=4", "sensitivity.images=64",
            "sensitivity.points=2", "schedule.pool=2", "schedule.pool_images=64",
            "table.corrections=0", f"budget.flash={FLASH}", f"budget.sram={SRAM}",
            "finetune.rounds=3", "finetune.epochs=2",
            "finetune.images_per_epoch=384", "finetune.batch=32")  # fmt: skip


def scheduled(folder: Path, *settings: str) -> Context:
    """A run up to its fine-tuned network; the latency table is a formula."""
    config = load_config(overrides=[*SETTINGS, *settings, f"run.folder={folder}"])
    context = open_run(config, Progress(quiet=True))
    run_until(context, STAGES, "importance")
    folded = fold(files.load(context, "network.dtmm", Network))
    points = required_points(folded, layout(folded), levels(config))
    table = LatencyTable({point: FormulaCost().cost(point) for point in points}, {"made": "up"})
    table.save(context.folder.file("latency.csv"))
    CodeSize(dict.fromkeys({point.kernel for point in points}, 10), 100).save(
        context.folder.file("code_size.csv")
    )
    prune_stages.sensitivity(context)
    prune_stages.rounds(context)
    prune_stages.schedule(context)
    prune_stages.finetune(context)
    return context


@pytest.fixture(scope="module", params=["taylor_squared", "random"])
def context(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Scores that see what is gone, and scores that do not; measured curves with the latter."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = "joint" if request.param == "random" else "scores"
    yield scheduled(
        tmp_path_factory.mktemp("runs"),
        f"importance.criterion={request.param}",
        f"schedule.loss_model={model}",
        f"budget.max_loss={LOSS[request.param]}",
    )
    torch.set_num_threads(threads)


def test_the_last_schedule_meets_the_budgets(context: Context) -> None:
    found = files.load(context, "schedule.dtmm", Schedule)
    assert (
        found.flash <= FLASH and found.sram <= SRAM and found.loss <= context.config.budget.max_loss
    )


def test_every_round_keeps_within_its_limits(context: Context) -> None:
    rows, _ = read_table(context.folder.file("rounds/rounds.csv"))
    last = files.load(context, "schedule.dtmm", Schedule)
    assert rows["round"].tolist() == [1, 2]
    assert rows["flash_limit"].is_monotonic_decreasing and rows["flash_limit"].min() > FLASH
    for what in ("flash", "sram", "loss"):
        assert (rows[what] <= rows[f"{what}_limit"]).all()
    assert rows["flash"].iloc[0] > rows["flash"].iloc[1] > last.flash


def test_what_is_gone_stays_gone_and_masks_are_exact(context: Context) -> None:
    before, tuned = (files.load(context, f, Network) for f in ("network.dtmm", "tuned.dtmm"))
    earlier = files.load(context, "rounds/kept.dtmm", Selection)
    last = files.load(context, "selection.dtmm", Selection)
    found = files.load(context, "schedule.dtmm", Schedule)
    for masks, kept in ((last.channels, earlier.channels), (last.filterlets, earlier.filterlets)):
        assert masks.keys() == kept.keys()
        assert not any((masks[name] & ~kept[name]).any() for name in masks)
    assert any(masks.sum() < earlier.filterlets[n].sum() for n, masks in last.filterlets.items())
    for counts in kept_counts(before, tuned):
        assert counts.filterlets == found.filterlets[counts.name]
        assert counts.dead_filters == 0
    pruned = files.load(context, "pruned.dtmm", Pruned).network
    for conv in tuned.convs():
        np.testing.assert_array_equal(
            (tuned.params[conv.weight] != 0).any(axis=3),
            (pruned.params[conv.weight] != 0).any(axis=3),
        )


def test_each_round_starts_from_the_tuned_network(context: Context) -> None:
    """The network between the rounds is better than the dense one with the same masks, and its
    scores are its own."""
    data = context.source.dataset
    dense = files.load(context, "network.dtmm", Network)
    between = files.load(context, "rounds/network.dtmm", Network)
    kept = files.load(context, "rounds/kept.dtmm", Selection)
    masked = dict(dense.params)
    for conv in dense.convs():
        assert not between.params[conv.weight][~kept.filterlets[conv.name][..., 0]].any()
        masked[conv.weight] = masked[conv.weight] * kept.filterlets[conv.name]
    right = [
        accuracy(Executor(network), data, data.test_images, data.test_labels)
        for network in (between, replace(dense, params=masked))
    ]
    assert right[0] > right[1]
    scores = files.load(context, "rounds/importance.dtmm", Importance)
    assert scores.criterion in CRITERIA
    for name, mask in kept.channels.items():
        if name in scores.channels:
            assert (scores.channels[name][mask] > 0).all()
            assert not scores.channels[name][~mask].any()
    assert not list(context.folder.file("rounds").glob("*.pt"))


def test_budgets_tighten_in_equal_steps() -> None:
    last = BudgetConfig(flash=Bytes(1000), sram=Bytes(900), max_loss=Nats(0.6))
    whole = Totals(latency=1, flash=8000, sram=800, loss=0)
    steps = [round_budget(last, whole, number, 3) for number in (1, 2, 3)]
    assert [step.flash for step in steps] == [4000, 2000, 1000]
    assert [step.sram for step in steps] == [900] * 3  # the dense network fits
    assert [step.max_loss for step in steps] == pytest.approx([0.2, 0.4, 0.6])
    none = round_budget(BudgetConfig(flash=None, sram=None, max_loss=None), whole, 1, 2)
    assert (none.flash, none.sram, none.max_loss) == (None, None, None)


def test_rounds_that_nothing_asks_for(tmp_path: Path) -> None:
    one = load_config()
    assert not next(s for s in STAGES if s.name == "rounds").needed(one)
    with pytest.raises(ConfigError, match=r"finetune\.rounds=2 needs a mode that the scheduler"):
        stages(load_config(overrides=["prune.mode=patdnn", "finetune.rounds=2"]))
    context = open_run(load_config(overrides=[f"run.folder={tmp_path}"]), Progress(quiet=True))
    with pytest.raises(ConfigError, match=r"finetune\.rounds is 1, expected 2 or more"):
        prune_stages.rounds(context)
