"""Flash and SRAM three times: as the schedule charged them, as planned, and as measured; and why
they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dtmm.deploy import Deployment, Measurement
from dtmm.scheduler import Problem, Schedule

TOLERANCE = 0.01
"""Of a memory's measured total: less is agreement."""

_PADDING = 15
"""Bytes before an array that begins at a multiple of 16."""


@dataclass(frozen=True)
class MemoryPart:
    """One part of a memory, in bytes.

    Attributes:
        memory: "flash" or "sram".
        scheduled: what the schedule was charged. planned: what the deployment says; None where
            only the ELF or the device knows. measured: from the ELF's sections, or on the device.
        why: what makes scheduled and measured differ; None where nothing known does.
    """

    memory: str
    part: str
    scheduled: float
    planned: float | None
    measured: float
    why: str | None

    @property
    def difference(self) -> float:
        """Measured less scheduled."""
        return self.measured - self.scheduled


@dataclass(frozen=True)
class MemoryCheck:
    """All parts of both memories."""

    parts: tuple[MemoryPart, ...]

    def of(self, memory: str) -> tuple[MemoryPart, ...]:
        """The parts of one memory."""
        return tuple(part for part in self.parts if part.memory == memory)

    def agrees(self, memory: str) -> bool:
        """Whether scheduled and measured totals differ by less than TOLERANCE."""
        parts = self.of(memory)
        difference = abs(sum(part.difference for part in parts))
        return difference <= TOLERANCE * sum(part.measured for part in parts)

    def unexplained(self) -> tuple[MemoryPart, ...]:
        """Parts that differ, no one knows why, by more than TOLERANCE of their memory."""
        return tuple(
            part
            for part in self.parts
            if part.why is None and abs(part.difference) > TOLERANCE * self._measured(part.memory)
        )

    def sentences(self) -> list[str]:
        """One per memory, and one per part that makes it differ."""
        lines = []
        for memory, name in (("flash", "flash"), ("sram", "SRAM")):
            parts = self.of(memory)
            scheduled, measured = sum(p.scheduled for p in parts), self._measured(memory)
            share = f"{(measured - scheduled) / measured:+.1%}" if measured else "nothing"
            verdict = "they agree" if self.agrees(memory) else "they differ by more than 1 %"
            lines.append(
                f"{name}: {scheduled:,.0f} B scheduled, {measured:,.0f} B measured ({share}): "
                f"{verdict}"
            )
            lines += [_reason(part) for part in parts if part.difference]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "parts": [asdict(part) for part in self.parts],
            "agrees": {memory: self.agrees(memory) for memory in ("flash", "sram")},
            "unexplained": [part.part for part in self.unexplained()],
            "sentences": self.sentences(),
        }

    def _measured(self, memory: str) -> float:
        return sum(part.measured for part in self.of(memory))


def check_memory(
    problem: Problem, found: Schedule, deployment: Deployment, measured: Measurement
) -> MemoryCheck:
    """What the problem charged its schedule, beside what became of it."""
    code = problem.fixed_flash + sum(
        (problem.kernel_code or {}).get(kernel, 0.0) for kernel in set(found.kernels.values())
    )
    stored = sum(measured.flash[part] for part in ("weights", "index", "parameters"))
    arena = measured.sram["arena"] + measured.sram["scratch"]
    flash, sram = measured.flash, measured.sram
    stack = problem.fixed_sram
    return MemoryCheck(
        (
            MemoryPart(
                "flash", "weights, index, parameters", found.flash - code, deployment.size.total,
                stored, _why_stored(deployment, flash, found),
            ),
            MemoryPart("flash", "code", code, None, flash["code"], _why_code(code, flash["code"])),
            MemoryPart(
                "sram", "arena with scratch", found.sram - stack, deployment.arena.bytes, arena,
                _why_arena(deployment, found.sram - stack, arena),
            ),
            MemoryPart("sram", "stack", stack, None, sram["stack"], _why_stack(stack, sram)),
        )
    )  # fmt: skip


def _why_stored(deployment: Deployment, flash: Mapping[str, int], found: Schedule) -> str | None:
    size = deployment.size
    arrays = 3 * len(deployment.layers)
    for part in ("weights", "index", "parameters"):
        planned = getattr(size, part)
        if not 0 <= flash[part] - planned <= _PADDING * arrays:
            return None
    other = [
        name for name, kernel in deployment.kernels.items() if found.kernels.get(name) != kernel
    ]
    if other:
        return (
            f"{len(other)} layers run on another kernel than scheduled, the first {other[0]!r} on "
            f"{deployment.kernels[other[0]]}"
        )
    return "alignment of arrays, tables of operators that are no convolution, patterns of FWCS"


def _why_code(scheduled: float, measured: float) -> str | None:
    if measured > scheduled:
        return None
    return "the schedule charges an upper bound of what operators share and of each step's call"


def _why_arena(deployment: Deployment, scheduled: float, measured: float) -> str | None:
    plan = deployment.arena
    if measured != plan.bytes:
        return None
    if measured > scheduled and plan.bytes == plan.lower_bound:
        return "in the plan every buffer and scratch takes a multiple of 16 bytes"
    if measured > scheduled:
        return (
            f"the schedule charges what lives at a time ({plan.lower_bound:,} B), the plan places "
            "it in one block with gaps"
        )
    return "the schedule charges the largest scratch that a pattern may need"


def _why_stack(scheduled: float, sram: Mapping[str, int]) -> str | None:
    if sram["stack"] > scheduled:
        return None
    return f"budget.stack sets {scheduled:,.0f} B aside, the deepest inference used fewer"


def _reason(part: MemoryPart) -> str:
    planned = "" if part.planned is None else f", {part.planned:,.0f} B planned"
    why = part.why or "UNEXPLAINED: firmware and plan do not fit together"
    return (
        f"  {part.part}: {part.scheduled:,.0f} B scheduled{planned}, {part.measured:,.0f} B "
        f"measured: {why}"
    )
