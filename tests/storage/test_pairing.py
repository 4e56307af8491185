"""The order of filters against brute force over all orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.storage.pairing import MATCHING_LIMIT, pair_order, pair_places, shared_filterlets


def _kept(filters: int, positions: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((filters, positions)) < share


def _best(kept: np.ndarray) -> int:
    orders = itertools.permutations(range(len(kept)))
    return max(shared_filterlets(kept, np.array(order)) for order in orders)


@given(st.integers(1, 7), st.sampled_from([1, 4, 9]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_is_a_permutation_as_good_as_the_best(
    filters: int, positions: int, share: float, seed: int
) -> None:
    kept = _kept(filters, positions, share, seed)
    order = pair_order(kept)
    assert sorted(order) == list(range(filters))
    if filters % 4 != 2:  # there one pair of the matching has no place: see the next test
        assert shared_filterlets(kept, order) == _best(kept)


@given(st.sampled_from([2, 6]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_two_places_without_a_partner(filters: int, share: float, seed: int) -> None:
    kept = _kept(filters, 9, share, seed)
    assert shared_filterlets(kept, pair_order(kept)) >= 2 / 3 * _best(kept)


@pytest.mark.parametrize("filters", [1, 3, 16, 31])
def test_dense_layers_keep_their_order(filters: int) -> None:
    assert np.array_equal(pair_order(np.ones((filters, 9), np.bool_)), np.arange(filters))


def test_beats_the_order_of_chance_by_far() -> None:
    kept = _kept(64, 9, 0.25, 1)
    by_chance = shared_filterlets(kept, np.arange(64))
    assert shared_filterlets(kept, pair_order(kept)) > 2 * by_chance


def test_more_filters_than_the_matching_takes() -> None:
    kept = _kept(MATCHING_LIMIT + 4, 9, 0.25, 1)
    order = pair_order(kept)
    assert sorted(order) == list(range(len(kept)))
    assert shared_filterlets(kept, order) > 0.8 * kept.sum() / 2


def test_places() -> None:
    assert pair_places(7) == [(0, 2), (1, 3), (4, 6)]
    assert pair_places(6) == [(0, 2), (1, 3)]
