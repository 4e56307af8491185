"""The scheduler's instances and their benchmark: formulas by hand, files, bounds, rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.instance_costs import conv_cycles
from benchmarks.instances import LIBRARY, Grid, instance
from benchmarks.instances import main as write_instances
from benchmarks.scheduler import (
    HERE,
    RESULTS,
    improved,
    known_bounds,
    main,
    merged,
    render,
    with_ratios,
)
from benchmarks.scheduler_graphs import GRAPHS
from dtmm import artifact
from dtmm.errors import ConfigError
from dtmm.planning.nouns import Buffer
from dtmm.scheduler import Problem, evaluate, solve, validate
from dtmm.table import read_table

FILES = sorted((HERE / "instances").glob("*.dtmm"))
CONVOLUTIONS = {
    "tiny_resnet": 6, "vgg11": 10, "resnet12": 12, "squeezenet": 26, "mobilenet_v1_025": 14,
    "residual52": 52, "residual204": 204, "residual604": 604,
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str) -> None:
    graph = GRAPHS[name]()
    assert sum(op.kind == "conv" for op in graph.ops) == CONVOLUTIONS[name]
    made = {"image"} | {op.output for op in graph.ops}
    segments = {t.name for t in graph.tensors.values() if t.group in graph.concats}
    for op in graph.ops:
        assert set(op.inputs) <= made | segments
    for op in graph.ops:
        if op.kind == "add":
            first, second = (graph.tensors[name] for name in op.inputs)
            assert (first.group, first.height) == (second.group, second.height)
    for group, parts in graph.concats.items():
        assert graph.groups[group] == sum(graph.groups[part] for part in parts)


@pytest.mark.parametrize("name", [n for n in LIBRARY if "204" not in n and "604" not in n])
def test_instances_are_valid_and_budgets_matter(name: str) -> None:
    problem = LIBRARY[name].problem()
    validate(problem)
    assert artifact.fingerprint(problem) == artifact.fingerprint(LIBRARY[name].problem())
    dense = evaluate(problem, [0] * len(problem.groups), [0] * len(problem.layers))
    assert dense.flash > problem.budgets.flash
    assert dense.loss == 0


def test_large_instances_are_valid(full: bool) -> None:
    for name in LIBRARY:
        if "204" in name or ("604" in name and full):
            validate(LIBRARY[name].problem())


def test_tables_by_hand() -> None:
    """The third convolution of VGG-11: 64 filters of 3x3 on 16x16 pixels."""
    problem = instance("vgg11", Grid(12, 16))
    layer = problem.layers[2]
    inputs = problem.groups[layer.input_group].levels.tolist()
    outputs = problem.groups[layer.output_group].levels.tolist()
    assert (inputs, outputs) == ([32, 24, 16, 8], [64, 56, 48, 40, 32, 24, 16, 8])
    assert layer.kernels == ("conv_dense", *["conv_fwcs"] * 15)
    rest = 6.6 * 256 * 56 + 21 * 256 + 11_700
    assert layer.latency[0, 1, 0] == pytest.approx(2 * 256 * 56 * 9 * 2 + rest)
    kept = round(56 * 9 * np.linspace(1, 1 / 9, 16)[5])
    assert layer.filterlets[1, 5] == kept
    cycles = 2.6 * 256 * kept * 2 + 0.5 * 256 * kept + rest
    assert layer.latency[0, 1, 5] == pytest.approx(cycles)
    assert layer.flash[2, 1, 0] == 9 * 56 * 16 + 12 * 56  # dense rows, 12 bytes of parameters
    assert layer.scratch[0, 1, 5] == 2 * (9 + kept)
    step = next(step for step in problem.steps if step.layer == 2)
    source, target = Buffer(None, 32, 16, 16, 1, 16), Buffer(None, 64, 16, 16, 1, 16)
    assert step.groups[layer.input_group].tolist() == [source.bytes(c) for c in inputs]
    assert step.groups[layer.output_group].tolist() == [target.bytes(c) for c in outputs]


def test_loss_of_removing_everything_removable() -> None:
    """Scores sum to 1 nat: what is kept at the smallest choices makes up the difference."""
    problem = instance("resnet12", Grid(12, 16))
    for layer in problem.layers:
        table = np.where(layer.allowed, layer.loss, np.nan)[0]
        assert (np.diff(table, axis=1)[~np.isnan(np.diff(table, axis=1))] >= -1e-12).all()
        assert table[0, 0] == 0
    smallest = [len(group.levels) - 1 for group in problem.groups]
    sparsest = [
        int(np.flatnonzero(layer.allowed[smallest[layer.input_group], -1])[-1])
        for layer in problem.layers
    ]
    assert 0.7 < evaluate(problem, smallest, sparsest).loss < 1


def test_specialised_kernels_run_at_their_stride_only() -> None:
    problem = instance("resnet12", Grid(12, 4, specialised=True))
    for layer in problem.layers[1:]:
        inputs = problem.groups[layer.input_group].levels
        for k, kernel in enumerate(layer.kernels):
            stride = kernel.rpartition("_c")[2]
            runs = np.array([not stride.isdigit() or -(-c // 16) * 16 == int(stride)
                             for c in inputs])  # fmt: skip
            assert (layer.allowed[:, 0, k] == runs).all() or not layer.allowed[:, 0, k].any()
    one = [np.array([32])] * 2
    plain, special = (conv_cycles(k, 9, 64, *one, 9) for k in ("conv_fwcs", "conv_fwcs_c64"))
    assert special[0] == pytest.approx(0.9 * plain[0])


def test_committed_files_are_what_the_code_makes(tmp_path: Path) -> None:
    assert {path.stem for path in FILES} <= LIBRARY.keys()
    assert len(FILES) >= 3
    assert sum(path.stat().st_size for path in FILES) < 300_000
    for path in FILES:
        assert artifact.describe(path)["fingerprint"] == artifact.fingerprint(
            LIBRARY[path.stem].problem()
        )
    name = FILES[0].stem
    done = CliRunner().invoke(write_instances, [str(tmp_path), "--only", name])
    assert done.exit_code == 0, done.output
    assert artifact.load(tmp_path / FILES[0].name, Problem).name.startswith("resnet12")


def test_bounds_hold(full: bool) -> None:
    """Every instance has a bound, and solving agrees where that is quick."""
    known = known_bounds().set_index(["network", "grid", "seed"])
    for entry in LIBRARY.values():
        row = known.loc[(entry.network, entry.grid.name, entry.seed)]
        assert 0 < row["bound"] <= row["objective"] * (1 + 1e-9)
        assert row["gap"] <= 1.01e-4
        if full or entry.network in ("tiny_resnet", "mobilenet_v1_025"):
            problem = entry.problem()
            solver = "highs" if len(problem.layers) < 60 else "lagrangian"
            found = solve(problem, solver, 1e-4)
            assert found.objective >= row["bound"] * (1 - 1e-9)
            assert found.bound <= row["objective"] * (1 + 1e-9)
            assert found.objective == pytest.approx(row["objective"], rel=2.1e-4)


def test_the_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "kept.csv"
    done = CliRunner().invoke(
        main, ["--only", "tiny_resnet", "--json", "--time-limit", "2", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    rows = {row["solver"]: row for row in json.loads(done.stdout)}
    assert {"lagrangian", "highs", "cbc", "greedy", "uniform"} <= rows.keys()
    for solver in ("lagrangian", "highs", "cbc"):
        assert rows[solver]["status"] == "optimal"
        assert rows[solver]["ratio"] == pytest.approx(1, abs=2e-4)
    assert rows["greedy"]["ratio"] >= 1
    assert rows["uniform"]["status"] in ("feasible", "nothing found")
    table, about = read_table(out)
    assert len(table) == len(rows)
    assert {"machine", "commit", "threads"} <= about.keys()
    shown = CliRunner().invoke(main, ["--report", "--out", str(out)])
    assert "tiny_resnet" in shown.output


def test_kept_results_cover_what_was_promised() -> None:
    table, _ = read_table(RESULTS)
    assert set(table["network"]) >= set(CONVOLUTIONS) - {"tiny_resnet"}
    best = table[table["solver"] == "lagrangian"]
    assert (best["status"] == "optimal").all()
    assert (best["gap"] <= 1e-4 + 1e-8).all()
    assert (table["ratio"].dropna() >= 1 - 1e-4).all()


def test_better_bounds_are_kept() -> None:
    known = pd.DataFrame(
        [{"network": "n", "grid": "g", "seed": 0, "objective": 10.0, "bound": 8.0, "gap": 0.2,
          "solver": "a", "version": "1"}]
    )  # fmt: skip
    rows = [
        {"solver": "b", "objective": 9.0, "bound": 0.0},
        {"solver": "c", "objective": 11.0, "bound": 8.5},
        {"solver": "d", "objective": None, "bound": None},
    ]
    blank = dict.fromkeys(
        (
            "groups",
            "layers",
            "combinations",
            "seconds",
            "cpu_seconds",
            "time_limit",
            "status",
            "gap",
        ),
        0,
    )
    key = {"network": "n", "grid": "g", "seed": 0, "version": "2"}
    table = with_ratios([{**blank, **key, **row} for row in rows], known)
    assert table["ratio"].tolist()[:2] == [1, 11 / 9]
    [better] = improved(known, table).to_dict("records")
    assert (better["objective"], better["bound"], better["solver"]) == (9, 8.5, "b")
    assert better["gap"] == pytest.approx(0.5 / 9)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="unknown network 'vgg19'"):
        instance("vgg19")
    for given in (["--only", "vgg19"], ["--solver", "gurubi"]):
        done = CliRunner().invoke(main, given)
        assert done.exit_code == 1
        assert "unknown" in done.output


def test_rows_are_replaced_in_the_kept_table() -> None:
    key = {"network": "vgg11", "grid": "12x16", "seed": 0}
    kept = pd.DataFrame([{**key, "solver": s, "seconds": 1.0} for s in ("lagrangian", "greedy")])
    new = pd.DataFrame([{**key, "solver": s, "seconds": 2.0} for s in ("greedy", "highs")])
    found = merged(kept, new)
    assert found["solver"].tolist() == ["lagrangian", "highs", "greedy"]
    assert found["seconds"].tolist() == [1.0, 2.0, 2.0]


def test_markdown() -> None:
    about = {"machine": "a machine", "gap": "0.0001"}
    text = render(read_table(RESULTS)[0], about)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(LIBRARY)
    assert len({line.count("|") for line in lines}) == 1
