"""CHIP: channel independence (Sui et al. 2021, "CHIP: CHannel Independence-based Pruning for
compact neural networks")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch

from dtmm.network.groups import ChannelGroup
from dtmm.network.ir import Network, op_inputs
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import filter_sums, layer_shares, scored_groups
from dtmm.training.batches import Batch
from dtmm.training.executor import Executor

MOST_IMAGES = 128
"""Images to average over at most; each costs an eigenvalue problem per channel."""


def chip(network: Network, batches: Iterable[Batch]) -> Importance:
    """How much the nuclear norm of an image's feature maps falls when a channel's map is zeroed.

    Feature maps are what leaves a channel group: [C, H * W] after batch normalization and
    activation, of several tensors the mean. Mean over images; not in nats. The paper has no
    filterlets: here a filterlet gets its filter's score times its share of the filter's squared
    weights (the plain share of the layer's where the group has no score).
    """
    groups = scored_groups(network)
    read = {name: group for group in groups for name in _left_by(network, group)}
    executor = Executor(network).eval()
    sums: dict[str, Floats] = {}
    images = 0
    for some in _limited(batches):
        maps: dict[str, torch.Tensor] = {}

        def watch(name: str, value: torch.Tensor, maps: dict[str, torch.Tensor] = maps) -> None:
            if name in read:
                maps[name] = value

        with torch.no_grad():
            executor(some, watch=watch)
        images += len(some)
        for name, value in maps.items():
            found = independence(_maps(value, read[name].channels)).sum(dim=0).numpy()
            sums[name] = sums.get(name, 0.0) + found
    channels = {
        group.name: np.mean([sums[n] / images for n, g in read.items() if g is group], axis=0)
        for group in groups
    }
    return Importance(
        criterion="chip",
        channels=channels,
        filterlets=_filterlets(network, groups, channels),
        aggregation="mean over images",
        images=images,
    )


def independence(maps: torch.Tensor) -> torch.Tensor:
    """[N, C] float64: the nuclear norm of each image's maps, [N, C, pixels], less that without
    channel c.

    Singular values are square roots of the eigenvalues of the smaller Gram matrix, from which one
    channel is taken out: its row and column, or its outer product.
    """
    rows = maps.double()
    channels = rows.shape[1]
    if channels <= rows.shape[2]:
        gram = rows @ rows.transpose(1, 2)
        kept = ~torch.eye(channels, dtype=torch.bool)
        without = gram[:, None] * (kept[:, :, None] & kept[:, None, :])
    else:
        gram = rows.transpose(1, 2) @ rows
        without = gram[:, None] - rows[..., :, None] * rows[..., None, :]
    return (_nuclear_norm(gram)[:, None] - _nuclear_norm(without)).clamp(min=0.0)


def _maps(value: torch.Tensor, channels: int) -> torch.Tensor:
    """[N, C, pixels] of an image tensor, or of a vector, which may be a flattened image (NHWC)."""
    if value.ndim == 4:
        return value.flatten(2)
    return value.reshape(len(value), -1, channels).transpose(1, 2)


def _nuclear_norm(gram: torch.Tensor) -> torch.Tensor:
    eigenvalues: torch.Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues.clamp(min=0.0).sqrt().sum(dim=-1)


def _left_by(network: Network, group: ChannelGroup) -> list[str]:
    """The tensors of a group that an operator outside of it reads."""
    inside = set(group.tensors)
    read = {name for op in network.ops if op.output not in inside for name in op_inputs(op)}
    return [name for name in group.tensors if name in read]


def _limited(batches: Iterable[Batch]) -> Iterator[torch.Tensor]:
    left = MOST_IMAGES
    for images, _ in batches:
        yield images[:left]
        left -= len(images)
        if left <= 0:
            return


def _filterlets(
    network: Network, groups: list[ChannelGroup], channels: Mapping[str, Floats]
) -> dict[str, Floats]:
    shares = layer_shares(network, np.square)
    filterlets = {op.name: shares[op.name] for op in network.convs()}
    for group in groups:
        for name in group.producers:
            if name in filterlets:
                whole = np.maximum(filter_sums(shares[name], group), np.finfo(np.float64).tiny)
                scale = channels[group.name] / whole
                filterlets[name] = shares[name] * scale[:, None, None]
    return filterlets
