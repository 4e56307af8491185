"""What may be chosen: channel counts per group, filterlet counts and kernels per convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import ConfigError
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import FullyConnected, Network
from dtmm.planning.kernels import fastest_kernel, kernel_size, only_kernel
from dtmm.planning.layout import layout
from dtmm.storage.stored import VECTOR_BYTES

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

WIDE_CHANNELS = 128
"""From so many channels on, every second multiple of 16 is a level: those with run kernels."""

SMALL_CHANNELS = 64
"""Below this many channels, half vectors are levels too: padded to 16 in memory, charged so."""


@dataclass(frozen=True)
class Levels:
    """How fine the choices are.

    Attributes:
        channels: most levels per channel group.
        filterlets: most filterlet options per convolution, dense included.
        smallest: share of a group's channels below which no level goes (collapsed layers cannot be
            repaired by fine-tuning).
        minimum: channels below which no level goes, whatever their share.
        multiple: every level below the unpruned count is a multiple of this.
        pinned: convolutions that are never pruned: neither filterlets nor the channels they make.
    """

    channels: int = 12
    filterlets: int = 12
    smallest: float = 0.125
    minimum: int = 1
    multiple: int = 1
    pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("channels", "filterlets", "minimum", "multiple"):
            if getattr(self, name) < 1:
                raise ConfigError(f"levels.{name} is {getattr(self, name)}, expected at least 1")
        if not 0 <= self.smallest <= 1:
            raise ConfigError(f"levels.smallest is {self.smallest}, expected 0 to 1")

    def channel_levels(self, channels: int) -> Ints:
        """[n] descending: `channels`, and multiples of 16 below it (of 8 below 64, of 32 from 128
        on), thinned."""
        half = VECTOR_BYTES // 2
        counts = [*range(half, SMALL_CHANNELS, half)]
        counts += range(SMALL_CHANNELS, min(channels, WIDE_CHANNELS), VECTOR_BYTES)
        counts += range(WIDE_CHANNELS, channels, 2 * VECTOR_BYTES)
        least = max(self.smallest * channels, self.minimum)
        usable = {c for c in counts if least <= c < channels and c % self.multiple == 0}
        usable |= {channels}
        return _thinned(np.array(sorted(usable, reverse=True), dtype=np.int64), self.channels)

    def kept_shares(self, positions: int) -> npt.NDArray[np.float64]:
        """[n] descending from 1 (dense) to 1 / positions: one filterlet per kept filter."""
        if positions == 1 or self.filterlets == 1:
            return np.ones(1)
        return np.linspace(1.0, 1.0 / positions, self.filterlets)


def _thinned(values: Ints, most: int) -> Ints:
    """At most `most` of the values, evenly spread, the first one always among them."""
    if len(values) <= most:
        return values
    return values[np.round(np.linspace(0, len(values) - 1, most)).astype(np.int64)]


@dataclass(frozen=True)
class ConvChoices:
    """The options of one convolution.

    Attributes:
        input_group, output_group: names.
        kernels: [nk] kernel id per option; the first ones keep everything.
        filterlets: [nj, nk] filterlets kept at each level of the output group.
        allowed: [ni, nj, nk]; False where an option repeats the count of an earlier one, or where
            another kernel is faster at that input level.
    """

    input_group: str
    output_group: str
    kernels: tuple[str, ...]
    filterlets: Ints
    allowed: Bools


@dataclass(frozen=True)
class Choices:
    """All choices of a network.

    Attributes:
        levels: channel counts [n] per group, descending.
        convs: options per convolution.
        segments: per virtual group (a concatenation) the groups that it holds one after the other;
            its levels are the sums that theirs can reach.
    """

    levels: Mapping[str, Ints]
    convs: Mapping[str, ConvChoices]
    segments: Mapping[str, tuple[str, ...]]

    def decided(self, group: str) -> bool:
        """Whether a group's level is a choice of its own: neither the only one nor a sum."""
        return len(self.levels[group]) > 1 and group not in self.segments


def choices(folded: Network, levels: Levels) -> Choices:
    """What may be chosen in a folded network.

    One level only: groups at the network's border, outputs of fully connected layers and of pinned
    convolutions. Where a convolution reads and writes one group, only equal counts are allowed.

    Raises:
        ConfigError: a pinned name is no convolution of the network.
    """
    groups = channel_groups(folded)
    place = layout(folded)
    fixed = {op.output for op in folded.ops if isinstance(op, FullyConnected)}
    fixed |= _pinned_outputs(folded, levels)
    per_group: dict[str, Ints] = {}
    for group in groups:  # a concatenation comes after its segments
        per_group[group.name] = (
            _sums([per_group[name] for name in group.segments])
            if group.segments
            else _group_levels(group, fixed, levels)
        )
    group_of = {tensor: group.name for group in groups for tensor in group.tensors}
    convs = {}
    for conv in folded.convs():
        source, target = group_of[conv.input], group_of[conv.output]
        height, width = kernel_size(folded, conv)
        positions = height * width
        only = only_kernel(folded, conv)
        dense = only or conv.name in levels.pinned
        shares = np.ones(1) if dense else levels.kept_shares(positions)
        filters = per_group[target][:, None]
        counts = np.maximum(np.round(filters * positions * shares), filters).astype(np.int64)
        new = np.ones(counts.shape, dtype=np.bool_)
        new[:, 1:] = np.diff(counts, axis=1) < 0
        # which kernel is the fastest hangs on the input level: one option for each kernel
        buffer = place.buffer_of(conv.input)
        fastest = [
            [
                only or fastest_kernel(folded, conv, buffer, int(c_in), share > 0)
                for share in range(len(shares))
            ]
            for c_in in per_group[source]
        ]
        options = [
            (kernel, share)
            for share in range(len(shares))
            for kernel in dict.fromkeys(row[share] for row in fastest)
        ]
        takes = np.array([[row[share] == kernel for kernel, share in options] for row in fastest])
        of_option = [share for _, share in options]
        allowed = takes[:, None, :] & new[None, :, of_option]
        if source == target:
            allowed &= np.eye(len(allowed), dtype=np.bool_)[:, :, None]
        convs[conv.name] = ConvChoices(
            source,
            target,
            tuple(kernel for kernel, _ in options),
            counts[:, of_option],
            allowed,
        )
    segments = {group.name: group.segments for group in groups if group.segments}
    return Choices(per_group, convs, segments)


def _pinned_outputs(folded: Network, levels: Levels) -> set[str]:
    outputs = {conv.name: conv.output for conv in folded.convs()}
    for name in levels.pinned:
        if name not in outputs:
            raise ConfigError(
                f"levels.pinned names {name!r}, expected a convolution of {folded.name!r}: "
                + ", ".join(outputs)
            )
    return {outputs[name] for name in levels.pinned}


def _sums(segments: Sequence[Ints]) -> Ints:
    """[n] descending: the sums of one level of each segment. A group that stands twice counts
    twice, at the same level: the sums that only different levels would make are never chosen."""
    sums = np.zeros(1, dtype=np.int64)
    for levels in segments:
        sums = np.unique(np.add.outer(sums, levels))
    return sums[::-1]


def _group_levels(group: ChannelGroup, fixed: set[str], levels: Levels) -> Ints:
    if not group.prunable or fixed.intersection(group.tensors):
        return np.array([group.channels], dtype=np.int64)
    return levels.channel_levels(group.channels)
