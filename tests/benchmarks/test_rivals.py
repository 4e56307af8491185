"""What the benchmark says of CSR and FKW, on rows made up."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import kernels, rivals, shapes
from benchmarks.cells import Cell, gathered
from benchmarks.shapes import Shape
from benchmarks.targets import Figures
from dtmm.device.cycle_model import BlockCost

SHAPE = shapes.TABLE[2]


def row(kernel: str, pct: int, cycles: float, values: float = 0) -> dict[str, object]:
    own = {"kernel": kernel, **SHAPE.__dict__, "sparsity_pct": pct, "cycles": cycles}
    return {**own, "mac_per_cycle": 2.0, "bound_cycles": cycles / 4, "gathered": values}


def table() -> pd.DataFrame:
    """CSR twice as dear at half the weights, a fifth at 90 %; FKW never cheaper than dense."""
    return pd.DataFrame(
        [
            row("conv_dense", 0, 1000e3),
            *(row("conv_fwcs", pct, (100 - pct) * 10e3) for pct in (50, 75, 90, 95)),
            row("conv_csr", 50, 2000e3, 16e3),
            row("conv_csr", 90, 200e3, 1600e3),
            row("conv_fkw", 75, 1100e3, 0),
            row("conv_fkw", 95, 1050e3, 0),
        ]
    )


def test_rows_have_rate_distance_and_the_price_by_access() -> None:
    found = rivals.rows(table(), Figures(table()))
    (at90,) = (cells for cells in found if cells[:2] == ["16, 64, 64", "90"])
    # 100,000 loads of 16 values: 14 cycles more each
    assert at90[2:] == ["1,000", "100", "200", "2.00", "4.00", "1,600", *["-"] * 4]


def test_break_even_is_interpolated() -> None:
    found = rivals.break_even_rows(table(), Figures(table()))
    (cells,) = (cells for cells in found if cells[0] == "16, 64, 64")
    assert cells[1:] == ["72 %", "never", "2.00x", "never", "never", "4.40x"]


def test_gathering_loads_are_counted_by_value() -> None:
    text = ("vldrb.u8\tq0, [r3, q7]", "vldrw.u32\tq1, [r4, q7, uxtw #2]", "vldrb.u8\tq6, [r5], #16")
    assert gathered([BlockCost(0, "kernel", text, 10, 1.0)]) == 10 * (16 + 4)


def test_rivals_keep_as_many_weights() -> None:
    shape = Shape("conv", 8, 8, 83, 83, 3, 3)
    csr, fkw = (Cell(name, shape, 90) for name in ("conv_csr", "conv_fkw"))
    kept = csr.filterlets * 83
    assert (csr.weights, fkw.weights) == (kept, 4 * round(kept / 4))
    assert csr.macs == 64 * kept
    assert csr.bound == 2 * 64 * -(-kept // 16)


@pytest.mark.parametrize(("pct", "names"), [(10, ()), (50, ("conv_csr",)), (75, rivals.LANES)])
def test_each_is_measured_where_it_can_be(pct: int, names: tuple[str, ...]) -> None:
    assert kernels.rival_kernels(SHAPE, pct) == tuple(names)
    wide = Shape("conv", 8, 8, 16, 16, 5, 5)
    assert "conv_fkw" not in kernels.rival_kernels(wide, pct)
