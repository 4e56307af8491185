"""Registered criteria keep what `dtmm.testing.criteria` promises; broken ones are caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.pruning.importance import Importance
from dtmm.pruning.l2 import l2
from dtmm.pruning.registry import CRITERIA
from dtmm.pruning.taylor import taylor
from dtmm.testing import criteria
from dtmm.testing.criteria import CHECKS


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_registered_criteria(name, check):
    check(CRITERIA[name])


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_calls_itself_as_the_registry_does(name):
    assert CRITERIA[name](criteria.example_network(), criteria._batches()).criterion == name


def _changed(**changes):
    return lambda network, batches: dataclasses.replace(taylor(network, batches), **changes)


def _negative(network, batches):
    scores = taylor(network, batches)
    return dataclasses.replace(scores, filterlets={n: -v for n, v in scores.filterlets.items()})


def _counts_calls(network, batches, calls=[0]):  # noqa: B006
    calls[0] += 1
    scores = l2(network)
    return dataclasses.replace(
        scores, channels={n: v + calls[0] for n, v in scores.channels.items()}
    )


def _writes(network, batches):
    scores = l2(network)
    next(iter(network.params.values()))[:] = 0
    return scores


def _same_everywhere(network, batches):
    scores = l2(network)
    ones = {n: np.ones_like(v) for n, v in scores.filterlets.items()}
    return dataclasses.replace(scores, filterlets=ones)


def _pixels(network, batches) -> Importance:
    """Depends on the images but not on the network's statistics."""
    scores = l2(network)
    mean = abs(float(next(iter(batches))[0].mean()))
    return dataclasses.replace(
        scores, images=6, channels={n: v * mean for n, v in scores.channels.items()}
    )


@pytest.mark.parametrize(
    ("criterion", "check", "says"),
    [
        (_changed(channels={}), criteria.every_unit_has_a_score, "channels have shapes"),
        (_negative, criteria.every_unit_has_a_score, "negative"),
        (_writes, criteria.the_network_is_not_changed, "were changed"),
        (_counts_calls, criteria.the_same_again_gives_the_same, "different scores"),
        (_same_everywhere, criteria.scores_differ_between_units, "the same score"),
        (_same_everywhere, criteria.pruned_filterlets_are_worth_nothing, "scores 1.0, expected 0"),
        (_pixels, criteria.batch_normalization_is_frozen, "running statistics"),
        (_changed(images=0), criteria.it_says_what_it_did, "depend on them"),
        (_changed(aggregation=""), criteria.it_says_what_it_did, "aggregation is empty"),
    ],
)
def test_what_is_broken_is_caught(criterion, check, says):
    with pytest.raises(AssertionError, match=says):
        check(criterion)
