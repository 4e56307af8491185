"""A run that begins with an int8 .tflite file instead of a float checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtmm.config import load_config
from dtmm.data import load_dataset
from dtmm.errors import UnsupportedError
from dtmm.network.ir import Network, Softmax
from dtmm.network.tflite_writer import write_tflite
from dtmm.pipeline import files
from dtmm.pipeline.engine import open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import GivenSource
from dtmm.pipeline.stages import STAGES
from dtmm.quantization import QuantizedNetwork, quantize
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
    assert len(found.ops) == len(network.ops) - 1
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
