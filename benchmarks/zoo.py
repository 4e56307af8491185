"""The networks that are measured: untrained, seeded, quantized on random images.

What an inference costs does not depend on the weights' values, only on which filterlets are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from dtmm.deploy import Deployment, plan
from dtmm.models import MODELS
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.network.torch_reader import from_torch
from dtmm.planning import layout
from dtmm.planning.nouns import Selection
from dtmm.pruning.removal import remove
from dtmm.quantization import quantize
from dtmm.training.calibrate import activation_ranges

Bools = npt.NDArray[np.bool_]

CALIBRATION_IMAGES = 4
CHANNEL_MULTIPLE = 16
REMOVED = 0.8
"""Share of each layer's filterlets that pruned variants lack."""


@dataclass(frozen=True)
class Entry:
    """A network: registered model, input (H, W, C), classes, and which variants are measured."""

    name: str
    model: str
    input: tuple[int, int, int]
    classes: int
    variants: tuple[str, ...]


DENSE, PRUNED, FILTERLETS = "dense", "pruned", "filterlets"
"""`pruned`: half of the channels and filterlets of what stays, until REMOVED of each layer's
filterlets are gone. `filterlets`: REMOVED of the filterlets and no channels."""

ZOO: tuple[Entry, ...] = (
    Entry("resnet12", "resnet12", (32, 32, 3), 10, (DENSE, PRUNED, FILTERLETS)),
    Entry("vgg11", "vgg11", (32, 32, 3), 10, (DENSE, PRUNED, FILTERLETS)),
    Entry("ds_cnn", "ds_cnn", (49, 10, 1), 12, (DENSE,)),
    Entry("resnet8", "resnet8", (32, 32, 3), 10, (DENSE,)),
    Entry("mobilenet_v1_025", "mobilenet_v1_025", (96, 96, 3), 2, (DENSE,)),
)


def deployment(
    entry: Entry, variant: str, seed: int, kernels: Mapping[str, str] | None = None
) -> Deployment:
    """The int8 network, ready for the device.

    Args:
        kernels: kernel ids by convolution, where they shall differ from the default.
    """
    network = float_network(entry, seed)
    if variant != DENSE:
        network = remove(network, selection(network, variant == PRUNED, seed))
    folded = fold(network)
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(CALIBRATION_IMAGES, *entry.input)).astype(np.float32)
    int8 = quantize(folded, activation_ranges(folded, images))
    return plan(int8, layout(folded), kernels)


def float_network(entry: Entry, seed: int) -> Network:
    """The untrained network; torch's own random state is left as it was."""
    height, width, channels = entry.input
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = MODELS[entry.model](channels, entry.classes)
    network = from_torch(module, torch.zeros(1, channels, height, width), entry.name)
    return _with_statistics(network, seed)


def _with_statistics(network: Network, seed: int) -> Network:
    """Biases that are not zero: an untrained network's folded batch norms would have none."""
    rng = np.random.default_rng(seed)
    params = {
        key: value + rng.normal(0, 0.05, value.shape).astype(np.float32)
        if key.endswith((".running_mean", "norm.bias"))
        else value
        for key, value in network.params.items()
    }
    return replace(network, params=params)


def selection(network: Network, channels: bool, seed: int) -> Selection:
    """A uniform selection, random within each layer: see PRUNED and FILTERLETS.

    A 1x1 convolution's filterlets are its filters, so only channels leave it; the first
    convolution keeps all its filterlets.
    """
    rng = np.random.default_rng(seed)
    kept: dict[str, Bools] = {}
    group_of: dict[str, str] = {}
    for group in channel_groups(network):
        group_of |= dict.fromkeys(group.tensors, group.name)
        half = -(-group.channels // (2 * CHANNEL_MULTIPLE)) * CHANNEL_MULTIPLE
        count = half if channels and group.prunable else group.channels
        kept[group.name] = _some(rng, group.channels, min(count, group.channels))
    filterlets = {
        conv.name: _filterlets(rng, kept[group_of[conv.output]], network.params[conv.weight].shape)
        for conv in network.convs()
        if conv.input not in network.inputs
    }
    prunable = {group.name for group in channel_groups(network) if group.prunable}
    return Selection({name: kept[name] for name in kept if name in prunable}, filterlets)


def _filterlets(rng: np.random.Generator, filters: Bools, shape: tuple[int, ...]) -> Bools:
    """bool [C_out, kh, kw, 1]: of the kept filters, one filterlet each and others at random."""
    outputs, height, width, _ = shape
    positions = height * width
    mask = np.zeros((outputs, positions), np.bool_)
    rows = np.flatnonzero(filters)
    if positions == 1:
        mask[rows] = True
    else:
        mask[rows, rng.integers(0, positions, len(rows))] = True
        wanted = round((1 - REMOVED) * outputs * positions)
        free = np.flatnonzero(~mask & filters[:, None])
        more = max(0, min(len(free), wanted - len(rows)))
        mask.flat[rng.choice(free, more, replace=False)] = True
    return mask.reshape(outputs, height, width, 1)


def _some(rng: np.random.Generator, total: int, count: int) -> Bools:
    mask = np.zeros(total, np.bool_)
    mask[rng.choice(total, count, replace=False)] = True
    return mask
