"""Masked fine-tuning of a pruned network, optionally with its dense self as the teacher."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F

from dtmm.artifact import fingerprint
from dtmm.config import FinetuneConfig
from dtmm.data import Samples
from dtmm.network.ir import Network
from dtmm.training.calibrate import reestimate_batch_norm
from dtmm.training.executor import Executor
from dtmm.training.hardware import pick_device
from dtmm.training.loop import LoopConfig, Loss, train
from dtmm.training.masks import Masks
from dtmm.training.tasks import task_of


def finetune(
    network: Network,
    dataset: Samples,
    config: FinetuneConfig,
    teacher: Network | None = None,
    progress: Callable[[int, int], None] | None = None,
    masks: Masks | None = None,
    checkpoint: Path | None = None,
) -> Network:
    """Trains what pruning left; filterlets that are exactly zero stay exactly zero.

    Batch normalization is re-estimated first and last: first because training from the dense
    statistics starts far off, last because the running averages lag behind the weights.

    Args:
        network: physically small, pruned filterlets zero (see `dtmm.pruning.removal.remove`).
        config: with 0 epochs only batch normalization is re-estimated.
        teacher: the dense network; `config.distill` is its share of the loss.
        progress: called with (steps done, steps in all).
        masks: weights that stay, where they are not whole filterlets (`dtmm.training.masks`).
        checkpoint: file in which every epoch is saved; the same call after a kill goes on from it
            and returns the very same network. It is left for the caller to delete.

    Raises:
        UnsupportedError: the network has several inputs or outputs.
        ConfigError: unknown optimizer, precision or device, or a teacher for a detector.
        DtmmError: masks that do not fit, or too few images to hold some out.
        ArtifactError: the checkpoint is damaged or cannot be written.
    """
    device = config.device
    split = dataset.hold_out(config.validation, config.seed) if config.validation else dataset
    start = reestimate_batch_norm(network, split, seed=config.seed, device=device)
    executor = Executor(start, masks)
    loop = LoopConfig(
        epochs=config.epochs,
        images_per_epoch=config.images_per_epoch,
        batch=config.batch,
        optimizer=config.optimizer,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        ema=config.ema,
        patience=config.patience,
        flip=dataset.mirror,
        precision=config.precision,
        device=device,
        seed=config.seed,
    )
    task = task_of(dataset)
    loss = task.training_loss(config.label_smoothing)
    if teacher is not None and config.distill > 0:
        task.require_distillation("finetune.distill", config.distill)
        judge = Executor(teacher).to(pick_device(device))
        loss = distillation(loss, judge, config.distill, config.temperature)

    identity = _identity(network, split, config, teacher, masks)

    def validate(result: torch.nn.Module) -> float:
        return task.score(result, split)

    train(
        executor,
        split,
        loop,
        loss,
        executor.apply_masks,
        progress=progress,
        validate=validate if config.validation else None,
        checkpoint=None if checkpoint is None else (checkpoint, identity),
    )
    return reestimate_batch_norm(executor.to_network(), split, seed=config.seed, device=device)


def _identity(
    network: Network,
    dataset: Samples,
    config: FinetuneConfig,
    teacher: Network | None,
    masks: Masks | None,
) -> str:
    """What a fine-tuning run depends on, as one hash."""
    networks = [fingerprint(each) for each in (network, teacher) if each is not None]
    held = [(name, mask.shape, mask.tobytes()) for name, mask in sorted((masks or {}).items())]
    return sha256(repr((networks, dataset.hash, config, held)).encode()).hexdigest()


def distillation(hard: Loss, teacher: torch.nn.Module, share: float, temperature: float) -> Loss:
    """(1 - share) * hard + share * T^2 * KL(teacher || student), both softened by T.

    Hinton et al. 2015, "Distilling the knowledge in a neural network"; T^2 keeps the size of the
    gradient whatever T is.
    """
    teacher = teacher.eval().requires_grad_(False)
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = F.log_softmax(teacher(images).float() / temperature, dim=1)
        student = F.log_softmax(logits.float() / temperature, dim=1)
        soft = F.kl_div(student, target, reduction="batchmean", log_target=True)
        return (1 - share) * hard(images, logits, labels) + share * temperature**2 * soft

    return loss
