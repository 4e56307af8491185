"""What every cost model has to keep, as checks that a plug-in's own tests can run.

    import pytest
    from dtmm.testing.cost_models import CHECKS, POINTS
    from my_package import MyModel

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_model(check):
        check(MyModel(), POINTS)

Each check takes a model and points that it answers, and raises AssertionError with a sentence that
says what is wrong. A table can be asked only for what it holds: give the checks its own points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from dtmm.errors import MeasurementError
from dtmm.latency.base import CostModel
from dtmm.latency.structure import scratch
from dtmm.latency.table import OpShape, Point, describe

_CONV = OpShape("conv2d", (8, 8), (8, 8), kernel=(3, 3), pad=(1, 1), in_halo=1, out_halo=1)
_STRIDED = replace(_CONV, out_hw=(4, 4), stride=(2, 2), out_halo=0)
_PIXEL = OpShape("conv2d", (8, 8), (8, 8))


def _points() -> Iterator[Point]:
    for kernel, channels in (("conv_fwcs_c32_1x8", 32), ("conv_fwcs_c64_1x8", 64)):
        for outputs in (16, 40):
            for kept in (1.0, 0.5, 1 / 9):
                yield Point(_CONV, kernel, channels, outputs, round(9 * outputs * kept))
    for kept in (1.0, 0.5, 1 / 9):
        yield Point(_STRIDED, "conv_fwcs_c32_2x4_s2", 24, 32, round(288 * kept))
        yield Point(_CONV, "conv_fwcs", 20, 12, round(108 * kept))
    yield Point(_CONV, "conv_dense", 20, 12, 108)
    yield Point(_PIXEL, "conv_pointwise_p32", 32, 24, 24)
    yield Point(_CONV, "conv_im2col_p32", 3, 16, 144)
    yield Point(replace(_CONV, kind="depthwise_conv"), "depthwise_conv", 32, 32)
    for kind in ("add", "lookup"):
        for channels in (16, 48):
            yield Point(replace(_PIXEL, kind=kind), kind, channels, channels)
    yield Point(OpShape("max_pool", (8, 8), (4, 4), (2, 2), (2, 2)), "max_pool", 32, 32)
    yield Point(OpShape("mean", (8, 8), (1, 1)), "mean", 64, 64)
    yield Point(OpShape("fully_connected", (1, 1), (1, 1)), "fully_connected", 64, 10)


POINTS = tuple(_points())
"""Points for models that answer any: every family of kernels, pruned and whole."""

CLOSE = 1e-9
"""Relative difference that counts as none."""


def answers_are_costs(model: CostModel, points: Sequence[Point]) -> None:
    """Finite, not negative; scratch in whole bytes; something costs something."""
    _expect(len(points) > 0, "no points to ask for")
    for point in points:
        cost = model.cost(point)
        for name in ("cycles", "instructions", "scratch"):
            value = getattr(cost, name)
            _expect(math.isfinite(value) and value >= 0, f"{describe(point)}: {name} is {value}")
        _expect(cost.scratch == int(cost.scratch), f"{describe(point)}: scratch {cost.scratch}")
    _expect(any(model.cost(point).cycles > 0 for point in points), "every point is free")


def the_same_question_has_the_same_answer(model: CostModel, points: Sequence[Point]) -> None:
    """Again, and in another order."""
    first = [model.cost(point) for point in points]
    again = [model.cost(point) for point in reversed(points)][::-1]
    for point, one, other in zip(points, first, again, strict=True):
        _expect(one == other, f"{describe(point)}: {one} and then {other}")


def scratch_is_enough(model: CostModel, points: Sequence[Point]) -> None:
    """No less than what our operators ask for: the memory plan counts on it."""
    for point in points:
        said, needed = model.cost(point).scratch, scratch(point)
        _expect(said >= needed, f"{describe(point)}: {said} B of scratch, it needs {needed} B")


def keeping_all_costs_no_less_than_keeping_few(model: CostModel, points: Sequence[Point]) -> None:
    """At the same kernel and channels: or pruning could only lose."""
    alike: dict[Point, list[Point]] = {}
    for point in points:
        alike.setdefault(replace(point, filterlets=0), []).append(point)
    for each in alike.values():
        few, all_ = (pick(each, key=lambda p: p.filterlets) for pick in (min, max))
        less, more = model.cost(few).cycles, model.cost(all_).cycles
        _expect(
            less <= more * (1 + CLOSE),
            f"{describe(few)}: {less:g} cycles, with {all_.filterlets} filterlets {more:g}",
        )


def unknown_kernels_are_errors(model: CostModel, points: Sequence[Point]) -> None:
    """A MeasurementError that names the kernel asked for and a known one near it."""
    point = replace(points[0], kernel=f"{points[0].kernel}_nonsense")
    try:
        model.cost(point)
    except MeasurementError as error:
        text = str(error).replace(point.kernel, "", 1)
        _expect(point.kernel in str(error), f"the error does not name {point.kernel}: {error}")
        _expect(points[0].kernel in text, f"the error names nothing near: {error}")
    else:
        _expect(False, f"a cost for kernel {point.kernel!r}, which does not exist")


CHECKS: tuple[Callable[[CostModel, Sequence[Point]], None], ...] = (
    answers_are_costs,
    the_same_question_has_the_same_answer,
    scratch_is_enough,
    keeping_all_costs_no_less_than_keeping_few,
    unknown_kernels_are_errors,
)


def check_all(model: CostModel, points: Iterable[Point]) -> None:
    """Every check, one after the other."""
    asked = tuple(points)
    for check in CHECKS:
        check(model, asked)


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
