"""Where a run's trained network and dataset come from: the settings, or a caller."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dtmm.config import Config
from dtmm.errors import ConfigError, UnsupportedError
from dtmm.network.ir import Network, Softmax
from dtmm.pipeline.data_free import FILE_RANGES, NO_DATA, random_dataset, ranges_of
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.quantized import QuantizedNetwork

if TYPE_CHECKING:
    from torch import nn

    from dtmm.data import Samples


Ranges = Mapping[str, tuple[float, float]]

NORMALIZED_ON = 1024
"""Training images that give an int8 network its batch normalization again."""


class Source(Protocol):
    """The two things a run begins with, and what identifies them."""

    @property
    def dataset(self) -> Samples:
        """The dataset."""

    def network(self) -> tuple[Network, str]:
        """The trained float network, and one line on where it comes from."""

    def identity(self) -> str:
        """SHA-256 over weights and data: a stage is up to date only while it stays the same."""

    def ranges(self) -> Ranges:
        """Of an int8 network, how far each tensor's codes reach: `quantize.ranges=file`.

        Raises:
            ConfigError: it is a float network.
        """


@dataclass(frozen=True)
class ConfiguredSource:
    """A model of `dtmm.models` with its checkpoint, or an int8 .tflite file in its place; and a
    dataset of `dtmm.data`."""

    config: Config

    @cached_property
    def dataset(self) -> Samples:
        """See Source."""
        from dtmm.data import load_samples

        if self.config.data.name == NO_DATA:
            return random_dataset(self._int8(f"data.name={NO_DATA}"))
        return load_samples(self.config.data.name, self.config.data.folder)

    def _int8(self, asked: str) -> QuantizedNetwork:
        """The int8 file that a setting asks for."""
        from dtmm.quantization.tflite_reader import load_tflite

        given = self.config.model.checkpoint
        if given is None or Path(given).suffix != ".tflite":
            raise ConfigError(f"{asked}: expected an int8 .tflite as model.checkpoint, got {given}")
        return load_tflite(Path(given))

    @property
    def _checkpoint(self) -> Path:
        from dtmm.models import shipped_checkpoint

        given = self.config.model.checkpoint
        return (
            Path(given) if given else shipped_checkpoint(self.config.model.name, self.dataset.name)
        )

    def network(self) -> tuple[Network, str]:
        """See Source."""
        from dtmm.models import build_model, load_checkpoint
        from dtmm.quantization.tflite_reader import load_tflite
        from dtmm.training.tasks import task_of

        if self._checkpoint.suffix == ".tflite":
            return int8_form(load_tflite(self._checkpoint), self._checkpoint.name, self.dataset)
        module = build_model(self.config.model.name, self.dataset)
        metadata = load_checkpoint(self._checkpoint, module)
        task = task_of(self.dataset)
        score = metadata.get(f"test_{task.measure}", "unknown")
        summary = f"{self._checkpoint.name}: test {task.measure_words} {score} in float"
        return capture(module, self.dataset, self.config.model.name), summary

    def identity(self) -> str:
        """See Source."""
        content = self._checkpoint.read_bytes() if self._checkpoint.is_file() else b""
        return hashlib.sha256(content + self.dataset.hash.encode()).hexdigest()

    def ranges(self) -> Ranges:
        """See Source."""
        return ranges_of(self._int8(f"quantize.ranges={FILE_RANGES}"))


@dataclass(frozen=True)
class GivenSource:
    """A caller's own trained module, or an int8 network; and dataset."""

    module: nn.Module | QuantizedNetwork
    dataset: Samples
    name: str

    def network(self) -> tuple[Network, str]:
        """See Source."""
        if isinstance(self.module, QuantizedNetwork):
            return int8_form(self.module, "int8 network as given", self.dataset)
        return capture(
            self.module, self.dataset, self.name
        ), f"{type(self.module).__name__} as given"

    def identity(self) -> str:
        """See Source."""
        from dtmm.artifact import fingerprint

        given = self.module
        network = fingerprint(given if isinstance(given, QuantizedNetwork) else self.network()[0])
        return hashlib.sha256((network + self.dataset.hash).encode()).hexdigest()

    def ranges(self) -> Ranges:
        """See Source."""
        if not isinstance(self.module, QuantizedNetwork):
            kind = type(self.module).__name__
            raise ConfigError(
                f"quantize.ranges={FILE_RANGES}: expected an int8 network, got {kind}"
            )
        return ranges_of(self.module)


def int8_form(network: QuantizedNetwork, what: str, dataset: Samples) -> tuple[Network, str]:
    """The float network that an int8 one approximates, to be pruned, tuned and quantized again.

    A softmax at its end is left out: training wants the logits, and the largest stays the largest.
    Where there are images to measure its statistics on, every convolution gets the batch
    normalization again that quantizing folded away (`dtmm.training.normalize`).

    Raises:
        UnsupportedError: it does not take the dataset's images, or has not one output per class.
    """
    shapes = [network.tensors[name].shape[1:] for name in (*network.inputs, *network.outputs)]
    if shapes != [dataset.image_shape, (len(dataset.classes),)]:
        raise UnsupportedError(
            f"{what} maps {' and '.join(map(str, shapes))}, dataset {dataset.name} has images of "
            f"{dataset.image_shape} and {len(dataset.classes)} classes"
        )
    found, summary = dequantize(network), f"{what}: int8, its float form"
    last = found.ops[-1]
    if isinstance(last, Softmax):
        tensors = {name: s for name, s in found.tensors.items() if name != last.output}
        found = replace(found, ops=found.ops[:-1], tensors=tensors, outputs=(last.input,))
        summary += " without the softmax at its end"
    if dataset.name != NO_DATA:
        from dtmm.training.normalize import with_batch_norm

        chosen = np.random.default_rng(0).permutation(len(dataset.train_images))[:NORMALIZED_ON]
        found = with_batch_norm(found, dataset.to_input(dataset.train_images[np.sort(chosen)]))
        summary += f", batch normalization measured on {len(chosen)} images"
    return found, summary


def capture(module: nn.Module, dataset: Samples, name: str) -> Network:
    """The module as a float network for images of the dataset's shape."""
    import torch

    from dtmm.network.torch_reader import from_torch

    height, width, channels = dataset.image_shape
    return from_torch(module, torch.zeros(1, channels, height, width), name)
