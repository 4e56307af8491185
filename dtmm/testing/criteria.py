"""What every importance criterion has to keep, as checks that a plug-in's own tests can run.

    import pytest
    from dtmm.testing.criteria import CHECKS
    from my_package import my_criterion

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_criterion(check):
        check(my_criterion)

A check takes a criterion (network, batches) -> Importance and raises AssertionError with a sentence
that says what is wrong. A second argument chooses the network, by default one with a residual, a
concatenation, a depthwise convolution and a flattened image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dtmm.data import Dataset
from dtmm.network.groups import channel_groups
from dtmm.network.ir import (
    Activate,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Network,
    Op,
    Reshape,
    Shape,
)
from dtmm.pruning.importance import Importance
from dtmm.pruning.registry import Criterion
from dtmm.training.batches import Batch, training_batches

Floats = npt.NDArray[np.float64]

IMAGES, BATCH = 24, 6


def every_unit_has_a_score(criterion: Criterion, network: Network | None = None) -> None:
    """One finite, non-negative float64 per channel of each group that can be pruned (a
    concatenation's are its segments') and per filterlet of each convolution; nothing else."""
    network = network or example_network()
    scores = criterion(network, _batches())
    channels = {
        group.name: (group.channels,)
        for group in channel_groups(network)
        if group.prunable and not group.segments
    }
    filterlets = {op.name: network.params[op.weight].shape[:3] for op in network.convs()}
    for what, found, expected in (
        ("channels", scores.channels, channels),
        ("filterlets", scores.filterlets, filterlets),
    ):
        shapes = {name: np.shape(values) for name, values in found.items()}
        _expect(shapes == expected, f"{what} have shapes {shapes}, expected {expected}")
        for name, values in found.items():
            _expect(values.dtype == np.float64, f"{what} of {name} are {values.dtype}")
            _expect(
                bool(np.isfinite(values).all() and (values >= 0).all()),
                f"{what} of {name} hold a negative or non-finite score",
            )


def the_network_is_not_changed(criterion: Criterion, network: Network | None = None) -> None:
    """Neither weights nor batch normalization statistics."""
    network = network or example_network()
    before = {key: values.copy() for key, values in network.params.items()}
    criterion(network, _batches())
    changed = [k for k, v in network.params.items() if not np.array_equal(v, before[k])]
    _expect(not changed, f"parameters {', '.join(changed)} were changed")


def the_same_again_gives_the_same(criterion: Criterion, network: Network | None = None) -> None:
    """Same network, same batches, same scores: a seed is part of the criterion."""
    network = network or example_network()
    one, other = (criterion(network, _batches()) for _ in range(2))
    _expect(_equal(one, other), "two calls with the same arguments give different scores")


def scores_differ_between_units(criterion: Criterion, network: Network | None = None) -> None:
    """Something is ranked: in no layer are all filterlets equal, nor in every group all channels
    (a criterion that reads batch normalization has nothing to say where there is none)."""
    network = network or example_network()
    scores = criterion(network, _batches())
    same = [name for name, values in scores.filterlets.items() if np.ptp(values) == 0]
    _expect(not same, f"all filterlets of {', '.join(same)} have the same score")
    ranked = [name for name, values in scores.channels.items() if np.ptp(values) > 0]
    _expect(bool(ranked), "no group's channels are ranked")


def pruned_filterlets_are_worth_nothing(
    criterion: Criterion, network: Network | None = None
) -> None:
    """A filterlet that is zero already scores 0, so that pruning can go on where it stopped."""
    network = network or example_network()
    conv = network.convs()[1]
    weight = network.params[conv.weight].copy()
    weight[1, 0, 2] = 0
    pruned = replace(network, params={**network.params, conv.weight: weight})
    score = criterion(pruned, _batches()).filterlets[conv.name][1, 0, 2]
    _expect(score == 0, f"a filterlet of zeros scores {score}, expected 0")


def batch_normalization_is_frozen(criterion: Criterion, network: Network | None = None) -> None:
    """If scores depend on the images, they depend on the running statistics too: with those of the
    batch a filter's scale would not matter, and its first-order terms would add up to nothing."""
    network = network or example_network()
    scores = criterion(network, _batches())
    if _equal(scores, criterion(network, _batches(seed=1))):
        return
    norm = next(op for op in network.ops if isinstance(op, BatchNorm))
    moved = network.params[norm.mean] + np.float32(0.5)
    other = replace(network, params={**network.params, norm.mean: moved})
    _expect(
        not _equal(scores, criterion(other, _batches())),
        "scores do not depend on the running statistics of batch normalization",
    )


def it_says_what_it_did(criterion: Criterion, network: Network | None = None) -> None:
    """A name, how batches were combined, and how many images were read, 0 only if none matter."""
    network = network or example_network()
    scores = criterion(network, _batches())
    _expect(bool(scores.criterion), "criterion is empty, expected its name")
    _expect(bool(scores.aggregation), "aggregation is empty, expected how batches are combined")
    _expect(
        0 <= scores.images <= IMAGES,
        f"images is {scores.images}, expected at most the {IMAGES} given",
    )
    if not scores.images:
        _expect(
            _equal(scores, criterion(network, _batches(seed=1))),
            "images is 0, but the scores depend on them",
        )


CHECKS: tuple[Callable[[Criterion], None], ...] = (
    every_unit_has_a_score,
    the_network_is_not_changed,
    the_same_again_gives_the_same,
    scores_differ_between_units,
    pruned_filterlets_are_worth_nothing,
    batch_normalization_is_frozen,
    it_says_what_it_did,
)
"""All checks."""


def example_network(seed: int = 0) -> Network:
    """8x8 images of 2 channels, 4 classes; every way in which channels are tied together."""
    net = _Net(seed)
    stem = net.unit("stem", "image", 6)
    block = net.norm(net.conv("block.second", net.unit("block.first", stem, 5), 6))
    joined = net.relu(net.put(Add("add", (block, stem), "add"), net.tensors[stem]))
    deep = net.relu(net.norm(net.depthwise("deep", joined)))
    parts = (net.unit("left", deep, 4, kernel=1), net.unit("right", deep, 3))
    concat = net.put(Concat("concat", parts, "concat"), (1, 8, 8, 7))
    last = net.unit("last", concat, 5)
    pooled = net.put(MaxPool2D("pool", last, "pool", (4, 4), (4, 4)), (1, 2, 2, 5))
    flat = net.put(Reshape("flat", pooled, "flat"), (1, 20))
    hidden = net.fully_connected("hidden", flat, 7, Activation.RELU)
    logits = net.fully_connected("classifier", hidden, 4, Activation.NONE)
    return Network("example", net.tensors, tuple(net.ops), net.params, ("image",), (logits,))


class _Net:
    """A network in the making; every method returns the tensor it made."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Shape] = {"image": (1, 8, 8, 2)}
        self.ops: list[Op] = []
        self.params: dict[str, npt.NDArray[np.float32]] = {}

    def put(self, op: Op, shape: Shape) -> str:
        self.ops.append(op)
        self.tensors[op.output] = shape
        return op.output

    def _param(self, key: str, values: Floats) -> str:
        self.params[key] = values.astype(np.float32)
        return key

    def conv(self, name: str, x: str, filters: int, kernel: int = 3) -> str:
        shape = (filters, kernel, kernel, self.tensors[x][-1])
        values = self.rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        weight = self._param(f"{name}.weight", values)
        pad = (kernel // 2,) * 4
        return self.put(Conv2D(name, x, name, weight, None, padding=pad), (1, 8, 8, filters))

    def depthwise(self, name: str, x: str) -> str:
        values = self.rng.normal(0, 0.5, (self.tensors[x][-1], 3, 3, 1))
        weight = self._param(f"{name}.weight", values)
        op = DepthwiseConv2D(name, x, name, weight, None, padding=(1, 1, 1, 1))
        return self.put(op, self.tensors[x])

    def norm(self, x: str) -> str:
        channels, name = self.tensors[x][-1], f"{x}.norm"
        rng = self.rng
        op = BatchNorm(
            name,
            x,
            name,
            scale=self._param(f"{name}.scale", rng.uniform(0.5, 1.5, channels)),
            shift=self._param(f"{name}.shift", rng.normal(0, 0.5, channels)),
            mean=self._param(f"{name}.mean", rng.normal(0, 0.3, channels)),
            variance=self._param(f"{name}.variance", rng.uniform(0.5, 2.0, channels)),
        )
        return self.put(op, self.tensors[x])

    def relu(self, x: str) -> str:
        op = Activate(f"{x}.relu", x, f"{x}.relu", Activation.RELU)
        return self.put(op, self.tensors[x])

    def unit(self, name: str, x: str, filters: int, kernel: int = 3) -> str:
        return self.relu(self.norm(self.conv(name, x, filters, kernel)))

    def fully_connected(self, name: str, x: str, outputs: int, activation: Activation) -> str:
        inputs = self.tensors[x][-1]
        values = self.rng.normal(0, inputs**-0.5, (outputs, inputs))
        weight = self._param(f"{name}.weight", values)
        op = FullyConnected(name, x, name, weight, None, activation)
        return self.put(op, (1, outputs))


def _batches(seed: int = 0) -> Iterator[Batch]:
    """Noise, read once and in order; labels are the same for every seed."""
    images = np.random.default_rng(seed).integers(0, 256, (IMAGES, 8, 8, 2), dtype=np.uint8)
    labels = np.arange(IMAGES, dtype=np.int64) % 4
    data = Dataset("noise", images, labels, images[:1], labels[:1], tuple("abcd"), 0.5, 0.3)
    return training_batches(data, IMAGES, BATCH, seed=0)


def _equal(one: Importance, other: Importance) -> bool:
    return all(
        np.array_equal(mine[name], theirs[name])
        for mine, theirs in (
            (one.channels, other.channels),
            (one.filterlets, other.filterlets),
        )
        for name in mine
    )


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)
