"""The estimated loss of every choice, from importance scores: the table `formulate` limits.

A sum, equation (5) of docs/scheduler.md: every removed channel costs its group's score, every
removed filterlet of a kept filter its own. `loss_models` has other estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.planning.levels import Choices
from dtmm.planning.ranking import kept_channels, kept_filterlets
from dtmm.pruning.importance import Importance

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LossTables:
    """Estimated increase of the mean cross-entropy, in nats.

    Attributes:
        groups: per channel group [n], by level; 0 for virtual groups, whose segments are charged.
        convs: per convolution [nj, nk], by output level and filterlet option, over what
            `groups` already charges.
    """

    groups: Mapping[str, Floats]
    convs: Mapping[str, Floats]


LossModel = Callable[[Choices, Importance], LossTables]
"""Estimates the loss of every choice; see `dtmm.planning.loss_models`.

It raises DtmmError where scores or measurements are missing, mis-shaped, negative or not finite."""


def sum_of_scores(options: Choices, importance: Importance) -> LossTables:
    """The plain sum: what the paper does with first-order Taylor scores."""
    groups = {
        name: _group_loss(name, counts, importance)
        if options.decided(name)
        else np.zeros(len(counts))
        for name, counts in options.levels.items()
    }
    convs = {name: _conv_loss(name, options, importance) for name in options.convs}
    return LossTables(groups, convs)


def channel_scores(importance: Importance, group: str, channels: int) -> Floats:
    """[C] scores of a group's channels, checked."""
    return _checked(f"channel group {group!r}", importance.channels.get(group), (channels,))


def filterlet_scores(importance: Importance, conv: str, filters: int) -> Floats:
    """[C_out, positions] scores of a convolution's filterlets, checked."""
    scores = importance.filterlets.get(conv)
    positions: tuple[int, ...] = () if scores is None else scores.shape[1:]
    return _checked(f"convolution {conv!r}", scores, (filters, *positions)).reshape(filters, -1)


def _checked(where: str, scores: Floats | None, shape: tuple[int, ...]) -> Floats:
    if scores is None:
        raise DtmmError(f"importance has no scores for {where}")
    if scores.shape != shape:
        raise DtmmError(f"importance of {where} has shape {scores.shape}, expected {shape}")
    if not (np.isfinite(scores) & (scores >= 0)).all():
        raise DtmmError(f"importance of {where} holds negative or non-finite scores")
    return scores.astype(np.float64)


def _group_loss(group: str, counts: npt.NDArray[np.int64], importance: Importance) -> Floats:
    scores = channel_scores(importance, group, int(counts[0]))
    return np.array([scores[~kept_channels(scores, int(count))].sum() for count in counts])


def _conv_loss(conv: str, options: Choices, importance: Importance) -> Floats:
    choice = options.convs[conv]
    loss = np.zeros(choice.filterlets.shape)
    if len(choice.kernels) == 1:
        return loss
    counts = options.levels[choice.output_group]
    scores = filterlet_scores(importance, conv, int(counts[0]))
    for j, count in enumerate(counts):
        kept = scores
        if len(counts) > 1:
            ranking = channel_scores(importance, choice.output_group, int(counts[0]))
            kept = scores[kept_channels(ranking, int(count))]
        for k, filterlets in enumerate(choice.filterlets[j]):
            loss[j, k] = kept[~kept_filterlets(kept, int(filterlets))].sum()
    return loss
