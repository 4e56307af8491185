"""What a block of instructions costs by rule, and what of it llvm-mca is asked for.

llvm-mca's Cortex-M55 scheduling model prices straight-line code; what it cannot know (branches,
loop ends, register lists, conditional execution) is priced by RULES, which are part of m55-v1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LISTS = "(push|pop|ldm|stm|vpush|vpop|vldm|vstm)"
_LISTED = re.compile(_LISTS)
_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"


@dataclass(frozen=True)
class Rule:
    """Instructions that llvm-mca does not price: the first matching rule decides.

    cycles: per instruction; per_register: besides, for each register of its list.
    """

    pattern: str
    cycles: float
    per_register: float
    why: str


# Kept from llvm-mca, which sees straight-line code only. The figures are part of m55-v1, frozen.
# Nobody has measured them on silicon one by one.
RULES: tuple[Rule, ...] = (
    Rule(r"(le|letp) ", 0, 0, "loop end: free in steady state, the loop is in the LO branch cache"),
    Rule(r"(wls|dls)", 1, 0, "loop start"),
    Rule(rf"(b|bl|bx|blx|cbz|cbnz|b({_CONDITIONS}))(\.w|\.n)? ", 1, 0, "branch issue"),
    Rule(_LISTS, 1, 1, "one memory access per register"),
    Rule(r"ldr(\.w)? pc", 1, 0, "branch through memory"),
    Rule(r"(bkpt|nop|dsb|isb|tbb|tbh|udf)", 1, 0, "issue slot"),
    Rule(r"it", 1, 0, "IT; the instructions under it cost 1 each (see price_block)"),
    Rule(r"$", 1, 0, "not decoded by llvm-objdump"),
)
_COMPILED = tuple((re.compile(rule.pattern), rule) for rule in RULES)
_LOOP_END = re.compile(r"(le|letp) ")


@dataclass(frozen=True)
class BlockPrice:
    """One block: `scheduled` goes to llvm-mca, `fixed` cycles come from RULES."""

    scheduled: tuple[str, ...]
    fixed: float
    ends_in_loop: bool


def price_block(instructions: Sequence[str]) -> BlockPrice:
    """Splits a block into what llvm-mca schedules and what RULES prices.

    An instruction under IT costs 1 cycle: llvm-mca would not know that it is conditional.
    """
    scheduled: list[str] = []
    fixed, under_it = 0.0, 0
    for text in instructions:
        rule = next((rule for pattern, rule in _COMPILED if pattern.match(text)), None)
        if rule is not None:
            fixed += rule.cycles
            if rule.per_register:
                fixed += rule.per_register * _registers(text)
        elif under_it:
            fixed += 1
        else:
            scheduled.append(text)
        under_it = len(text.split()[0]) - 1 if text.startswith("it") else max(under_it - 1, 0)
    ends_in_loop = bool(_LOOP_END.match(instructions[-1]))
    return BlockPrice(tuple(scheduled), fixed, ends_in_loop)


def _registers(text: str) -> int:
    """Registers in `{r4-r7, lr}`; a range of other names (none is known) counts 4."""
    count = 0
    match = re.search(r"\{(.*)\}", text)
    for part in match.group(1).split(",") if match else []:
        low, dash, high = part.strip().partition("-")
        if not dash:
            count += 1
        elif low[1:].isdigit() and high[1:].isdigit():
            count += int(high[1:]) - int(low[1:]) + 1
        else:
            count += 4
    return count


_GATHER = re.compile(r"v(?:ldr|str)[bhwd]\.[usf]?(\d+)\s+q\d+, \[(?:\w+, )?q\d")
"""A gather load or scatter store: a vector of offsets or of addresses. Its element's bits."""


def scatters(instructions: Sequence[str]) -> int:
    """Gather loads and scatter stores among the instructions."""
    return sum(bool(_GATHER.match(text)) for text in instructions)


def data_accesses(instructions: Sequence[str]) -> int:
    """Accesses of the 64-bit data bus: one for each load and store, two for a whole vector, one
    for each element of a gather or scatter and for each register of a list."""
    total = 0
    for text in instructions:
        gather = _GATHER.match(text)
        if gather:
            total += 128 // int(gather.group(1))
        elif _LISTED.match(text):
            total += _registers(text)
        elif "[" in text:
            total += 2 if text.split()[1].lstrip("{").startswith("q") else 1
    return total
