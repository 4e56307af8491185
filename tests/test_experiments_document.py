"""docs/experiments.md: its solver and its commands run, its flags and names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm.table import read_table
from experiments.experiment import Swap, option
from experiments.run import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "experiments.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    shlex.split(line)[4:]
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ python -m experiments.run")
]


def test_my_own_solver_on_the_papers_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(PYTHON[0].strip().splitlines()) <= 18
    (tmp_path / "my_solver.py").write_text(PYTHON[0])
    [command] = [words for words in COMMANDS if "--solver" in words]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table, about = read_table(tmp_path / "runs/experiments/scheduler_comparison.csv")
    assert about["exchanged solver"] == "my_solver.py:Restarts"
    assert set(table["solver"]) == {"lagrangian", "my_solver.py:Restarts"}
    assert (table["ratio"] >= 1).all()
    assert (tmp_path / "runs/experiments/scheduler_comparison.png").is_file()


def test_the_flags_are_those_that_exist() -> None:
    flags = set(re.findall(r"^\| `(--[\w-]+)` \|", TEXT, re.MULTILINE))
    assert flags == {option(name) for name in Swap.__dataclass_fields__}


def test_other_commands_are_understood() -> None:
    for words in COMMANDS:
        assert main.make_context("run", list(words)), words


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_my_own_latency_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toolchain: None
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = [words for words in COMMANDS if "pruned_share" in words]
    done = CliRunner().invoke(main, before, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results = tmp_path / "runs/experiments/pruned_share.csv"
    first, _ = read_table(results)
    exec(compile(PYTHON[1], "experiments.md", "exec"), {})
    done = CliRunner().invoke(main, after, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    second, about = read_table(results)
    assert about["exchanged cost_model"] == "board.csv"
    assert first["kernel"].str.contains("fwcs").any()
    assert second["latency"].iloc[0] > first["latency"].iloc[0]
