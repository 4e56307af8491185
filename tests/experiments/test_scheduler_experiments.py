"""The scheduler's experiments: quick runs, their numbers, figures from the CSV alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.instances import Grid, Shares, instance
from dtmm.scheduler.evaluate import Decision, unit_losses
from dtmm.table import read_table
from experiments import pareto_fronts, scheduler_comparison
from experiments.scheduler_comparison import LOOSE, TIGHT, best_within, threshold_optima


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick comparison."""
    return _quick(scheduler_comparison, tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick fronts."""
    return _quick(pareto_fronts, tmp_path_factory.mktemp("fronts"))


def _quick(experiment, folder: Path) -> Path:
    done = CliRunner().invoke(experiment.main, ["--quick", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def test_nobody_beats_the_optimum(comparison: Path) -> None:
    table, about = read_table(comparison / "scheduler_comparison.csv")
    assert {"commit", "instances"} <= about.keys()
    assert set(table["scenario"]) == {LOOSE, TIGHT}
    found = table.dropna(subset=["ratio"])
    assert {"lagrangian", "halp", "greedy"} <= set(found["solver"])
    assert (found["ratio"] >= 1 - scheduler_comparison.GAP).all()
    assert (found["loss"] <= found["loss_budget"] * (1 + 1e-7)).all()
    exact = found[found["solver"] == "lagrangian"]
    assert (exact["status"] == "optimal").all()
    assert (exact["ratio"] == 1).all()
    for row in found.to_dict("records"):
        key = (exact["scenario"] == row["scenario"]) & (exact["loss_budget"] == row["loss_budget"])
        assert row["ratio"] == pytest.approx(row["latency"] / exact[key]["latency"].iloc[0])


def test_the_rule_of_the_paper_is_a_threshold_on_units() -> None:
    problem = instance("tiny_resnet", Grid(2, 3), 0, Shares(1.0, 1.0, None))
    found = list(threshold_optima(problem, 5))
    assert len(found) == 5
    latencies = [each.latency for each in found]
    assert latencies == sorted(latencies, reverse=True)
    highest = [
        max(score for _, score in unit_losses(problem, Decision(f.levels, f.options)))
        for f in found
    ]
    assert highest == sorted(highest)
    assert highest[0] == 0
    budget = found[2].loss
    assert best_within(found, budget).latency == min(f.latency for f in found if f.loss <= budget)
    assert best_within(found[-1:], 0.0) is None


def test_fronts(fronts: Path) -> None:
    table, _ = read_table(fronts / "pareto_fronts.csv")
    exact = table[table["series"] == "exact"].sort_values("latency")
    assert len(exact) == pareto_fronts.QUICK_POINTS
    assert exact["loss"].is_monotonic_decreasing
    assert (exact["gap"] <= pareto_fronts.GAP + 1e-8).all()
    shown = pareto_fronts.summary(table).set_index("solver")
    assert shown.loc["exact", "latency_over_exact"] == pytest.approx(1)
    assert shown.loc["greedy", "points"] >= 2
    family, about = read_table(fronts / "pareto_fronts_flash.csv")
    assert about["network"] == "resnet12"
    limits = family["series"].str.split().str[0].astype(float)
    assert (family["flash"] / 1024 <= limits + 0.5).all()


@pytest.mark.parametrize("name", ["scheduler_comparison", "pareto_fronts"])
def test_figures_come_from_the_csv_alone(name: str, comparison: Path, fronts: Path) -> None:
    experiment = {"scheduler_comparison": scheduler_comparison, "pareto_fronts": pareto_fronts}
    folder = comparison if name == "scheduler_comparison" else fronts
    made = [path for path in folder.iterdir() if path.suffix in (".png", ".tex")]
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".pdf", ".png", ".tex"}
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    done = CliRunner().invoke(experiment[name].main, ["--figures-only", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert [path.read_bytes() for path in made] == before
