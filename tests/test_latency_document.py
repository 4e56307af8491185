"""docs/latency.md: its Python runs, its settings exist, its figures are those that are kept."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.latency import BEGIN, END, RESULTS, render
from dtmm.config import load_config
from dtmm.latency import LatencyTable
from dtmm.latency.cost_models import (
    COST_MODELS,
    FunctionModel,
    analytic_model,
    make_cost_model,
    tabulate,
)
from dtmm.table import read_table
from dtmm.testing.cost_models import POINTS, check_all

TEXT = (Path(__file__).parents[1] / "docs" / "latency.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def no_device(points: object) -> LatencyTable:
    raise AssertionError("nothing is to be measured")


def test_my_own_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ours = tabulate("analytic", analytic_model(), POINTS)
    ours.save(Path("latency.csv"))
    exec(compile(PYTHON[0], "latency.md", "exec"), {})
    model = make_cost_model("board.csv", POINTS, no_device)
    check_all(model, POINTS)
    for point in POINTS:
        assert model.cost(point).cycles == pytest.approx(1.3 * ours.cost(point).cycles)


def test_my_own_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("slow_flash.py").write_text(PYTHON[1])
    model = make_cost_model("slow_flash.py:cycles", POINTS, no_device)
    assert isinstance(model, FunctionModel)
    stored = POINTS[0].filterlets * POINTS[0].in_channels
    added = model.cost(POINTS[0]).cycles - analytic_model().cost(POINTS[0]).cycles
    assert added == pytest.approx(0.5 * stored)
    try:
        exec(compile(PYTHON[2], "latency.md", "exec"), {})
    finally:
        sys.modules.pop("slow_flash", None)


def test_commands_are_settings_that_exist() -> None:
    commands = re.findall(r"^\$ dtmm (.*)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        load_config(overrides=[word for word in shlex.split(command) if "=" in word])
    named = re.findall(r"^\| `(\w+)` \|", TEXT.split("## Cost models")[1], re.MULTILINE)
    assert named == list(COST_MODELS)


def test_the_measured_figures_are_the_kept_ones() -> None:
    between = TEXT.split(BEGIN)[1].split(END)[0]
    assert between.strip() == render(*read_table(RESULTS, text=("structure",))).strip()
