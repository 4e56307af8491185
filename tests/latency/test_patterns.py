"""Random patterns: exact counts, no filter empty before it must."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dtmm.latency.patterns import random_pattern


@given(st.data(), st.integers(1, 40), st.integers(1, 25), st.integers(0, 99))
def test_counts(data: st.DataObject, filters: int, positions: int, seed: int) -> None:
    filterlets = data.draw(st.integers(0, filters * positions))
    kept = random_pattern(filters, positions, filterlets, seed)
    assert kept.shape == (filters, positions)
    assert kept.sum() == filterlets
    assert kept.any(axis=1).sum() >= min(filters, filterlets)


def test_depends_on_nothing_but_its_arguments() -> None:
    first = random_pattern(16, 9, 40, 1)
    random_pattern(8, 9, 40, 1)[:] = False  # what a caller does with it is no matter
    assert np.array_equal(random_pattern(16, 9, 40, 1), first)
    assert not np.array_equal(random_pattern(16, 9, 40, 2), first)
