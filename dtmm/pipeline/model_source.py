"""What `dtmm profile MODEL` may name: a file, a run, or a model of `dtmm.models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtmm import artifact
from dtmm.deploy import Deployment
from dtmm.errors import ConfigError, UnsupportedError
from dtmm.pipeline.import_model import deploy_int8
from dtmm.quantization import QuantizedNetwork

if TYPE_CHECKING:
    from dtmm.network.ir import Network
    from dtmm.training.calibrate import Ranges

RUNS = Path("runs")
CALIBRATION_IMAGES = 64
SEED = 1
INPUTS = {"ds_cnn": ((49, 10, 1), 12), "mobilenet_v1_025": ((96, 96, 3), 2)}
"""(H, W, C) and classes for models without a checkpoint here; USUAL for the others."""
USUAL = ((32, 32, 3), 10)


@dataclass(frozen=True)
class FoundModel:
    """A deployment and one line on what it is of."""

    deployment: Deployment
    description: str


def find_model(source: str, dense: bool = False) -> FoundModel:
    """The deployment of SOURCE.

    Args:
        source: an int8 .tflite file; a .dtmm file with a QuantizedNetwork or a Deployment; a run
            folder or a run's name; a name of `dtmm.models`, with its shipped checkpoint or else
            random weights.
        dense: of a run, the network before pruning.

    Raises:
        ConfigError: nothing of that name, or a run that has no deployment yet.
        DtmmError: a file that cannot be read, an operator that is not supported.
    """
    path = Path(source)
    run = next((each for each in (path, RUNS / source) if each.is_dir()), None)
    if run is not None:
        return _of_run(run, dense)
    if dense:
        raise ConfigError(f"--dense chooses between the two networks of a run, {source!r} is none")
    if path.is_file():
        return _of_file(path)
    return _of_name(source)


def _of_run(run: Path, dense: bool) -> FoundModel:
    file = run / ("dense_deployment.dtmm" if dense else "deployment.dtmm")
    if not file.is_file():
        raise ConfigError(f"{run}: no {file.name} in this run yet; `dtmm deploy` writes it")
    which = "dense network" if dense else "DTMM network"
    return FoundModel(artifact.load(file, Deployment), f"the {which} of run {run}")


def _of_file(path: Path) -> FoundModel:
    if path.suffix == ".tflite":
        from dtmm.quantization.tflite_reader import load_tflite

        network = load_tflite(path)
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise UnsupportedError(
                f"model {path} has {len(network.inputs)} inputs and {len(network.outputs)} "
                "outputs, expected one of each"
            )
        return FoundModel(deploy_int8(network), f"{path}, FWCS where it takes fewer bytes")
    if path.suffix != ".dtmm":
        raise ConfigError(f"{path}: expected an int8 .tflite file, or a .dtmm file")
    kind = artifact.describe(path)["kind"]
    if kind == "Deployment":
        return FoundModel(artifact.load(path, Deployment), str(path))
    if kind == "QuantizedNetwork":
        quantized = artifact.load(path, QuantizedNetwork)
        return FoundModel(deploy_int8(quantized), f"{path}, FWCS where it takes fewer bytes")
    raise ConfigError(f"{path} holds a {kind}, expected a Deployment or a QuantizedNetwork")


def _of_name(name: str) -> FoundModel:
    from dtmm.data import DATASETS
    from dtmm.models import MODELS, shipped_checkpoint

    if name not in MODELS:
        raise ConfigError(
            f"{name!r} is no file, no run folder, no run under {RUNS}/ and no model of dtmm.models "
            f"({', '.join(sorted(MODELS))})"
        )
    trained = [each for each in DATASETS if shipped_checkpoint(name, each).is_file()]
    if trained:
        network, ranges, words = _with_checkpoint(name, trained[0])
    else:
        network, ranges, words = _with_random_weights(name)
    from dtmm.network.fold import fold
    from dtmm.quantization import quantize

    return FoundModel(deploy_int8(quantize(fold(network), ranges)), f"{name}, {words}")


def _with_checkpoint(name: str, dataset_name: str) -> tuple[Network, Ranges, str]:
    from dtmm.data import load_dataset
    from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
    from dtmm.network.fold import fold
    from dtmm.pipeline.source import capture
    from dtmm.training.calibrate import activation_ranges

    dataset = load_dataset(dataset_name)
    module = build_model(name, dataset)
    load_checkpoint(shipped_checkpoint(name, dataset_name), module)
    network = capture(module, dataset, name)
    images = dataset.to_input(dataset.train_images[:CALIBRATION_IMAGES])
    return network, activation_ranges(fold(network), images), f"trained on {dataset_name}, dense"


def _with_random_weights(name: str) -> tuple[Network, Ranges, str]:
    import numpy as np
    import torch

    from dtmm.models import MODELS
    from dtmm.network.fold import fold
    from dtmm.network.torch_reader import from_torch
    from dtmm.training.calibrate import activation_ranges

    (height, width, channels), classes = INPUTS.get(name, USUAL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = MODELS[name](channels, classes)
    network = from_torch(module, torch.zeros(1, channels, height, width), name)
    rng = np.random.default_rng(SEED)
    images = rng.normal(size=(4, height, width, channels)).astype(np.float32)
    words = f"random weights (no checkpoint is shipped), dense, input {height}x{width}x{channels}"
    return network, activation_ranges(fold(network), images), words
