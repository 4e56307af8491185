"""A problem on a network that is pruned already: what is gone is never chosen again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dtmm.planning.nouns import Selection
from dtmm.planning.ranking import kept_channels
from dtmm.pruning.importance import Importance
from dtmm.scheduler.problem import Layer, Problem

_LEAST = float(np.finfo(np.float64).tiny)


def alive_first(importance: Importance, kept: Selection) -> Importance:
    """Scores that rank every unit of `kept` above every other: those score 0, these above it.

    Criteria that never look at the weights, such as random, would bring removed units back.
    """
    channels = {
        name: np.where(kept.channels[name], np.maximum(scores, _LEAST), 0.0)
        for name, scores in importance.channels.items()
    }
    filterlets = {
        name: np.where(kept.filterlets[name][..., 0], np.maximum(scores, _LEAST), 0.0)
        for name, scores in importance.filterlets.items()
    }
    return replace(importance, channels=channels, filterlets=filterlets)


def nested(problem: Problem, importance: Importance, kept: Selection) -> Problem:
    """`problem` without the choices that keep more than `kept` does.

    Args:
        problem: of the network in its original shapes, what is removed at zero
            (`dtmm.pruning.restoration.restore`), with scores `alive_first(importance, kept)`.
    """
    groups = []
    for group in problem.groups:
        within = group.levels <= int(kept.channels[group.name].sum())
        allowed = within if group.allowed is None else within & group.allowed
        groups.append(replace(group, allowed=allowed))
    layers = [_nested_layer(problem, layer, importance, kept) for layer in problem.layers]
    return replace(problem, groups=tuple(groups), layers=tuple(layers))


def _nested_layer(problem: Problem, layer: Layer, importance: Importance, kept: Selection) -> Layer:
    group = problem.groups[layer.output_group]
    mask = kept.filterlets[layer.name].reshape(int(group.levels[0]), -1)
    allowed = layer.allowed.copy()
    for j, count in enumerate(group.levels):
        chosen = np.ones(len(mask), dtype=np.bool_)
        if len(group.levels) > 1:
            chosen = kept_channels(importance.channels[group.name], int(count))
        allowed[:, j] &= layer.filterlets[j] <= int(mask[chosen].sum())
    return replace(layer, allowed=allowed)
