"""Asks SLOTHY about blocks of instructions. Run by its own Python; see second_opinion.py.

Standard input: {"blocks": [[instruction, ...], ...], "timeout_s": seconds} as JSON. Standard
output: one line of JSON per block: cycles in the given order and in SLOTHY's best one, by SLOTHY's
model.

SLOTHY (slothy-optimizer/slothy, https://eprint.iacr.org/2022/1303) finds the order of least stalls
by constraint programming. Its Cortex-M55 model is no official one either. It lacks instructions
that our kernels need; ADDED gives each the figures of the nearest one that it has.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

arch: Any = importlib.import_module("slothy.targets.arm_v81m.arch_v81m")
target: Any = importlib.import_module("slothy.targets.arm_v81m.cortex_m55r1")
helper: Any = importlib.import_module("slothy.helper")
slothy: Any = importlib.import_module("slothy")

ADDED = (
    # pattern, reads, writes, reads and writes, like
    ("vmlava.<dt> <Rda>, <Qn>, <Qm>", "Qn Qm", "", "Rda", "vmlaldava"),
    ("vmlav.<dt> <Rd>, <Qn>, <Qm>", "Qn Qm", "Rd", "", "vmlaldava"),
    ("vqmovnb.<dt> <Qda>, <Qm>", "Qm", "", "Qda", "vshrnb"),
    ("vqmovnt.<dt> <Qda>, <Qm>", "Qm", "", "Qda", "vshrnt"),
    ("vqmovunb.<dt> <Qda>, <Qm>", "Qm", "", "Qda", "vshrnb"),
    ("vqadd.<dt> <Qd>, <Qn>, <Rm>", "Qn Rm", "Qd", "", "vadd_sv"),
    ("vqsub.<dt> <Qd>, <Qn>, <Rm>", "Qn Rm", "Qd", "", "vadd_sv"),
    ("vmov <Qd>, <Qm>", "Qm", "Qd", "", "vmov_vector"),
    ("vmov <Qd>[<index0>], <Qa>[<index1>], <Rt0>, <Rt1>", "Qa Rt0 Rt1", "", "Qd",
     "vmov_double_v2r"),
    ("vstrb.<dt> <Qd>, [<Rn>, <Qm>]", "Qd Qm Rn", "", "", "vstrw_scatter"),
    ("ldrh <Rt>, [<Rn>], <imm>", "", "Rt", "Rn", "ldrb_with_post"),
    ("str <Rt>, [<Rn>, <imm>]", "Rt Rn", "", "", "strd"),
    ("bic <Rd>, <Rn>, <imm>", "Rn", "Rd", "", "and_imm"),
    ("subs <Rd>, <Rn>, <imm>", "Rn", "Rd", "", "sub_imm"),
    ("mla <Rd>, <Rn>, <Rm>, <Ra>", "Rn Rm Ra", "Rd", "", "mul"),
)  # fmt: skip
STEADY = (20, 60)
"""Iterations whose difference is the cycles of one more, as for llvm-mca."""


def add_instructions() -> None:
    """Makes ADDED known to SLOTHY's parser and to its model of the core."""
    for number, (pattern, reads, writes, both, like) in enumerate(ADDED):
        fields = {"pattern": pattern, "inputs": reads.split(), "outputs": writes.split()}
        new = type(f"added_{number}", (arch.MVEInstruction,), {**fields, "in_outs": both.split()})
        if "[<Rn>" in pattern:
            setattr(new, "make", classmethod(_make_memory))  # noqa: B010
        arch.Instruction.all_subclass_leaves.append(new)
        old = getattr(arch, like)
        for table in (target.execution_units, target.inverse_throughput, target.default_latencies):
            value = next((v for k, v in table.items() if old == k or _within(old, k)), None)
            if value is not None:
                table[new] = value


def _within(wanted: type, key: Any) -> bool:
    return isinstance(key, tuple) and wanted in key


def _make_memory(cls: Any, source: str) -> Any:
    """An instruction whose address register SLOTHY must know."""
    made = arch.MVEInstruction.build(cls, source)
    made.increment = made.immediate if "]," in cls.pattern else None
    made.pre_index = made.immediate if "]," not in cls.pattern else None
    made.addr = (made.args_in_out or made.args_in[-1:])[0]
    return made


def spelled(text: str) -> str:
    """An instruction as SLOTHY's parser wants it."""
    text = text.replace(".w ", " ").replace("uxtw", "UXTW")
    text = re.sub(r"\blr\b", "r14", re.sub(r"\bsp\b", "r13", text))
    text = re.sub(r"^(add|sub) (r\d+), ([r#]\w+)$", r"\1 \2, \2, \3", text)
    return re.sub(r"\[(r\d+)\]$", r"[\1, #0]", text) if text.startswith("str") else text


@functools.cache
def _latency(source: str, output: int, user: str) -> int:
    return int(target.get_latency(_parsed(source), output, _parsed(user)))


@functools.cache
def _parsed(text: str) -> Any:
    return arch.Instruction.parser(helper.SourceLine(text))[0]


@functools.cache
def _units(text: str) -> tuple[list[int], int]:
    """(interchangeable units, cycles that one is occupied)"""
    units = [unit.value[0] for unit in target.get_units(_parsed(text))]
    return units, int(target.get_inverse_throughput(_parsed(text)))


def in_order(block: Sequence[str], iterations: int) -> int:
    """Cycles of the block in this order, in a loop, by SLOTHY's latencies, units and hazard."""
    written: dict[str, tuple[int, str, int]] = {}
    free: dict[int, int] = {}
    store = -9
    cycle = -1
    for text in list(block) * iterations:
        made = _parsed(text)
        cycle += 1
        for register in (*made.args_in, *made.args_in_out):
            if register in written:
                at, source, output = written[register]
                cycle = max(cycle, at + _latency(source, output, text))
        units, occupied = _units(text)
        unit = min(units, key=lambda each: free.get(each, 0))
        cycle = max(cycle, free.get(unit, 0))
        if made.is_load() and cycle == store + 2:
            cycle += 1
        if made.is_vector_store():
            store = cycle
        free[unit] = cycle + occupied
        for output, register in enumerate((*made.args_out, *made.args_in_out)):
            written[register] = (cycle, text, output)
    return max(cycle + 1, *free.values())


def steady(block: Sequence[str]) -> float:
    """Cycles of one more iteration."""
    few, many = (in_order(block, n) for n in STEADY)
    return (many - few) / (STEADY[1] - STEADY[0])


def bound(block: Sequence[str]) -> int:
    """Cycles that the issue slot and the busiest unit need."""
    busy: dict[int, int] = {}
    for text in block:
        units, occupied = _units(text)
        if len(units) == 1:
            busy[units[0]] = busy.get(units[0], 0) + occupied
    return max(len(block), *busy.values())


def best_order(block: Sequence[str], timeout_s: int) -> list[str] | None:
    """SLOTHY's order of least stalls, registers as they are; None when it found none in time."""
    tool = slothy.Slothy(arch, target, logger=logging.getLogger("quiet"))
    tool.load_source_raw("\n".join(["start:", *block, "end:", ""]))
    config = tool.config
    config.variable_size = True
    config.constraints.allow_renaming = False
    config.constraints.stalls_first_attempt = 4
    config.inputs_are_outputs = True
    config.outputs = sorted({r for text in block for r in _all_written(text)})
    config.reserved_regs = []
    config.allow_useless_instructions = True
    config.selftest = False
    config.timeout = timeout_s
    config.retry_timeout = timeout_s
    try:
        tool.optimize(start="start", end="end")
    except Exception as error:  # SLOTHY raises its own kinds, plain ones too
        print(f"SLOTHY: {error}", file=sys.stderr)
        return None
    lines = [line.split("//")[0].strip() for line in tool.get_source_as_string().splitlines()]
    return [line for line in lines if line and not line.endswith(":")]


def _all_written(text: str) -> Iterator[str]:
    made = _parsed(text)
    yield from (*made.args_out, *made.args_in_out)


def opinion(texts: Sequence[str], timeout_s: int) -> dict[str, Any]:
    """What SLOTHY says about one block."""
    block = [spelled(text) for text in texts]
    unknown = [text for text in block if not _known(text)]
    if unknown:
        return {"unknown": unknown}
    found: dict[str, Any] = {
        "bound": bound(block),
        "given": steady(block),
        "best": None,
        "order": None,
    }
    order = best_order(block, timeout_s)
    if order is not None:
        found |= {"best": steady(order), "order": order}
    return found


def _known(text: str) -> bool:
    try:
        _parsed(text)
    except arch.ParsingException:
        return False
    return True


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    add_instructions()
    asked = json.load(sys.stdin)
    for each in asked["blocks"]:
        print(json.dumps(opinion(each, asked["timeout_s"])), flush=True)
