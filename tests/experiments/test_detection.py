"""The detection experiment: a quick run from the checkpoint to the figure."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from dtmm.table import read_table
from experiments import detection


def test_quick(tmp_path: Path, toolchain: None) -> None:
    command = detection.EXPERIMENT.command()
    done = CliRunner().invoke(command, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table, about = read_table(tmp_path / "detection.csv", text=("method", "status"))
    assert about["test_images"] == "the first 50"
    assert table["method"].tolist() == ["dense", "dtmm"]
    assert (table["status"] == "measured").all()
    dense, small = (row for _, row in table.iterrows())
    assert 0.4 * dense["flash"] < small["flash"] <= 0.5 * dense["flash"]
    assert small["cycles"] < dense["cycles"]
    assert dense["map50"] > small["map50"] > 0.1
    assert abs(dense["map50"] - dense["float_map50"]) < 0.05  # int8 costs little
    assert (table["map"] < table["map50"]).all()
    for suffix in ("png", "pdf", "tex"):
        assert (tmp_path / f"detection.{suffix}").is_file()
