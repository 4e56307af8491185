"""Finding programs, devices and provenance."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dtmm.device import (
    CycleModel,
    build_host_library,
    collect_provenance,
    device,
    devices,
    find_tool,
    run_firmware,
    tools_report,
)
from dtmm.device.provenance import git_commit
from dtmm.device.toolchain import TOOLS, first_error, run_tool
from dtmm.errors import ToolchainError
from tests.device.firmware import Build


def test_the_report_names_every_tool(toolchain: None) -> None:
    report = tools_report()
    assert [tool.name for tool in report] == [spec.name for spec in TOOLS]
    for tool in report:
        assert tool.found_path is not None
        done = subprocess.run([tool.found_path, "--version"], capture_output=True, text=True)
        assert tool.version
        assert tool.version in done.stdout


def test_missing_tools_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(tool.found_path is None and tool.version is None for tool in tools_report())
    assert devices(only_available=True) == []
    with pytest.raises(ToolchainError, match=r"llvm-mca is missing.*apt install llvm-19"):
        _ = CycleModel().full_name
    with pytest.raises(ToolchainError, match=r"qemu-system-arm is missing.*apt install qemu-sys"):
        run_firmware(tmp_path / "any.elf", count_regions=False)
    (tmp_path / "any.c").write_text("int x;")
    with pytest.raises(ToolchainError, match=r"cc is missing.*apt install gcc"):
        build_host_library(sources=[tmp_path / "any.c"], out_so=tmp_path / "any.so")


def test_a_program_that_does_not_run_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qemu-system-arm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "qemu-system-arm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("qemu-system-arm").found_path is None


def test_unknown_names() -> None:
    with pytest.raises(ToolchainError, match="unknown tool 'armcc': expected one of clang"):
        find_tool("armcc")
    with pytest.raises(ToolchainError, match="device 'm4': expected one of qemu"):
        device("m4")


def test_a_hanging_tool_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "llvm-mca"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "LLVM version 99.1.0" && exit\n'
                       "exec /bin/sleep 60\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert CycleModel().full_name == "m55-v1/llvm-99.1.0"
    with pytest.raises(ToolchainError, match=r"took longer than 0\.5 s"):
        run_tool("llvm-mca", ["-"], timeout_s=0.5)


def test_first_error_picks_the_telling_line() -> None:
    assert first_error("note: x\na.c:1: error: bad\nb.c:2: error: worse\n") == "a.c:1: error: bad"
    assert first_error("warning: x\nlast words\n\n") == "last words"
    assert first_error("") == "no text"


def test_devices(toolchain: None, build: Build) -> None:
    assert [found.name for found in devices(only_available=True)] == [
        "qemu",
        "qemu-m4",
        "host",
    ]
    elf = build("int main(void) { return 0; }").path
    assert device("qemu").run(elf, count_regions=False, timeout_s=30).lines == ()


def test_provenance_is_complete(build: Build) -> None:
    elf = build("int main(void) { return 0; }", defines={"LEVEL": 3})
    found = collect_provenance(elf)
    assert re.fullmatch(r"clang [\d.]+, linked by arm-none-eabi-gcc [\d.]+", found.compiler)
    assert "-mcpu=cortex-m55" in found.flags
    assert "-DLEVEL=3" in found.flags
    assert re.fullmatch(r"[\d.]+ mps3-an547", found.qemu)
    assert found.cycle_model == CycleModel().full_name
    assert "weights ITCM" in found.memory_map
    assert found.to_dict()["dtmm_version"] == found.dtmm_version != ""


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert git_commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    assert git_commit(tmp_path) is None
    git("add", "a.txt")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a.txt").write_text("2")
    assert git_commit(tmp_path) == f"{commit}+changes"
    (tmp_path / "installed").mkdir()
    assert git_commit(tmp_path / "installed") is None
