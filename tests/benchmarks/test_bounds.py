"""Lower bounds by hand, and that no measured kernel is below its own."""

from __future__ import annotations

import pytest

from benchmarks import kernels, shapes
from benchmarks.bounds import bound
from benchmarks.cells import Cell
from benchmarks.shapes import ADD, CONV, DEPTHWISE, FULLY_CONNECTED, MAX_POOL, Shape
from dtmm.table import read_table


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Shape(CONV, 16, 16, 64, 64, 3, 3), 16 * 16 * 9 * 64 * 64 // 8),  # 8 MAC/cycle
        (Shape(CONV, 16, 16, 53, 64, 3, 3), 16 * 16 * 9 * 64 * 64 // 8),  # 53 fill four vectors
        (Shape(CONV, 4, 4, 32, 32), 4 * 4 * 32 * 32 // 8),
        (Shape(FULLY_CONNECTED, 1, 1, 640, 128), 640 * 128 // 8),
        (Shape(DEPTHWISE, 8, 8, 32, 32, 3, 3), 8 * 8 * 9 * 32 // 2),  # 2 MAC/cycle
        (Shape(ADD, 8, 8, 64, 64), 3 * 2 * 8 * 8 * 64 // 4),
        (Shape(MAX_POOL, 8, 8, 32, 32, 2, 2, 2), 2 * 4 * 4 * 4 * 2),
    ],
)
def test_bounds_by_hand(shape: Shape, expected: int) -> None:
    filterlets = shape.kernel_h * shape.kernel_w * shape.cout
    assert bound(shape, filterlets) == expected


def test_im2col_counts_whole_windows() -> None:
    first = shapes.TABLE[-1]
    assert (first.cin, first.cout) == (3, 32)
    assert Cell("conv_im2col", first).bound == 32 * 32 * 32 * 2 * 2  # 27 bytes are two vectors


def test_a_removed_filterlet_is_not_counted() -> None:
    shape = shapes.TABLE[2]
    assert Cell("conv_fwcs", shape, 75).bound == Cell("conv_fwcs", shape).bound // 4


def test_no_measured_kernel_is_below_its_bound() -> None:
    table, provenance = read_table(kernels.RESULTS, text=("kernel", "operator"))
    assert {"commit", "cycle_model", "seed"} <= provenance.keys()
    assert set(shapes.SPARSITIES) <= set(table["sparsity_pct"])
    for row in table.to_dict("records"):
        assert row["cycles"] >= row["bound_cycles"], row
