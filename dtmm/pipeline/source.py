"""Where a run's trained network and dataset come from: the settings, or a caller."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dtmm.config import Config
from dtmm.errors import UnsupportedError
from dtmm.network.ir import Network, Softmax
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.quantized import QuantizedNetwork

if TYPE_CHECKING:
    from torch import nn

    from dtmm.data import Dataset


class Source(Protocol):
    """The two things a run begins with, and what identifies them."""

    @property
    def dataset(self) -> Dataset:
        """The dataset."""

    def network(self) -> tuple[Network, str]:
        """The trained float network, and one line on where it comes from."""

    def identity(self) -> str:
        """SHA-256 over weights and data: a stage is up to date only while it stays the same."""


@dataclass(frozen=True)
class ConfiguredSource:
    """A model of `dtmm.models` with its checkpoint, or an int8 .tflite file in its place; and a
    dataset of `dtmm.data`."""

    config: Config

    @cached_property
    def dataset(self) -> Dataset:
        """See Source."""
        from dtmm.data import load_dataset

        return load_dataset(self.config.data.name, self.config.data.folder)

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

        if self._checkpoint.suffix == ".tflite":
            return int8_form(load_tflite(self._checkpoint), self._checkpoint.name, self.dataset)
        module = build_model(self.config.model.name, self.dataset)
        metadata = load_checkpoint(self._checkpoint, module)
        accuracy = metadata.get("test_accuracy", "unknown")
        summary = f"{self._checkpoint.name}: test accuracy {accuracy} in float"
        return capture(module, self.dataset, self.config.model.name), summary

    def identity(self) -> str:
        """See Source."""
        content = self._checkpoint.read_bytes() if self._checkpoint.is_file() else b""
        return hashlib.sha256(content + self.dataset.hash.encode()).hexdigest()


@dataclass(frozen=True)
class GivenSource:
    """A caller's own trained module, or an int8 network; and dataset."""

    module: nn.Module | QuantizedNetwork
    dataset: Dataset
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

        network = fingerprint(self.network()[0])
        return hashlib.sha256((network + self.dataset.hash).encode()).hexdigest()


def int8_form(network: QuantizedNetwork, what: str, dataset: Dataset) -> tuple[Network, str]:
    """The float network that an int8 one approximates, to be pruned, tuned and quantized again.

    A softmax at its end is left out: training wants the logits, and the largest stays the largest.

    Raises:
        UnsupportedError: it does not take the dataset's images, or has not one output per class.
    """
    shapes = [network.tensors[name].shape[1:] for name in (*network.inputs, *network.outputs)]
    if shapes != [dataset.image_shape, (len(dataset.classes),)]:
        raise UnsupportedError(
            f"{what} maps {' and '.join(map(str, shapes))}, dataset {dataset.name} has images of "
            f"{dataset.image_shape} and {len(dataset.classes)} classes"
        )
    network_float = dequantize(network)
    last = network_float.ops[-1]
    if not isinstance(last, Softmax):
        return network_float, f"{what}: int8, its float form"
    tensors = {name: s for name, s in network_float.tensors.items() if name != last.output}
    logits = replace(
        network_float, ops=network_float.ops[:-1], tensors=tensors, outputs=(last.input,)
    )
    return logits, f"{what}: int8, its float form without the softmax at its end"


def capture(module: nn.Module, dataset: Dataset, name: str) -> Network:
    """The module as a float network for images of the dataset's shape."""
    import torch

    from dtmm.network.torch_reader import from_torch

    height, width, channels = dataset.image_shape
    return from_torch(module, torch.zeros(1, channels, height, width), name)
