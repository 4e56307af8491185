"""Scoring, measuring, scheduling, pruning and planning of a tiny network, without a device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dtmm import artifact
from dtmm.config import load_config
from dtmm.deploy import Deployment
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import LatencyTable
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline import device_stages, files, prune_stages
from dtmm.pipeline.engine import Context, open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.scheduling import levels
from dtmm.pipeline.stages import STAGES
from dtmm.planning import Selection, layout, required_points
from dtmm.planning.levels import choices
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.counts import kept_counts
from dtmm.quantization import QuantizedNetwork, run
from dtmm.scheduler import Schedule
from dtmm.table import read_table
from tests.planning.conftest import FormulaCost

SETTINGS = ("model.name=tiny_resnet", "data.name=digits", "table.channel_levels=3",
            "table.filterlet_levels=3", "importance.batches=4", "sensitivity.images=64",
            "schedule.loss_model=joint", "schedule.pool=3", "schedule.pool_images=64",
            "schedule.pool_slack=0.5", "table.corrections=0", "budget.flash=null",
            "budget.sram=null", "budget.max_loss=0.8", "finetune.epochs=0")  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run up to its deployment, its latency table a formula."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    config = load_config(overrides=[*SETTINGS, f"run.folder={folder}"])
    context = open_run(config, Progress(quiet=True))
    run_until(context, STAGES, "sensitivity")
    folded = fold(files.load(context, "network.dtmm", Network))
    points = required_points(folded, layout(folded), levels(config))
    table = LatencyTable({point: FormulaCost().cost(point) for point in points}, {"made": "up"})
    table.save(context.folder.file("latency.csv"))
    code = CodeSize(dict.fromkeys({point.kernel for point in points}, 100), 1000)
    code.save(context.folder.file("code_size.csv"))
    prune_stages.schedule(context)
    prune_stages.finetune(context)
    prune_stages.quantize(context)
    torch.set_num_threads(threads)
    return context


def test_every_unit_was_measured(context: Context) -> None:
    found = Sensitivity.load(context.folder.file("sensitivity.csv"))
    folded = fold(files.load(context, "network.dtmm", Network))
    options = choices(folded, levels(context.config))
    assert found.groups.keys() == {name for name in options.levels if options.decided(name)}
    assert len(found.groups) >= 2 and len(found.convs) >= 3
    assert found.provenance["images"] == "64"
    assert max(curve.loss.max() for curve in found.groups.values()) > 0.01


def test_the_schedule_of_the_lowest_measured_loss_is_taken(context: Context) -> None:
    table, provenance = read_table(context.folder.file("pool.csv"))
    taken = table[table["taken"]]
    assert len(table) == 3 and len(taken) == 1
    assert taken["measured_loss"].item() == table["measured_loss"].min()
    found = files.load(context, "schedule.dtmm", Schedule)
    assert found.latency == taken["latency"].item()
    assert found.loss == pytest.approx(taken["estimated_loss"].item()) and found.loss <= 0.8
    assert provenance["images"] == "64"


def test_what_is_removed_is_what_was_selected(context: Context) -> None:
    selection = files.load(context, "selection.dtmm", Selection)
    found = files.load(context, "schedule.dtmm", Schedule)
    before, after = (files.load(context, f, Network) for f in ("network.dtmm", "tuned.dtmm"))
    for counts in kept_counts(before, after):
        assert counts.filterlets == found.filterlets[counts.name]
        assert counts.filterlets == selection.filterlets[counts.name].sum()
        assert counts.dead_filters == 0  # each filter keeps its best filterlet


def test_dead_filters_leave_before_deployment(context: Context) -> None:
    """A filter that training or rounding emptied changes no byte and costs nothing."""
    pruned = files.load(context, "pruned_int8.dtmm", QuantizedNetwork)
    original = context.folder.file("pruned_int8.dtmm").read_bytes()
    device_stages.deploy(context)
    whole = files.load(context, "deployment.dtmm", Deployment)
    conv = next(op for op in pruned.ops if op.name == "stages.0.first.conv")
    params = dict(pruned.params)
    params[conv.weight] = params[conv.weight].copy()
    params[conv.weight][0] = 0
    params[conv.bias] = params[conv.bias].copy()
    params[conv.bias][0] = -(2**20)  # below zero: the filter's output is the zero point
    killed = replace(pruned, params=params)
    artifact.save(killed, context.folder.file("pruned_int8.dtmm"))
    summary = device_stages.deploy(context)
    context.folder.file("pruned_int8.dtmm").write_bytes(original)
    assert "1 filters without effect left out" in summary
    packed = files.load(context, "deployment.dtmm", Deployment)
    assert packed.size.total < whole.size.total
    shape = pruned.tensors[pruned.inputs[0]].shape[1:]
    codes = np.random.default_rng(1).integers(-128, 128, (3, *shape)).astype(np.int8)
    np.testing.assert_array_equal(run(packed.network, codes), run(killed, codes))
