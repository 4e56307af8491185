"""Runs firmware on a board of the user's, through a command of the user's.

Tested with a recorded transcript, stand-in programs and a pseudo-terminal only; it has not met a
real board yet.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from dtmm.device.command import (
    HungError,
    require_counters,
    require_firmware,
    run_command,
    with_retry,
)
from dtmm.device.protocol import Run, check_complete, read_transcript
from dtmm.device.serial_port import open_port, read_report
from dtmm.device.toolchain import first_error
from dtmm.errors import ToolchainError

VARIABLE = "DTMM_BOARD_COMMAND"
PORT_VARIABLE = "DTMM_BOARD_PORT"
DEFAULT_BAUD = 115200
_PARTING_S = 2.0


def run_on_board(
    elf: Path, *, count_regions: bool, timeout_s: float = 600.0, cwd: Path | None = None
) -> Run:
    """Runs the command in DTMM_BOARD_COMMAND, `{elf}` replaced by the firmware's path.

    The command loads the firmware, serves its semihosting (files of `cwd`) and prints what the
    firmware prints, or, where DTMM_BOARD_PORT names a serial port (`/dev/ttyACM0`,
    `/dev/ttyACM0:230400`), the lines are read there. With `count_regions` every region must come
    with cycles of the core's own counter. Raises as `dtmm.device.qemu.run_firmware`, and
    ToolchainError when the variable is not set.
    """
    words = shlex.split(os.environ.get(VARIABLE, ""))
    if not words:
        raise ToolchainError(
            f"{VARIABLE} is not set: expected a command that loads {{elf}} on your board, such as "
            f"a debugger with semihosting; its lines are read from it or from {PORT_VARIABLE}"
        )
    command = [word.replace("{elf}", str(elf.resolve())) for word in words]
    port = os.environ.get(PORT_VARIABLE)
    if not port:
        return run_command(
            command, elf, "the board", timeout_s=timeout_s, cwd=cwd, needs_counters=count_regions
        )
    path, colon, baud = port.partition(":")
    if colon and not baud.isdecimal():
        raise ToolchainError(f"{PORT_VARIABLE}={port!r}: expected a path, or path:baud")
    rate = int(baud) if colon else DEFAULT_BAUD
    require_firmware(elf)
    run = with_retry(lambda: _run_with_port(command, elf, (path, rate), timeout_s, cwd))
    if count_regions:
        require_counters(run, elf, "the board")
    return run


def _run_with_port(
    command: list[str], elf: Path, port: tuple[str, int], timeout_s: float, cwd: Path | None
) -> Run:
    """One attempt: the port is open before the command starts, so that no line is missed."""
    start = time.monotonic()
    with open_port(*port) as source, tempfile.TemporaryFile() as said:
        try:
            loader = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolchainError(f"the board: {command[0]} cannot be started: {error}") from error
        try:
            report = read_report(source, timeout_s, lambda: loader.poll() not in (None, 0))
            status = loader.poll() or 0
        finally:
            _end(loader)
        said.seek(0)
        words = first_error(said.read().decode(errors="replace"))
    if report is None:
        raise HungError(
            f"{elf.name} did not end within {timeout_s:g} s on the board and was stopped"
        )
    transcript = read_transcript(report.decode(errors="replace"))
    check_complete(elf, transcript, "the board", status, words)
    lines = tuple(line for line in transcript.lines if line.key != "END")
    return Run(lines, (), time.monotonic() - start)


def _end(loader: subprocess.Popen[bytes]) -> None:
    """Lets the loader end by itself, for a moment."""
    try:
        loader.wait(_PARTING_S)
    except subprocess.TimeoutExpired:
        os.killpg(loader.pid, signal.SIGKILL)
        loader.wait()
