"""The highest score among the units that each choice removes: what a per-unit loss rule limits.

The paper's code removes a filter or filterlet only if its own score is at most a threshold,
whatever the sum (`Budgets.loss_rule = "per_unit"`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dtmm.planning.levels import Choices
from dtmm.planning.loss import LossTables, channel_scores, filterlet_scores
from dtmm.planning.ranking import kept_channels, kept_filterlets
from dtmm.pruning.importance import Importance

Floats = npt.NDArray[np.float64]


def unit_losses(options: Choices, importance: Importance) -> LossTables:
    """Tables shaped as a loss model makes them, with highest scores for sums.

    Raises:
        DtmmError: scores are missing, mis-shaped, negative or not finite.
    """
    groups = {
        name: _group(name, counts, importance) if options.decided(name) else np.zeros(len(counts))
        for name, counts in options.levels.items()
    }
    convs = {name: _conv(name, options, importance) for name in options.convs}
    return LossTables(groups, convs)


def _group(group: str, counts: npt.NDArray[np.int64], importance: Importance) -> Floats:
    scores = channel_scores(importance, group, int(counts[0]))
    removed = (scores[~kept_channels(scores, int(count))] for count in counts)
    return np.array([each.max(initial=0.0) for each in removed])


def _conv(conv: str, options: Choices, importance: Importance) -> Floats:
    choice = options.convs[conv]
    highest = np.zeros(choice.filterlets.shape)
    counts = options.levels[choice.output_group]
    if (choice.filterlets == choice.filterlets[:, :1]).all():  # nothing is ever removed
        return highest
    scores = filterlet_scores(importance, conv, int(counts[0]))
    for j, count in enumerate(counts):
        kept = scores
        if len(counts) > 1:
            ranking = channel_scores(importance, choice.output_group, int(counts[0]))
            kept = scores[kept_channels(ranking, int(count))]
        for k, filterlets in enumerate(choice.filterlets[j]):
            highest[j, k] = kept[~kept_filterlets(kept, int(filterlets))].max(initial=0.0)
    return highest
