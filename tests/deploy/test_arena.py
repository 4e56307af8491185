"""The arena plan against brute force and against what must never overlap."""

from __future__ import annotations

from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from dtmm.deploy.arena import ArenaPlan, plan_arena
from dtmm.planning.nouns import Buffer, Layout, Step

lifetimes = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=6
)


def make(blocks: list[tuple[int, int, int]]) -> Layout:
    """A layout of buffers of `size` vectors that live from `first` for `more` further steps."""
    buffers = {f"b{n}": Buffer(None, 16, 1, size, 0, 16) for n, (size, _, _) in enumerate(blocks)}
    last = max(first + more for _, first, more in blocks)
    steps = tuple(
        Step(f"op{t}", tuple(f"b{n}" for n, (_, f, m) in enumerate(blocks) if f <= t <= f + m))
        for t in range(last + 1)
    )
    return Layout(buffers, {name: name for name in buffers}, steps)


def plan(layout: Layout, scratch: dict[str, int] | None = None) -> ArenaPlan:
    return plan_arena(layout, dict.fromkeys(layout.buffers, 16), scratch or {})


@given(lifetimes, st.integers(0, 100))
def test_live_memory_never_overlaps(blocks: list[tuple[int, int, int]], scratch: int) -> None:
    layout = make(blocks)
    needs = {"op0": scratch} if scratch else {}
    found = plan(layout, needs)
    for n, step in enumerate(layout.steps):
        spans = [(found.buffers[b], layout.buffers[b].bytes(16)) for b in step.live]
        if n == 0 and scratch:
            spans.append((found.scratch["op0"], scratch))
        spans.sort()
        for (start, size), (following, _) in pairwise(spans):
            assert start + size <= following
        assert all(start % 16 == 0 and start + size <= found.bytes for start, size in spans)
    assert found.lower_bound <= found.bytes
    assert found.tensor_bytes <= found.bytes


@given(lifetimes)
def test_close_to_the_best_first_fit(blocks: list[tuple[int, int, int]]) -> None:
    """Some order of first fit is optimal, so all orders give the optimum of a small case."""
    layout = make(blocks[:5])
    sizes = {name: buffer.bytes(16) for name, buffer in layout.buffers.items()}
    together = {(a, b) for step in layout.steps for a in step.live for b in step.live if a != b}
    best = min(first_fit(order, sizes, together) for order in permutations(sizes))
    assert plan(layout).bytes <= 1.25 * best


def first_fit(order: tuple[str, ...], sizes: dict[str, int], together: set[tuple[str, str]]) -> int:
    placed: dict[str, int] = {}
    for name in order:
        starts = [0, *(placed[b] + sizes[b] for b in placed)]
        placed[name] = min(
            start
            for start in starts
            if all(
                start + sizes[name] <= placed[b] or start >= placed[b] + sizes[b]
                for b in placed
                if (name, b) in together
            )
        )
    return max(placed[b] + sizes[b] for b in placed)


def test_scratch_beyond_the_tensors_is_told_apart() -> None:
    layout = make([(2, 0, 0), (1, 1, 0)])
    found = plan(layout, {"op1": 48})
    assert (found.tensor_bytes, found.bytes) == (32, 64)
