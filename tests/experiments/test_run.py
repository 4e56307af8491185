"""The runner: it knows every script, draws from committed tables, and fails well."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import dtmm
from dtmm.device.provenance import git_commit
from dtmm.scheduler import Schedule
from experiments.experiment import QUICK_RESULTS, RESULTS, Swap, results_folder, row_provenance
from experiments.run import NAMES, chosen_names, experiment, main


def test_every_script_is_listed() -> None:
    scripts = Path(__file__).parents[2].glob("experiments/*.py")
    have = {path.stem for path in scripts if "EXPERIMENT = " in path.read_text()}
    assert have - {"experiment"} == set(NAMES)
    rows = json.loads(CliRunner().invoke(main, ["--list", "--json"]).stdout)
    assert [row["name"] for row in rows] == list(NAMES)
    assert all(row["title"].endswith(".") or "?" in row["title"] for row in rows)


def test_committed_figures_come_from_committed_tables(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = CliRunner().invoke(main, ["all", "--figures-only", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for path in RESULTS.glob("*.tex"):
        assert (tmp_path / path.name).read_text() == path.read_text(), path.name
    assert {p.name for p in RESULTS.glob("*.p*")} <= {p.name for p in tmp_path.glob("*.p*")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--quick"], "unknown experiment 'nonsense', expected operator_latency"),
        ([], "name an experiment"),
        (["fwcs_forms"], "say --quick"),
        (
            ["scheduler_comparison", "--quick", "--cost-model", "mac"],
            "scheduler_comparison does not honour --cost-model mac, expected --solver",
        ),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["fwcs_forms", "--figures-only", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "fwcs_forms.csv" in done.output
    assert "1 of 1 failed: fwcs_forms" in done.output


def test_an_exchange_runs_who_honours_it_and_leaves_committed_results() -> None:
    swap = Swap(solver="greedy")
    chosen = chosen_names(["all"], swap)
    assert "scheduler_comparison" in chosen and "fwcs_forms" not in chosen
    assert results_folder(quick=False, swap=swap) == QUICK_RESULTS
    assert results_folder(quick=False, swap=Swap(executor="here")) == RESULTS


def test_an_exchange_that_nobody_honours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.run.NAMES", ("fwcs_forms", "transfer"))
    with pytest.raises(click.UsageError, match="no experiment honours --solver, --device"):
        chosen_names(["all"], Swap(solver="x", device="qemu"))


@pytest.mark.parametrize("name", ["x", "math:pi", "no_such_file.py:Solver", "math:floor"])
def test_a_solver_that_is_none_fails_in_a_line(name: str, tmp_path: Path) -> None:
    command = ["scheduler_comparison", "--quick", "--solver", name, "--out", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    [line] = [line for line in done.output.splitlines() if "FAILED" in line]
    assert f"solver {name}" in line.replace("'", "")


def test_the_script_itself_refuses_what_it_does_not_honour() -> None:
    done = CliRunner().invoke(experiment("fwcs_forms").command(), ["--quick", "--device", "fvp"])
    assert done.exit_code == 1
    assert "does not honour --device fvp" in done.output


def test_titles_and_names_agree() -> None:
    for name in NAMES:
        assert experiment(name).name == name


def test_a_row_says_where_it_comes_from() -> None:
    numbers = {"objective": 9.0, "bound": 8.1, "gap": 0.1, "seconds": 1.0, "latency": 9.0,
               "flash": 1.0, "sram": 1.0, "loss": 0.5}  # fmt: skip
    found = Schedule({}, {}, {}, status="feasible", solver="highs", solver_version="1.7", **numbers)
    device = {"compiler": "clang 19", "cycle_model": "m55-v1", "qemu": "7.2"}
    row = row_provenance(3, "0123456789abcdef", found, device)
    here = git_commit(Path(__file__).parent) or "unknown"
    assert row.pop("commit").split("+")[0] == here.split("+")[0]
    assert row == {
        "seed": 3, "dtmm": dtmm.__version__, "dataset_sha256": "0123456789ab",
        "solver": "highs 1.7", "solver_status": "feasible", "gap": 0.1,
        "compiler": "clang 19", "cycle_model": "m55-v1",
    }  # fmt: skip
    assert row_provenance(0).keys() == {"seed", "commit", "dtmm"}
