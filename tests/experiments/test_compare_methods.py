"""The comparison of pruning methods: its statistics against hand-made cases, and a tiny run."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import CliRunner

from dtmm.errors import MeasurementError
from dtmm.table import read_table
from experiments import compare_methods, matched, methods
from experiments.cells import read_cells
from experiments.compare_methods import QUICK, Plan, main, missing, summary
from experiments.compare_methods_table import (
    BEGIN,
    BEGIN_MATCHED,
    BEGIN_PAIRED,
    BEGIN_SCHEDULES,
    DOCUMENT,
    END,
    render,
    render_matched,
    render_paired,
    render_schedules,
)
from experiments.compare_schedules import chosen
from experiments.experiment import RESULTS, Job
from experiments.matched import Comparison, Need, need, paired, right_bits

IMAGES = 400


def row(method: str, share: float, flash: float, right: np.ndarray, seed: int = 0) -> dict:
    return {
        "task": "t",
        "model": "m",
        "method": method,
        "share": share,
        "seed": seed,
        "status": "measured",
        "images": right.size,
        "accuracy": right.mean(),
        "flash": flash,
        "cycles": 10 * flash,
        "right": b64encode(np.packbits(right).tobytes()).decode(),
    }


def right(count: int, images: int = IMAGES) -> np.ndarray:
    """The first `count` images right."""
    return np.arange(images) < count


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matched, "SAMPLES", 40)


@pytest.fixture
def cells() -> pd.DataFrame:
    """DTMM reaches one point below the dense 90 % at 1000 bytes, CHIP halfway between 1000 and
    4000 in the logarithm, PatDNN above with its smallest network."""
    return pd.DataFrame(
        [
            row("dense", 1.0, 16000, right(360)),
            row("dtmm", 0.1, 500, right(320)),
            row("dtmm", 0.2, 1000, right(356)),
            row("chip", 0.1, 1000, right(350)),
            row("chip", 0.3, 4000, right(362)),
            row("patdnn", 0.3, 1500, right(358)),
            row("patdnn", 0.5, 3000, right(359)),
        ]
    )


def test_a_curve_is_read_where_it_first_reaches_the_target() -> None:
    sizes, accuracies = np.array([100.0, 400.0, 900.0]), np.array([0.8, 0.9, 0.95])
    assert need(sizes, accuracies, 0.85) == Need(pytest.approx(200.0), bound=False)
    assert need(sizes, accuracies, 0.9) == Need(pytest.approx(400.0), bound=False)
    assert need(sizes, accuracies, 0.7) == Need(100.0, bound=True)


def test_needs_at_matched_accuracy(cells: pd.DataFrame) -> None:
    comparison = Comparison(cells)
    assert comparison.need("dtmm", "flash") == Need(pytest.approx(1000), bound=False)
    assert comparison.need("chip", "flash") == Need(pytest.approx(2000), bound=False)
    assert comparison.need("patdnn", "flash") == Need(1500.0, bound=True)
    result = comparison.versus("cycles", "dtmm", "chip")
    assert result is not None
    assert result["percent"] == pytest.approx(-50, abs=0.01)
    assert result["low"] <= result["percent"] <= result["high"]
    other = comparison.versus("flash", "dtmm", "patdnn")
    assert other is not None and other["rival_is_upper_bound"]
    assert comparison.versus("flash", "dtmm", "stripe") is None


def test_accuracies_are_averaged_over_seeds(cells: pd.DataFrame) -> None:
    """A second seed of CHIP, four images better at 1000 bytes: it then needs less."""
    again = [
        row("chip", 0.1, 1000, right(354), 1),
        row("chip", 0.3, 4000, right(362), 1),
        row("dtmm", 0.1, 500, right(320), 1),
        row("dtmm", 0.2, 1000, right(356), 1),
    ]
    more = pd.DataFrame(again)
    comparison = Comparison(pd.concat([cells, more], ignore_index=True))
    expected = need(np.array([1000.0, 4000.0]), np.array([352, 362]) / IMAGES, 356 / IMAGES)
    assert comparison.need("chip", "flash") == Need(pytest.approx(expected.value), bound=False)
    first = comparison.need("chip", "flash", times=np.array([1, 0]))
    assert first == Need(pytest.approx(2000), bound=False)


def test_paired_test_is_mcnemars() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.random(IMAGES) < 0.9, rng.random(IMAGES) < 0.8
    table = pd.DataFrame([row("dtmm", 0.1, 1, mine), row("chip", 0.1, 1, theirs)])
    (found,) = paired(table, "dtmm").to_dict("records")
    won, lost = (mine & ~theirs).sum(), (theirs & ~mine).sum()
    assert found["difference_points"] == pytest.approx(100 * (mine.mean() - theirs.mean()))
    assert found["p_value"] == pytest.approx(scipy.stats.binomtest(won, won + lost).pvalue)
    spread = (mine.astype(float) - theirs).std() / np.sqrt(IMAGES)
    assert found["high"] - found["low"] == pytest.approx(100 * 2 * 1.96 * spread, rel=1e-6)


def test_bits_survive_packing() -> None:
    bits = np.random.default_rng(0).random((3, 13)) < 0.5
    table = pd.DataFrame([row("dtmm", 0.1, 1, each) for each in bits])
    assert np.array_equal(right_bits(table), bits)


def test_missing_cells_are_named_and_compared_with_nothing(cells: pd.DataFrame) -> None:
    plan = Plan(tasks=(("t", "m"),), shares=(0.1,), seeds=(0,))
    absent = missing(plan, cells)
    assert "t m patdnn 0.1 0: not measured" in absent
    assert not any(" dtmm 0.1" in line or " chip 0.1" in line for line in absent)
    found = summary(plan, cells[cells["method"] != "chip"])
    entry = found["tasks"]["t m"]
    assert entry["size_vs_chip"] is None
    assert entry["size_vs_patdnn"]["percent"] < 0
    assert found["missing"] == missing(plan, cells[cells["method"] != "chip"])
    few = cells[(cells["method"] != "chip") | (cells["share"] == 0.1)]  # a single size is no curve
    assert summary(plan, few)["tasks"]["t m"]["size_vs_chip"] is None
    assert found["paper"]["latency_vs_patdnn"] == -68.70


def test_cells_that_cannot_be_so_small_stay_out_of_the_statistics(cells: pd.DataFrame) -> None:
    plan = Plan(tasks=(("t", "m"),), shares=(0.1,), seeds=(0,))
    cannot = {**row("patdnn", 0.1, np.nan, right(0)), "status": "infeasible", "right": ""}
    found = summary(plan, pd.concat([cells, pd.DataFrame([cannot])], ignore_index=True))
    assert "t m patdnn 0.1 0: infeasible" in found["missing"]
    assert found["tasks"]["t m"]["size_vs_patdnn"]["rival"] == 1500


def test_a_tiny_run(toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods end to end; the rerun measures nothing, the summary names the rest."""
    some = {name: methods.METHODS[name] for name in ("unstructured",)}
    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", {**some, "dtmm": methods.METHODS["chip"]})
        done = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    cells, provenance = read_cells(tmp_path / "compare_methods.csv")
    assert set(cells["method"]) == {"dense", "unstructured", "dtmm"}
    measured = cells[cells["status"] == "measured"].set_index("method")
    budget = QUICK.shares[0] * measured.loc["dense", "flash"]
    assert 0.6 * budget < measured.loc["unstructured", "flash"] <= 1.01 * budget
    assert "conv_csr" in measured.loc["unstructured", "kernels"]
    assert "cycle_model" in provenance

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", {**some, "dtmm": methods.METHODS["chip"]})
        patch.setattr(methods, "measure", never)
        again = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert again.exit_code == 0, again.output
    assert read_cells(tmp_path / "compare_methods.csv")[0].equals(cells)
    assert (tmp_path / "compare_methods.pdf").is_file()
    shown = CliRunner().invoke(main, ["--quick", "--summary", "--json", "--out", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert "digits tiny_resnet patdnn 0.9 0: not measured" in found["missing"]
    assert found["tasks"]["digits tiny_resnet"]["size_vs_patdnn"] is None

    task = methods.load_task("digits", "tiny_resnet", str(tmp_path / "compare_methods_work"))
    what = chosen(task, "dtmm", QUICK.shares[0], round(budget))
    assert what["flash"] <= budget and what["reestimated_loss"] < what["raw_loss"] + 0.5
    assert "stem.conv 8/8 1.00" in what["kept"]


def test_the_document_holds_the_committed_tables() -> None:
    cells, _ = read_cells(RESULTS / "compare_methods.csv")
    schedules, _ = read_table(RESULTS / "compare_schedules.csv")
    tests, _ = read_table(RESULTS / "compare_methods_paired.csv")
    averages, _ = read_table(RESULTS / "overall_averages.csv", text=("status",))
    for begin, text in (
        (BEGIN, render(cells)),
        (BEGIN_PAIRED, render_paired(tests)),
        (BEGIN_MATCHED, render_matched(averages)),
        (BEGIN_SCHEDULES, render_schedules(schedules)),
    ):
        between = DOCUMENT.read_text().split(begin)[1].split(END)[0]
        assert between.strip() == text.strip()


def test_a_failing_cell_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(method: str, **_: object) -> dict:
        if method == "chip":
            raise MeasurementError("the device is on fire")
        made = row(method, 1, 100, right(10))
        return {key: made[key] for key in made if key not in compare_methods.KEYS}

    monkeypatch.setattr(methods, "cell", fake)
    compare_methods.run(Job(tmp_path, quick=True))
    cells, _ = read_cells(tmp_path / "compare_methods.csv")
    assert set(cells["method"]) == {"dense", *methods.METHODS} - {"chip"}
    assert "the device is on fire" in capsys.readouterr().err
