"""A cost model of few measurements: prices for what `dtmm.latency.structure` counts.

Every structure of loops has a non-negative price in cycles and in instructions for each of its
counts, by least squares on relative errors over a sample of the points; what a kernel's file states
(`structure.STATED`) has a price for each kernel. Runs are counted in the pattern of the point at
hand, so the model also prices filterlets that nobody measured.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from dtmm.errors import DataError, MeasurementError
from dtmm.latency.patterns import Kept
from dtmm.latency.structure import STATED, Work, random_runs, runs_of, scratch, structure, work
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point, describe
from dtmm.table import read_table, write_table

SHARE = 0.05
"""Of the points, at most so many are measured for a fit."""

CHECKED = 5
"""Every so-manieth measured point is kept out of the fit, to tell its error."""

ENDS = 2
"""Points of each kernel and shape that a fit takes at least: the smallest and the largest."""

COLUMNS = ("kernel", "count", "cycles", "instructions")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Price:
    """Of one count."""

    cycles: float
    instructions: float


@dataclass(frozen=True)
class FittedModel:
    """Prices.

    Attributes:
        prices: of each count, by structure; a kernel's own are under its id.
        seed: of the patterns that convolutions keep unless told otherwise.
        provenance: how the measurements were made, how many there were, and the errors on points
            that the fit has not seen.
    """

    prices: Mapping[str, Mapping[str, Price]]
    seed: int
    provenance: Mapping[str, str]

    def cost(self, point: Point) -> Cost:
        """What a point costs with the pattern that it is measured with.

        Raises:
            MeasurementError: an unknown kernel id, or one of a structure without prices.
        """
        return self._cost(point, work(point, random_runs(point, self.seed)))

    def cost_of(self, point: Point, kept: Kept) -> Cost:
        """What a pruned convolution costs that keeps bool [out_channels, positions].

        Raises:
            MeasurementError: as `cost`.
        """
        return self._cost(point, work(point, runs_of(point, kept)))

    def _cost(self, point: Point, counts: Work) -> Cost:
        prices = {
            **self.prices.get(structure(point.kernel), {}),
            **self.prices.get(point.kernel, {}),
        }
        if not counts.keys() <= prices.keys():
            near = difflib.get_close_matches(point.kernel, self.prices, n=3, cutoff=0.0)
            raise MeasurementError(
                f"the fitted model has no prices for {describe(point)}; "
                f"nearest: {', '.join(near) or 'it has none'}"
            )
        cycles = sum(prices[name].cycles * n for name, n in counts.items())
        instructions = sum(prices[name].instructions * n for name, n in counts.items())
        return Cost(cycles, instructions, scratch(point))

    def save(self, path: Path) -> None:
        """Write a tidy CSV, one price per row, errors and provenance in its header.

        Raises:
            ArtifactError: the file cannot be written.
        """
        rows = [
            (name, count, price.cycles, price.instructions)
            for name, prices in self.prices.items()
            for count, price in prices.items()
        ]
        header = {**self.provenance, "pattern_seed": str(self.seed)}
        write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)), header)

    @staticmethod
    def load(path: Path) -> FittedModel:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, no table, lacks a column or its pattern seed, or holds a
                price that is no number >= 0.
        """
        table, provenance = read_table(path, text=("kernel", "count"))
        if missing := [name for name in COLUMNS if name not in table.columns]:
            raise DataError(f"fitted model {path} lacks columns {', '.join(missing)}")
        if not provenance.get("pattern_seed", "").isdigit():
            raise DataError(f"fitted model {path} lacks the line `# pattern_seed: number`")
        numbers = table[["cycles", "instructions"]].apply(pd.to_numeric, errors="coerce")
        if not (numbers >= 0).all(axis=None):
            raise DataError(f"fitted model {path} has a price that is no number >= 0")
        prices: dict[str, dict[str, Price]] = {}
        for (name, count), row in zip(
            zip(table["kernel"], table["count"], strict=True), numbers.to_numpy(), strict=True
        ):
            prices.setdefault(name, {})[count] = Price(float(row[0]), float(row[1]))
        return FittedModel(prices, int(provenance["pattern_seed"]), provenance)


@dataclass(frozen=True)
class FitError:
    """Relative errors in cycles: the mean of their sizes, the largest and where it is."""

    mean: float
    worst: float
    worst_point: Point
    points: int


def sample(points: Iterable[Point], share: float = SHARE) -> tuple[Point, ...]:
    """The points to measure for a fit: of each kernel and shape the smallest, the largest and some
    evenly between.

    At most `share` of all, unless so few are there that a structure would have fewer points than
    counts to price.
    """
    groups = _alike(points)
    of_structure: dict[str, list[list[Point]]] = {}
    for each in groups:
        of_structure.setdefault(structure(each[0].kernel), []).append(each)
    least: dict[Point, int] = {}
    for same in of_structure.values():
        counts = len(_columns([each[0] for each in same], 0)[0])
        most = max(ENDS, -(-(counts + ENDS) // len(same)))
        least |= {each[0]: min(most, len(each)) for each in same}
    total, fewest = sum(map(len, groups)), sum(least.values())
    left = max(int(share * total) - fewest, 0)
    chosen: list[Point] = []
    for each in groups:
        few = least[each[0]]
        count = few + left * (len(each) - few) // max(total - fewest, 1)
        places = np.linspace(0, len(each) - 1, count).round().astype(int)
        chosen += [each[place] for place in sorted(set(places.tolist()))]
    return tuple(chosen)


def split(points: Iterable[Point]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The points of `sample` that a fit may see, and those between them that tell its error."""
    checked = {point for each in _alike(points) for point in each[CHECKED // 2 : -1 : CHECKED]}
    return tuple(sorted(set(points) - checked)), tuple(sorted(checked))


def fit(
    seen: LatencyTable, checked: LatencyTable, points: int, pooled: bool = False
) -> FittedModel:
    """Prices from the costs seen; their error on others goes to the provenance.

    Args:
        seen, checked: measured with the same pattern seed, which their provenance names.
        points: how many points the model is to stand for.
        pooled: no kernel has prices of its own, so that kernels without a point have prices too.
    """
    seed = int(seen.provenance["pattern_seed"])
    groups: dict[str, list[Point]] = {}
    for point in seen.costs:
        groups.setdefault(structure(point.kernel), []).append(point)
    prices: dict[str, dict[str, Price]] = {}
    for each in groups.values():
        columns, matrix = _columns(each, seed, pooled)
        costs = [(seen.costs[point].cycles, seen.costs[point].instructions) for point in each]
        both = (_prices(matrix, np.array(column)) for column in zip(*costs, strict=True))
        for (kernel, count), cycles, instructions in zip(columns, *both, strict=True):
            prices.setdefault(kernel, {})[count] = Price(float(cycles), float(instructions))
    model = FittedModel(prices, seed, {})
    provenance = {
        **seen.provenance,
        "fit_points": f"{len(seen.costs)} of {points}",
        "fit_checked_points": str(len(checked.costs)),
    }
    if checked.costs:
        found = errors(model, checked)
        provenance |= {
            "fit_mean_error": f"{found.mean:.5f}",
            "fit_worst_error": f"{found.worst:.5f}",
            "fit_worst_point": describe(found.worst_point),
        }
    return FittedModel(prices, seed, provenance)


def errors(model: FittedModel, measured: LatencyTable) -> FitError:
    """How far a model is from a table that has at least one point."""
    points = list(measured.costs)
    off = [abs(model.cost(p).cycles / max(measured.costs[p].cycles, 1.0) - 1) for p in points]
    worst = int(np.argmax(off))
    return FitError(float(np.mean(off)), float(off[worst]), points[worst], len(points))


def _alike(points: Iterable[Point]) -> list[list[Point]]:
    """The points of each kernel and shape, from few channels and filterlets to many."""

    def size(point: Point) -> tuple[int, Point]:
        return max(point.filterlets, point.out_channels) * point.in_channels, point

    groups: dict[tuple[str, OpShape], list[Point]] = {}
    for point in sorted(set(points), key=size):
        groups.setdefault((point.kernel, point.shape), []).append(point)
    return list(groups.values())


def _columns(
    points: Sequence[Point], seed: int, pooled: bool = False
) -> tuple[list[tuple[str, str]], Floats]:
    """What a structure's points need prices of: (structure or kernel, count); [points, prices]."""
    rows = []
    for point in points:
        counts, name = work(point, random_runs(point, seed)), structure(point.kernel)
        own = {count: point.kernel if count in STATED and not pooled else name for count in counts}
        rows.append({(own[count], count): n for count, n in counts.items()})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return columns, np.array([[row.get(column, 0.0) for column in columns] for row in rows])


def _prices(counts: Floats, costs: Floats) -> Floats:
    """Non-negative prices of the columns: least squares on relative errors."""
    relative = counts / np.maximum(costs, 1.0)[:, None]
    scale = relative.max(axis=0)
    scale[scale == 0] = 1.0  # a count that never occurs gets price 0
    found, _ = nnls(relative / scale, np.ones(len(costs)))
    return np.asarray(found / scale, np.float64)
