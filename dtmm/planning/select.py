"""From counts to masks: which channels and filterlets a schedule keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dtmm.errors import DtmmError
from dtmm.network.groups import channel_groups, whole_masks
from dtmm.network.ir import Conv2D, Network
from dtmm.planning.kernels import kernel_size
from dtmm.planning.loss import channel_scores, filterlet_scores
from dtmm.planning.nouns import Selection
from dtmm.planning.ranking import Bools, kept_channels, kept_filterlets
from dtmm.pruning.importance import Importance
from dtmm.scheduler.problem import Schedule


def select(network: Network, importance: Importance, schedule: Schedule) -> Selection:
    """The units with the highest scores, in exactly the schedule's numbers.

    Works on the folded and on the unfolded network: their group and convolution names agree. Of a
    kept filter at least its best filterlet stays.

    Returns:
        Masks: channels [C] per group, filterlets [C_out, kh, kw, 1] per convolution.

    Raises:
        DtmmError: the schedule or the scores do not fit the network.
    """
    groups = channel_groups(network)
    chosen: dict[str, Bools] = {}
    for group in groups:
        count = _count("channels", schedule.channels, group.name, 1, group.channels)
        if count < group.channels and not group.segments:
            scores = channel_scores(importance, group.name, group.channels)
            chosen[group.name] = kept_channels(scores, count)
    channels = whole_masks(groups, chosen)
    for group in groups:
        if (kept := int(channels[group.name].sum())) != schedule.channels[group.name]:
            raise DtmmError(
                f"schedule keeps {schedule.channels[group.name]} channels of {group.name!r}, "
                f"expected the {kept} of its segments: {', '.join(group.segments)}"
            )
    group_of = {tensor: group.name for group in groups for tensor in group.tensors}
    filterlets = {
        conv.name: _filterlet_mask(
            network, conv, channels[group_of[conv.output]], importance, schedule
        )
        for conv in network.convs()
    }
    return Selection(channels, filterlets)


def _filterlet_mask(
    network: Network, conv: Conv2D, kept: Bools, importance: Importance, schedule: Schedule
) -> Bools:
    height, width = kernel_size(network, conv)
    positions, filters = height * width, int(kept.sum())
    most = filters * positions
    count = _count("filterlets", schedule.filterlets, conv.name, filters, most)
    mask = np.zeros((len(kept), positions), dtype=np.bool_)
    if count == most:
        mask[kept] = True
    else:
        scores = filterlet_scores(importance, conv.name, len(kept))
        mask[kept] = kept_filterlets(scores[kept], count)
    return mask.reshape(len(kept), height, width, 1)


def _count(what: str, counts: Mapping[str, int], name: str, least: int, most: int) -> int:
    if name not in counts:
        raise DtmmError(f"schedule has no {what} for {name!r}")
    if not least <= counts[name] <= most:
        raise DtmmError(
            f"schedule keeps {counts[name]} {what} of {name!r}, expected {least} to {most}"
        )
    return counts[name]
