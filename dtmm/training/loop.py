"""The training loop that dense training and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dtmm.data.samples import Floats, Images, Moves, Samples, Targets
from dtmm.training.hardware import (
    autocast,
    device_of,
    make_deterministic,
    pick_device,
    pick_precision,
)
from dtmm.training.optimizers import make_optimizer, rate
from dtmm.training.state import State, moving_average

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""loss(images, outputs, targets) -> scalar."""

Checkpoint = tuple[Path, str]
"""A file, and what identifies the run: a file of another run is overwritten, not taken up."""

_SEEDS_APART = 1_000_003
"""Epochs of one seed never meet those of another."""


@dataclass(frozen=True)
class LoopConfig:
    """How to train; the rate rises over the share `warmup`, then follows a cosine to 0.

    Attributes:
        epochs: passes; images_per_epoch: training images per pass (None: all).
        batch: images per step. optimizer: a name of `OPTIMIZERS`. lr: peak learning rate.
        ema: decay per step of a moving average of the weights, which then is the result; 0: none.
        patience: stop after as many epochs without a better validation; 0: never.
        shift: augmentation shifts images by up to this many pixels; flip: mirrors half of them.
        precision: "auto", "bf16", "fp16" or "fp32"; device: "auto", "cpu", "cuda" or "cuda:N".
    """

    epochs: int
    images_per_epoch: int | None = None
    batch: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.15
    ema: float = 0.0
    patience: int = 0
    flip: bool = True
    shift: int = 2
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0


def to_tensor(images: Floats) -> torch.Tensor:
    """[N, H, W, C] float32 to torch's [N, C, H, W] in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).permute(0, 3, 1, 2)


def batches(
    dataset: Samples, config: LoopConfig, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled, augmented training batches of one epoch; a function of the seed and the epoch."""
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(len(dataset.train_targets))[: config.images_per_epoch]
    for start in range(0, len(order) - len(order) % config.batch or len(order), config.batch):
        chosen = order[start : start + config.batch]
        moves = draw_moves(len(chosen), rng, config)
        images = move_images(dataset.train_images[chosen], moves, config.shift)
        yield (
            to_tensor(dataset.to_input(images)),
            torch.from_numpy(dataset.moved(dataset.train_targets[chosen], moves)),
        )


def draw_moves(count: int, rng: np.random.Generator, config: LoopConfig) -> Moves:
    """Mirror half of the images and shift each by its own offset."""
    still = np.zeros(count, dtype=np.int64)
    mirrored = rng.random(count) < 0.5 if config.flip else still.astype(np.bool_)
    if not config.shift:
        return Moves(mirrored, still, still)
    down, right = (config.shift - rng.integers(0, 2 * config.shift + 1, count) for _ in range(2))
    return Moves(mirrored, down, right)


def move_images(images: Images, moves: Moves, most: int) -> Images:
    """[N, H, W, C] moved by at most `most` pixels; new pixels are 0."""
    count, height, width, _ = images.shape
    if moves.mirrored.any():
        images = np.where(moves.mirrored[:, None, None, None], images[:, :, ::-1], images)
    if not most:
        return images
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    rows = (most - moves.down)[:, None, None] + np.arange(height)[:, None]
    columns = (most - moves.right)[:, None, None] + np.arange(width)
    shifted: Images = padded[np.arange(count)[:, None, None], rows, columns]
    return shifted


def steps_per_epoch(dataset: Samples, config: LoopConfig) -> int:
    """Number of batches that `batches` yields."""
    images = min(config.images_per_epoch or len(dataset.train_targets), len(dataset.train_targets))
    return max(images // config.batch, 1)


def train(
    module: nn.Module,
    dataset: Samples,
    config: LoopConfig,
    loss: Loss,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[int, float, nn.Module], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train in place on `config.device`; leaves the module there, in eval mode.

    Everything random follows from the seed and the number of the epoch, so that a run that was
    killed goes on from its checkpoint and ends with the very same weights.

    Args:
        after_step: called after every optimizer step (to hold masks).
        after_epoch: called with the epoch's number, its mean training loss and the module whose
            weights count (the moving average where there is one), in eval mode.
        progress: called with (steps done, steps in all).
        validate: scores that module after every epoch, higher is better; the best epoch's weights
            are the result. Never give it test images.
        checkpoint: where every epoch is saved, and a run is taken up again.

    Raises:
        ConfigError: unknown optimizer, precision or device.
        ArtifactError: the checkpoint is damaged or cannot be written.
    """
    device = pick_device(config.device)
    make_deterministic(device)
    dtype = pick_precision(config.precision, device)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(
        module,
        make_optimizer(
            config.optimizer, module.parameters(), config.lr, config.momentum, config.weight_decay
        ),
        torch.amp.GradScaler(device.type, enabled=dtype is torch.float16),
        moving_average(module, config.ema),
    )
    if checkpoint is not None:
        state.load(*checkpoint)
    per_epoch = steps_per_epoch(dataset, config)
    total = per_epoch * config.epochs
    for epoch in range(state.epoch, config.epochs):
        if state.has_stalled(config.patience):
            break
        torch.manual_seed(config.seed * _SEEDS_APART + epoch)
        module.train()
        summed = torch.zeros((), dtype=torch.float64, device=device)
        for i, (images, targets) in enumerate(batches(dataset, config, epoch)):
            step = epoch * per_epoch + i
            images, targets = images.to(device), targets.to(device)
            with autocast(device, dtype):
                value = loss(images, module(images), targets)
            state.step(value, rate(step, total, config.lr, config.warmup), after_step)
            summed += value.detach()
            if progress is not None:
                progress(step + 1, total)
        module.eval()
        state.result.eval()
        state.epoch = epoch + 1
        if validate is not None:
            state.judge(validate(state.result))
        if after_epoch is not None:
            after_epoch(epoch, summed.item() / per_epoch, state.result)
        if checkpoint is not None:
            state.save(*checkpoint)
    state.finish()
    module.eval()


def accuracy(
    module: nn.Module, dataset: Samples, images: Images, labels: Targets, batch: int = 500
) -> float:
    """Share of [N, H, W, C] uint8 images that the module, in eval mode, puts in their class."""
    return float(correct(module, dataset, images, labels, batch).mean())


@torch.no_grad()
def correct(
    module: nn.Module, dataset: Samples, images: Images, labels: Targets, batch: int = 500
) -> npt.NDArray[np.bool_]:
    """[N]: which of [N, H, W, C] uint8 images the module, in eval mode, puts in their class."""
    module.eval()
    device = device_of(module)
    right = np.zeros(len(labels), dtype=np.bool_)
    for start in range(0, len(labels), batch):
        logits = module(to_tensor(dataset.to_input(images[start : start + batch])).to(device))
        chosen = logits.argmax(1).cpu().numpy()
        right[start : start + batch] = chosen == labels[start : start + batch]
    return right
