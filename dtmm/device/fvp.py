"""Runs firmware on Arm's Corstone-300 FVP, where the user has it: the ELF that QEMU runs.

Arm states that the FVP is neither cycle-accurate nor cycle-approximate for the CPU: its PMU counts
about one cycle per instruction. Tested with a recorded transcript and a stand-in program only; it
has not met the real FVP yet.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from dtmm.device.command import run_command
from dtmm.device.protocol import DamagedReportError, Run
from dtmm.errors import ToolchainError

PROGRAM = "FVP_Corstone_SSE-300_Ethos-U55"

_SETTINGS = (
    "cpu0.semihosting-enable=1",
    "mps3_board.visualisation.disable-visualisation=1",
    *(f"mps3_board.telnetterminal{n}.start_telnet=0" for n in range(3)),
    "mps3_board.uart0.out_file=-",
)


def find_fvp() -> Path | None:
    """The FVP that DTMM_FVP names, else the one on PATH, else None."""
    found = shutil.which(os.environ.get("DTMM_FVP", PROGRAM))
    return Path(found) if found else None


def use_fvp(program: Path) -> None:
    """Takes this program instead of the one on PATH, as DTMM_FVP does."""
    os.environ["DTMM_FVP"] = str(program)


def fvp_command(program: Path, elf: Path) -> list[str]:
    """The command line; DTMM_FVP_OPTIONS adds to it."""
    settings = [word for setting in _SETTINGS for word in ("-C", setting)]
    extra = shlex.split(os.environ.get("DTMM_FVP_OPTIONS", ""))
    return [str(program), "-a", str(elf.resolve()), *settings, *extra]


def run_on_fvp(
    elf: Path, *, count_regions: bool, timeout_s: float = 600.0, cwd: Path | None = None
) -> Run:
    """As dtmm.device.qemu.run_firmware. With `count_regions` every region must come with cycles.

    Raises ToolchainError when the FVP is missing or refuses to run (its licence, for one).
    """
    program = find_fvp()
    if program is None:
        raise ToolchainError(
            f"{PROGRAM} is missing: put it on PATH or name it in DTMM_FVP; it is part of Arm's "
            "Corstone-300 ecosystem FVP"
        )
    command = fvp_command(program, elf)
    try:
        return run_command(
            command, elf, "the FVP", timeout_s=timeout_s, cwd=cwd, needs_counters=count_regions
        )
    except (ToolchainError, DamagedReportError) as error:
        if "licen" not in str(error).lower():
            raise
        raise ToolchainError(
            f"the FVP has no licence to run here (see Arm's documentation of it): {error}"
        ) from error
