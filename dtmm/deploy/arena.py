"""Where every activation lies in the one arena: offsets for buffers with known lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dtmm.planning.nouns import Layout
from dtmm.storage.stored import VECTOR_BYTES


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets in bytes from the start of the arena, all multiples of 16.

    Attributes:
        buffers: per buffer of the layout.
        scratch: per operator that needs scratch memory.
        bytes: size of the arena, scratch included.
        tensor_bytes: what the arena would be without scratch; the rest exists for scratch alone.
        lower_bound: largest sum of what is live at one step; no plan can be smaller.
    """

    buffers: Mapping[str, int]
    scratch: Mapping[str, int]
    bytes: int
    tensor_bytes: int
    lower_bound: int


@dataclass(frozen=True)
class Block:
    """Something that needs `size` bytes from step `first` to step `last`, both included.

    `size` is a multiple of 16.
    """

    name: str
    size: int
    first: int
    last: int
    is_scratch: bool = False  # tells an operator's scratch from a buffer of the same name

    def overlaps(self, other: Block) -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last


_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (b.first, -b.size),
    lambda b: (-(b.last - b.first), -b.size),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
    lambda b: (-b.last, -b.size),
)
"""No single order is best; first fit is so cheap that all are tried."""


def plan_arena(
    layout: Layout, channels: Mapping[str, int], scratch: Mapping[str, int]
) -> ArenaPlan:
    """First-fit offsets in several orders; the smallest arena wins.

    Args:
        layout: buffers and the steps at which they live.
        channels: kept channels per buffer.
        scratch: bytes per operator; absent means none.
    """
    tensors = _tensor_blocks(layout, channels)
    blocks = tensors + _scratch_blocks(layout, scratch)
    offsets = _best_plan(blocks)
    size = _end(blocks, offsets)
    return ArenaPlan(
        buffers={b.name: offsets[b] for b in tensors},
        scratch={b.name: offsets[b] for b in blocks[len(tensors) :]},
        bytes=size,
        tensor_bytes=min(size, _end(tensors, _best_plan(tensors))),
        lower_bound=lower_bound(blocks),
    )


def arena_blocks(
    layout: Layout, channels: Mapping[str, int], scratch: Mapping[str, int]
) -> list[Block]:
    """What `plan_arena` places, for other planners to try."""
    return _tensor_blocks(layout, channels) + _scratch_blocks(layout, scratch)


def lower_bound(blocks: list[Block]) -> int:
    """The largest sum of what is live at one step; no plan can be smaller."""
    steps = {block.first for block in blocks}
    return max(
        (sum(b.size for b in blocks if b.first <= step <= b.last) for step in steps), default=0
    )


def _best_plan(blocks: list[Block]) -> dict[Block, int]:
    plans = [_first_fit(sorted(blocks, key=order)) for order in _ORDERS]
    return min(plans, key=lambda plan: _end(blocks, plan))


def _tensor_blocks(layout: Layout, channels: Mapping[str, int]) -> list[Block]:
    blocks = []
    for name, buffer in layout.buffers.items():
        live = [n for n, step in enumerate(layout.steps) if name in step.live]
        blocks.append(Block(name, _aligned(buffer.bytes(channels[name])), live[0], live[-1]))
    return blocks


def _scratch_blocks(layout: Layout, scratch: Mapping[str, int]) -> list[Block]:
    return [
        Block(step.op, _aligned(scratch[step.op]), n, n, is_scratch=True)
        for n, step in enumerate(layout.steps)
        if scratch.get(step.op, 0)
    ]


def _aligned(size: int) -> int:
    return -(-size // VECTOR_BYTES) * VECTOR_BYTES


def _end(blocks: list[Block], offsets: Mapping[Block, int]) -> int:
    return max((offsets[b] + b.size for b in blocks), default=0)


def _first_fit(blocks: list[Block]) -> dict[Block, int]:
    placed: dict[Block, int] = {}
    for block in blocks:
        offset = 0
        for other in sorted((b for b in placed if b.overlaps(block)), key=placed.__getitem__):
            if offset + block.size <= placed[other]:
                break
            offset = max(offset, placed[other] + other.size)
        placed[block] = offset
    return placed
