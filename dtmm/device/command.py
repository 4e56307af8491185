"""Runs a command that runs firmware: a simulator, a debugger, a script around a board."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dtmm.device.protocol import Run, check_complete, parse_lines
from dtmm.device.toolchain import first_error
from dtmm.errors import MeasurementError, ToolchainError


def run_command(
    command: Sequence[str], elf: Path, where: str, *, timeout_s: float, cwd: Path | None
) -> Run:
    """Runs a command whose standard output holds the firmware's lines.

    Args:
        where: what it runs on, for messages. timeout_s: in seconds of this machine's clock.

    Raises:
        ToolchainError: the command cannot be started, or fails before the firmware ended.
        MeasurementError: the firmware faults, fails, hangs or its lines are cut short.
    """
    require_firmware(elf)
    start = time.monotonic()
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(
            f"{elf.name} did not end within {timeout_s:g} s on {where} and was stopped"
        ) from error
    except OSError as error:
        raise ToolchainError(f"{where}: {command[0]} cannot be started: {error}") from error
    seconds = time.monotonic() - start
    lines = parse_lines(done.stdout)
    said = first_error(done.stderr or done.stdout)
    check_complete(elf, lines, where, done.returncode, said)
    return Run(tuple(line for line in lines if line.key != "END"), (), seconds)


def require_firmware(elf: Path) -> None:
    """Raises ToolchainError unless the file is there."""
    if not elf.is_file():
        raise ToolchainError(f"firmware {elf} does not exist")
