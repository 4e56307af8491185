"""A run that begins with an int8 .tflite file instead of a float checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dtmm
from dtmm import artifact
from dtmm.config import Config, load_config
from dtmm.data import load_dataset
from dtmm.errors import ConfigError, UnsupportedError
from dtmm.network.ir import Conv2D, FullyConnected, Network, Softmax
from dtmm.network.tflite_writer import write_tflite
from dtmm.pipeline import files
from dtmm.pipeline.data_free import random_dataset, without_data
from dtmm.pipeline.engine import open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import ConfiguredSource, GivenSource
from dtmm.pipeline.stages import STAGES
from dtmm.quantization import QuantizedNetwork, quantize, quantize_input, run
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.training.calibrate import activation_ranges
from dtmm.training.executor import Executor
from dtmm.training.loop import accuracy

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped small network in int8, with a softmax at its end."""
    folder = tmp_path_factory.mktemp("int8")
    config = load_config(
        None, ["model.name=tiny_resnet", "data.name=digits", f"run.folder={folder}"]
    )
    context = open_run(config, Progress(quiet=True))
    from dtmm.network.fold import fold

    network = fold(context.source.network()[0])
    logits = network.outputs[0]
    tensors = {**network.tensors, "p": network.tensors[logits]}
    ops = (*network.ops, Softmax("p", logits, "p"))
    network = Network("tiny", tensors, ops, network.params, network.inputs, ("p",))
    data = load_dataset("digits")
    images = data.to_input(data.train_images[:64])
    path = folder / "tiny.tflite"
    path.write_bytes(write_tflite(quantize(network, activation_ranges(network, images))))
    return path


def test_a_run_reads_scores_and_keeps_it(model: Path, tmp_path: Path) -> None:
    config = load_config(
        None,
        ["model.name=tiny_resnet", "data.name=digits", f"run.folder={tmp_path}",
         f"model.checkpoint={model}", "importance.batches=2"],
    )  # fmt: skip
    context = open_run(config, Progress(quiet=True))
    run_until(context, STAGES, "importance")
    network = files.load(context, "network.dtmm", Network)
    assert not any(isinstance(op, Softmax) for op in network.ops)
    data = load_dataset("digits")
    right = accuracy(Executor(network), data, data.test_images, data.test_labels)
    assert right > 0.9, "the float form of the int8 network classifies as it did"


def test_an_int8_network_can_be_given_to_compress(model: Path) -> None:
    network = load_tflite(model)
    source = GivenSource(network, load_dataset("digits"), "tiny")
    found, summary = source.network()
    assert "without the softmax" in summary
    layers = [op for op in found.ops if isinstance(op, Conv2D | FullyConnected)]
    assert [op.name for op in layers] == [
        op.name for op in network.ops if isinstance(op, Conv2D | FullyConnected)
    ]
    assert source.identity() == GivenSource(network, load_dataset("digits"), "tiny").identity()
    key = next(iter(network.weight_scales))
    changed = {**network.params, key: -network.params[key]}
    other = QuantizedNetwork(**{**network.__dict__, "params": changed})
    assert GivenSource(other, source.dataset, "tiny").identity() != source.identity()


def test_a_network_for_other_images_is_refused(model: Path) -> None:
    network = load_tflite(model)
    data = load_dataset("digits")
    wide = {
        name: np.repeat(getattr(data, name), 2, axis=2) for name in ("train_images", "test_images")
    }
    other = data.__class__(**{**data.__dict__, **wide})
    with pytest.raises(UnsupportedError, match=r"int8 network as given maps .* dataset digits has"):
        GivenSource(network, other, "tiny").network()


def settings(folder: Path, *overrides: str) -> Config:
    """A run of seconds: no layer is measured before it is chosen."""
    return load_config(
        None,
        ["model.name=tiny", "run.name=t", f"run.folder={folder}", "device.images=4",
         "table.cost_model=analytic", "table.channel_levels=3", "table.filterlet_levels=3",
         *overrides],
    )  # fmt: skip


def test_a_file_is_pruned_tuned_and_quantized_again(
    model: Path, toolchain: None, tmp_path: Path
) -> None:
    network, data = load_tflite(model), load_dataset("digits")
    some = ["finetune.epochs=2", "finetune.batch=64", "schedule.pool=1", "importance.batches=8"]
    result = dtmm.compress(network, data, settings(tmp_path, *some, "budget.flash=28KiB"))
    dense, ours = result.report["dense"], result.report["dtmm"]
    assert result.report["bit_exact"] is True
    assert ours["flash"]["weights"] < dense["flash"]["weights"]
    assert ours["cycles"] < dense["cycles"]
    assert dense["accuracy"] > 0.9
    assert ours["accuracy"] > dense["accuracy"] - 0.15
    again = load_tflite(result.folder / "tflite" / "tiny.tflite")
    codes = np.random.default_rng(0).integers(-128, 128, (2, 16, 16, 1)).astype(np.int8)
    pruned = artifact.load(result.folder / "pruned_int8.dtmm", QuantizedNetwork)
    assert np.array_equal(run(again, codes), run(pruned, codes))


def test_a_file_is_pruned_without_data(model: Path, toolchain: None, tmp_path: Path) -> None:
    network = load_tflite(model)
    result = dtmm.compress(network, None, settings(tmp_path, "budget.max_loss=1.0"))
    dense, ours = result.report["dense"], result.report["dtmm"]
    assert result.report["bit_exact"] is True
    assert result.report["pool"] is None, "nothing is judged on images that mean nothing"
    assert dense["accuracy"] == 1.0
    assert ours["cycles"] < dense["cycles"]
    # unpruned it is the file itself, pruned it keeps the file's scales
    logits = network.ops[-1].input
    whole = artifact.load(result.folder / "dense_int8.dtmm", QuantizedNetwork)
    codes = np.random.default_rng(0).integers(-128, 128, (4, 16, 16, 1)).astype(np.int8)
    assert np.array_equal(run(whole, codes), run(network, codes, keep_all=True)[logits])
    for name, tensor in result.deployment.network.tensors.items():
        theirs = network.tensors[name]
        assert (tensor.scale, tensor.zero_point) == (theirs.scale, theirs.zero_point)


def test_random_images_are_every_input_code(model: Path) -> None:
    network = load_tflite(model)
    data = random_dataset(network)
    codes = quantize_input(network, data.to_input(data.test_images))
    assert np.array_equal(codes, data.test_images.astype(np.int16) - 128)
    assert set(codes.ravel()) == set(range(-128, 128))
    assert np.array_equal(run(network, codes).argmax(axis=1), data.test_labels)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("finetune.epochs=5", "finetune.epochs=5 needs images; with data.name=none: 0"),
        ("importance.criterion=fisher", "criterion=fisher needs images; .*: l1 or l2 or random"),
        ("schedule.loss_model=measured", "loss_model=measured needs images; .*: scores"),
        ("prune.mode=patdnn", "prune.mode=patdnn needs images; .*: dtmm or structured"),
    ],
)
def test_what_needs_data_is_refused_without(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        without_data(load_config(None, ["data.name=none", override]))


def test_a_float_network_needs_data() -> None:
    with pytest.raises(ConfigError, match=r"expected an int8 \.tflite as model.*, got None"):
        _ = ConfiguredSource(load_config(None, ["data.name=none"])).dataset
    with pytest.raises(ConfigError, match="a Identity needs a dataset, an int8 network does not"):
        dtmm.compress(torch.nn.Identity(), None)
    with pytest.raises(ConfigError, match=r"quantize\.ranges=file: expected an int8 net"):
        GivenSource(torch.nn.Identity(), load_dataset("digits"), "float").ranges()
