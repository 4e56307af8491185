"""Orders the instructions of a block so that the Cortex-M55 executes them beside each other.

The core issues one of these instructions per cycle, in order, and has a unit for memory, one for
vector multiplications and one for other vector work. A vector instruction occupies its unit for
two cycles: a load, a MAC and every second cycle nothing else are the best it can do. So a block is
a list scheduling problem (resources, latencies, dependencies through registers), small enough for
a greedy solution: loads of operands and MACs keep their order, other work goes wherever there is
room. Figures are those of LLVM's scheduling model, which the cycle model m55-v1 uses as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_REGISTER = re.compile(r"\b(?:q\d|r1?\d|lr|sp)\b")
_MAC = ("vmladav", "vmladava", "vqrdmlah", "vqrdmulh")
_MODIFIES = ("vmladava", "vqrdmlah", "vqmovnb", "vqmovnt", "vqmovunb", "vmov")
"""Instructions that read what they write."""

Order = tuple[str, ...]
ORDERS: tuple[Order, ...] = (
    ("load", "mac", "work"), ("mac", "load", "work"), ("work", "load", "mac"), ("work", "mac", "load"),
)  # fmt: skip
"""Which kind of instruction goes first among those that could; all are tried."""


@dataclass(frozen=True)
class Instruction:
    """One line of assembly, and what its order depends on."""

    text: str

    @cached_property
    def name(self) -> str:
        """The mnemonic without its type."""
        return self.text.split()[0].partition(".")[0]

    @property
    def vector(self) -> bool:
        """Whether it works on a vector register; the transfer of two scalars takes one cycle."""
        return self.name.startswith("v") and self.name != "vmov"

    @property
    def memory(self) -> bool:
        """Whether it loads or stores."""
        return "[" in self.text.replace("[0]", "").replace("[1]", "").replace("[2]", "").replace(
            "[3]", ""
        )

    @property
    def unit(self) -> str:
        """What it occupies."""
        if self.memory:
            return "memory"
        return "mac" if self.name in _MAC else "vector" if self.name.startswith("v") else "scalar"

    @property
    def occupied(self) -> int:
        """For how many cycles."""
        return 2 if self.vector else 1

    @property
    def latency(self) -> int:
        """Cycles until its result can be used."""
        if self.memory:
            return 1 if self.vector else 2
        if self.name.startswith("vqmov"):
            return 3
        return 2 if self.vector or "lsl" in self.text else 1

    @cached_property
    def registers(self) -> tuple[frozenset[str], frozenset[str]]:
        """(read, written)"""
        named = _REGISTER.findall(self.text)
        results = 0 if "str" in self.name else 2 if self.name == "ldrd" else 1
        written, read = set(named[:results]), set(named[results:])
        if self.name in _MODIFIES:
            read |= written
        if "]!" in self.text or "], #" in self.text:
            written.add(named[-1])
        return frozenset(read), frozenset(written)

    @property
    def kind(self) -> str:
        """`mac`, `load` of an operand of one, or other `work`."""
        if self.name.startswith("vmladav"):
            return "mac"
        return "load" if self.name == "vldrw" and "sp" not in self.text else "work"


@dataclass(frozen=True)
class Block:
    """Ordered instructions, and the cycles they take one after the other."""

    lines: tuple[str, ...]
    cycles: int


def schedule(lines: Sequence[str]) -> Block:
    """The best order found of instructions that would be correct in the given one."""
    block = [Instruction(line) for line in lines]
    before = _dependencies(block)
    height = _heights(block, before)
    tried = (
        _order(block, before, height, order, slack, shared)
        for order in ORDERS for slack in (None, 0, 8, 24) for shared in (("mac",), ("mac", "memory"))
    )  # fmt: skip
    return min(tried, key=lambda each: each.cycles)


def _dependencies(block: Sequence[Instruction]) -> list[list[tuple[int, int]]]:
    """For each instruction those it must follow, with the cycles from issue to issue."""
    found: list[list[tuple[int, int]]] = []
    writer: dict[str, int] = {}
    readers: dict[str, list[int]] = {}
    for number, instruction in enumerate(block):
        read, written = instruction.registers
        edges = [(writer[r], block[writer[r]].latency) for r in read if r in writer]
        edges += [(reader, 0) for r in written for reader in readers.get(r, [])]
        edges += [(writer[r], 1) for r in written if r in writer]
        found.append([(i, delay) for i, delay in edges if i != number])
        for register in read:
            readers.setdefault(register, []).append(number)
        for register in written:
            writer[register] = number
            readers[register] = []
    return found


def _heights(
    block: Sequence[Instruction], before: Sequence[Sequence[tuple[int, int]]]
) -> list[int]:
    """Cycles from each instruction to the end along its longest chain."""
    height = [instruction.latency for instruction in block]
    for number in reversed(range(len(block))):
        for i, delay in before[number]:
            height[i] = max(height[i], delay + height[number])
    return height


def _order(
    block: Sequence[Instruction],
    before: Sequence[Sequence[tuple[int, int]]],
    height: Sequence[int],
    order: Order,
    slack: int | None,
    shared: Sequence[str],
) -> Block:
    """Cycle by cycle, the first instruction that can issue by kind.

    slack: other work comes first when its longest chain is within so many cycles of all that the
    busiest unit still has to do; None: never.
    """
    queues = {kind: [i for i, each in enumerate(block) if each.kind == kind] for kind in order}
    issued: dict[int, int] = {}
    free = {"memory": 0, "mac": 0, "vector": 0, "scalar": 0}
    rest = dict.fromkeys(free, 0)
    for each in block:
        rest[each.unit] += each.occupied

    def possible(i: int, cycle: int) -> bool:
        return free[block[i].unit] <= cycle and all(
            j in issued and issued[j] + delay <= cycle for j, delay in before[i]
        )

    def candidates(cycle: int) -> Iterator[int]:
        work = queues["work"]
        left = max(max(rest.values()), len(block) - len(issued))
        urgent = slack is not None and work and max(height[i] for i in work) + slack >= left
        # work on the units of loads and MACs would never get them if it waited
        yield from (i for i in work if block[i].unit in shared and possible(i, cycle))
        for kind in ("work", *order) if urgent else order:
            queue = queues[kind]
            yield from (i for i in (queue if kind == "work" else queue[:1]) if possible(i, cycle))

    lines, cycle = [], 0
    while len(issued) < len(block):
        i = next(candidates(cycle), None)
        if i is not None:
            each = block[i]
            issued[i] = cycle
            free[each.unit] = cycle + each.occupied
            rest[each.unit] -= each.occupied
            queues[each.kind].remove(i)
            lines.append(each.text)
        cycle += 1
    return Block(tuple(lines), max(cycle, *free.values()))
