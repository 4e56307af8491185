"""How far an activation's int8 codes reach: the whole range seen, or less of it for finer steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.errors import ConfigError

Range = tuple[float, float]
Floats = npt.NDArray[np.float64]

BINS = 2048
"""Of a histogram: 8 per int8 code where the range is not cut."""

CUTS = 1.0 - np.arange(32) / 40
"""Shares of the range's ends that the MSE search tries: 1 down to 0.225."""

OUTLIERS = 1e-4
"""Share of the values that `percentile` may cut off at each end."""


@dataclass(frozen=True)
class Histogram:
    """How often a tensor took which values.

    Attributes:
        low, high: smallest and largest value; counts: [BINS], of equal bins between them.
    """

    low: float
    high: float
    counts: Floats

    @property
    def centres(self) -> Floats:
        """[BINS] middles of the bins."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        middles: Floats = (edges[1:] + edges[:-1]) / 2
        return middles


def min_max(histogram: Histogram) -> Range:
    """Everything seen (Jacob et al. 2018, "Quantization and training of neural networks for
    efficient integer-arithmetic-only inference", section 3.1)."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """All but a share OUTLIERS of the values at each end; zero is never cut off."""
    reached = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, len(reached) + 1)
    low = edges[int(np.searchsorted(reached, OUTLIERS, side="right"))]
    high = edges[int(np.searchsorted(reached, 1 - OUTLIERS)) + 1]
    return min(float(low), 0.0), max(float(high), 0.0)


def mean_squared_error(histogram: Histogram) -> Range:
    """The cut range of least mean squared rounding and clipping error, of `CUTS` at either end
    (Nagel et al. 2021, "A white paper on neural network quantization", section 3.1)."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    lows = low * CUTS if low < 0 else np.zeros(1)
    highs = high * CUTS if high > 0 else np.zeros(1)
    tried = [(float(a), float(b)) for a in lows for b in highs if b > a]
    if not tried:
        return low, high
    return min(tried, key=lambda span: _error(histogram, *span))


def _error(histogram: Histogram, low: float, high: float) -> float:
    scale = (high - low) / 255
    zero_point = np.clip(np.rint(-128 - low / scale), -128, 127)
    codes = np.clip(np.rint(histogram.centres / scale) + zero_point, -128, 127)
    error = (codes - zero_point) * scale - histogram.centres
    return float(histogram.counts @ error**2)


RANGES: Mapping[str, Callable[[Histogram], Range]] = {
    "minmax": min_max,
    "percentile": percentile,
    "mse": mean_squared_error,
}
"""name -> range of a histogram's int8 codes."""


def range_method(name: str) -> Callable[[Histogram], Range]:
    """The method called `name`.

    Raises:
        ConfigError: unknown name.
    """
    if name not in RANGES:
        raise ConfigError(f"unknown range method {name!r}; known: {', '.join(sorted(RANGES))}")
    return RANGES[name]
