"""The devices that firmware can run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dtmm.device.protocol import Run
from dtmm.device.qemu import run_firmware
from dtmm.device.toolchain import find_tool
from dtmm.errors import ToolchainError


class Runner(Protocol):
    """Runs an ELF to its end; see qemu.run_firmware for arguments and errors."""

    def __call__(
        self, elf: Path, *, count_regions: bool, timeout_s: float = ..., cwd: Path | None = ...
    ) -> Run: ...


@dataclass(frozen=True)
class Device:
    """One place where firmware runs. `tools` are the names of the programs it needs."""

    name: str
    description: str
    tools: tuple[str, ...]
    run: Runner

    @property
    def available(self) -> bool:
        """Whether every program it needs is installed."""
        return all(find_tool(tool).found_path is not None for tool in self.tools)


_DEVICES = (
    Device(
        "qemu",
        "QEMU mps3-an547 (Corstone SSE-300): exact instruction counts, modelled cycles",
        ("clang", "arm-none-eabi-gcc", "qemu-system-arm", "llvm-mca", "llvm-objdump", "cc"),
        run_firmware,
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
