"""The README's Python, as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_python_snippet_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    toolchain: None,
) -> None:
    snippet = SNIPPETS[0]
    assert len(snippet.strip().splitlines()) <= 14
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    accuracy, cycles = capsys.readouterr().out.splitlines()[0].split()
    assert float(accuracy) > 0.85
    assert float(cycles) > 0
    assert (tmp_path / "runs" / "digits" / "project" / "CMakeLists.txt").is_file()


def test_the_solver_is_that_of_the_document_that_is_tested() -> None:
    (solver,) = SNIPPETS[1:]
    assert solver in (README.parent / "docs" / "experiments.md").read_text()
    assert len([line for line in solver.splitlines() if line.strip()]) <= 15


def test_the_two_commands_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in README.read_text()
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_rooms_named_exist() -> None:
    for room in re.findall(r"`((?:dtmm|experiments)[/\w]*)`", README.read_text()):
        assert (README.parent / room).is_dir(), room
