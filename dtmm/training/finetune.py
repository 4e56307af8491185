"""Masked fine-tuning of a pruned network, optionally with its dense self as the teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from dtmm.config import FinetuneConfig
from dtmm.data import Dataset
from dtmm.network.ir import Network
from dtmm.training.calibrate import reestimate_batch_norm
from dtmm.training.executor import Executor
from dtmm.training.loop import LoopConfig, Loss, cross_entropy, train
from dtmm.training.masks import Masks


def finetune(
    network: Network,
    dataset: Dataset,
    config: FinetuneConfig,
    teacher: Network | None = None,
    progress: Callable[[int, int], None] | None = None,
    masks: Masks | None = None,
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

    Raises:
        UnsupportedError: the network has several inputs or outputs.
    """
    executor = Executor(reestimate_batch_norm(network, dataset, seed=config.seed), masks)
    loop = LoopConfig(
        epochs=config.epochs,
        images_per_epoch=config.images_per_epoch,
        batch=config.batch,
        lr=config.lr,
        weight_decay=config.weight_decay,
        flip=dataset.mirror,
        seed=config.seed,
    )
    loss = cross_entropy(config.label_smoothing)
    if teacher is not None and config.distill > 0:
        loss = distillation(loss, Executor(teacher), config.distill, config.temperature)
    train(executor, dataset, loop, loss, executor.apply_masks, None, progress)
    return reestimate_batch_norm(executor.to_network(), dataset, seed=config.seed)


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
