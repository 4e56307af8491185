"""Batch normalization put into a folded network: the same function, and folded the same network."""

from __future__ import annotations

import numpy as np
import torch

from dtmm.network.fold import fold
from dtmm.network.ir import BatchNorm, Conv2D, DepthwiseConv2D
from dtmm.training.executor import Executor
from dtmm.training.loop import to_tensor
from dtmm.training.normalize import with_batch_norm
from tests.quantization.graphs import random_graph


def test_it_computes_the_same_and_folds_back() -> None:
    for seed in range(8):
        network = random_graph(seed)
        shape = network.tensors["x"][1:]
        images = np.random.default_rng(seed).normal(size=(9, *shape)).astype(np.float32)
        normal = with_batch_norm(network, images)
        convs = [op for op in network.ops if isinstance(op, Conv2D | DepthwiseConv2D)]
        assert sum(isinstance(op, BatchNorm) for op in normal.ops) == len(convs)
        with torch.no_grad():
            expected = Executor(network).eval()(to_tensor(images))
            found = Executor(normal).eval()(to_tensor(images))
        assert (found - expected).abs().max() < 1e-3 * max(1, expected.abs().max()), seed
        again = fold(normal)
        assert [op.output for op in again.ops] == [op.output for op in network.ops]
        folded = {op.name: op for op in again.ops}
        for op in convs:
            pairs = ((op.weight, folded[op.name].weight), (op.bias, folded[op.name].bias))
            for old, new in pairs:
                values = network.params[old]
                off = np.abs(again.params[new] - values).max()
                assert off < 1e-3 * max(1e-3, np.abs(values).max()), (seed, op)


def test_the_statistics_are_those_of_the_images() -> None:
    """Estimated anew on the same images in train mode, nothing changes."""
    network = random_graph(3)
    shape = network.tensors["x"][1:]
    images = np.random.default_rng(0).normal(size=(32, *shape)).astype(np.float32)
    executor = Executor(with_batch_norm(network, images))
    with torch.no_grad():
        still, batch = executor.eval()(to_tensor(images)), executor.train()(to_tensor(images))
    assert (still - batch).abs().max() < 1e-2 * max(1, still.abs().max())
