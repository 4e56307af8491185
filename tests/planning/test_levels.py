"""Channel levels, filterlet counts and the ranking that turns counts into masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import ConfigError
from dtmm.planning import Levels
from dtmm.planning.levels import choices
from dtmm.planning.ranking import kept_channels, kept_filterlets


def test_levels_by_hand() -> None:
    assert Levels().channel_levels(32).tolist() == [32, 24, 16, 8]
    assert Levels().channel_levels(64).tolist() == [64, 56, 48, 40, 32, 24, 16, 8]
    assert Levels(16).channel_levels(128).tolist() == [128, 112, 96, 80, 64, 56, 48, 40, 32, 24, 16]
    assert Levels(3).channel_levels(32).tolist() == [32, 16, 8]
    assert Levels(1).channel_levels(32).tolist() == [32]
    assert Levels(smallest=0.5).channel_levels(32).tolist() == [32, 24, 16]
    assert Levels().channel_levels(5).tolist() == [5]
    assert Levels().channel_levels(30).tolist() == [30, 24, 16, 8]


@given(st.integers(1, 600), st.integers(1, 40), st.floats(0, 1))
def test_levels_properties(channels: int, most: int, smallest: float) -> None:
    levels = Levels(most, 12, smallest).channel_levels(channels).tolist()
    assert levels[0] == channels
    assert len(levels) <= most
    assert all(a > b for a, b in itertools.pairwise(levels))
    assert all(c % (8 if c < 64 else 16) == 0 for c in levels[1:])
    assert all(c >= smallest * channels for c in levels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "levels.channels is 0"),
        ({"filterlets": -1}, "levels.filterlets is -1"),
        ({"smallest": 1.5}, "levels.smallest is 1.5"),
    ],
)
def test_bad_levels(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Levels(**arguments)


def test_choices_of_the_residual_network(residual) -> None:
    options = choices(residual, Levels(channels=2, filterlets=5))
    assert {name: c.tolist() for name, c in options.levels.items()} == {
        "image": [3], "stem": [32, 8], "a": [16, 8], "down": [48, 8], "classifier": [10],
    }  # fmt: skip
    assert options.convs["stem"].kernels == ("conv_im2col_p32",)
    # they read 32 or 8 channels
    assert options.convs["shortcut"].kernels == ("conv_pointwise_p32_s2", "conv_pointwise_p16_s2")
    strided = ("conv_fwcs_c32_2x4_s2", "conv_fwcs_c16_2x4_s2")
    down = options.convs["down"]
    assert down.kernels == strided * 5
    counts = [[432, 336, 240, 144, 48], [72, 56, 40, 24, 8]]
    assert down.filterlets.tolist() == [[n for n in row for _ in strided] for row in counts]
    assert (down.allowed == np.array([[[True, False] * 5], [[False, True] * 5]])).all()
    second = options.convs["b"]  # reads 16 or 8 channels, both in 16 bytes
    assert second.kernels == ("conv_fwcs_c16_1x8",) * 5
    first = options.convs["a"]  # reads 32 or 8
    assert first.kernels == ("conv_fwcs_c32_1x8", "conv_fwcs_c16_1x8") * 5
    assert (first.allowed == np.array([[[True, False] * 5], [[False, True] * 5]])).all()


def test_repeated_counts_are_not_offered_twice(builder) -> None:
    net = builder(8, 8, 3)
    tiny = net.conv("tiny", net.conv("stem", "image", 16), 1)
    options = choices(net.build(net.conv("last", tiny, 4)), Levels(filterlets=30))
    tiny_choice = options.convs["tiny"]
    counts = tiny_choice.filterlets[0, tiny_choice.allowed[0, 0]].tolist()
    assert counts == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_kept_channels_prefers_the_first_of_equals() -> None:
    assert kept_channels(np.array([1.0, 3.0, 1.0, 2.0]), 3).tolist() == [True, True, False, True]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.data())
def test_kept_filterlets_is_the_best_choice_under_the_quota(seed, filters, positions, data) -> None:
    scores = np.random.default_rng(seed).random((filters, positions))
    count = data.draw(st.integers(filters, filters * positions))
    mask = kept_filterlets(scores, count)
    best = max(
        sum(scores.ravel()[list(kept)])
        for kept in itertools.combinations(range(scores.size), count)
        if {n // positions for n in kept} == set(range(filters))
    )
    assert mask.sum() == count
    assert mask.any(axis=1).all()
    assert scores[mask].sum() == pytest.approx(best)


def test_kept_filterlets_refuses_less_than_one_per_filter() -> None:
    with pytest.raises(ValueError, match="2 filterlets for 3 filters"):
        kept_filterlets(np.ones((3, 9)), 2)
