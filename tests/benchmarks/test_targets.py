"""Verdicts on tables made for the purpose, and the section that is written into a document."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import shapes
from benchmarks.external import external_cycles
from benchmarks.kernels import SPARSITIES
from benchmarks.markdown import BEGIN, END, write_section
from benchmarks.targets import Target, judge
from dtmm.errors import DataError


def table(factor: float, fwcs: float = 1.0) -> pd.DataFrame:
    """Every cell at `factor` times the others' cycles; FWCS in proportion to what is kept."""
    others = external_cycles()
    rows = []
    for shape in shapes.all_shapes():
        name = {"conv": "conv_dense"}.get(shape.operator, shape.operator)
        cycles = factor * others["cmsis_nn", shape, 0]
        rows.append({"kernel": name, **shape.__dict__, "sparsity_pct": 0, "cycles": cycles})
        if shape in shapes.SPARSE:
            for pct in SPARSITIES:
                given = others.get(("prototype", shape, pct), cycles * (1 - pct / 100))
                row = {"kernel": "conv_fwcs", **shape.__dict__, "sparsity_pct": pct}
                rows.append({**row, "cycles": fwcs * given})
    made = pd.DataFrame(rows).assign(bound_cycles=1000, mac_per_cycle=1.0)
    parts = {"mac": 0.5, "requant": 0.25, "other": 0.15, "halo": 0.1}
    return made.assign(**{f"{k}_cycles": share * made["cycles"] for k, share in parts.items()})


def verdicts(targets: list[Target]) -> dict[str, bool | None]:
    return {target.name: target.passed for target in targets}


def test_half_of_cmsis_nn_passes_what_is_relative() -> None:
    found = verdicts(judge(table(0.5, fwcs=0.99)))
    assert found["FWCS against the prototype, every cell"] is True
    assert found["FWCS below the prototype"] is True
    assert found["dense 3x3 against CMSIS-NN, geometric mean"] is True
    assert found["dense 3x3, MAC/cycle from Cin 64 on"] is True
    assert found["add faster than CMSIS-NN"] is True
    assert found["pooling faster than CMSIS-NN"] is True


def test_just_above_each_limit_fails() -> None:
    found = verdicts(judge(table(1.001, fwcs=1.2)))  # FWCS at 10 %: 1.2 * 0.9 of dense
    assert set(found.values()) == {False}
    found = verdicts(judge(table(1.0, fwcs=1.031)))
    assert found["FWCS against the prototype, every cell"] is False
    assert found["FWCS no slower than dense at 10 % removed, Cin >= 32"] is True
    found = verdicts(judge(table(0.621, fwcs=1.029)))
    assert found["FWCS against the prototype, every cell"] is True
    assert found["FWCS below the prototype"] is False
    assert found["dense 3x3 against CMSIS-NN, geometric mean"] is False
    assert found["dense 3x3, MAC/cycle from Cin 64 on"] is True


def test_the_fastest_kernel_of_a_family_counts() -> None:
    slow = table(2.0)
    fast = slow.assign(cycles=slow["cycles"] / 4)
    fast["kernel"] = fast["kernel"].replace({"conv_dense": "conv_dense_c64"})
    found = judge(pd.concat([slow, fast]))
    name = "dense 3x3 against CMSIS-NN, geometric mean"
    assert next(target for target in found if target.name == name).found == "0.500x"


def test_missing_rows_are_no_verdict() -> None:
    some = table(0.5)
    found = verdicts(judge(some[some["operator"] != "depthwise"]))
    assert found["depthwise faster than CMSIS-NN"] is None
    assert found["add faster than CMSIS-NN"] is True


def test_a_document_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "kernels.md"
    document.write_text(f"# Kernels\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    data = table(0.5)
    for _ in range(2):  # a second time replaces the first
        write_section(document, data, judge(data), {"cycle_model": "m55-v1/llvm-19"})
    text = document.read_text()
    assert text.startswith("# Kernels\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    assert text.count("| 16, 64, 64 | 1,787 | 893 | 1,303 |") == 1
    assert text.count("| 16, 64, 64 | 75 | 10 | 50 | 25 | 15 | 1.00 | 438.00 |") == 1
    assert text.count("| add 8x8, 64 | 51.3 | 25.7 | 0.50x | - | 25.66 |") == 1
    document.write_text("no marks")
    with pytest.raises(DataError, match="lacks the lines"):
        write_section(document, data, judge(data), {})
