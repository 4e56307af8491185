"""A run on an int8 .tflite file and nothing else: `data.name=none`.

Without images nothing can be measured or trained: the magnitude of weights decides what goes, every
tensor keeps the file's own scale, and there is no accuracy. What takes its place in the report is
how often the pruned network still decides as the file does, on random images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dtmm.config import Config
from dtmm.data.dataset import Dataset
from dtmm.errors import ConfigError, UnsupportedError
from dtmm.quantization import run
from dtmm.quantization.quantized import QuantizedNetwork

NO_DATA = "none"
"""The value of `data.name`."""

FILE_RANGES = "file"
"""The value of `quantize.ranges`: those that the int8 network had that the run begins with."""

IMAGES = 64

WITHOUT_IMAGES: Mapping[str, tuple[object, ...]] = {
    "importance.criterion": ("l1", "l2", "random"),
    "prune.mode": ("dtmm", "structured"),
    "schedule.loss_model": ("scores",),
    "schedule.pool": (1,),
    "finetune.rounds": (1,),
    "finetune.epochs": (0,),
    "quantize.ranges": (FILE_RANGES,),
    "quantize.equalize": (False,),
    "quantize.bias_correction": (False,),
    "quantize.qat_epochs": (0,),
}
"""Per setting the values that need no images; the first takes the place of its default."""


def without_data(config: Config) -> Config:
    """The settings of a run with `data.name=none`; any other run's are returned as they are.

    Raises:
        ConfigError: a setting that was given, and that needs images.
    """
    if config.data.name != NO_DATA:
        return config
    defaults = Config()
    for name, allowed in WITHOUT_IMAGES.items():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        if value in allowed:
            continue
        if value != getattr(getattr(defaults, section), key):
            words = " or ".join(map(str, allowed))
            raise ConfigError(f"{name}={value} needs images; with data.name={NO_DATA}: {words}")
        part = dataclasses.replace(getattr(config, section), **{key: allowed[0]})
        config = dataclasses.replace(config, **{section: part})
    return config


def random_dataset(network: QuantizedNetwork) -> Dataset:
    """Random images of every input code, with what the network decides on them for labels.

    Raises:
        UnsupportedError: it does not take one image, or does not make one vector.
    """
    shapes = [network.tensors[name].shape for name in (*network.inputs, *network.outputs)]
    if [len(shape) for shape in shapes] != [4, 2]:
        raise UnsupportedError(
            f"{network.name} maps {' and '.join(map(str, shapes))}, expected an image (1, H, W, C) "
            "to the scores of classes (1, N)"
        )
    (_, *shape), (_, classes) = shapes
    source = network.tensors[network.inputs[0]]
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape)).astype(np.uint8)
    codes = (pixels.astype(np.int16) - 128).astype(np.int8)
    labels = run(network, codes).argmax(axis=1).astype(np.int64)
    return Dataset(
        name=NO_DATA,
        train_images=pixels,
        train_labels=labels,
        test_images=pixels,
        test_labels=labels,
        classes=tuple(str(n) for n in range(classes)),
        # pixel p becomes the code p - 128: (p / 255 - mean) / std = scale * (p - 128 - zero point)
        mean=(128 + source.zero_point) / 255,
        std=1 / (255 * source.scale),
    )


def ranges_of(network: QuantizedNetwork) -> dict[str, tuple[float, float]]:
    """Per tensor the (low, high) that its codes reach: `quantize` makes the same scales of them."""
    return {
        name: (
            tensor.scale * (-128 - tensor.zero_point),
            tensor.scale * (127 - tensor.zero_point),
        )
        for name, tensor in network.tensors.items()
    }
