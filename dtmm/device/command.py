"""Runs a command that runs firmware: a simulator, a debugger, a script around a board."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from dtmm.device.protocol import DamagedReportError, Run, check_complete, read_transcript
from dtmm.device.toolchain import first_error
from dtmm.errors import MeasurementError, ToolchainError

T = TypeVar("T")

ATTEMPTS = 2
"""A program that was killed or hung, or lines that arrived damaged, get a second chance."""


class HungError(MeasurementError):
    """A program did not end in time."""


class KilledError(ToolchainError):
    """A signal ended a program: the system was short of memory, or the program crashed."""


def run_command(
    command: Sequence[str],
    elf: Path,
    where: str,
    *,
    timeout_s: float,
    cwd: Path | None,
    needs_counters: bool = False,
) -> Run:
    """Runs a command whose standard output holds the firmware's lines.

    Args:
        where: what it runs on, for messages. timeout_s: in seconds of this machine's clock, for
            each of ATTEMPTS.
        needs_counters: whether every region must come with cycles of the core's own counter.

    Raises:
        ToolchainError: the command cannot be started, or fails before the firmware ended.
        MeasurementError: the firmware faults, fails, hangs, or its lines are damaged or cut short.
    """
    require_firmware(elf)

    def attempt() -> Run:
        start = time.monotonic()
        done = run_process(command, elf, where, timeout_s=timeout_s, cwd=cwd)
        seconds = time.monotonic() - start
        transcript = read_transcript(done.stdout)
        said = first_error(done.stderr or done.stdout)
        check_complete(elf, transcript, where, done.returncode, said)
        return Run(tuple(line for line in transcript.lines if line.key != "END"), (), seconds)

    run = with_retry(attempt)
    if needs_counters:
        require_counters(run, elf, where)
    return run


def with_retry(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, called again when chance may have spoilt it; see ATTEMPTS."""
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except (HungError, KilledError, DamagedReportError):
            pass
    try:
        return attempt()
    except (HungError, KilledError, DamagedReportError) as error:
        raise type(error)(f"{error} (tried {ATTEMPTS} times)") from error


def run_process(
    command: Sequence[str], elf: Path, where: str, *, timeout_s: float, cwd: Path | None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; past `timeout_s` it is stopped with all that it started.

    Raises HungError, KilledError, or ToolchainError when it cannot be started.
    """
    try:
        # a session of its own, so that it can be stopped with whatever it started
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolchainError(f"{where}: {command[0]} cannot be started: {error}") from error
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException as error:  # also when the user interrupts
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise HungError(
                f"{elf.name} did not end within {timeout_s:g} s on {where} and was stopped"
            ) from error
        raise
    stdout, stderr = (data.decode(errors="replace") for data in (out, err))
    if process.returncode < 0:
        raise KilledError(
            f"{where} ended with status {process.returncode} on {elf.name} "
            f"({signal.Signals(-process.returncode).name}): {first_error(stderr or stdout)}"
        )
    return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)


def require_counters(run: Run, elf: Path, where: str) -> None:
    """Raises MeasurementError where a region's cycle counter did not move."""
    if still := [number for number, cycles in run.counters if cycles == 0]:
        raise MeasurementError(
            f"{elf.name} on {where}: region {still[0]} took 0 cycles: the core's cycle counter "
            "does not run (does a debugger or the security state keep the PMU off?)"
        )


def require_firmware(elf: Path) -> None:
    """Raises ToolchainError unless the file is there."""
    if not elf.is_file():
        raise ToolchainError(f"firmware {elf} does not exist")
