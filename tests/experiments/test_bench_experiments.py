"""Experiments over a run folder: quick runs on the tiny network, and their arithmetic by hand."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.instances import Grid, Shares, instance
from dtmm.errors import DataError
from dtmm.latency.code_size import CodeSize
from dtmm.latency.cost_models import analytic_model
from dtmm.network.ir import Conv2D
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.scheduler import Problem, evaluate, solve
from dtmm.table import read_table
from experiments import (
    latency_fidelity,
    memory_components,
    overall,
    overheads,
    pruned_share,
    scheduler_gain,
    trained_fronts,
    transfer,
)
from experiments.bench import QUICK, settings
from experiments.compare_methods import read_cells
from experiments.experiment import RESULTS, Experiment, Job, Swap
from experiments.zero_loss import zero_loss_points, zero_loss_problem


def quick(experiment: Experiment, folder: Path, *arguments: str) -> pd.DataFrame:
    done = CliRunner().invoke(
        experiment.command(), ["--quick", "--out", str(folder), *arguments], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    table, about = read_table(folder / f"{experiment.name}.csv")
    assert {"commit", "unit"} <= about.keys()
    for suffix in ("pdf", "png", "tex"):
        assert (folder / f"{experiment.name}.{suffix}").is_file()
    return table


def test_exchanges_are_settings_of_a_run_of_their_own(tmp_path: Path) -> None:
    plain = settings(Job(tmp_path, quick=True))
    swap = Swap(solver="cbc", cost_model="mac", criterion="l2", loss_model="scores", device="qemu")
    other = settings(Job(tmp_path, True, swap))
    assert (other.schedule.solver, other.table.cost_model) == ("cbc", "mac")
    assert (other.importance.criterion, other.schedule.loss_model) == ("l2", "scores")
    assert other.run.name != plain.run.name
    assert plain.run.folder == str(tmp_path) and plain.model.name == "tiny_resnet"
    assert QUICK[0] == "model.name=tiny_resnet"


def test_pruned_share_counts_what_left(tmp_path: Path, toolchain: None) -> None:
    table = quick(pruned_share.EXPERIMENT, tmp_path, "--cost-model", "analytic",
                  "--solver", "cbc")  # fmt: skip
    assert table["solver"].str.startswith("cbc").all()
    assert (table["status"] == "optimal").all()
    assert (table["filterlets_removed"] >= table["filters_removed"] - 1e-9).all()
    assert (table["weights_removed"] >= table["filterlets_removed"] - 1e-9).all()
    assert table["filterlets_removed"].max() > 0
    _, about = read_table(tmp_path / "pruned_share.csv")
    assert about["exchanged cost_model"] == "analytic"


def test_a_layer_by_hand() -> None:
    dense = np.ones((4, 3, 3, 8))
    kept = np.ones((2, 3, 3, 4))
    kept[0, 0] = 0  # three of the 18 filterlets that the two filters have
    counts = pruned_share._counts(dense, kept)
    assert counts["filters_removed"] == 50
    assert counts["filterlets_removed"] == pytest.approx(100 * (1 - 15 / 36), abs=1e-3)
    assert counts["weights_removed"] == pytest.approx(100 * (1 - 15 * 4 / (36 * 8)), abs=1e-3)


def test_overall_reads_the_cells(tmp_path: Path) -> None:
    table = quick(overall.EXPERIMENT, tmp_path)
    cells, _ = read_cells(RESULTS / "compare_methods.csv")
    dense = table[(table["method"] == "dense") & (table["status"] == "measured")].iloc[0]
    assert dense["flash"] == cells[cells["method"] == "dense"]["flash"].iloc[0]
    assert (table["status"] == "not measured").any()


def test_overall_says_whether_a_difference_is_larger_than_the_spread() -> None:
    def cell(method: str, seed: int, accuracy: float) -> dict[str, object]:
        return {"task": "t", "model": "m", "method": method, "share": 0.1, "seed": seed,
                "status": "measured", "flash": 1, "cycles": 1, "sram": 1,
                "accuracy": accuracy}  # fmt: skip

    cells = pd.DataFrame(
        [cell("dtmm", 0, 0.90), cell("dtmm", 1, 0.92), cell("chip", 0, 0.90), cell("chip", 1, 0.93),
         cell("stripe", 0, 0.70), cell("stripe", 1, 0.71), cell("patdnn", 0, 0.90)]
    )  # fmt: skip
    found = overall.overall(cells).set_index("method")
    known = found[found["status"] == "measured"]["differs_from_dtmm"]
    assert known.to_dict() == {"dtmm": "", "chip": "no", "stripe": "yes", "patdnn": "one seed"}
    assert (found["status"] == "not measured").sum() == (5 * 3 + 2) * 5


def test_transfer_needs_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DTMM_MODELS", raising=False)
    with pytest.raises(DataError, match="DTMM_MODELS is not set, expected a folder"):
        transfer.models(Job(tmp_path, quick=False))


@pytest.mark.full
def test_transfer_packs_without_loss(tmp_path: Path, toolchain: None) -> None:
    [row] = quick(transfer.EXPERIMENT, tmp_path).to_dict("records")
    assert 0.3 < row["zero_filterlets"] / row["filterlets"] < 0.5
    assert row["cycles"] < row["dense_cycles"]
    assert row["scheduled_cycles"] <= 1.001 * row["cycles"]
    assert row["scheduled_cycles"] == pytest.approx(row["predicted_cycles"], rel=0.05)
    assert (row["estimated_loss"], row["solver_status"]) == (0, "optimal")


def test_memory_and_overheads_are_read_off_the_report(tmp_path: Path) -> None:
    flash = {"weights": 75, "index": 5, "parameters": 10, "code": 10}
    sram = {"arena": 30, "scratch": 6, "stack": 4}
    half = {name: size // 2 for name, size in flash.items()}
    report = {
        "dense": {"flash": flash, "sram": sram},
        "dtmm": {"flash": half, "sram": sram},
        "stage_seconds": {"network": 1.5, "finetune": 9.0},
    }
    table = memory_components.rows(report).set_index(["system", "memory", "component"])
    assert table.loc[("dense", "flash", "weights")].to_dict() == {"bytes": 75, "share": 0.75}
    assert table.loc[("dtmm", "sram", "scratch"), "share"] == 0.15
    assert table.groupby(["system", "memory"])["share"].sum().round(3).eq(1).all()
    (tmp_path / "network.dtmm").write_bytes(b"12345")
    (tmp_path / "tuned.dtmm").write_bytes(b"123")
    found = overheads.rows(report, tmp_path).set_index("stage")
    assert found["bytes"].to_dict() == {"network": 5, "finetune": 3}
    assert found["only_dtmm"].to_dict() == {"network": False, "finetune": True}


@pytest.mark.full
@pytest.mark.parametrize("experiment", [memory_components.EXPERIMENT, overheads.EXPERIMENT])
def test_a_whole_quick_run(experiment: Experiment, tmp_path: Path, toolchain: None) -> None:
    assert len(quick(experiment, tmp_path)) >= 9


def test_latency_errors_by_hand() -> None:
    table = pd.DataFrame(
        {"cost_model": ["twice"] * 3, "predicted": [2.0, 4.0, 8.0], "measured": [1.0, 2.0, 4.0]}
    )
    [row] = latency_fidelity.summary(table).to_dict("records")
    assert row["mean_error"] == row["worst_error"] == pytest.approx(100)
    assert row["scaled_error"] == pytest.approx(0)
    assert row["spearman"] == 1


@pytest.mark.full
def test_cost_models_foresee_whole_networks(tmp_path: Path, toolchain: None) -> None:
    table = quick(latency_fidelity.EXPERIMENT, tmp_path)
    found = latency_fidelity.summary(table).set_index("cost_model")
    assert found.loc["measured", "worst_error"] < 5
    assert found.loc["analytic", "worst_error"] < 10


def test_a_gain_is_compared_with_the_spread() -> None:
    def row(solver: str, latency: float, seed: int, accuracy: float) -> dict[str, object]:
        return {"share": 0.2, "solver": solver, "loss_budget": 1.0, "latency": latency,
                "seed": seed, "accuracy": accuracy}  # fmt: skip

    table = pd.DataFrame(
        [row("lagrangian", 10, 0, 0.90), row("lagrangian", 10, 1, 0.92),
         row("greedy", 15, 0, 0.91), row("greedy", 15, 1, 0.92),
         row("uniform", 20, 0, 0.60), row("uniform", 20, 1, 0.62),
         row("halp", 12, 0, 0.70)]
    )  # fmt: skip
    found = scheduler_gain.summary(table).set_index("solver")
    verdicts = found["larger_than_spread"].to_dict()
    assert verdicts == {"lagrangian": "", "greedy": "no", "uniform": "yes", "halp": "unknown"}
    assert found.loc["greedy", "over_optimum"] == 1.5
    assert found.loc["uniform", "difference"] == pytest.approx(-30)


@pytest.mark.full
def test_schedules_are_tuned_once(tmp_path: Path, toolchain: None) -> None:
    first = quick(scheduler_gain.EXPERIMENT, tmp_path)
    stores = list(tmp_path.glob("run_*/scheduler_gain.jsonl"))
    before = stores[0].read_bytes()
    again = quick(scheduler_gain.EXPERIMENT, tmp_path)
    assert stores[0].read_bytes() == before
    assert list(again["accuracy"].dropna()) == list(first["accuracy"].dropna())


def test_ranks_of_fronts_by_hand() -> None:
    """Loss 3, 2, 1: the first front is ordered as it says, of the other the best two are not;
    seeds are averaged first."""

    def row(front: str, point: int, seed: int, loss: float, tuned: float) -> dict[str, object]:
        return {"front": front, "point": point, "seed": seed, "estimated_loss": loss,
                "reestimated": -loss, "tuned": tuned, "accuracy": tuned}  # fmt: skip

    table = pd.DataFrame(
        [row("dense", 0, 0, np.nan, 0.9), row("a", 0, 0, 3, 0.5), row("a", 1, 0, 2, 0.7),
         row("a", 2, 0, 1, 0.6), row("a", 0, 1, 3, 0.5), row("a", 1, 1, 2, 0.6),
         row("a", 2, 1, 1, 0.8), row("b", 0, 0, 3, 0.5), row("b", 1, 0, 2, 0.7),
         row("b", 2, 0, 1, 0.6)]
    )  # fmt: skip
    found = trained_fronts.summary(table).set_index("front")
    assert found["tuned"].to_dict() == {"a": pytest.approx(1), "b": pytest.approx(0.5)}
    assert found["reestimated"].to_list() == [pytest.approx(1)] * 2
    assert found["seeds"].to_dict() == {"a": 2, "b": 1}


@pytest.mark.full
def test_a_front_is_carried_out_once(tmp_path: Path, toolchain: None) -> None:
    first = quick(trained_fronts.EXPERIMENT, tmp_path)
    points = first[first["front"] != "dense"]
    assert points["cycles"].is_monotonic_increasing
    assert points["estimated_loss"].is_monotonic_decreasing
    near = points["estimated_latency"] / points["cycles"]
    assert near.between(0.9, 1.1).all()
    assert (points["flash"] <= points["estimated_flash"]).all()
    assert (points["solver_status"] == "optimal").all()
    [store] = tmp_path.glob("run_*/trained_fronts.jsonl")
    before = store.read_bytes()
    assert quick(trained_fronts.EXPERIMENT, tmp_path).equals(first)
    assert store.read_bytes() == before


def test_a_model_that_knows_nothing_of_kernels_chooses_worse() -> None:
    problem = instance("tiny_resnet", Grid(2, 3), 0, Shares(1.0, 1.0, 0.2))
    flat = dataclasses.replace(
        problem,
        layers=tuple(dataclasses.replace(x, latency=-x.latency + x.latency.max())
                     for x in problem.layers),
    )  # fmt: skip

    class FakeBench:
        def fast_problem(self, share: float, slack: float) -> Problem:
            return problem

    found = latency_fidelity.choose(FakeBench(), {"measured": problem, "upside down": flat}, (0.5,))
    by_model = found.set_index("cost_model")["over_best"]
    assert by_model["measured"] == 1
    assert by_model["upside down"] > 1


def test_the_schedule_at_no_loss_is_the_best_of_all_kernels(tmp_path: Path) -> None:
    """Against every combination of options, by the problem's own tables and a rule of its own:
    only filterlets without a weight may go, and each filter keeps one."""
    packed = load_tflite(transfer.tiny_model(tmp_path / "tiny.tflite"))
    convs = [op for op in packed.ops if isinstance(op, Conv2D)]
    weights = {op.name: np.array(packed.params[op.weight]) for op in convs}
    last = max(convs, key=lambda op: packed.params[op.weight].shape[1])
    weights[last.name][0] = 0  # as where packing cannot leave a dead filter out
    packed = dataclasses.replace(
        packed, params={**packed.params, **{op.weight: weights[op.name] for op in convs}}
    )
    kernels = {point.kernel for point in zero_loss_points(packed)}
    problem = zero_loss_problem(
        packed, analytic_model(), CodeSize(dict.fromkeys(kernels, 100), shared=0)
    )
    found = solve(problem)
    assert (found.loss, found.status) == (0, "optimal")
    zero, allowed = 0, []
    for layer in problem.layers:
        alive = weights[layer.name].any(axis=3).sum(axis=(1, 2))
        needed = int(np.maximum(alive, 1).sum())
        counts, loss = layer.filterlets[0], layer.loss[0, 0]
        assert (loss[counts >= needed] == 0).all() and (loss[counts < needed] > 0).all()
        zero += counts.max() - needed
        allowed.append(np.flatnonzero(counts >= needed).tolist())
        assert needed in counts or len(counts) == 1
    assert zero > 50 and max(len(each) for each in allowed) >= 2
    levels = [0] * len(problem.groups)
    best = min(evaluate(problem, levels, each).latency for each in itertools.product(*allowed))
    assert found.latency == pytest.approx(best)
