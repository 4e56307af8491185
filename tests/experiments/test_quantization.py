"""What int8 costs: the paired interval, and a quick run that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dtmm.sweep import ResultsStore
from dtmm.table import read_table
from experiments import quantization
from experiments.experiment import Job
from experiments.quantization import FULL, KEYS, QUICK, VARIANTS, drop, main


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_interval_is_of_paired_answers() -> None:
    """100 images: 5 lost, 1 won; the other 94 say nothing."""
    before, after = np.zeros(100, bool), np.zeros(100, bool)
    before[:80], after[:80] = True, True
    after[:5], after[99] = False, True
    found = drop(before, after)
    deviation = np.sqrt((5 + 1) / 100 - 0.04**2)
    assert found["drop"] == pytest.approx(4)
    assert found["high"] - 4 == pytest.approx(100 * 1.96 * deviation / 10)
    assert drop(before, before) == {"drop": 0, "low": 0, "high": 0}


def test_the_full_plan_has_every_combination() -> None:
    settings = [{"ranges": "minmax", **s} for s in FULL.settings.values() if "qat_epochs" not in s]
    assert len({tuple(sorted(s.items())) for s in settings}) == 3 * 2 * 2
    assert any("qat_epochs" in s for s in FULL.settings.values())


def test_what_counts_most_comes_first() -> None:
    cells = list(FULL.cells())
    assert len(cells) == len(FULL.networks) * len(FULL.settings) * len(VARIANTS)
    on_all = [FULL.tested(cell["setting"]) is None for cell in cells]
    assert sum(on_all) == 4 * len(FULL.networks) * len(VARIANTS)
    assert on_all == sorted(on_all, reverse=True)
    assert [cell["variant"] for cell in cells[:2]] == list(VARIANTS)


def test_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    table, about = read_table(tmp_path / "quantization.csv")
    assert len(table) == len(QUICK.settings) * len(VARIANTS) and about["missing"] == "nothing"
    dense = table[table["variant"] == "dense"]
    assert (dense["float_accuracy"] > 0.9).all() and (dense["drop"].abs() <= 2).all()
    few = table["setting"].str.contains("equalized")
    assert (table["images"] == np.where(few, 50, 100)).all() and (
        table["noisiest_sqnr_db"] > 15
    ).all()
    layers, _ = read_table(tmp_path / "quantization_layers.csv")
    assert layers.groupby(KEYS).ngroups == len(table)
    assert (layers.groupby(KEYS)["sqnr_db"].min().round(2) > 15).all()
    for name in ("quantization.pdf", "quantization.png", "quantization.tex"):
        assert (tmp_path / name).is_file()

    # A rerun measures nothing again.
    monkeypatch.setattr(quantization.Bench, "measure", None)
    assert CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)]).exit_code == 0
    again, _ = read_table(tmp_path / "quantization.csv")
    assert again.equals(table)


def test_what_a_store_has_stands_in_the_table_though_cells_before_it_lack(tmp_path: Path) -> None:
    """Killed in its second cell, and given the last one's result: the table has both, in order."""
    store = tmp_path / "quantization.jsonl"
    cells = list(QUICK.cells())
    bench = quantization.Bench(QUICK, *QUICK.networks[0], tmp_path)
    row = {"drop": 0.5, "images": 100, "tensors": [{"tensor": "x", "sqnr_db": 30.0}]}
    with ResultsStore(store, "experiments.quantization.measured") as results:
        results.add(bench.point(cells[-1]), row)

    def killed(self: quantization.Bench, variant: str, setting: str) -> dict[str, object]:
        if (variant, setting) == (cells[1]["variant"], cells[1]["setting"]):
            raise KeyboardInterrupt
        return {**row, "drop": 0.25}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(quantization.Bench, "measure", killed)
        quantization.run(Job(tmp_path, quick=True))
    table, about = read_table(tmp_path / "quantization.csv")
    assert table["drop"].to_list() == [0.25, 0.5]
    assert table["setting"].to_list() == [cells[0]["setting"], cells[-1]["setting"]]
    assert about["missing"].count(";") == len(cells) - 3
