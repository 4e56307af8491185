"""What kernels' loops count, against the library that lists runs; prices from few measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import DataError, MeasurementError
from dtmm.latency import Cost, LatencyTable, OpShape, Point
from dtmm.latency.fitted import FittedModel, errors, fit, sample, split
from dtmm.latency.measure import measure_once
from dtmm.latency.patterns import random_pattern
from dtmm.latency.structure import (
    count_runs,
    random_runs,
    runs_of,
    scratch,
    stated_cycles,
    stated_pair,
    structure,
    work,
)
from dtmm.runtime_c import PointKernel, RunKernel
from dtmm.runtime_c.generate import point_kernels, run_kernels
from dtmm.storage.runs import list_runs

CONV = OpShape("conv2d", (8, 8), (8, 8), kernel=(3, 3), pad=(1, 1), in_halo=1, out_halo=1)
KERNELS = ("conv_fwcs_c32_1x8", "conv_fwcs_c64_1x8")
PROVENANCE = {"pattern_seed": "1"}


def grid() -> list[Point]:
    return [
        Point(CONV, kernel, int(kernel[11:13]), outputs, kept)
        for kernel in KERNELS
        for outputs in range(8, 65, 8)
        for kept in range(outputs, 9 * outputs + 1, outputs // 2)
    ]


def by_hand(point: Point) -> Cost:
    """Cycles that counts of a run kernel make exactly."""
    counts = work(point, random_runs(point, 1))
    factor = 1.02 if point.in_channels == 64 else 0.98
    cycles = factor * counts["run_cycles"] + 3.0 * counts["run_filters"] + 90 * counts["tiles"]
    return Cost(cycles + 250.0, cycles / 2, scratch(point))


def table(points: list[Point]) -> LatencyTable:
    return LatencyTable({point: by_hand(point) for point in points}, PROVENANCE)


@given(
    st.integers(1, 12),
    st.sampled_from([(3, 3), (5, 5), (1, 7), (2, 2), (4, 6), (1, 25)]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.integers(0, 2**32 - 1),
)
def test_runs_are_those_that_are_listed(
    filters: int, kernel: tuple[int, int], stride: int, dilation: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kept = rng.random((filters, kernel[0] * kernel[1])) < rng.random()
    kinds: dict[tuple[int, bool], int] = {}
    empty = 0
    for entry in list_runs(kept, kernel, stride, (dilation, dilation), 2048, 16)[:-1].tolist():
        kind = entry & 7  # the length; 4 is added to that of a filter's first
        if kind == 4:
            empty += 1
        else:
            kinds[kind & 3, kind > 4] = kinds.get((kind & 3, kind > 4), 0) + 1
    found = count_runs(kept, kernel, stride, dilation)
    assert (dict(found.kinds), found.empty) == (kinds, empty)


def test_cycles_are_read_off_the_kernels_files() -> None:
    kernel = run_kernels.Kernel(RunKernel(16, 1, 8, 2))
    assert stated_cycles("c16_1x8_s2") == {
        (length, first): run_kernels.expected_cycles(kernel, length, first)
        for length in kernel.lengths
        for first in (False, True)
    }
    point = point_kernels.Kernel(PointKernel(48, 1))
    assert stated_pair("conv_pointwise_p48") == point_kernels.expected_cycles(point)


def test_few_points_are_measured_and_they_span_the_others() -> None:
    points = grid()
    chosen = sample(points, 0.2)
    assert len(chosen) == len(set(chosen)) <= 0.2 * len(points)
    for kernel in KERNELS:
        sizes = [p.filterlets for p in points if p.kernel == kernel]
        taken = [p.filterlets for p in chosen if p.kernel == kernel]
        assert (min(taken), max(taken)) == (min(sizes), max(sizes))
    seen, checked = split(chosen)
    assert set(seen) | set(checked) == set(chosen)
    assert not set(seen) & set(checked)
    assert len(checked) > 3


def test_a_fit_finds_what_its_points_are_made_of(tmp_path: Path) -> None:
    points = grid()
    seen, checked = split(sample(points, 0.2))
    model = fit(table(list(seen)), table(list(checked)), len(points))
    found = errors(model, table(points))
    assert found.worst < 0.01
    assert model.provenance["fit_points"] == f"{len(seen)} of {len(points)}"
    assert float(model.provenance["fit_worst_error"]) < 0.01
    model.save(tmp_path / "fit.csv")
    again = FittedModel.load(tmp_path / "fit.csv")
    assert [again.cost(p) for p in points] == [model.cost(p) for p in points]
    assert again.provenance["fit_mean_error"] == model.provenance["fit_mean_error"]


def test_a_pattern_is_priced_by_its_runs() -> None:
    """Neighbours that stay together share pixels."""
    points = grid()
    model = fit(table(points), table([]), len(points))
    point = Point(CONV, KERNELS[0], 32, 16, 48)
    together = np.zeros((16, 9), np.bool_)
    together[:, :3] = True
    apart = np.zeros((16, 9), np.bool_)
    apart[:, ::4] = True
    assert runs_of(point, together).total == 16
    assert runs_of(point, apart).total == 48
    alike = random_pattern(16, 9, 48, 1)
    assert model.cost_of(point, together).cycles < model.cost(point).cycles
    assert model.cost(point).cycles < model.cost_of(point, apart).cycles
    assert model.cost_of(point, alike) == model.cost(point)


def test_what_has_no_price_is_an_error() -> None:
    model = fit(table(grid()), table([]), 1)
    other = replace(grid()[0], kernel="conv_fwcs_c48_1x8", in_channels=48)
    with pytest.raises(MeasurementError, match=r"no prices for conv_fwcs_c48_1x8 .*nearest: conv"):
        model.cost(other)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kernel,count,cycles\nadd,call,3\n", "lacks columns instructions"),
        ("kernel,count,cycles,instructions\nadd,call,3,1\n", "lacks the line `# pattern_seed"),
        ("# pattern_seed: 1\nkernel,count,cycles,instructions\nadd,call,-3,1\n", "no number >= 0"),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "fit.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        FittedModel.load(tmp_path / "fit.csv")


def test_kernels_of_one_tile_and_stride_are_one_structure() -> None:
    assert structure("conv_fwcs_c32_1x8") == structure("conv_fwcs_c64_1x8_listed")
    assert structure("conv_fwcs_c32_1x8") != structure("conv_fwcs_c32_1x8_s2")
    assert structure("conv_fwcs_c32_1x8") != structure("conv_dense_c32_1x8")
    assert structure("conv_pointwise_p16") != structure("conv_pointwise_p16_s2")
    assert structure("add") == "add"


def test_a_given_pattern_is_what_is_measured(toolchain: None) -> None:
    """And each cycle model has cycles of its own for it."""
    point = Point(CONV, KERNELS[0], 32, 16, 48)
    together = np.zeros((16, 9), np.bool_)
    together[:, 3:6] = True
    random = measure_once([point], 1, {}).costs[point]
    given_ = measure_once([point], 1, {0: together}).costs[point]
    assert given_.cycles < 0.95 * random.cycles
    same = measure_once([point], 1, {0: random_pattern(16, 9, 48, 1)}).costs[point]
    assert same == random
    cached = measure_once([point], 1, {0: together}, "m55-v2")
    assert cached.provenance["cycle_model"].startswith("m55-v2")
    assert cached.costs[point].cycles > given_.cycles
    assert cached.costs[point].instructions == given_.instructions
    with pytest.raises(MeasurementError, match=r"a mask of shape \(16, 9\) that keeps 47"):
        wrong = together.copy()
        wrong[0, 3] = False
        measure_once([point], 1, {0: wrong})
