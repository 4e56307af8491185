"""Fits on made data, conclusions on a made table, and the kept tables against what was given."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import cycle_model, second_opinion, sensitivity, validation
from benchmarks.external import FOLDER
from benchmarks.shapes import Shape
from dtmm.device import cycle_model as model_named
from dtmm.errors import DataError, ToolchainError
from dtmm.table import read_table

RNG = np.random.default_rng(3)
CYCLES = RNG.uniform(2e6, 2e7, 8)
LINES = RNG.uniform(1e3, 1e5, 8)


@pytest.mark.parametrize(("scale", "free"), [(1.0, False), (1.3, True)])
def test_an_exact_law_is_found(scale: float, free: bool) -> None:
    found = validation.fit(scale * CYCLES + 31 * LINES, CYCLES, LINES, free)
    assert (found.scale, found.per_line) == pytest.approx((scale, 31))
    assert (found.low, found.high) == pytest.approx((31, 31))
    assert found.rms < 1e-9
    assert found.left_out_rms < 1e-9


def test_a_noisy_fit_is_the_best_one_and_leaves_each_layer_out() -> None:
    measured = (CYCLES + 31 * LINES) * RNG.uniform(0.9, 1.1, 8)

    def rms(price: float, which: slice | np.ndarray = slice(None)) -> float:
        error = (CYCLES + price * LINES)[which] / measured[which] - 1
        return float(np.sqrt(np.mean(error**2)))

    found = validation.fit(measured, CYCLES, LINES)
    grid = np.linspace(0, 100, 2001)
    assert found.per_line == pytest.approx(grid[np.argmin([rms(p) for p in grid])], abs=0.06)
    assert found.rms == pytest.approx(rms(found.per_line))
    for left in range(8):
        rest = np.delete(np.arange(8), left)
        price = grid[np.argmin([rms(p, rest) for p in grid])]
        assert found.left_out[left] == pytest.approx(
            (CYCLES[left] + price * LINES[left]) / measured[left] - 1, abs=3e-3
        )
        assert found.low - 0.06 <= price <= found.high + 0.06


def test_our_counts_agree_with_those_that_were_given() -> None:
    """Another build of the same code, by other hands: within 1.5 % in cycles and 6 % in lines."""
    silicon = validation.load()
    given, _ = read_table(FOLDER / f"{validation.MEASURED}.csv", text=("layer",))
    for compiler in validation.COMPILERS:
        ratio = silicon.cycles[compiler, "m55-v1"] / given[f"m55v1_{compiler}_cycles"]
        assert np.abs(ratio - 1).max() < 0.015
    lines = silicon.misses["gcc", validation.CACHE][:, 0] / given["read_missed_lines"]
    assert np.abs(lines - 1).max() < 0.06
    price = validation.fit(
        silicon.measured,
        silicon.cycles["gcc", "m55-v1"],
        silicon.misses["gcc", validation.CACHE][:, 0],
    ).per_line
    memory = model_named("m55-v2").memory
    assert memory is not None
    assert price == pytest.approx(memory.cycles_per_missed_line, rel=0.03)


def test_a_layer_out_of_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (validation.MEASURED, "silicon_cycles", "silicon_misses"):
        (tmp_path / f"{name}.csv").write_text((FOLDER / f"{name}.csv").read_text())
    path = tmp_path / "silicon_cycles.csv"
    path.write_text(path.read_text().replace("depthwise3x3 32 112", "depthwise3x3 33 112", 1))
    monkeypatch.setattr(validation, "FOLDER", tmp_path)
    with pytest.raises(DataError, match="expected the layers conv3x3"):
        validation.load()


def made_table() -> pd.DataFrame:
    """Dense at 1,000 cycles; FWCS at 1,100 with 10 % removed and less with more; 9 missed lines.

    A second FWCS kernel is faster in one variant alone.
    """
    rows = []
    for cell in sensitivity.cells():
        for variant in sensitivity.VARIANTS:
            cycles = 1000.0 if not cell.sparsity_pct else 1100.0 - 8 * (cell.sparsity_pct - 10)
            if variant == "branch_penalty=4" and cell.kernel.endswith("listed"):
                cycles *= 0.5
            row = {"kernel": cell.kernel, **cell.shape.__dict__}
            rows.append({**row, "removed_pct": cell.sparsity_pct, "variant": variant,
                         "cycles": cycles, "read_missed_lines": 9})  # fmt: skip
    return pd.DataFrame(rows)


def test_conclusions_follow_from_the_figures() -> None:
    found = sensitivity.conclusions(made_table())
    plain = found["m55-v1"]
    assert plain["FWCS 10 % / dense"] == "1.10x, worst 1.10x"
    assert plain["FWCS 75 % / dense"] == "0.58x, worst 0.58x"
    assert plain["break-even, worst layer"] == "<= 25 %"  # 1100 - 8 * 15 = 980
    assert found["branch_penalty=4"]["break-even, worst layer"] == "<= 10 %"
    assert found["branch_penalty=4"]["FWCS 10 % / dense"] == "0.55x, worst 0.55x"
    external, _ = read_table(FOLDER / "cmsis_nn_variants.csv", text=("compiler", "variant"))
    shape = Shape("depthwise", 6, 6, 128, 128, 3, 3, 1)
    same = external[(external["operator"] == "depthwise") & (external["h"] == 6)]
    figures = sensitivity.Figures(made_table())
    first = same[same["variant"] == "m55-v1"]
    assert figures.cmsis_nn("m55-v1", shape) == first["cycles"].min()
    cached = (first["cycles"] + 46.9 * first["read_missed_lines"]).min()
    assert figures.cmsis_nn("m55-v2", shape) == pytest.approx(cached)
    twice = (first["cycles"] + 2 * 46.9 * first["read_missed_lines"]).min()
    assert figures.cmsis_nn("m55-v2, lines twice", shape) == pytest.approx(twice)


def test_two_measurements_of_cmsis_nn_agree() -> None:
    """The variants were counted anew: under m55-v1 they are the figures kept before."""
    variants, _ = read_table(FOLDER / "cmsis_nn_variants.csv", text=("compiler", "variant"))
    before, _ = read_table(FOLDER / "cmsis_nn.csv", text=("compiler",))
    keys = ["operator", "h", "w", "cin", "cout", "kernel_h", "kernel_w", "stride", "compiler"]
    both = variants[variants["variant"] == "m55-v1"].merge(before, on=keys)
    assert len(both) == 14  # the better compiler of each of the 14 layers
    assert np.abs(both["cycles_x"] / both["cycles_y"] - 1).max() < 0.02


def test_answers_become_rows(toolchain: None) -> None:
    block = ("vldrw.u32 q0, [r0]", "vmlava.s8 r2, q0, q1")
    found = [{"kernel": "k", "share_pct": 1.0, "block": block}] * 2
    answers = [
        {"bound": 4, "given": 5.0, "best": 4.0, "order": [t.upper() for t in block[::-1]]},
        {"unknown": ["vfoo q0"]},
    ]
    table = second_opinion.compare(found, answers)
    assert table["bound"].iloc[0] == 4
    assert table["m55v1"].iloc[0] == table["m55v1"].iloc[1] > 0
    assert table["m55v1_of_best"].iloc[0] > 0
    assert pd.isna(table["m55v1_of_best"].iloc[1])
    assert list(table["unknown"]) == ["", "vfoo q0"]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nonexistent/python", "cannot be started"),
        (sys.executable, "answered 0 of 1 blocks: .*slothy"),
    ],
)
def test_a_python_without_slothy_is_an_error(python: str, message: str) -> None:
    with pytest.raises(ToolchainError, match=message):
        second_opinion.ask(Path(python), [("nop",)], 1)


def test_the_document_holds_the_kept_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/cycle-model.md is what the command would write now."""
    copy = tmp_path / "cycle-model.md"
    copy.write_text(cycle_model.DOCUMENT.read_text())
    monkeypatch.setattr(cycle_model, "DOCUMENT", copy)
    done = CliRunner().invoke(cycle_model.main, ["--markdown"])
    assert done.exit_code == 0, done.output
    written = Path(cycle_model.__file__).parents[1] / "docs" / "cycle-model.md"
    assert copy.read_text() == written.read_text()


def test_a_document_without_marks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.md").write_text("# nothing\n")
    monkeypatch.setattr(cycle_model, "DOCUMENT", tmp_path / "empty.md")
    done = CliRunner().invoke(cycle_model.main, ["--markdown"])
    assert done.exit_code == 1
    assert "lacks the lines" in done.output
