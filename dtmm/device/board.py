"""Runs firmware on a board of the user's, through a command of the user's.

Tested with a recorded transcript and stand-in programs only; it has not met a real board yet.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from dtmm.device.command import run_command
from dtmm.device.protocol import Run
from dtmm.errors import ToolchainError

VARIABLE = "DTMM_BOARD_COMMAND"


def run_on_board(
    elf: Path, *, count_regions: bool, timeout_s: float = 600.0, cwd: Path | None = None
) -> Run:
    """Runs the command in DTMM_BOARD_COMMAND, `{elf}` replaced by the firmware's path.

    The command loads the firmware, serves its semihosting (files of `cwd`, text) and prints what
    the firmware prints. `count_regions` changes nothing: the core's cycle counter always runs.
    Raises as `dtmm.device.qemu.run_firmware`, and ToolchainError when the variable is not set.
    """
    words = shlex.split(os.environ.get(VARIABLE, ""))
    if not words:
        raise ToolchainError(
            f"{VARIABLE} is not set: expected a command that loads {{elf}} on your board, such as "
            "a debugger with semihosting, and prints what it prints"
        )
    path = str(elf.resolve())
    command = [word.replace("{elf}", path) for word in words]
    return run_command(command, elf, "the board", timeout_s=timeout_s, cwd=cwd)
