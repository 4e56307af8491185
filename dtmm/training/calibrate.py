"""What training images do in a float network: activation ranges, batch normalization statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from dtmm.data import Samples
from dtmm.errors import DtmmError
from dtmm.network.ir import Network
from dtmm.quantization.ranges import BINS, Histogram, min_max, range_method
from dtmm.training.batches import training_batches
from dtmm.training.executor import Executor, Watch
from dtmm.training.hardware import pick_device
from dtmm.training.loop import to_tensor

Ranges = dict[str, tuple[float, float]]


@torch.no_grad()
def activation_ranges(
    network: Network,
    images: npt.NDArray[np.float32],
    method: str = "minmax",
    batch: int = 256,
) -> Ranges:
    """How far the int8 codes of every tensor shall reach, from what the images do in the network.

    Args:
        network: a folded network (any float network works).
        images: [N, H, W, C] float32, preprocessed as in training.
        method: a name of `dtmm.quantization.ranges.RANGES`.
        batch: images per forward pass.

    Returns:
        Per tensor (low, high), inputs and outputs included.

    Raises:
        ConfigError: unknown method.
        DtmmError: there are no images, or a tensor is not finite.
    """
    choose = range_method(method)
    if len(images) == 0:
        raise DtmmError("activation ranges need at least 1 calibration image, got 0")
    spans: Ranges = {}

    def span(name: str, value: torch.Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(value))
        if not np.isfinite((low, high)).all():
            raise DtmmError(f"tensor '{name}' of '{network.name}' reaches {low}..{high}")
        old_low, old_high = spans.get(name, (low, high))
        spans[name] = (min(low, old_low), max(high, old_high))

    _watch(network, images, batch, span)
    if choose is min_max:
        return spans
    counts = {name: np.zeros(BINS) for name in spans}

    def count(name: str, value: torch.Tensor) -> None:
        low, high = spans[name]
        if high > low:
            found = torch.histc(value.float(), BINS, low, high)
            counts[name] += found.cpu().numpy().astype(np.float64)

    _watch(network, images, batch, count)
    return {
        name: choose(Histogram(low, high, counts[name])) if high > low else (low, high)
        for name, (low, high) in spans.items()
    }


def _watch(network: Network, images: npt.NDArray[np.float32], batch: int, watch: Watch) -> None:
    executor = Executor(network).eval()
    for start in range(0, len(images), batch):
        executor(to_tensor(images[start : start + batch]), watch=watch)


def reestimate_batch_norm(
    network: Network,
    dataset: Samples,
    images: int = 2048,
    seed: int = 0,
    batch: int = 128,
    device: str = "auto",
) -> Network:
    """The network with batch normalization statistics of its own on training images.

    Pruning shifts every later activation, so the dense statistics no longer fit: re-estimate before
    judging a pruned network. Weights do not change, so pruned filterlets stay pruned. A network
    without batch normalization (a folded one) comes back as it is.

    Args:
        images: different training images to average over, not augmented.
    """
    executor = Executor(network).to(pick_device(device))
    chosen = training_batches(dataset, images, batch, seed)
    reestimate_in_place(executor, (x for x, _ in chosen))
    return executor.to_network()


@torch.no_grad()
def reestimate_in_place(executor: Executor, batches: Iterable[torch.Tensor]) -> None:
    """Replaces the running statistics by the average over `batches` ([N, C, H, W] float each).

    Weights do not change. Leaves the executor in eval mode.
    """
    norms = executor.batch_norms()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to ask for a cumulative average
        norm.train()
    for images in batches:
        executor(images.to(executor.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    executor.eval()
