"""The runner: it knows every script, draws from committed tables, and fails well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.experiment import RESULTS
from experiments.run import NAMES, experiment, main


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


def test_titles_and_names_agree() -> None:
    for name in NAMES:
        assert experiment(name).name == name
