"""Code bytes of every operator, from linked firmware."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dtmm import runtime_c
from dtmm.device.build import build_elf
from dtmm.device.elf import flash_bytes
from dtmm.latency.measure import KERNELS

STEP_BYTES = 200
"""What a generated model spends on one step (its call, its constants), an upper bound of what was
seen. A model's real code is read off its ELF once it is built; the report gives both."""


@dataclass(frozen=True)
class CodeSize:
    """Bytes of flash.

    Attributes:
        kernels: per kernel id, what a model saves that does not use it while it uses all others.
        shared: what remains when it uses none but the copies at its border, and what kernels
            share: an upper bound of everything that is no kernel's own.
    """

    kernels: Mapping[str, int]
    shared: int

    def fixed(self, steps: int) -> int:
        """Bytes that do not depend on which kernels a model uses, for so many operators."""
        return self.shared + STEP_BYTES * steps


def measure_code_size() -> CodeSize:
    """Link all operators, then all but one of each, and compare.

    Raises:
        ToolchainError: a tool is missing or fails.
    """
    everything = _linked(KERNELS)
    kernels = {
        kernel: everything - _linked(other for other in KERNELS if other != kernel)
        for kernel in KERNELS
    }
    return CodeSize(kernels, everything - sum(kernels.values()))


def _linked(kernels: Iterable[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="dtmm-code-") as name:
        elf = build_elf(
            model_sources=[],
            runtime_sources=runtime_c.sources(),
            harness_sources=[Path(str(resources.files("dtmm.latency"))) / "code_probe.c"],
            out_elf=Path(name) / "probe.elf",
            include_dirs=[runtime_c.include_dir()],
            defines={f"PROBE_{kernel.upper()}": None for kernel in kernels},
        )
        flash = flash_bytes(elf.path)
    return flash.code + flash.constants
