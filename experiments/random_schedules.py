"""Random schedules of one size: what estimators of the loss are judged on.

Every channel group and every convolution gets a random appetite for pruning; one common factor is
then raised until the schedule has the wanted bytes, or cycles. So schedules of one size differ in
where they prune, and nothing but an estimate of the loss tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.instance_costs import conv_cycles
from dtmm.errors import DtmmError
from dtmm.network.ir import Network
from dtmm.planning.levels import Choices
from dtmm.planning.loss import LossTables
from dtmm.planning.sizes import conv_flash
from dtmm.scheduler import Schedule
from dtmm.storage.kernel_ids import family

SPREAD = 0.7
"""Of the logarithm of appetites."""
STEPS = 40
"""Of the bisection."""

Size = Literal["bytes", "cycles"]


@dataclass(frozen=True)
class Draw:
    """A schedule, its decision as indices, and its size."""

    levels: dict[str, int]
    options: dict[str, int]
    bytes: float
    cycles: float


def draw(folded: Network, options: Choices, size: Size, wanted: float, seed: int) -> Draw:
    """A schedule of about `wanted` bytes of weights or cycles of convolutions.

    Cycles are those of the benchmark instances' formulas, so that no device is needed.

    Raises:
        DtmmError: the most pruned schedule is larger.
    """
    rng = np.random.default_rng(seed)
    groups = {name: rng.lognormal(0, SPREAD) for name in options.levels}
    convs = {name: rng.lognormal(-0.7, SPREAD) for name in options.convs}
    low, high = 0.0, 30.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = _at(folded, options, groups, convs, middle)
        if getattr(found, size) > wanted:
            low = middle
        else:
            high = middle
    found = _at(folded, options, groups, convs, high)
    if getattr(found, size) > wanted:
        raise DtmmError(
            f"no schedule of {folded.name!r} has {wanted:.0f} {size}, the smallest has "
            f"{getattr(found, size):.0f}"
        )
    return found


def _at(
    folded: Network,
    options: Choices,
    groups: dict[str, float],
    convs: dict[str, float],
    factor: float,
) -> Draw:
    levels: dict[str, int] = {}
    for name, counts in options.levels.items():  # a concatenation comes after its segments
        if name in options.segments:
            total = sum(int(options.levels[s][levels[s]]) for s in options.segments[name])
            levels[name] = int(np.flatnonzero(counts == total)[0])
        else:
            share = np.exp(-factor * groups[name])
            levels[name] = int(np.argmin(np.abs(counts - share * counts[0])))
    chosen = {}
    flash = cycles = 0.0
    for conv in folded.convs():
        choice = options.convs[conv.name]
        i, j = levels[choice.input_group], levels[choice.output_group]
        allowed = np.flatnonzero(choice.allowed[i, j])
        counts = choice.filterlets[j, allowed]
        target = counts.max() * np.exp(-factor * convs[conv.name])
        k = int(allowed[np.argmin(np.abs(counts - target))])
        chosen[conv.name] = k
        c_in, c_out = options.levels[choice.input_group][i], options.levels[choice.output_group][j]
        kept, kernel = choice.filterlets[j, k], choice.kernels[k]
        _, height, width, _ = folded.params[conv.weight].shape
        _, rows, columns, _ = folded.tensors[conv.output]
        flash += conv_flash(kernel, (height, width), int(c_in), int(c_out), int(kept))
        pixels, positions = rows * columns, height * width
        one = np.array([c_out]), np.array([kept])
        cycles += float(conv_cycles(family(kernel), pixels, int(c_in), *one, positions)[0])
    return Draw(levels, chosen, flash, cycles)


def dense(folded: Network, options: Choices) -> Draw:
    """Nothing pruned."""
    nothing = dict.fromkeys(options.levels, 0.0), dict.fromkeys(options.convs, 0.0)
    return _at(folded, options, *nothing, 0.0)


def schedule(options: Choices, drawn: Draw) -> Schedule:
    """What `select` reads: counts; totals other than these are not known here."""
    return Schedule(
        channels={name: int(options.levels[name][j]) for name, j in drawn.levels.items()},
        filterlets={
            name: int(choice.filterlets[drawn.levels[choice.output_group], drawn.options[name]])
            for name, choice in options.convs.items()
        },
        kernels={name: c.kernels[drawn.options[name]] for name, c in options.convs.items()},
        objective=drawn.cycles,
        bound=0.0,
        gap=1.0,
        status="feasible",
        solver="random",
        seconds=0.0,
        latency=drawn.cycles,
        flash=drawn.bytes,
        sram=0.0,
        loss=0.0,
    )


def table_loss(options: Choices, tables: LossTables, drawn: Draw) -> float:
    """Nats of a schedule by tables of a loss model."""
    groups = sum(float(tables.groups[name][j]) for name, j in drawn.levels.items())
    convs = sum(
        float(tables.convs[name][drawn.levels[choice.output_group], drawn.options[name]])
        for name, choice in options.convs.items()
    )
    return groups + convs
