"""docs/frameworks.md: its Python and its commands run, in order, in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
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


def test_the_lines_for_a_tflm_build_compile(tmp_path: Path) -> None:
    """Against declarations of what they need of TFLM; its resolver's is this one."""
    from dtmm import runtime_c
    from tests.deploy.custom_operator import HERE, SOURCES, tflm_headers

    include, call = re.findall(r"^ {7}(#include .*|resolver\..*)$", TEXT, re.MULTILINE)
    resolver = (
        "struct Resolver { int AddCustom(const char*, const TFLMRegistration*); };\n"
        f"int add(Resolver& resolver) {{ return {call} }}\n"
    )
    (tmp_path / "lines.cc").write_text(f"{include}\n{resolver}")
    where = [f"-I{path}" for path in (tflm_headers(), HERE, SOURCES, runtime_c.include_dir())]
    command = ["c++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", *where, "lines.cc"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
        "preresnet",
        "densenet",
    ]
    for family in families:
        assert any(name.startswith(family) for name in SIZES), family
