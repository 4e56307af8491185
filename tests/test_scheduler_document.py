"""docs/scheduler.md: its commands run, its Python runs, the equations that the code cites exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.instances import Grid, Shares, instance
from benchmarks.instances import main as write_instances
from benchmarks.scheduler import BEGIN, END, RESULTS, render
from dtmm.cli import cli
from dtmm.cli.scheduler import LOSS_MODEL_NAMES
from dtmm.planning.loss_models import MEASURED, UNMEASURED
from dtmm.pruning.registry import CRITERIA
from dtmm.scheduler import Solver, solve
from dtmm.table import read_table
from dtmm.testing.solvers import CHECKS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "scheduler.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        words = shlex.split(command)
        if words[:3] == ["python", "-m", "benchmarks.instances"]:
            result = CliRunner().invoke(write_instances, words[3:], catch_exceptions=False)
        else:
            assert words[0] == "dtmm"
            result = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, command
    assert (tmp_path / "best.dtmm").is_file()
    assert (tmp_path / "tiny_resnet_2x3_s0_pareto.png").is_file()


def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON[0], "scheduler.md", "exec"), {})
    status, *numbers = capsys.readouterr().out.splitlines()[0].split()
    assert status == "optimal"
    assert float(numbers[1]) <= float(numbers[0])


def test_the_solver_of_the_document_is_a_solver() -> None:
    names: dict[str, type[Solver]] = {}
    exec(compile(PYTHON[1], "scheduler.md", "exec"), names)
    guess = names["Guess"]()
    for check in CHECKS:
        if check.__name__ in ("decisions_keep_all_rules", "bounds_are_bounds"):
            check(guess, range(4))
    body = PYTHON[1].split("def minimise")[1]
    assert len(body.splitlines()) <= 15
    easy = instance("tiny_resnet", Grid(2, 2), shares=Shares(None, None, None))
    found = solve(easy, guess)
    assert (found.solver, found.status) == ("guess", "feasible")


def test_every_equation_that_the_code_cites_is_stated() -> None:
    stated = set(re.findall(r"^\| \((\d+[a-c]?)\) \|", TEXT, re.MULTILINE))
    assert {"1", "2", "3a", "3b", "3c", *map(str, range(4, 11))} == stated
    cited = set()
    for path in (ROOT / "dtmm" / "scheduler").rglob("*.py"):
        for line in path.read_text().splitlines():
            if '"""' in line or line.lstrip().startswith("#") or "# (" in line:
                cited |= set(re.findall(r"(?<![\w\])])\((\d{1,2})\)", line))
    assert cited
    assert cited <= {number.rstrip("abc") for number in stated}


def test_the_measured_table_is_the_kept_one() -> None:
    between = TEXT.split(BEGIN)[1].split(END)[0]
    assert between.strip() == render(*read_table(RESULTS)).strip()


def test_names_exist() -> None:
    for name in re.findall(r"`((?:dtmm|benchmarks|experiments)/[\w/.]+)`", TEXT):
        assert (ROOT / name).exists(), name
    models = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert models == set(LOSS_MODEL_NAMES)
    assert models <= CRITERIA.keys() | UNMEASURED.keys() | MEASURED.keys()
