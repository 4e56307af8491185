"""docs/frameworks.md: its Python and its commands run, in order, in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm.cli import cli

TEXT = (Path(__file__).parents[1] / "docs" / "frameworks.md").read_text()


def test_every_snippet_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    toolchain: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```(python|console)\n(.*?)```", TEXT, re.DOTALL)
    assert [kind for kind, _ in blocks].count("python") >= 5
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "frameworks.md", "exec"), names)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line.removeprefix("$ "))
            assert program == "dtmm"
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert done.exit_code == 0, line
    assert "(4, 10) int8" in capsys.readouterr().out
    assert (tmp_path / "firmware" / "gated" / "CMakeLists.txt").is_file()
    assert (tmp_path / "project" / "CMakeLists.txt").is_file()


def test_what_it_names_is_tested() -> None:
    """The families that the page claims are among the definitions of the third-party tests."""
    from tests.network.test_third_party import SIZES

    families = [
        "resnet18",
        "resnet20",
        "seresnet",
        "resnext",
        "squeezenet",
        "mobilenet_",
        "mobilenetv2",
        "mobilenetv3",
        "ghostnet",
        "efficientnet_b0",
        "mnasnet",
        "hardnet",
        "darknet",
    ]
    for family in families:
        assert any(name.startswith(family) for name in SIZES), family
