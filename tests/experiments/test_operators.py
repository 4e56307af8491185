"""The operator experiments: quick runs, and their arithmetic on numbers known beforehand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from dtmm.device.cycle_model import BlockCost
from dtmm.table import read_table
from experiments import operator_ablation, operator_complexity, operator_latency

EXPERIMENTS = (operator_latency, operator_ablation, operator_complexity)


@pytest.fixture(scope="module")
def folder(toolchain: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a quick run of each left its results."""
    made = tmp_path_factory.mktemp("results")
    for module in EXPERIMENTS:
        done = CliRunner().invoke(module.main, ["--quick", "--out", str(made)])
        assert done.exit_code == 0, done.output
    return made


@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.NAME)
def test_a_quick_run_leaves_table_and_figures(module: ModuleType, folder: Path) -> None:
    table, provenance = read_table(folder / f"{module.NAME}.csv")
    assert {"experiment", "compiler", "qemu", "cycle_model", "commit"} <= provenance.keys()
    assert (table["cycles"] > 0).all()
    made = {path.suffix: path.stat().st_size for path in folder.glob(f"{module.NAME}.*")}
    assert made.keys() == {".csv", ".pdf", ".png", ".tex"}
    assert min(made.values()) > 200


@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.NAME)
def test_figures_come_from_the_table_alone(module: ModuleType, folder: Path) -> None:
    before = (folder / f"{module.NAME}.tex").read_text()
    (folder / f"{module.NAME}.tex").unlink()
    done = CliRunner().invoke(module.main, ["--figures-only", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert (folder / f"{module.NAME}.tex").read_text() == before


def line(kernel: str, points: dict[int, float]) -> pd.DataFrame:
    rows = [(kernel, 4, 256, 256, removed, kernel, cycles, "x") for removed, cycles in
            points.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=operator_latency.COLUMNS)


@pytest.mark.parametrize(
    ("sparse", "expected"),
    [
        ({0: 120, 10: 110, 20: 90}, 15.0),  # crosses 100 half way
        ({0: 100, 10: 90}, 0.0),
        ({0: 120, 10: 101}, None),
        ({0: 120, 10: 95, 20: 105, 30: 80}, 22.0),  # slower again in between
    ],
)
def test_break_even(sparse: dict[int, float], expected: float | None) -> None:
    table = pd.concat([line("fwcs", sparse), line("dense", {0: 100})])
    assert operator_latency.break_even(table, "fwcs", "dense") == expected
    assert operator_latency.break_even(table, "csr", "dense") is None


def test_without_overlap_every_instruction_costs_its_own_cycles(toolchain: None) -> None:
    # on the M55 a 128-bit load and a 128-bit multiply-accumulate take two beats of two cycles each
    pair = ("vldrw.u32 q0, [r0]", "vmlava.s8 r2, q2, q1")
    overlapped = BlockCost(0, "kernel", pair, 10, 10 * 2.0)
    assert operator_ablation.serial_cycles([overlapped]) == 10 * 4.0
    alone = BlockCost(0, "kernel", pair[:1], 10, 10 * 2.0)
    assert operator_ablation.serial_cycles([alone]) == 10 * 2.0
    # a branch is not scheduled by the model, its price stays
    branch = BlockCost(0, "kernel", ("b 0x10",), 5, 5 * 3.0)
    assert operator_ablation.serial_cycles([branch]) == 5 * 3.0


def test_the_fit_finds_the_law_that_made_the_cycles() -> None:
    rng = np.random.default_rng(1)
    macs = rng.integers(1000, 100_000, 40)
    size, cout = rng.integers(4, 32, 40), rng.integers(16, 256, 40)
    cycles = 1.2 * (macs + 1.125 * macs) + 7.5 * size**2 * cout
    table = pd.DataFrame(
        {"formula_macs": macs, "formula_loads": 1.125 * macs, "h": size, "cout": cout,
         "cycles": cycles}
    )  # fmt: skip
    assert operator_complexity.fit(table) == pytest.approx((1.2, 7.5, 1.0))


def test_executed_operations_cover_the_formula(folder: Path) -> None:
    table, _ = read_table(folder / f"{operator_complexity.NAME}.csv")
    # every kept weight vector meets every output pixel: no kernel can do with fewer
    assert (table["executed_macs"] >= table["formula_macs"]).all()
    assert (table["cycles"] >= 2 * table["formula_macs"]).all()
