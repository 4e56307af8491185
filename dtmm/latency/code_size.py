"""Code bytes of every operator, from linked firmware."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pandas as pd

from dtmm import runtime_c
from dtmm.device.build import build_elf, compile_objects
from dtmm.device.elf import Elf, flash_bytes, symbols
from dtmm.errors import DataError
from dtmm.latency.harness import OPERATORS, RUN_KERNELS
from dtmm.storage.kernel_ids import (
    CONV_DENSE,
    CONV_FWCS,
    CONV_IM2COL,
    CONV_POINTWISE,
    POINT_KERNEL_IDS,
    RUN_KERNEL_IDS,
    family,
    variant,
)
from dtmm.table import read_table, write_table

_SHARED = (CONV_DENSE, CONV_FWCS, CONV_POINTWISE)
_ROWS = ("shared", "pointwise")
"""Rows of the table that are no kernel's."""

STEP_BYTES = 224
"""What a generated model spends on one step (its call, its constants), an upper bound of what was
seen. A model's real code is read off its ELF once it is built; the report gives both."""


@dataclass(frozen=True)
class CodeSize:
    """Bytes of flash.

    Attributes:
        kernels: per kernel id, what a model saves that does not use it while it uses all others.
            The forms of a run kernel are one: whoever uses several is charged for each. The looped
            convolutions are 0, they are shared.
        shared: what remains when it uses none but the copies at its border, and what kernels
            share: an upper bound of everything that is no kernel's own.
        pointwise: what all pointwise kernels share, those of gathered windows too.
        provenance: compiler and flags.
    """

    kernels: Mapping[str, int]
    shared: int
    pointwise: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)

    def fixed(self, steps: int, kernels: Iterable[str]) -> int:
        """Bytes that are paid whatever is chosen.

        Args:
            steps: operators of the model. kernels: ids of those that its convolutions may use.
        """
        points = any(family(kernel) in (CONV_POINTWISE, CONV_IM2COL) for kernel in kernels)
        return self.shared + points * self.pointwise + STEP_BYTES * steps

    def save(self, path: Path) -> None:
        """Write a tidy CSV, one kernel per row, after those that no kernel owns.

        Raises:
            ArtifactError: the file cannot be written.
        """
        rows = [("shared", self.shared), ("pointwise", self.pointwise), *self.kernels.items()]
        write_table(path, pd.DataFrame(rows, columns=["kernel", "code_bytes"]), self.provenance)

    @staticmethod
    def load(path: Path) -> CodeSize:
        """Read what `save` wrote, or a user's own file of the same columns.

        Raises:
            DataError: the file is missing, no table, lacks a column or row, has a size that is no
                whole number, or a kernel twice.
        """
        table, provenance = read_table(path, text=("kernel",))
        if missing := [name for name in ("kernel", "code_bytes") if name not in table.columns]:
            raise DataError(f"code size table {path} lacks columns {', '.join(missing)}")
        sizes = pd.to_numeric(table["code_bytes"], errors="coerce")
        wrong = ~(sizes >= 0) | (sizes % 1 != 0)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise DataError(
                f"code size table {path}: code_bytes of {table['kernel'][row]} is "
                f"{table['code_bytes'][row]}, expected a whole number >= 0"
            )
        if table["kernel"].duplicated().any():
            twice = table["kernel"][table["kernel"].duplicated()].iloc[0]
            raise DataError(f"code size table {path} has two rows for {twice}")
        kernels = dict(zip(table["kernel"], sizes.astype(int).tolist(), strict=True))
        if missing := [name for name in _ROWS if name not in kernels]:
            raise DataError(f"code size table {path} lacks a row for {', '.join(missing)}")
        shared, pointwise = (kernels.pop(name) for name in _ROWS)
        return CodeSize(kernels, shared, pointwise, provenance)


def measure_code_size() -> CodeSize:
    """Link all operators, then all but one of each, and compare.

    Raises:
        ToolchainError: a tool is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="dtmm-code-") as name:
        folder = Path(name)
        (folder / "objects").mkdir()
        objects = compile_objects(
            runtime_c.device_sources(), folder / "objects", [runtime_c.include_dir()]
        )

        def without(*operators: str) -> int:
            elf = _linked((o for o in OPERATORS if o not in operators), objects, folder)
            flash = flash_bytes(elf.path)
            return flash.code + flash.constants

        everything = without()
        kernels = {
            operator: everything - without(operator)
            for operator in OPERATORS
            if operator not in _SHARED
        }
        # what both kinds of pointwise kernels call, and what calls those of pixels alone
        pointwise = everything - without(CONV_IM2COL, CONV_POINTWISE) - kernels[CONV_IM2COL]
        shared = everything - pointwise - sum(kernels.values())
        elf = _linked((*OPERATORS, "run_kernels"), objects, folder)
        sizes = {symbol.name: symbol.size for symbol in symbols(elf.path)}
    for ids, prefix in ((RUN_KERNEL_IDS, "dtmm_run_"), (POINT_KERNEL_IDS, "dtmm_point_")):
        for kernel in ids:
            own = sizes[f"{prefix}{variant(kernel)}"] + sizes[f"dtmm_conv_kernel_{variant(kernel)}"]
            kernels[kernel] = own + kernels.get(family(kernel), 0)
    provenance = {"compiler": elf.compiler, "flags": " ".join(elf.flags)}
    return CodeSize({**kernels, CONV_DENSE: 0, CONV_FWCS: 0}, shared, pointwise, provenance)


def _linked(kernels: Iterable[str], objects: Sequence[Path], work: Path) -> Elf:
    """work/probe.elf, linked with these kernels alone."""
    defines = [f"#define PROBE_{kernel.upper()}\n" for kernel in kernels]
    (work / "probe.h").write_text("".join([f"#define RUN_KERNELS {RUN_KERNELS}\n", *defines]))
    return build_elf(
        model_sources=[],
        runtime_sources=objects,
        harness_sources=[Path(str(resources.files("dtmm.latency"))) / "code_probe.c"],
        out_elf=work / "probe.elf",
        include_dirs=[runtime_c.include_dir(), work],
    )
