"""The latency table: cycles of one operator by its shape and counts, measured on a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dtmm.errors import DataError, MeasurementError
from dtmm.network.ir import Pair
from dtmm.table import read_table, write_table


@dataclass(frozen=True, order=True)
class OpShape:
    """Everything besides channel and filterlet counts that an operator's latency depends on.

    Attributes:
        kind: as `dtmm.planning.points.kind_of` names it: "conv2d", "fully_connected", "add", ...
        in_hw, out_hw: pixels; (1, 1) for a vector.
        kernel, stride, dilation: (1, 1) where the kind has none; a pool's window is its kernel.
        pad: (top, left) pixels.
        in_halo, out_halo: of the views (they are decided before scheduling).
        groups: of a grouped convolution, else 1.
    """

    kind: str
    in_hw: Pair
    out_hw: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Pair = (0, 0)
    in_halo: int = 0
    out_halo: int = 0
    groups: int = 1


@dataclass(frozen=True, order=True)
class Point:
    """One question to a cost model.

    Attributes:
        kernel: kernel id, e.g. "conv_dense", "conv_fwcs", "conv_im2col", "add", "mean".
        in_channels, out_channels: kept channels (real, not padded).
        filterlets: kept filterlets of a convolution (dense: all C_out*kh*kw), 0 for other kinds.
    """

    shape: OpShape
    kernel: str
    in_channels: int
    out_channels: int
    filterlets: int = 0


@dataclass(frozen=True)
class Cost:
    """The answer: modelled cycles, exact instructions, scratch bytes."""

    cycles: float
    instructions: float
    scratch: int


@dataclass(frozen=True)
class LatencyTable:
    """Measured costs by point: an exact lookup, a missing point is an error.

    Attributes:
        costs: what was measured.
        provenance: how (compiler, flags, simulator, cycle model, memory map, pattern seed, ...).
    """

    costs: Mapping[Point, Cost]
    provenance: Mapping[str, str]

    def cost(self, point: Point) -> Cost:
        """What this point costs.

        Raises:
            MeasurementError: it was not measured; the message lists the nearest points that were.
        """
        if point not in self.costs:
            near = sorted(self.costs, key=lambda other: _distance(point, other))[:3]
            known = "; ".join(describe(each) for each in near) or "the table is empty"
            raise MeasurementError(f"the latency table has no {describe(point)}; nearest: {known}")
        return self.costs[point]

    def missing(self, points: Iterable[Point]) -> tuple[Point, ...]:
        """Those that were not measured, in order."""
        return tuple(point for point in points if point not in self.costs)

    def save(self, path: Path) -> None:
        """Write a tidy CSV, one point per row, provenance in its header.

        Raises:
            ArtifactError: the file cannot be written.
        """
        rows = [{**_flat(point), **asdict(cost)} for point, cost in self.costs.items()]
        write_table(path, pd.DataFrame(rows, columns=_COLUMNS), self.provenance)

    @staticmethod
    def load(path: Path) -> LatencyTable:
        """Read what `save` wrote, or a user's own file of the same columns.

        Raises:
            DataError: the file is missing, no table, lacks a column, has a cell that is no number
                where one belongs, or the same point twice.
        """
        frame, provenance = read_table(path, text=("kind", "kernel"))
        if "groups" not in frame.columns:  # most networks have no grouped convolution
            frame["groups"] = 1
        absent = [name for name in _COLUMNS if name not in frame.columns]
        if absent:
            raise DataError(f"latency table {path} lacks columns {', '.join(absent)}")
        _check_numbers(frame, path)
        rows = [_from_row(row) for row in frame[_COLUMNS].to_dict("records")]
        costs = dict(rows)
        if len(costs) != len(rows):
            seen = [point for point, _ in rows]
            twice = next(point for point in seen if seen.count(point) > 1)
            raise DataError(f"latency table {path} has two rows for {describe(twice)}")
        return LatencyTable(costs, provenance)


def describe(point: Point) -> str:
    """One line for people."""
    shape = point.shape
    kernel = "x".join(map(str, shape.kernel))
    size = "x".join(map(str, shape.in_hw))
    kept = f", {point.filterlets} filterlets" if point.filterlets else ""
    return (
        f"{point.kernel} {kernel} stride {shape.stride[0]} on {size}x{point.in_channels} to "
        f"{point.out_channels} channels{kept}"
    )


_PAIRS = ("in", "out", "kernel", "stride", "dilation", "pad")
_PAIR_FIELDS = ("in_hw", "out_hw", "kernel", "stride", "dilation", "pad")
_WORDS = ("kind", "kernel")
_COLUMNS = [
    "kind",
    *(f"{name}_{axis}" for name in _PAIRS for axis in ("h", "w")),
    "in_halo",
    "out_halo",
    "groups",
    "kernel",
    "in_channels",
    "out_channels",
    "filterlets",
    "cycles",
    "instructions",
    "scratch",
]


def _flat(point: Point) -> dict[str, int | str]:
    row: dict[str, int | str] = {"kind": point.shape.kind, "kernel": point.kernel}
    for name, field in zip(_PAIRS, _PAIR_FIELDS, strict=True):
        row[f"{name}_h"], row[f"{name}_w"] = getattr(point.shape, field)
    row |= {name: getattr(point.shape, name) for name in ("in_halo", "out_halo", "groups")}
    counts = (point.in_channels, point.out_channels, point.filterlets)
    row |= dict(zip(("in_channels", "out_channels", "filterlets"), counts, strict=True))
    return row


def _check_numbers(frame: pd.DataFrame, path: Path) -> None:
    for name in (column for column in _COLUMNS if column not in _WORDS):
        values = pd.to_numeric(frame[name], errors="coerce")
        whole = name not in ("cycles", "instructions")
        wrong = ~(values >= 0) | (values % 1 != 0 if whole else False)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise DataError(
                f"latency table {path}: {name} of row {row + 1} is {frame[name].iloc[row]!r}, "
                f"expected a {'whole ' if whole else ''}number >= 0"
            )


def _from_row(row: Mapping[Any, Any]) -> tuple[Point, Cost]:
    pairs = {
        field: (int(row[f"{name}_h"]), int(row[f"{name}_w"]))
        for name, field in zip(_PAIRS, _PAIR_FIELDS, strict=True)
    }
    shape = OpShape(
        kind=str(row["kind"]),
        in_halo=int(row["in_halo"]),
        out_halo=int(row["out_halo"]),
        groups=int(row["groups"]),
        **pairs,
    )
    counts = (int(row[name]) for name in ("in_channels", "out_channels", "filterlets"))
    cost = Cost(float(row["cycles"]), float(row["instructions"]), int(row["scratch"]))
    return Point(shape, str(row["kernel"]), *counts), cost


def _distance(first: Point, second: Point) -> tuple[int, float]:
    """Differing words first, then how far the numbers are apart on a logarithmic scale."""
    one, other = _flat(first), _flat(second)
    words = sum(one[key] != other[key] for key in _WORDS)
    numbers = [key for key in one if isinstance(one[key], int)]
    apart = sum(abs(math.log((int(one[k]) + 1) / (int(other[k]) + 1))) for k in numbers)
    return words, apart
