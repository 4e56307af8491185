"""What training images do in a float network: activation ranges, batch normalization statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from dtmm.data import Dataset
from dtmm.errors import DtmmError
from dtmm.network.ir import Network
from dtmm.training.batches import training_batches
from dtmm.training.executor import Executor
from dtmm.training.hardware import pick_device
from dtmm.training.loop import to_tensor

Ranges = dict[str, tuple[float, float]]


@torch.no_grad()
def activation_ranges(
    network: Network, images: npt.NDArray[np.float32], batch: int = 256
) -> Ranges:
    """Smallest and largest value of every tensor over the calibration images.

    Args:
        network: a folded network (any float network works).
        images: [N, H, W, C] float32, preprocessed as in training.
        batch: images per forward pass.

    Returns:
        Per tensor (min, max), inputs and outputs included.

    Raises:
        DtmmError: there are no images, or a tensor is not finite.
    """
    if len(images) == 0:
        raise DtmmError("activation ranges need at least 1 calibration image, got 0")
    ranges: Ranges = {}

    def watch(name: str, value: torch.Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(value))
        if not np.isfinite((low, high)).all():
            raise DtmmError(f"tensor '{name}' of '{network.name}' reaches {low}..{high}")
        old_low, old_high = ranges.get(name, (low, high))
        ranges[name] = (min(low, old_low), max(high, old_high))

    executor = Executor(network).eval()
    for start in range(0, len(images), batch):
        executor(to_tensor(images[start : start + batch]), watch=watch)
    return ranges


def reestimate_batch_norm(
    network: Network,
    dataset: Dataset,
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
