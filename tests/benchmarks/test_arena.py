"""The optimal arena against brute force, and the kept table."""

from __future__ import annotations

import random
from itertools import permutations

from benchmarks.arena import LIMIT, NETWORKS, RESULTS, optimal_arena
from dtmm.deploy.arena import Block, lower_bound
from dtmm.table import read_table


def first_fit(order: tuple[Block, ...]) -> int:
    placed: dict[Block, int] = {}
    for block in order:
        starts = [0, *(placed[b] + b.size for b in placed)]
        placed[block] = min(
            start
            for start in starts
            if all(
                start + block.size <= placed[b] or start >= placed[b] + b.size
                for b in placed
                if b.overlaps(block)
            )
        )
    return max(placed[b] + b.size for b in placed)


def test_the_optimum_is_that_of_brute_force() -> None:
    """Some order of first fit is optimal."""
    rng = random.Random(3)
    for _ in range(12):
        blocks = []
        for n in range(5):
            first = rng.randint(0, 5)
            blocks.append(Block(f"b{n}", 16 * rng.randint(1, 9), first, first + rng.randint(0, 3)))
        best = min(first_fit(order) for order in permutations(blocks))
        assert optimal_arena(blocks) == (best, True)
        assert best >= lower_bound(blocks)


def test_the_kept_table_holds_every_network_near_its_optimum() -> None:
    table, about = read_table(RESULTS, text=("network",))
    assert set(table["network"]) == {entry.name for entry in NETWORKS}
    assert table["proven"].all()
    assert (table["arena_bytes"] <= LIMIT * table["optimum_bytes"]).all()
    assert (table["optimum_bytes"] >= table["lower_bound_bytes"]).all()
    assert about["solver"].startswith("HiGHS through PuLP")
