"""Range methods against brute force on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from dtmm.quantization.ranges import BINS, CUTS, OUTLIERS, RANGES, Histogram


def histogram(values: np.ndarray) -> Histogram:
    counts, _ = np.histogram(values, BINS)
    return Histogram(float(values.min()), float(values.max()), counts.astype(np.float64))


def error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of int8 codes that reach from low to high."""
    scale = (high - low) / 255
    zero_point = np.clip(np.rint(-128 - low / scale), -128, 127)
    codes = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float(np.mean((scale * (codes - zero_point) - values) ** 2))


def long_tailed(seed: int, signed: bool) -> np.ndarray:
    values = np.random.default_rng(seed).standard_t(2, 50_000)
    return values if signed else np.maximum(values, 0)


@pytest.mark.parametrize("signed", [True, False])
def test_the_mse_range_is_the_best_of_all_tried(signed: bool) -> None:
    values = long_tailed(0, signed)
    low, high = RANGES["mse"](histogram(values))
    lows = values.min() * CUTS if signed else [0.0]
    best = min(error(values, a, b) for a in lows for b in values.max() * CUTS)
    assert error(values, low, high) <= 1.02 * best
    assert error(values, low, high) < error(values, *RANGES["minmax"](histogram(values)))


@pytest.mark.parametrize("signed", [True, False])
def test_the_percentile_cuts_off_as_much_as_it_says(signed: bool) -> None:
    values = np.random.default_rng(1).normal(size=200_000)
    values = values if signed else np.maximum(values, 0)
    low, high = RANGES["percentile"](histogram(values))
    assert (values > high).mean() == pytest.approx(OUTLIERS, rel=0.4)
    assert (values < low).mean() == pytest.approx(OUTLIERS if signed else 0, rel=0.4)


@pytest.mark.parametrize("name", RANGES)
def test_ranges_hold_zero_and_stay_inside(name: str) -> None:
    for values in (np.linspace(2, 3, 99), -np.linspace(2, 3, 99), np.linspace(-1, 4, 99)):
        low, high = RANGES[name](histogram(values))
        if name != "minmax":  # quantize itself widens what min-max finds
            assert low <= 0 <= high
        assert min(values.min(), 0) <= low < high <= max(values.max(), 0)
