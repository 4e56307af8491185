"""CHIP: filters by channel independence, layers by hand-set ratios (Sui et al., "CHIP: CHannel
Independence-based Pruning for Compact Neural Networks", NeurIPS 2021).

What a channel is worth is the criterion `chip`; how much of each layer goes follows the ratios that
the authors publish for their CIFAR-10 networks:

- ResNet-56: 0.4 of the channels that blocks put out, but none of the last stage's; within blocks
  0.5, 0.6 and 0.7 of the channels, rising from stage to stage. Here they rise evenly over the
  stages there are.
- VGG-16: 0.21 of the channels in the first three stages, 0.75 after them, none of the last layer's.

Those are one point. To reach other sizes every kept share 1 - r becomes (1 - r)^t, which keeps the
order of the layers; counts are rounded to whole vectors (halves below 64 channels), as ours are.
The criterion with our scheduler instead is `prune.mode=structured importance.criterion=chip`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dtmm.config import ImportanceConfig, PruneConfig
from dtmm.config_values import Count
from dtmm.data import Samples
from dtmm.errors import ConfigError
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import Add, FullyConnected, Network
from dtmm.planning.levels import SMALL_CHANNELS
from dtmm.planning.nouns import Selection
from dtmm.planning.ranking import kept_channels
from dtmm.pruning.equivalence import CHECKED_IMAGES, require_equal_outputs
from dtmm.pruning.modes.base import Bools, Progress, Pruned, largest_within
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.storage.stored import VECTOR_BYTES

BLOCK_OUTPUT, WITHIN_FIRST, WITHIN_LAST = 0.4, 0.5, 0.7
"""Shares removed of a residual network's channels."""
EARLY, LATE = 0.21, 0.75
"""Shares removed of a plain network's channels, up to its third pooling and behind."""
BATCHES, BATCH = 4, 32
"""Images that the criterion is averaged over: all that it takes (the authors: 5 batches of 128)."""
_POWER = 8.0
"""At a share of 0 every kept share is raised to this; no published ratio is meant for more."""


def chip(
    network: Network,
    dataset: Samples,
    budget: int,
    config: PruneConfig,
    progress: Progress | None = None,
) -> Pruned:
    """See `Mode`."""
    groups = {group.name: group for group in channel_groups(network)}
    rates = published_rates(network, groups)
    settings = ImportanceConfig("chip", Count(BATCHES), Count(BATCH), config.seed)
    scores = estimate_importance(network, dataset, settings, progress)

    def make(share: float) -> Pruned:
        masks: dict[str, Bools] = {}
        for name, rate in rates.items():
            kept = (1 - rate) ** (_POWER * (1 - share))
            count = whole_vectors(kept * groups[name].channels, groups[name].channels)
            masks[name] = kept_channels(scores.channels[name], count)
        return Pruned(remove(network, Selection(masks, {})))

    found = largest_within(budget, make)
    left = {group.name: group.channels for group in channel_groups(found.network)}
    masks = {name: kept_channels(scores.channels[name], left[name]) for name in rates}
    some = dataset.to_input(dataset.train_images[:CHECKED_IMAGES])
    require_equal_outputs(network, Selection(masks, {}), found.network, some)
    return found


def whole_vectors(count: float, most: int) -> int:
    """The nearest number of channels that wastes no part of a vector, at least one of them."""
    unit = VECTOR_BYTES // 2 if count < SMALL_CHANNELS else VECTOR_BYTES
    return min(max(round(count / unit), 1) * unit, most)


def published_rates(network: Network, groups: Mapping[str, ChannelGroup]) -> dict[str, float]:
    """Share of channels removed per prunable group, transferred from the authors' networks.

    Raises:
        ConfigError: the network concatenates channels, for which there are no published ratios.
    """
    if any(group.segments for group in groups.values()):
        raise ConfigError(
            f"prune.mode=chip has no published ratios for networks like {network.name!r} that "
            "concatenate channels, expected a residual or a plain one"
        )
    free = {name: group for name, group in groups.items() if group.prunable}
    if any(isinstance(op, Add) for op in network.ops):
        return _residual_rates(network, free)
    return _plain_rates(network, free)


def _residual_rates(network: Network, free: Mapping[str, ChannelGroup]) -> dict[str, float]:
    summed = {op.output for op in network.ops if isinstance(op, Add)}
    outputs = [name for name, group in free.items() if summed.intersection(group.tensors)]
    within = [name for name in free if name not in outputs]
    inner = np.linspace(WITHIN_FIRST, WITHIN_LAST, len(within))
    rates = dict(zip(within, inner.tolist(), strict=True))
    return {**rates, **dict.fromkeys(outputs[:-1], BLOCK_OUTPUT)}


def _plain_rates(network: Network, free: Mapping[str, ChannelGroup]) -> dict[str, float]:
    heights = {name: network.tensors[group.tensors[0]][1] for name, group in free.items()}
    largest = max(heights.values())
    names = list(free)
    classified = {op.input for op in network.ops if isinstance(op, FullyConnected)}
    if names and classified.intersection(free[names[-1]].tensors):
        names.pop()
    # the third pooling leaves an eighth of the height
    return {name: EARLY if heights[name] * 8 > largest else LATE for name in names}
