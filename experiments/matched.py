"""Statistics of a comparison of pruning methods: sizes at matched accuracy, and paired tests.

A method's curve joins its measured points, accuracies averaged over seeds, by straight lines over
the logarithm of size (or cycles); the dense network is the last point of every curve. What a
method needs for an accuracy is where its curve, coming from small sizes, first reaches it. Where
its smallest network is above that already, this is only an upper bound and is said to be one.

Intervals (95 %) are percentiles over bootstrap samples of the test images, the same sample for
every method, and of the seeds where there are several.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

DENSE = "dense"
TOLERANCE = 0.01
"""Matched accuracy is this far below the dense int8 network's."""
SAMPLES = 1000
CONFIDENCE = 0.95
PAPER = {
    "size_vs_chip": -39.53,
    "size_vs_patdnn": -11.92,
    "latency_vs_chip": -1.09,
    "latency_vs_patdnn": -68.70,
}
"""Percent, of the DTMM paper's abstract and evaluation."""


@dataclass(frozen=True)
class Need:
    """What a method needs for an accuracy: bytes or cycles; `bound`: at most so much."""

    value: float
    bound: bool


def right_bits(cells: pd.DataFrame) -> Bools:
    """[cells, images] whether each test image is put in its class."""
    packed = [np.frombuffer(b64decode(text), np.uint8) for text in cells["right"]]
    counts = cells["images"].to_numpy(dtype=np.int64)
    if len(set(counts)) > 1:
        raise ValueError(f"cells of {sorted(set(counts))} test images cannot be compared")
    return np.unpackbits(np.stack(packed), axis=1)[:, : counts[0]].astype(np.bool_)


def need(sizes: Floats, accuracies: Floats, target: float) -> Need:
    """Where a curve first reaches `target`; the last point must.

    Args:
        sizes: [n] ascending. accuracies: [n].
    """
    first = int(np.argmax(accuracies >= target))
    if first == 0:
        return Need(float(sizes[0]), bound=True)
    low, high = accuracies[first - 1], accuracies[first]
    share = (target - low) / (high - low)
    logs = np.log(sizes[first - 1 : first + 1])
    return Need(float(np.exp(logs[0] + share * (logs[1] - logs[0]))), bound=False)


class Comparison:
    """The measured cells of one task, ready for statistics.

    Args:
        cells: one row per cell: method, share, seed, images, flash, cycles, right.
    """

    def __init__(self, cells: pd.DataFrame) -> None:
        self.cells = cells.reset_index(drop=True)
        self.bits = right_bits(self.cells)
        self.accuracy = self.bits.mean(axis=1)
        self.seeds = np.unique(self.cells["seed"].to_numpy())
        rows = {name: each.index.to_numpy() for name, each in self.cells.groupby("method")}
        self._dense = int(rows.pop(DENSE)[0])
        shares = self.cells["share"].to_numpy()
        self._points = {
            name: [index[shares[index] == share] for share in np.unique(shares[index])]
            for name, index in rows.items()
        }

    @property
    def methods(self) -> list[str]:
        """All but dense."""
        return list(self._points)

    def need(
        self, method: str, metric: str, accuracy: Floats | None = None, times: Ints | None = None
    ) -> Need | None:
        """What a method needs to come within TOLERANCE of the dense network.

        Args:
            accuracy: [cells], None: the measured ones.
            times: how often each of `seeds` counts, None: once. None is returned where none that
                counts has a cell.
        """
        accuracy = self.accuracy if accuracy is None else accuracy
        times = np.ones(len(self.seeds), np.int64) if times is None else times
        values = self.cells[metric].to_numpy(dtype=np.float64)
        weights = times[np.searchsorted(self.seeds, self.cells["seed"].to_numpy())]
        points = [
            (np.average(values[rows], weights=weights[rows]),
             np.average(accuracy[rows], weights=weights[rows]))
            for rows in self._points[method]
            if weights[rows].any()
        ]  # fmt: skip
        if not points:
            return None
        dense = (values[self._dense], accuracy[self._dense])
        sizes, accuracies = np.array([*sorted(points), dense]).T
        return need(sizes, accuracies, accuracy[self._dense] - TOLERANCE)

    def versus(self, metric: str, ours: str, rival: str, seed: int = 0) -> dict[str, Any] | None:
        """By how many percent we need more (+) or less (-) than the rival at matched accuracy.

        None where one of the two has no cell.
        """
        if not {ours, rival} <= self._points.keys():
            return None
        mine, theirs = self.need(ours, metric), self.need(rival, metric)
        assert mine is not None and theirs is not None
        rng = np.random.default_rng(seed)
        images = self.bits.shape[1]
        samples = []
        for _ in range(SAMPLES):
            drawn = rng.multinomial(images, np.full(images, 1 / images))
            times = rng.multinomial(len(self.seeds), np.full(len(self.seeds), 1 / len(self.seeds)))
            accuracy = self.bits @ drawn / images
            pair = [self.need(name, metric, accuracy, times) for name in (ours, rival)]
            if pair[0] is not None and pair[1] is not None:
                samples.append(_percent(pair[0], pair[1]))
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(samples, [tail, 100 - tail])
        return {
            "percent": round(_percent(mine, theirs), 2),
            "low": round(float(low), 2),
            "high": round(float(high), 2),
            "ours": round(mine.value),
            "ours_is_upper_bound": mine.bound,
            "rival": round(theirs.value),
            "rival_is_upper_bound": theirs.bound,
        }


def _percent(ours: Need, rival: Need) -> float:
    return 100 * (ours.value / rival.value - 1)


def paired(cells: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Accuracy of `ours` less every rival's on the same images, share and seed, in points.

    McNemar's exact test over the images on which the two differ, seeds together; the interval is
    the normal one of a difference of paired shares.
    """
    table = cells.reset_index(drop=True)
    bits = right_bits(table)
    rows = []
    for (method, share), each in table.groupby(["method", "share"], sort=False):
        won = lost = images = 0
        for row, seed in zip(each.index, each["seed"], strict=True):
            same = table[
                (table["method"] == ours) & (table["share"] == share) & (table["seed"] == seed)
            ]
            if method in (ours, DENSE) or same.empty:
                continue
            mine, theirs = bits[same.index[0]], bits[row]
            won += int((mine & ~theirs).sum())
            lost += int((theirs & ~mine).sum())
            images += mine.size
        if images:
            difference = (won - lost) / images
            spread = 1.96 * np.sqrt((won + lost) / images - difference**2) / np.sqrt(images)
            rows.append(
                {
                    "share": share,
                    "rival": method,
                    "images": images,
                    "difference_points": 100 * difference,
                    "low": 100 * (difference - spread),
                    "high": 100 * (difference + spread),
                    "p_value": float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
                }
            )
    return pd.DataFrame(rows)
