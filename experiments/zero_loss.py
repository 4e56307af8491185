"""The scheduler at a loss of zero: kernels and storage of an int8 network that stays as it is.

What may be removed is what is exactly zero. A filterlet scores 1 where it has a weight and 0 where
it has none, and the budget of the loss is 0, so of every convolution's options the program may take
those that keep its non-zero filterlets:

- all of them, by the fastest kernel of a dense layer (a run kernel where one fits);
- all of them, by the looped dense kernel;
- those that are not zero, in FWCS.

Its table holds one of each filter alone as well, which only the budget forbids. Channels are no
choice: a dead one leaves beforehand (`dtmm.pruning.lossless.pack`), which costs nothing.

Without a limit that couples layers each of them could be decided alone, by the least of its
cycles; the tests compare with all combinations. Limits on flash couple them, since layers share
their kernels' code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dtmm.latency.base import CostModel
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import Point
from dtmm.network.ir import Network
from dtmm.planning import Levels, formulate, layout, required_points
from dtmm.planning.levels import Choices, ConvChoices, choices
from dtmm.pruning.importance import Importance
from dtmm.quantization import QuantizedNetwork
from dtmm.quantization.dequantize import dequantize
from dtmm.scheduler import Budgets, Problem
from dtmm.storage.kernel_ids import CONV_DENSE

LEVELS = Levels(channels=1, filterlets=2)
"""Everything, or one filterlet of each filter; `exact_choices` puts what is not zero between."""
STACK = 1024


def exact_choices(network: Network) -> Choices:
    """What may be chosen: see above.

    Args:
        network: folded; its zeros are those of the int8 network.
    """
    found = choices(network, LEVELS)
    convs = {
        conv.name: _with_exact(found.convs[conv.name], np.asarray(network.params[conv.weight]))
        for conv in network.convs()
    }
    return replace(found, convs=convs)


def _with_exact(choice: ConvChoices, weights: np.ndarray) -> ConvChoices:
    """The options of one convolution; unchanged where it has one kernel only."""
    counts = choice.filterlets[0]
    if len(counts) == 1:
        return choice
    every, sparse = int(counts.max()), choice.kernels[int(np.argmin(counts))]
    possible = zip(choice.kernels, counts.tolist(), choice.allowed[0, 0], strict=True)
    options = {(kernel, count): None for kernel, count, allowed in possible if allowed}
    # selection leaves every filter one filterlet, and so does the latency table: a dead filter
    # that must stay counts one more than FWCS will store
    needed = int(np.maximum(weights.any(axis=3).sum(axis=(1, 2)), 1).sum())
    options |= {(CONV_DENSE, every): None, (sparse, needed): None}
    ordered = sorted(options, key=lambda option: -option[1])
    return replace(
        choice,
        kernels=tuple(kernel for kernel, _ in ordered),
        filterlets=np.array([[count for _, count in ordered]], dtype=np.int64),
        allowed=np.ones((1, 1, len(ordered)), dtype=np.bool_),
    )


def zero_scores(network: Network, options: Choices) -> Importance:
    """1 for every filterlet that has a weight, 0 for one that has none."""
    return Importance(
        criterion="non-zero filterlets",
        channels={name: np.ones(int(counts[0])) for name, counts in options.levels.items()},
        filterlets={
            conv.name: np.asarray(network.params[conv.weight].any(axis=3), np.float64)
            for conv in network.convs()
        },
        aggregation="none",
        images=0,
    )


def zero_loss_points(packed: QuantizedNetwork) -> tuple[Point, ...]:
    """Every operator and option that the problem asks a cost model for."""
    network = dequantize(packed)
    return required_points(network, layout(network), LEVELS, exact_choices(network))


def zero_loss_problem(packed: QuantizedNetwork, cost_model: CostModel, code: CodeSize) -> Problem:
    """The fastest way to run an int8 network as it is.

    Args:
        packed: without dead channels. cost_model: answers `zero_loss_points(packed)`.
        code: bytes of every kernel.
    """
    network = dequantize(packed)
    options = exact_choices(network)
    kernels = {kernel for conv in options.convs.values() for kernel in conv.kernels}
    return formulate(
        network,
        zero_scores(network, options),
        cost_model,
        layout(network),
        Budgets(loss=0.0),
        LEVELS,
        code.kernels,
        fixed_flash=code.fixed(len(network.ops), kernels),
        fixed_sram=STACK,
        options=options,
    )
