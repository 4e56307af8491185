"""LiteRT's reference kernels: equal in all but FULLY_CONNECTED, which they round once."""

from __future__ import annotations

import numpy as np
import pytest

from dtmm.network.ir import FullyConnected
from dtmm.quantization import run
from tests.quantization.oracles import calibrated, litert, random_network

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize("seed", range(24, 40))
def test_layers_equal_litert(seed: int) -> None:
    quantized, images = calibrated(random_network(seed), seed)
    ours, theirs = run(quantized, images, keep_all=True), litert(quantized, images)
    for op in quantized.ops:
        value = ours[op.output].astype(np.int64)
        difference = np.abs(value - theirs[op.output].reshape(value.shape)).max()
        assert difference <= (1 if isinstance(op, FullyConnected) else 0), op
