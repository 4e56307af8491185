"""`dtmm runs`: what finished and unfinished runs look like side by side, and how it fails."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dtmm.cli import cli
from dtmm.errors import ConfigError, DataError
from dtmm.table import read_table

STEPS = [{"name": "stem", "cycles": 3000.0}, {"name": "classifier", "cycles": 1000.0}]
REPORT: dict[str, Any] = {
    "model": "tiny_resnet",
    "dataset": "digits",
    "mode": "dtmm",
    "dense": {"accuracy": 0.95, "flash": {"weights": 4096, "code": 1024}, "layers": STEPS},
    "dtmm": {
        "accuracy": 0.9,
        "cycles": 4000.0,
        "flash": {"weights": 1024, "code": 1024},
        "sram": {"arena": 512},
        "layers": STEPS,
    },
    "schedule": {"loss": 0.25, "solver": "highs", "gap": 0.0},
    "provenance": {"cycle_model": "m55-v1/llvm-19.1.7"},
}


def write(folder: Path, report: dict[str, Any] | None, stages: tuple[str, ...] = ()) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("run: {}\n")
    (folder / "stages.json").write_text(json.dumps({stage: {} for stage in stages}))
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs, one of them by a mode without a schedule, and one that was stopped."""
    write(tmp_path / "first", REPORT)
    other = copy.deepcopy(REPORT) | {"mode": "chip", "schedule": None}
    other["dtmm"]["accuracy"] = 0.8
    write(tmp_path / "deep" / "second", other)
    write(tmp_path / "stopped", None, ("network", "importance"))
    return tmp_path


def call(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["runs", "--folder", str(folder), *arguments])


def test_all_runs_as_json(runs: Path) -> None:
    rows = {row["run"]: row for row in json.loads(call(runs, "--json").stdout)}
    assert rows.keys() == {"first", "deep/second", "stopped"}
    first = rows["first"]
    assert (first["flash"], first["sram"], first["cycles"]) == (2048, 512, 4000)
    assert first["accuracy_change"] == pytest.approx(-0.05)
    assert rows["deep/second"]["estimated_loss"] is None
    assert rows["stopped"]["stage"] == "importance"


def test_the_table_for_people(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = call(runs).stdout
    assert "90.00%" in text and "-5.00 " in text and "highs, gap 0.00%" in text
    assert "as far as importance" in text


def test_two_runs_drawn_over_each_other(runs: Path, tmp_path: Path) -> None:
    figure, table = tmp_path / "figures" / "both", tmp_path / "runs.csv"
    done = call(runs, "first", str(runs / "deep" / "second"), "--plot", str(figure),
                "--csv", str(table))  # fmt: skip
    assert done.exit_code == 0, done.output
    assert figure.with_suffix(".png").stat().st_size > 10_000
    assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    rows, about = read_table(table)
    assert list(rows["accuracy"]) == [0.9, 0.8]
    assert about["unit"].startswith("bytes")


def test_failures(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, arguments, kind, message in (
        (runs, ["third"], ConfigError, "'third' is no run folder"),
        (runs, ["third"], ConfigError, "deep/second"),
        (tmp_path / "empty", [], ConfigError, "no run under"),
        (runs, ["stopped", "--plot", "x.png"], ConfigError, "report to draw"),
    ):
        error = call(folder, *arguments).exception
        assert isinstance(error, kind) and message in str(error)
    (runs / "first" / "report.json").write_text("{")
    error = call(runs).exception
    assert isinstance(error, DataError) and "first/report.json is not JSON" in str(error)
