"""The FVP and a board, by stand-in programs: command lines, transcripts, and what can go wrong."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from dtmm.device import device, devices
from dtmm.device.board import PORT_VARIABLE, VARIABLE
from dtmm.device.fvp import PROGRAM
from dtmm.errors import DtmmError, MeasurementError, ToolchainError
from tests.device.firmware import transcript

REPORT = transcript("REGION 0 1234", "OUT 0 0aff", "REGION 7 99")
TRANSCRIPT = f"""telnetterminal0: Listening for serial connection on port 5000
    Ethos-U rev 136b7d75 --- Apr 12 2023 13:44:01
hello from printf
{REPORT}
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


LICENCE = "Error: license checkout failed: ARMLMD_LICENSE_FILE is not set"


@pytest.mark.parametrize(
    ("text", "status", "stderr", "error", "message"),
    [
        ("", 1, LICENCE, ToolchainError, "FVP has no licence to run here.*status 1 .* checkout"),
        ("", 0, LICENCE, ToolchainError, "FVP has no licence to run here.*0 lines.* checkout"),
        ("", 1, "no such option", ToolchainError, "the FVP ended with status 1 .* no such option"),
        (TRANSCRIPT[:190], 0, "", MeasurementError, "is cut short: .* expected DTMM END"),
        (TRANSCRIPT.replace("1234", "1284"), 0, "", MeasurementError, "is damaged: line 1 has "),
        (TRANSCRIPT.replace("REGION 7", "REG\ufffdON 7"), 0, "", MeasurementError, "is damaged"),
        (transcript("FAIL bad luck").splitlines()[0] + "\n", 2, "", MeasurementError, "failed on"),
        (transcript("REGION 0"), 0, "", MeasurementError, "want id, cycles"),
        (transcript("REGION 3 0"), 0, "", MeasurementError, "region 3 took 0 cycles"),
    ],
)
def test_faults(text, status, stderr, error, message, elf: Path, stand_in) -> None:
    stand_in(text, status, stderr)
    with pytest.raises(DtmmError, match=message) as caught:
        _ = device("fvp").run(elf, count_regions=True, timeout_s=20).counters
    assert isinstance(caught.value, error)
    assert "\n" not in str(caught.value)


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


class Terminal:
    """A pseudo-terminal as the board's serial port; what is sent comes once the loader has run."""

    def __init__(self, folder: Path) -> None:
        self._end, other = os.openpty()
        self.name, self._loaded = os.ttyname(other), folder / "loaded"
        self._other = other
        self.loads = 0

    def command(self) -> str:
        return f"touch {{elf}}.loaded '{self._loaded}'"

    def send(self, *texts: str) -> None:
        """One text per time that the board is loaded."""

        def wait() -> None:
            for text in texts:
                while not self._loaded.exists():
                    time.sleep(0.01)
                self._loaded.unlink()
                self.loads += 1
                for start in range(0, len(text), 7):  # as it comes: in pieces
                    os.write(self._end, text[start : start + 7].encode())

        threading.Thread(target=wait, daemon=True).start()


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal(tmp_path)
    monkeypatch.setenv(VARIABLE, made.command())
    monkeypatch.setenv(PORT_VARIABLE, f"{made.name}:115200")
    return made


def test_serial_port(elf: Path, terminal: Terminal) -> None:
    terminal.send(TRANSCRIPT)
    run = device("board").run(elf, count_regions=True, timeout_s=20)
    assert run.counters == ((0, 1234), (7, 99))
    assert elf.with_name(f"{elf.name}.loaded").exists()


def test_noise_on_the_serial_port(elf: Path, terminal: Terminal) -> None:
    noisy = TRANSCRIPT.replace("0aff", "0bff")
    terminal.send(noisy, TRANSCRIPT)
    run = device("board").run(elf, count_regions=True, timeout_s=20)
    assert run.one("OUT").payload() == (0, b"\x0a\xff")
    assert terminal.loads == 2
    terminal.send(noisy, noisy)
    with pytest.raises(MeasurementError, match=r"is damaged: line 2 .*\(tried 2 times\)"):
        device("board").run(elf, count_regions=True, timeout_s=20)


def test_a_silent_serial_port(
    elf: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(MeasurementError, match=r"did not end within 0\.3 s on the board"):
        device("board").run(elf, count_regions=True, timeout_s=0.3)
    monkeypatch.setenv(VARIABLE, "sh -c 'echo no probe found >&2; exit 3' {elf}")
    with pytest.raises(ToolchainError, match=r"the board ended with status 3 .* no probe found"):
        device("board").run(elf, count_regions=True, timeout_s=20)
    for port, message in (
        (str(tmp_path / "tty"), "No such file"),
        (str(elf), "serial port .*Inappropriate ioctl"),
        (f"{terminal.name}:12345", "rate 12345"),
        (f"{terminal.name}:fast", "expected a path, or path:baud"),
    ):
        monkeypatch.setenv(PORT_VARIABLE, port)
        with pytest.raises(ToolchainError, match=message):
            device("board").run(elf, count_regions=True, timeout_s=20)
