"""The scheduler's verbs: solvers, schedule INSTANCE, pareto, explain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dtmm import artifact
from dtmm.cli import cli
from dtmm.cli.scheduler import FROM_SCORES, LOSS_MODEL_NAMES
from dtmm.errors import ArtifactError, ConfigError, DtmmError, InfeasibleError
from dtmm.scheduler import METRICS, Problem, Schedule, all_solvers, solve
from dtmm.scheduler.pool import Pool
from dtmm.table import read_table

INSTANCES = Path(__file__).parents[2] / "benchmarks" / "instances"
TINY = INSTANCES / "tiny_resnet_2x3_s0.dtmm"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> str:
    """What a verb prints on stdout."""
    given = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli, given, catch_exceptions=False).stdout


def as_json(*arguments: object) -> Any:
    """What it prints with --json."""
    return json.loads(run(*arguments, "--json"))


def test_solvers() -> None:
    found = {row["name"]: row for row in as_json("solvers")}
    assert found.keys() == all_solvers().keys()
    assert found["highs"]["exact"]
    assert found["highs"]["pool"]
    assert not found["greedy"]["exact"]
    for name, solver in all_solvers().items():
        assert found[name]["version"] == solver.version()
        assert set(found[name]["objectives"]) == solver.objectives
    text = run("solvers")
    assert "optimum, proven" in text
    assert "a schedule" in text


def test_schedule_of_an_instance(folder: Path) -> None:
    problem = artifact.load(TINY, Problem)
    found = as_json("schedule", TINY, "--solver", "highs", "--gap", "1e-6", "--out", "best.dtmm")
    truth = solve(problem, "highs", 1e-6)
    assert found["objective"] == pytest.approx(truth.objective)
    assert found["status"] == "optimal"
    assert artifact.load("best.dtmm", Schedule).channels == dict(truth.channels)
    text = run("schedule", TINY)
    for layer in problem.layers:
        assert layer.name in text
    assert "optimal" in text


def test_budgets_of_an_instance_can_be_changed(folder: Path) -> None:
    loose = as_json("schedule", TINY, "--flash", "1MiB", "--max-loss", "0.5")
    assert loose["objective"] < as_json("schedule", TINY)["objective"]
    assert loose["loss"] > 0.2
    with pytest.raises(InfeasibleError, match="smallest feasible flash"):
        run("schedule", TINY, "--flash", "12KiB")


def test_pool(folder: Path) -> None:
    found = as_json("schedule", TINY, "--pool", "3", "--differ", "2", "--out", "pool.dtmm")
    objectives = [schedule["objective"] for schedule in found["schedules"]]
    assert objectives == sorted(objectives)
    assert len(artifact.load("pool.dtmm", Pool).schedules) == len(objectives)
    assert "differences" in run("schedule", TINY, "--pool", "3")
    with pytest.raises(ConfigError, match="cannot provide a pool"):
        run("schedule", TINY, "--pool", "3", "--solver", "greedy")


def test_schedule_is_still_a_stage(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["schedule", "--help"])
    for option in ("--name", "--max-loss", "--pool", "INSTANCE", "SECTION.KEY=VALUE"):
        assert option in result.output
    with pytest.raises(ConfigError, match=r"finetune\.epoch"):
        run("schedule", "finetune.epoch=3")
    with pytest.raises(ConfigError, match=r"schedule\.gap"):
        run("schedule", "--gap", "7")
    with pytest.raises(ConfigError, match="--pool and --out need an INSTANCE"):
        run("schedule", "--pool", "3")
    assert not (folder / "runs").exists()


def test_pareto(folder: Path) -> None:
    shown = as_json("pareto", TINY, "--points", "5", "--budget", "flash=24KiB")
    assert shown["csv"] == "tiny_resnet_2x3_s0_pareto.csv"
    [front] = shown["fronts"]
    assert front["axes"] == ["latency", "loss"]
    latencies = [point["schedule"]["latency"] for point in front["points"]]
    assert latencies == sorted(latencies)
    assert len(latencies) == 5
    assert all(point["schedule"]["flash"] <= 24 * 1024 for point in front["points"])
    # the instance's own loss budget does not cut the front off
    assert max(point["schedule"]["loss"] for point in front["points"]) > 0.2
    table, about = read_table(folder / shown["csv"])
    assert table["latency"].tolist() == pytest.approx(latencies)
    assert about["axes"] == "latency, loss"
    for suffix in (".pdf", ".png"):
        assert (folder / shown["csv"]).with_suffix(suffix).stat().st_size > 1000


def test_fronts_of_several_solvers_and_sources_in_one_figure(folder: Path) -> None:
    shutil.copy(TINY, "other.dtmm")
    text = run("pareto", TINY, "other.dtmm", "--solver", "highs", "--solver", "greedy",
               "--points", "3", "--out", "both.csv")  # fmt: skip
    table, _ = read_table(folder / "both.csv")
    series = [f"{name}, {s}" for name in (TINY.stem, "other") for s in ("highs", "greedy")]
    assert table["series"].unique().tolist() == series
    assert "no bound" in text
    assert (folder / "both.png").is_file()


def test_three_axes(folder: Path) -> None:
    shown = as_json("pareto", TINY, "--x", "flash", "--z", "latency", "--points", "6")
    assert shown["fronts"][0]["axes"] == ["flash", "loss", "latency"]
    assert len(shown["fronts"][0]["points"]) > 2


def test_a_run_folder_is_a_source(folder: Path) -> None:
    run_folder = folder / "runs" / "mine"
    run_folder.mkdir(parents=True)
    shutil.copy(TINY, run_folder / "problem.dtmm")
    for source in ("mine", "runs/mine", str(run_folder)):
        shown = as_json("pareto", source, "--points", "2")
        assert Path(shown["csv"]).resolve() == run_folder / "pareto.csv"
        assert shown["fronts"][0]["series"] == "mine"


def test_explain(folder: Path) -> None:
    found = as_json("explain", TINY, "--step", "flash=2KiB")
    assert found["feasible"]
    prices = {price["metric"]: price for price in found["prices"]}
    assert prices.keys() == {"flash", "sram", "loss"}
    assert prices["flash"]["step"] == 2048
    assert prices["loss"]["looser"]["saved"] >= 0
    assert prices["sram"]["tighter"]["objective"] is None
    text = run("explain", TINY)
    assert "no fit" in text
    assert "kcycles" in text


def test_explain_what_does_not_fit(folder: Path) -> None:
    given = ("explain", TINY, "--budget", "flash=18KiB", "--budget", "loss=0.02")
    found = as_json(*given)
    assert not found["feasible"]
    together = {row["metric"]: row["together"] for row in found["budgets"]}
    sizes = ("--flash", int(together["flash"]), "--sram", int(together["sram"]))
    run("schedule", TINY, *sizes, "--max-loss", together["loss"] + 1e-6)
    assert found["smallest_sum_of_relaxations"] > 0
    text = run(*given)
    assert "nothing fits" in text
    assert "never" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pareto", "nowhere"), "'nowhere' is no instance file"),
        (("explain",), "'demo' is no instance file"),
        (("pareto", TINY, "--budget", "flash"), "expected METRIC=VALUE"),
        (("pareto", TINY, "--budget", "energy=3"), "expected METRIC=VALUE"),
        (("pareto", TINY, "--budget", "flash=lots"), "budget flash: 'lots' is not a size"),
        (("pareto", TINY, "--budget", "latency=-1"), "'-1' is not a latency"),
        (("pareto", TINY, "--solver", "gurubi"), "solver 'gurubi' is unknown"),
        (("pareto", TINY, "--x", "loss"), "expected different ones"),
        (("explain", TINY, "--step", "flash"), "expected METRIC=VALUE"),
        (("explain", TINY, "--solver", "greedy"), "proves nothing"),
        (("schedule", TINY, "--name", "x"), "--name has no meaning"),
        (("schedule", TINY, "budget.flash=3KiB"), "budget.flash=3KiB has no meaning"),
        (("schedule", TINY, TINY), "expected one"),
        (("schedule", TINY, "--gap", "2"), "gap is 2"),
    ],
)
def test_refusals(folder: Path, arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(DtmmError) as caught:
        run(*arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_not_an_instance(folder: Path) -> None:
    (folder / "broken.dtmm").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="not a dtmm artifact"):
        run("schedule", "broken.dtmm")
    (folder / "runs" / "begun").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no problem\.dtmm in this run yet"):
        run("explain", "begun")


@pytest.mark.parametrize("verb", ["solvers", "schedule", "pareto", "explain"])
def test_help(verb: str) -> None:
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output


def test_metrics_are_what_the_help_says() -> None:
    text = CliRunner().invoke(cli, ["pareto", "--help"]).output
    assert all(metric in text for metric in METRICS)


def test_loss_models_are_settings_of_a_run(folder: Path) -> None:
    from dtmm.planning.loss_models import MEASURED, UNMEASURED
    from dtmm.pruning.registry import CRITERIA

    assert set(FROM_SCORES) <= CRITERIA.keys()
    others = set(LOSS_MODEL_NAMES) - set(FROM_SCORES)
    assert others == (UNMEASURED.keys() | MEASURED.keys()) - {"scores"}
    with pytest.raises(ConfigError, match=r"importance\.criterion=fisher has no meaning"):
        run("schedule", TINY, "--loss-model", "fisher")


def test_a_latency_table_replaces_only_a_runs(folder: Path) -> None:
    with pytest.raises(ConfigError, match="is an instance: a latency table can replace only"):
        run("pareto", TINY, "--latency", "mine.csv")
