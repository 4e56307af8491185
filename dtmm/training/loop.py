"""The training loop that dense training and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dtmm.data.dataset import Dataset, Floats, Images, Labels

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""loss(images, logits, labels) -> scalar."""


@dataclass(frozen=True)
class LoopConfig:
    """SGD with Nesterov momentum; the rate rises over the share `warmup`, then follows a cosine.

    Attributes:
        epochs: passes; images_per_epoch: training images per pass (None: all).
        batch: images per step. lr: peak learning rate.
        shift: augmentation shifts images by up to this many pixels; flip: mirrors half of them.
        amp: bfloat16 autocast.
    """

    epochs: int
    images_per_epoch: int | None = None
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.15
    flip: bool = True
    shift: int = 2
    amp: bool = True
    seed: int = 0


def to_tensor(images: Floats) -> torch.Tensor:
    """[N, H, W, C] float32 to torch's [N, C, H, W] in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).permute(0, 3, 1, 2)


def batches(
    dataset: Dataset, config: LoopConfig, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled, augmented training batches of one epoch; a function of the seed and the epoch."""
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(len(dataset.train_labels))[: config.images_per_epoch]
    for start in range(0, len(order) - len(order) % config.batch or len(order), config.batch):
        chosen = order[start : start + config.batch]
        images = augment(dataset.train_images[chosen], rng, config)
        yield (
            to_tensor(dataset.to_input(images)),
            torch.from_numpy(dataset.train_labels[chosen]),
        )


def augment(images: Images, rng: np.random.Generator, config: LoopConfig) -> Images:
    """Mirror half of the images and shift each by its own offset; new pixels are 0."""
    count, height, width, _ = images.shape
    if config.flip:
        mirrored = rng.random((count, 1, 1, 1)) < 0.5
        images = np.where(mirrored, images[:, :, ::-1], images)
    if not config.shift:
        return images
    pad = config.shift
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = rng.integers(0, 2 * pad + 1, (count, 1, 1)) + np.arange(height)[:, None]
    columns = rng.integers(0, 2 * pad + 1, (count, 1, 1)) + np.arange(width)
    shifted: Images = padded[np.arange(count)[:, None, None], rows, columns]
    return shifted


def steps_per_epoch(dataset: Dataset, config: LoopConfig) -> int:
    """Number of batches that `batches` yields."""
    images = min(config.images_per_epoch or len(dataset.train_labels), len(dataset.train_labels))
    return max(images // config.batch, 1)


def train(
    module: nn.Module,
    dataset: Dataset,
    config: LoopConfig,
    loss: Loss,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train in place; leaves the module in eval mode.

    Args:
        after_step: called after every optimizer step (to hold masks).
        after_epoch: called with the epoch's number and mean training loss, module in eval mode.
        progress: called with (steps done, steps in all).
    """
    torch.manual_seed(config.seed)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    per_epoch = steps_per_epoch(dataset, config)
    total = per_epoch * config.epochs
    optimizer = torch.optim.SGD(
        module.parameters(), config.lr, config.momentum, 0.0, config.weight_decay, nesterov=True
    )
    warmup = max(int(total * config.warmup), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 1.0)
        * 0.5 * (1 + np.cos(np.pi * max(step - warmup, 0) / max(total - warmup, 1))),
    )  # fmt: skip
    for epoch in range(config.epochs):
        module.train()
        summed = 0.0
        for step, (images, labels) in enumerate(batches(dataset, config, epoch)):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.amp):
                value = loss(images, module(images), labels)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if after_step is not None:
                after_step()
            summed += value.item()
            if progress is not None:
                progress(epoch * per_epoch + step + 1, total)
        module.eval()
        if after_epoch is not None:
            after_epoch(epoch, summed / per_epoch)
    module.eval()


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Mean cross-entropy, in nats."""

    def loss(_: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)

    return loss


@torch.no_grad()
def accuracy(
    module: nn.Module, dataset: Dataset, images: Images, labels: Labels, batch: int = 500
) -> float:
    """Share of [N, H, W, C] uint8 images that the module, in eval mode, puts in their class."""
    module.eval()
    right = 0
    for start in range(0, len(labels), batch):
        logits = module(to_tensor(dataset.to_input(images[start : start + batch])))
        right += int((logits.argmax(1).numpy() == labels[start : start + batch]).sum())
    return right / len(labels)


@torch.no_grad()
def mean_loss(
    module: nn.Module, dataset: Dataset, images: Images, labels: Labels, batch: int = 500
) -> float:
    """Mean cross-entropy (nats) of the module, in eval mode, on [N, H, W, C] uint8 images."""
    module.eval()
    total = 0.0
    for start in range(0, len(labels), batch):
        logits = module(to_tensor(dataset.to_input(images[start : start + batch])))
        wanted = torch.from_numpy(labels[start : start + batch])
        total += float(F.cross_entropy(logits.float(), wanted, reduction="sum"))
    return total / len(labels)
