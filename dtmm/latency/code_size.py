"""Code bytes of every operator, from linked firmware."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dtmm import runtime_c
from dtmm.device.build import build_elf
from dtmm.device.elf import flash_bytes, symbols
from dtmm.latency.measure import OPERATORS, RUN_KERNELS
from dtmm.storage.kernel_ids import (
    CONV_DENSE,
    CONV_FWCS,
    CONV_POINTWISE,
    POINT_KERNEL_IDS,
    RUN_KERNEL_IDS,
    family,
    variant,
)

_SHARED = (CONV_DENSE, CONV_FWCS, CONV_POINTWISE)

STEP_BYTES = 224
"""What a generated model spends on one step (its call, its constants), an upper bound of what was
seen. A model's real code is read off its ELF once it is built; the report gives both."""


@dataclass(frozen=True)
class CodeSize:
    """Bytes of flash.

    Attributes:
        kernels: per kernel id, what a model saves that does not use it while it uses all others.
            The forms of a run kernel are one: whoever uses several is charged for each. The looped
            convolutions and what calls pointwise kernels are 0, they are shared.
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
    with tempfile.TemporaryDirectory(prefix="dtmm-code-") as folder:
        everything = _linked(OPERATORS, Path(folder))
        kernels = {
            operator: everything - _linked((o for o in OPERATORS if o != operator), Path(folder))
            for operator in OPERATORS
            if operator not in _SHARED
        }
        shared = everything - sum(kernels.values())
        _linked((*OPERATORS, "run_kernels"), Path(folder))
        sizes = {symbol.name: symbol.size for symbol in symbols(Path(folder) / "probe.elf")}
        for ids, prefix in ((RUN_KERNEL_IDS, "dtmm_run_"), (POINT_KERNEL_IDS, "dtmm_point_")):
            for kernel in ids:
                name = variant(kernel)
                own = sizes[f"{prefix}{name}"] + sizes[f"dtmm_conv_kernel_{name}"]
                kernels[kernel] = own + kernels.get(family(kernel), 0)
    return CodeSize({**kernels, CONV_DENSE: 0, CONV_FWCS: 0}, shared)


def _linked(kernels: Iterable[str], work: Path) -> int:
    """Bytes of the product's code in work/probe.elf, linked with these kernels alone."""
    # A header, not compiler options: those would have every source compiled for every link.
    defines = [f"#define PROBE_{kernel.upper()}\n" for kernel in kernels]
    (work / "probe.h").write_text("".join([f"#define RUN_KERNELS {RUN_KERNELS}\n", *defines]))
    elf = build_elf(
        model_sources=[],
        runtime_sources=runtime_c.device_sources(),
        harness_sources=[Path(str(resources.files("dtmm.latency"))) / "code_probe.c"],
        out_elf=work / "probe.elf",
        include_dirs=[runtime_c.include_dir(), work],
    )
    flash = flash_bytes(elf.path)
    return flash.code + flash.constants
