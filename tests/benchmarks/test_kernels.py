"""One cell through the command line; its figures against the latency table's; the table's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import kernels
from benchmarks.cells import Cell
from benchmarks.external import COLUMNS, keyed
from benchmarks.shapes import CONV, Shape
from benchmarks.split import PARTS, split
from dtmm.device.cycle_model import BlockCost
from dtmm.latency.harness import code_digest
from dtmm.latency.measure import CYCLE_MODEL, measure_chunk, to_row
from dtmm.table import read_table, write_table

CELL = Shape(CONV, 4, 4, 32, 16, 3, 3)


@pytest.fixture(scope="module")
def measured(toolchain: None) -> dict[str, Any]:
    done = CliRunner().invoke(kernels.main, ["--only", "4,32,16,50", "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_the_json_has_every_field(measured: dict[str, Any]) -> None:
    assert {"rows", "external", "provenance"} <= measured.keys()
    assert {"compiler", "qemu", "cycle_model", "memory_map", "commit"} <= measured[
        "provenance"
    ].keys()
    assert measured["rows"][0]["kernel"] == "conv_fwcs"
    for row in measured["rows"]:
        assert set(COLUMNS) <= row.keys()
        assert sum(row[f"{part}_cycles"] for part in PARTS) == pytest.approx(row["cycles"], abs=3)
        assert row["code_bytes"] > 500
    (fwcs,) = (row for row in measured["rows"] if row["kernel"] == "conv_fwcs")
    assert fwcs["macs"] == 4 * 4 * 72 * 32
    assert fwcs["weight_bytes"] == 72 * 32


def test_a_cell_is_what_the_latency_table_says(measured: dict[str, Any]) -> None:
    point = Cell("conv_fwcs", CELL, 50).point
    code = code_digest()
    (cost,) = measure_chunk([to_row(point)], kernels.SEED, code, CYCLE_MODEL)["costs"]
    (row,) = (row for row in measured["rows"] if row["kernel"] == "conv_fwcs")
    assert row["instructions"] == cost["instructions"]
    assert row["cycles"] == pytest.approx(cost["cycles"], abs=1)
    assert row["scratch_bytes"] == cost["scratch"]


def test_the_table_survives_its_file(measured: dict[str, Any], tmp_path: Path) -> None:
    table = pd.DataFrame(measured["rows"])
    path = write_table(tmp_path / "kernels.csv", table, measured["provenance"])
    again, provenance = read_table(path, text=("kernel", "operator"))
    pd.testing.assert_frame_equal(table, again)
    assert provenance == {key: str(value) for key, value in measured["provenance"].items()}
    assert keyed(again)[0][0] == (table["kernel"][0], CELL, 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "4,32,16"], "--only '4,32,16': expected H,CIN,COUT,SPARSITY"),
        (["--only", "4,32,16,101"], "expected H,CIN,COUT,SPARSITY"),
        (["--only", "4,x,16,0"], "expected H,CIN,COUT,SPARSITY"),
        (["--only", "4,32,16,50", "--kernel", "conv_dense"], "'conv_dense' does not run"),
        (["--report", "--out", "absent.csv"], "cannot read the table absent.csv"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(kernels.main, arguments)
    assert done.exit_code != 0
    assert message in done.output


def block(symbol: str, cycles: float, *text: str) -> BlockCost:
    return BlockCost(0, symbol, text, 1, cycles)


def test_cycles_go_to_the_part_that_spends_them() -> None:
    blocks = [
        block("dtmm_fill_halo", 10, "strb r0, [r1]"),
        block("kernel", 100, "vldrw.u32 q0, [r0]", "vmladava.s8 r0, q0, q1"),
        block("kernel", 30, "vqrdmulh.s32 q0, q0, q1", "vrshl.s32 q0, q1"),
        # both in one block: 3 of 4 classified instructions multiply, load and accumulate
        block(
            "kernel",
            40,
            "vldrb.u8 q0, [r0]",
            "vmlava.s8 r2, q0, q1",
            "vmlava.s8 r4, q0, q1",
            "vqrdmulh.s32 q2, q2, q3",
            "add r1, r2",
        ),
        block("kernel", 5, "add r0, r1", "bx lr"),
    ]
    assert split(blocks) == {"halo": 10, "mac": 130, "requant": 40, "other": 5}


def test_every_shape_has_a_kernel_or_none_that_exists() -> None:
    cells = list(kernels.all_cells())
    assert len(cells) == len(set(cells))
    sparse = {cell for cell in cells if cell.sparsity_pct}
    assert {cell.sparsity_pct for cell in sparse} >= {10, 25, 50, 75, 90, 95}
