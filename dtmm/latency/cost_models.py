"""The cost models by name, and what all of them say of a network's points: its latency table.

    measured          every point on the simulated device
    fitted            a twentieth of them, and prices for what the kernels' loops count
    analytic          the same counts at the prices of analytic.csv; nothing is measured
    mac               multiply-accumulates of the weights that are kept, as if each took a cycle
    FILE.csv          your own table (the columns of `LatencyTable.save`)
    MODULE:FUNCTION   your own function of a `Point`, also FILE.py:FUNCTION

A new one is a line in COST_MODELS, or in another package the entry point group "dtmm.cost_models":
a function of the points that will be asked and of the means to measure some, which returns a
`CostModel`. `dtmm.testing.cost_models` holds the checks that it should pass.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dtmm.errors import ConfigError, MeasurementError
from dtmm.importing import load_callable
from dtmm.latency.base import CostModel
from dtmm.latency.fitted import FittedModel, fit, sample, split
from dtmm.latency.structure import check_kernel, scratch
from dtmm.latency.table import Cost, LatencyTable, Point, describe

Measure = Callable[[Sequence[Point]], LatencyTable]
"""Measures points on the device: `dtmm.latency.measure.measure_points`, given the rest."""

Maker = Callable[[Sequence[Point], Measure], CostModel]

ENTRY_POINTS = "dtmm.cost_models"


@dataclass(frozen=True)
class MacCount:
    """A multiply-accumulate takes a cycle, and nothing else takes any; instructions are not known
    (0)."""

    def cost(self, point: Point) -> Cost:
        """Multiply-accumulates of the weights that are kept. Raises MeasurementError on an unknown
        kernel id."""
        check_kernel(point)
        return Cost(float(macs(point)), 0.0, scratch(point))


@dataclass(frozen=True)
class FunctionModel:
    """A function of the user's; scratch bytes are those of our operators unless it says others.

    Attributes:
        name: how the user called it, for messages.
        function: of a Point; returns its cycles or a Cost.
    """

    name: str
    function: Callable[[Point], Any]

    def cost(self, point: Point) -> Cost:
        """What the function returns. Raises MeasurementError on an unknown kernel id, or where the
        function raises or returns no cost."""
        check_kernel(point)
        try:
            found = self.function(point)
        except Exception as error:
            raise MeasurementError(
                f"cost model {self.name} failed on {describe(point)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if isinstance(found, Cost):
            return _checked(self.name, point, found)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise MeasurementError(
                f"cost model {self.name} returned {found!r} for {describe(point)}, expected cycles "
                "or a Cost"
            )
        return _checked(self.name, point, Cost(float(found), 0.0, scratch(point)))


def macs(point: Point) -> int:
    """Multiply-accumulates on the weights that are kept; 0 for operators without weights."""
    shape = point.shape
    pixels, positions = shape.out_hw[0] * shape.out_hw[1], shape.kernel[0] * shape.kernel[1]
    if shape.kind == "fully_connected":
        return shape.in_hw[0] * shape.in_hw[1] * point.in_channels * point.out_channels
    if shape.kind == "depthwise_conv":
        return pixels * positions * point.out_channels
    if shape.kind == "conv2d":
        return pixels * point.filterlets * point.in_channels // shape.groups
    return 0


@functools.cache
def analytic_model() -> FittedModel:
    """The kernels' counts at the prices that the package ships: no device, no compiler."""
    return FittedModel.load(Path(str(resources.files("dtmm.latency") / "analytic.csv")))


def fitted_model(points: Sequence[Point], measure: Measure) -> FittedModel:
    """Measures `fitted.sample(points)`, and fits prices to those of them that `split` lets see."""
    seen, checked = split(sample(points))
    table = measure([*seen, *checked])

    def part(of: Sequence[Point]) -> LatencyTable:
        return LatencyTable({point: table.costs[point] for point in of}, table.provenance)

    return fit(part(seen), part(checked), len(set(points)))


COST_MODELS: Mapping[str, Maker] = {
    "measured": lambda points, measure: measure(points),
    "fitted": fitted_model,
    "analytic": lambda points, measure: analytic_model(),
    "mac": lambda points, measure: MacCount(),
}


def all_cost_models() -> dict[str, Maker]:
    """COST_MODELS and those of other packages by their entry points."""
    entries = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {**COST_MODELS, **{entry.name: entry.load() for entry in entries}}


def make_cost_model(name: str, points: Sequence[Point], measure: Measure) -> CostModel:
    """The cost model of that name, made ready for these points.

    Raises:
        ConfigError: no such model, module or function; the message names the nearest.
        DataError: a CSV that is no latency table. Whatever `measure` raises.
    """
    known = all_cost_models()
    if name in known:
        return known[name](points, measure)
    if name.endswith(".csv"):
        return LatencyTable.load(Path(name))
    if ":" in name:
        return FunctionModel(name, load_callable(name, "cost model"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"cost model {name!r} is unknown: {hint}expected {', '.join(known)}, a FILE.csv or "
        "MODULE:FUNCTION"
    )


def tabulate(name: str, model: CostModel, points: Sequence[Point]) -> LatencyTable:
    """What a model says of every point, as a table that says whose answers these are.

    Raises:
        MeasurementError: it has no answer for a point, or one that is no cost.
    """
    provenance = dict(getattr(model, "provenance", {}))
    costs = {point: _checked(name, point, model.cost(point)) for point in points}
    return LatencyTable(costs, {"cost_model": name, **provenance})


def _checked(name: str, point: Point, cost: Cost) -> Cost:
    values = (cost.cycles, cost.instructions, cost.scratch)
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise MeasurementError(
            f"cost model {name} answers {cost} for {describe(point)}, expected finite numbers >= 0"
        )
    return cost
