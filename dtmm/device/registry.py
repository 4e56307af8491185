"""The devices that firmware can run on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dtmm.device import board, fvp, host
from dtmm.device.protocol import Run
from dtmm.device.qemu import run_firmware, run_on_m4
from dtmm.device.toolchain import find_tool
from dtmm.errors import ToolchainError


class Runner(Protocol):
    """Runs an ELF to its end; see qemu.run_firmware for arguments and errors."""

    def __call__(
        self, elf: Path, *, count_regions: bool, timeout_s: float = ..., cwd: Path | None = ...
    ) -> Run: ...


@dataclass(frozen=True)
class Device:
    """One place where firmware runs.

    Attributes:
        measures: what it measures of a region. lacks: what it does not.
        tools: names of the programs of `dtmm.device.toolchain` it needs.
        is_present: whether what it needs besides is there.
        target: what `dtmm.device.build` must build for (its TARGETS).
    """

    name: str
    description: str
    measures: str
    lacks: str
    tools: tuple[str, ...]
    run: Runner
    is_present: Callable[[], bool] = lambda: True
    target: str = "m55"

    @property
    def available(self) -> bool:
        """Whether everything it needs is installed."""
        return self.is_present() and all(find_tool(tool).found_path for tool in self.tools)


_BUILD = ("clang", "arm-none-eabi-gcc")

_DEVICES = (
    Device(
        "qemu",
        "QEMU mps3-an547 (Corstone SSE-300)",
        "instructions (exact); cycles by models: m55-v1 with all in TCM, m55-v2 with cached SRAM "
        "and flash; bytes read and written, stack",
        "time on silicon: cycles are modelled; instruction fetches, write-backs",
        (*_BUILD, "qemu-system-arm", "llvm-mca", "llvm-objdump", "cc"),
        run_firmware,
    ),
    Device(
        "qemu-m4",
        "QEMU mps2-an386 (Cortex-M4): the portable C operators",
        "instructions (exact), stack",
        "cycles; vector kernels, which a Cortex-M4 cannot run",
        (*_BUILD, "qemu-system-arm", "cc"),
        run_on_m4,
        target="m4",
    ),
    Device(
        "fvp",
        f"Arm's {fvp.PROGRAM}, on PATH or named by DTMM_FVP",
        "the PMU's cycle counter, which counts about instructions; stack",
        "cycles: Arm calls the model neither cycle-accurate nor cycle-approximate; caches; bytes. "
        "Has not met the real FVP yet",
        _BUILD,
        fvp.run_on_fvp,
        lambda: fvp.find_fvp() is not None,
    ),
    Device(
        "board",
        f"your board, through the command in {board.VARIABLE}, and {board.PORT_VARIABLE}",
        "cycles of the core's PMU on your memories and caches; stack",
        "instructions; bytes. Has not met a real board yet",
        _BUILD,
        board.run_on_board,
        lambda: bool(os.environ.get(board.VARIABLE)),
    ),
    Device(
        "host",
        "this machine: the portable C operators",
        "nothing: functional only, it shows what the code computes",
        "latency, memory",
        ("cc",),
        host.run_on_host,
        target="host",
    ),
)


def devices(*, only_available: bool = False) -> list[Device]:
    """All devices, or those whose programs are installed."""
    return [device for device in _DEVICES if device.available or not only_available]


def device(name: str) -> Device:
    """One device by name. Raises ToolchainError, listing the known ones, on another name."""
    for found in _DEVICES:
        if found.name == name:
            return found
    raise ToolchainError(f"device {name!r}: expected one of {', '.join(d.name for d in _DEVICES)}")
