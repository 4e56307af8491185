"""Objects come from the cache exactly when everything that a compiler would read is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtmm.device import objects
from dtmm.device.objects import compile_sources
from dtmm.device.toolchain import run_tool
from dtmm.errors import ToolchainError

OPTIONS = ("--target=arm-none-eabi", "-mcpu=cortex-m55", "-O1")
SOURCE = '#include "value.h"\nint value(void) { return VALUE; }\n'


@pytest.fixture(autouse=True)
def compiled(toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that the compiler was called for, with an empty cache."""
    calls: list[str] = []

    def recorded(tool: str, arguments: list[str | Path]) -> str:
        calls.append(Path(arguments[-3]).name)
        return run_tool(tool, arguments)

    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(objects, "run_tool", recorded)
    return calls


def project(folder: Path, value: int, text: str = SOURCE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "value.h").write_text(f"#define VALUE {value}\n")
    (folder / "value.c").write_text(text)
    return folder / "value.c"


def build(source: Path, *includes: Path, options: tuple[str, ...] = OPTIONS) -> bytes:
    out = source.parent / "out"
    out.mkdir(exist_ok=True)
    (made,) = compile_sources([source], options, includes, out)
    return made.read_bytes()


def test_the_second_time_and_elsewhere_it_is_copied(tmp_path: Path, compiled: list[str]) -> None:
    first = build(project(tmp_path / "a", 7))
    assert build(project(tmp_path / "b", 7)) == first
    assert compiled == ["value.c"]


def test_a_changed_header_source_or_option_compiles(tmp_path: Path, compiled: list[str]) -> None:
    made = [
        build(project(tmp_path / "a", 7)),
        build(project(tmp_path / "a", 8)),
        build(project(tmp_path / "a", 8, SOURCE.replace("VALUE;", "VALUE + 1;"))),
        build(project(tmp_path / "a", 8), options=(*OPTIONS, "-DVALUE=3", "-O0")),
    ]
    assert len(compiled) == len(set(made)) == 4


def test_same_source_between_two_headers_of_a_name(tmp_path: Path) -> None:
    source = project(tmp_path / "a", 0)
    (tmp_path / "a" / "value.h").unlink()
    one, two = project(tmp_path / "one", 1).parent, project(tmp_path / "two", 2).parent
    assert build(source, one, two) != build(source, two, one)


@pytest.mark.parametrize(
    "text",
    [
        '__asm__(".incbin \\"{data}\\"");\n',
        'const int values[] = {{\n#include "{data}"\n}};\n',
    ],
)
def test_data_that_the_key_does_not_know(tmp_path: Path, text: str, compiled: list[str]) -> None:
    data = tmp_path / "data.inc"
    made = []
    for value in ("1111", "2222"):
        data.write_text(value)
        made.append(build(project(tmp_path / "a", 0, text.format(data=data))))
    assert made[0] != made[1]
    assert len(compiled) == 2


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"source file .*gone\.c does not exist"):
        compile_sources([tmp_path / "gone.c"], OPTIONS, [], tmp_path)
