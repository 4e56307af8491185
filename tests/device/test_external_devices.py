"""The FVP and a board, by stand-in programs: command lines, transcripts, and what can go wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dtmm.device import device, devices
from dtmm.device.board import VARIABLE
from dtmm.device.fvp import PROGRAM
from dtmm.errors import MeasurementError, ToolchainError

TRANSCRIPT = """telnetterminal0: Listening for serial connection on port 5000
    Ethos-U rev 136b7d75 --- Apr 12 2023 13:44:01
hello from printf
DTMM REGION 0 1234
DTMM OUT 0 0aff
DTMM REGION 7 99
DTMM END 3

Info: /OSCI/SystemC: Simulation stopped by user.
"""


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware of mine.elf"
    path.write_bytes(b"")
    return path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program on PATH that prints `text`, ends with `status` and notes its arguments."""

    def make(text: str, status: int = 0, stderr: str = "", seconds: float = 0.0) -> Path:
        noted = tmp_path / "arguments.json"
        program = tmp_path / PROGRAM
        program.write_text(
            f"#!{sys.executable}\nimport json, sys, time\n"
            f"json.dump(sys.argv[1:], open({str(noted)!r}, 'w'))\n"
            f"time.sleep({seconds})\nprint({text!r}, end='')\n"
            f"print({stderr!r}, file=sys.stderr)\nsys.exit({status})\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv(VARIABLE, f"'{program}' --load {{elf}} --quiet")
        return noted

    return make


@pytest.mark.parametrize("name", ["fvp", "board"])
def test_a_recorded_transcript(name: str, elf: Path, stand_in) -> None:
    noted = stand_in(TRANSCRIPT)
    run = device(name).run(elf, count_regions=True, timeout_s=20)
    assert run.counters == ((0, 1234), (7, 99))
    assert run.one("OUT").payload() == (0, b"\x0a\xff")
    assert [line.key for line in run.lines] == ["REGION", "OUT", "REGION"]
    arguments = json.loads(noted.read_text())
    assert str(elf) in arguments
    if name == "fvp":
        assert arguments[:2] == ["-a", str(elf)]
        assert arguments[arguments.index("cpu0.semihosting-enable=1") - 1] == "-C"
    else:
        assert arguments == ["--load", str(elf), "--quiet"]


def test_options_of_the_user(elf: Path, stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = stand_in(TRANSCRIPT)
    monkeypatch.setenv("DTMM_FVP_OPTIONS", "-C 'cpu0.CFGDTCMSZ=15' --quantum 10")
    device("fvp").run(elf, count_regions=False, timeout_s=20)
    arguments = json.loads(noted.read_text())
    assert arguments[-4:] == ["-C", "cpu0.CFGDTCMSZ=15", "--quantum", "10"]


@pytest.mark.parametrize(
    ("text", "status", "stderr", "error", "message"),
    [
        ("", 1, "Error: license checkout failed", ToolchainError, "status 1 .* license checkout"),
        (TRANSCRIPT[:130], 0, "", MeasurementError, "is cut short: .* expected DTMM END"),
        (TRANSCRIPT.replace("END 3", "END 4"), 0, "", MeasurementError, "is cut short"),
        (TRANSCRIPT.replace("REGION 7", "REG\ufffdON 7"), 0, "", MeasurementError, None),
        ("DTMM FAIL out of luck\n", 2, "", MeasurementError, "failed on the FVP: out of luck"),
        ("DTMM REGION 0\nDTMM END 1\n", 0, "", MeasurementError, "want id, cycles"),
    ],
)
def test_faults(text, status, stderr, error, message, elf: Path, stand_in) -> None:
    stand_in(text, status, stderr)
    if message is None:  # noise within a line leaves another key: the region is missing
        run = device("fvp").run(elf, count_regions=True, timeout_s=20)
        assert len(run.counters) == 1
        return
    with pytest.raises(error, match=message):
        _ = device("fvp").run(elf, count_regions=True, timeout_s=20).counters


def test_a_hanging_program_is_stopped(elf: Path, stand_in) -> None:
    stand_in(TRANSCRIPT, seconds=30)
    with pytest.raises(MeasurementError, match=r"did not end within 0\.5 s on the FVP"):
        device("fvp").run(elf, count_regions=True, timeout_s=0.5)


def test_what_is_missing_is_named(elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("DTMM_FVP", "/nowhere/fvp")
    with pytest.raises(ToolchainError, match=f"{PROGRAM} is missing: put it on PATH"):
        device("fvp").run(elf, count_regions=True)
    with pytest.raises(ToolchainError, match=f"{VARIABLE} is not set: expected a command"):
        device("board").run(elf, count_regions=True)
    assert {"fvp", "board"}.isdisjoint(d.name for d in devices(only_available=True))
    assert {"qemu", "fvp", "board"} <= {d.name for d in devices()}
    monkeypatch.setenv(VARIABLE, "true {elf}")
    with pytest.raises(ToolchainError, match="does not exist"):
        device("board").run(elf.with_name("absent.elf"), count_regions=True)
