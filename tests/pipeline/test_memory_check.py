"""Flash and SRAM as scheduled, planned and measured: what differs is named, forged or not."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import pytest

from dtmm.deploy.arena import ArenaPlan
from dtmm.pipeline.memory_check import MemoryCheck, check_memory
from dtmm.storage import StorageSize

STORED, CODE, SHARED, ARENA, STACK = 100_000, 3_000, 30_000, 40_000, 1_000
KERNELS = {"a": "conv_fwcs_c16_1x8", "b": "conv_fwcs_c16_1x8", "c": "conv_dense"}


def check(
    flash: dict[str, int] | None = None, sram: dict[str, int] | None = None, **changes: object
) -> MemoryCheck:
    """A network of three layers whose figures are right but for what is given."""
    problem = SimpleNamespace(
        fixed_flash=SHARED, fixed_sram=STACK, kernel_code={"conv_fwcs_c16_1x8": CODE}
    )
    found = SimpleNamespace(flash=STORED + CODE + SHARED, sram=ARENA + STACK, kernels=KERNELS)
    deployment = SimpleNamespace(
        size=StorageSize(weights=90_000, index=4_000, parameters=6_000),
        arena=ArenaPlan({}, {}, changes.pop("planned", ARENA), ARENA, changes.pop("live", ARENA)),
        layers=dict.fromkeys("abc"),
        kernels={**KERNELS, **changes.pop("kernels", {})},  # type: ignore[dict-item]
    )
    measured = SimpleNamespace(
        flash={"weights": 90_000, "index": 4_000, "parameters": 6_000, "code": CODE + SHARED}
        | (flash or {}),
        sram={"arena": ARENA - 500, "scratch": 500, "stack": STACK} | (sram or {}),
    )
    return check_memory(problem, found, deployment, measured)  # type: ignore[arg-type]


def test_equal() -> None:
    found = check()
    assert found.agrees("flash")
    assert found.agrees("sram")
    assert [part.difference for part in found.parts] == [0] * 4
    assert found.sentences() == [
        "flash: 133,000 B scheduled, 133,000 B measured (+0.0%): they agree",
        "SRAM: 41,000 B scheduled, 41,000 B measured (+0.0%): they agree",
    ]


@pytest.mark.parametrize(
    ("flash", "sram", "changes", "memory", "why"),
    [
        ({"code": 25_000}, {}, {}, "flash", "an upper bound of what operators share"),
        ({"weights": 90_040}, {}, {}, "flash", "alignment of arrays"),
        ({}, {"arena": 44_500}, {"planned": 45_000}, "sram", r"time \(40,000 B\), .*gap"),
        ({}, {"arena": 39_514}, {"planned": 40_014, "live": 40_014}, "sram", "multiple of 16"),
        ({}, {"arena": 34_500}, {"planned": 35_000}, "sram", "largest scratch"),
        ({}, {"stack": 400}, {}, "sram", "sets 1,000 B aside"),
        ({"index": 4_010}, {}, {"kernels": {"b": "conv_fwcs"}}, "flash",
         "1 layers run on another kernel than scheduled, the first 'b' on conv_fwcs"),
    ],
)  # fmt: skip
def test_known_reasons(flash, sram, changes, memory: str, why: str) -> None:
    found = check(flash, sram, **changes)
    assert found.unexplained() == ()
    (part,) = (part for part in found.of(memory) if part.difference)
    assert part.why is not None
    assert re.search(why, part.why)
    assert part.why in "\n".join(found.sentences())


@pytest.mark.parametrize(
    ("flash", "sram", "part"),
    [
        ({"weights": 80_000}, {}, "weights, index, parameters"),
        ({"weights": 97_000}, {}, "weights, index, parameters"),
        ({"code": 40_000}, {}, "code"),
        ({}, {"arena": 30_000}, "arena with scratch"),
        ({}, {"stack": 2_000}, "stack"),
    ],
)
def test_a_forged_mismatch_is_reported(flash, sram, part: str) -> None:
    found = check(flash, sram)
    assert [each.part for each in found.unexplained()] == [part]
    text = "\n".join(found.sentences())
    assert "they differ by more than 1 %" in text
    assert f"{part}: " in text
    assert "UNEXPLAINED" in text
    assert found.to_dict()["unexplained"] == [part]


def test_parts_may_cancel_out_but_are_named() -> None:
    """A total that agrees hides nothing."""
    found = check({"weights": 85_000, "code": CODE + SHARED + 5_000})
    assert found.agrees("flash")
    assert len(found.unexplained()) == 2
    assert dataclasses.asdict(found)["parts"][0]["why"] is None
