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

_ADDRESS = re.compile(r"\[(?:r|sp)")
_REGISTER = re.compile(r"\b(?:q\d|r1?\d|lr|sp)\b")
_MAC = ("vmladav", "vmladava", "vqrdmlah", "vqrdmulh")
_MODIFIES = ("vmladava", "vqrdmlah", "vqmovnb", "vqmovnt", "vqmovunb", "vmov")
"""Instructions that read what they write."""


@dataclass(frozen=True)
class Policy:
    """What goes first when several instructions could issue.

    order: MACs before loads or the other way round; other work comes last, except
    shared: to units that loads or MACs would never leave free, and
    slack: when its longest chain is within so many cycles of all that the busiest unit has to do.
    """

    order: tuple[str, ...]
    shared: tuple[str, ...]
    slack: int | None


POLICIES = (
    Policy(("mac", "load", "work"), ("mac",), 8),
    Policy(("load", "mac", "work"), ("mac", "memory"), 24),
    Policy(("mac", "load", "work"), ("mac",), None),
    Policy(("mac", "load", "work"), ("mac", "memory"), 8),
)
"""All are tried. Of 32 combinations these are as good for the run kernels as all together."""


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
        return _ADDRESS.search(self.text) is not None

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
    tried = (_Issue(block, before, height, policy).run() for policy in POLICIES)
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


class _Issue:
    """The core, cycle by cycle: which instruction it is given next by a policy."""

    def __init__(
        self,
        block: Sequence[Instruction],
        before: Sequence[Sequence[tuple[int, int]]],
        height: Sequence[int],
        policy: Policy,
    ) -> None:
        self.block, self.before, self.height, self.policy = block, before, height, policy
        self.queues: dict[str, list[int]] = {kind: [] for kind in policy.order}
        self.free = {"memory": 0, "mac": 0, "vector": 0, "scalar": 0}
        self.left = dict.fromkeys(self.free, 0)
        self.issued: dict[int, int] = {}
        for number, each in enumerate(block):
            self.queues[each.kind].append(number)
            self.left[each.unit] += each.occupied

    def run(self) -> Block:
        """The block in the order of issue."""
        lines: list[str] = []
        cycle = 0
        while len(lines) < len(self.block):
            number = next(self._candidates(cycle), None)
            if number is not None:
                each = self.block[number]
                self.issued[number] = cycle
                self.free[each.unit] = cycle + each.occupied
                self.left[each.unit] -= each.occupied
                self.queues[each.kind].remove(number)
                lines.append(each.text)
            cycle += 1
        return Block(tuple(lines), max(cycle, *self.free.values()))

    def _candidates(self, cycle: int) -> Iterator[int]:
        policy, work = self.policy, self.queues["work"]
        for i in work:
            if self.block[i].unit in policy.shared and self._possible(i, cycle):
                yield i
        for kind in ("work", *policy.order) if self._urgent() else policy.order:
            # loads of operands and MACs keep their order
            queue = self.queues[kind] if kind == "work" else self.queues[kind][:1]
            yield from (i for i in queue if self._possible(i, cycle))

    def _urgent(self) -> bool:
        work, slack = self.queues["work"], self.policy.slack
        if slack is None or not work:
            return False
        busiest = max(*self.left.values(), len(self.block) - len(self.issued))
        return max(self.height[i] for i in work) + slack >= busiest

    def _possible(self, number: int, cycle: int) -> bool:
        return self.free[self.block[number].unit] <= cycle and all(
            i in self.issued and self.issued[i] + delay <= cycle for i, delay in self.before[number]
        )
