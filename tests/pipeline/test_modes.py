"""prune.mode in a run: which stages, what budget, and that masks last to the int8 network."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtmm.config import Config, load_config
from dtmm.data import load_dataset
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.latency import code_size
from dtmm.latency.code_size import CodeSize
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.engine import open_run, run_until
from dtmm.pipeline.own_rule import stored_budget
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.scheduling import levels
from dtmm.pipeline.source import capture
from dtmm.pipeline.stages import stages
from dtmm.pruning.modes import Pruned
from dtmm.pruning.modes.base import stored_bytes
from dtmm.quantization import QuantizedNetwork

CODE = CodeSize({"conv_dense": 10, "conv_csr": 1000, "conv_im2col": 100}, shared=5000)
TINY = [
    "model.name=tiny_resnet",
    "data.name=digits",
    "finetune.epochs=1",
    "finetune.images_per_epoch=128",
    "finetune.batch=64",
]


def settings(*overrides: str) -> Config:
    return load_config(overrides=[*TINY, *overrides])


@pytest.fixture(scope="module")
def network() -> Network:
    dataset = load_dataset("digits")
    module = build_model("tiny_resnet", dataset)
    load_checkpoint(shipped_checkpoint("tiny_resnet", "digits"), module)
    return capture(module, dataset, "tiny_resnet")


@pytest.mark.parametrize(
    ("mode", "stage"), [("dtmm", "schedule"), ("structured", "schedule"), ("patdnn", "prune")]
)
def test_stages_lead_from_the_mode_to_the_report(mode: str, stage: str) -> None:
    found = stages(settings(f"prune.mode={mode}"))
    names = [each.name for each in found]
    assert stage in names
    assert names[0] == "network" and names[-1] == "report"
    assert [file for each in found for file in each.outputs].count("pruned.dtmm") == 1


def test_an_unknown_mode_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"mode=magic; known: dtmm, structured, chip, filter"):
        stages(settings("prune.mode=magic"))


def test_structured_prunes_no_filterlets() -> None:
    assert levels(settings("prune.mode=structured")).filterlets == 1
    assert levels(settings()).filterlets > 1


def test_the_code_is_taken_off_the_budget(network: Network) -> None:
    budget = stored_budget(settings("budget.flash=20000"), network, CODE)
    csr = stored_budget(settings("budget.flash=20000", "prune.mode=unstructured"), network, CODE)
    assert budget - csr == 1000
    assert budget <= 20000 - CODE.shared - 100
    with pytest.raises(InfeasibleError, match=r"flash=5000 B does not hold the code, about \d+ B"):
        stored_budget(settings("budget.flash=5000"), network, CODE)
    with pytest.raises(ConfigError, match=r"prune\.mode=dtmm needs budget\.flash"):
        stored_budget(settings("budget.flash=null"), network, CODE)


def test_pruned_weights_stay_zero_to_the_int8_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_size, "measure_code_size", lambda: CODE)
    config = settings("prune.mode=unstructured", "budget.flash=16KiB", f"run.folder={tmp_path}")
    context = open_run(config, Progress(quiet=True))
    run_until(context, stages(config), "quantize")
    pruned = files.load(context, "pruned.dtmm", Pruned)
    assert stored_bytes(pruned) <= 16 * 1024
    assert set(pruned.kernels.values()) == {"conv_csr"}
    tuned = files.load(context, "tuned.dtmm", Network)
    int8 = files.load(context, "pruned_int8.dtmm", QuantizedNetwork)
    weights = {op.name: op.weight for op in tuned.convs()}
    assert pruned.masks
    for name, mask in pruned.masks.items():
        assert not tuned.params[weights[name]][~mask].any()
        assert tuned.params[weights[name]][mask].all()
    for op in int8.ops:
        if op.name in pruned.masks:
            assert not int8.params[op.weight][~pruned.masks[op.name]].any()  # type: ignore[union-attr]
