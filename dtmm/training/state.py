"""Everything a training run carries from one epoch to the next, and its file on disk."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dtmm.artifact import write_atomic
from dtmm.errors import ArtifactError

Weights = dict[str, torch.Tensor]


@dataclass
class State:
    """What changes while training; all else follows from the settings, the seed and the epoch.

    Attributes:
        scaler: scales the loss where gradients are float16, else does nothing.
        average: exponential moving average of weights and statistics, None without one.
        epoch: epochs done.
        best, best_epoch, best_weights: of the best validation so far.
    """

    module: nn.Module
    optimizer: optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    epoch: int = 0
    best: float = -float("inf")
    best_epoch: int = 0
    best_weights: Weights = field(default_factory=dict)

    @property
    def result(self) -> nn.Module:
        """The module whose weights count: the average where there is one."""
        return self.module if self.average is None else self.average.module

    def step(self, loss: torch.Tensor, lr: float, after: Callable[[], None] | None) -> None:
        """One step of the optimizer down the gradient of `loss`, at rate `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if after is not None:
            after()
        if self.average is not None:
            self.average.update_parameters(self.module)

    def has_stalled(self, patience: int) -> bool:
        """Whether the last `patience` (0: never) validations were no better than one before."""
        return bool(self.best_weights) and 0 < patience <= self.epoch - self.best_epoch

    def judge(self, score: float) -> None:
        """Keeps the weights of the epoch just done if no earlier one scored as high."""
        if score > self.best:
            self.best, self.best_epoch = score, self.epoch
            self.best_weights = copy.deepcopy(self.result.state_dict())

    def finish(self) -> None:
        """Gives the module the weights that count: the best epoch's, else the last ones."""
        weights = self.best_weights or self.result.state_dict()
        self.module.load_state_dict(weights)

    def save(self, path: Path, identity: str) -> None:
        """Write everything in one step.

        Args:
            identity: says which run this is (`load` takes no other's).

        Raises:
            ArtifactError: the file cannot be written.
        """
        content = {name: getattr(self, name) for name in _PLAIN}
        content |= {name: part.state_dict() for name, part in self._parts().items()}
        buffer = io.BytesIO()
        torch.save({"identity": identity, **content}, buffer)
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path, identity: str) -> None:
        """Go on from where the run called `identity` was saved; another run's file is ignored.

        Raises:
            ArtifactError: the file is damaged.
        """
        if not path.is_file():
            return
        try:
            content = torch.load(path, weights_only=True)
            found = content["identity"]
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError):
            raise ArtifactError(
                f"{path} is not a training checkpoint: delete it to start again"
            ) from None
        if found != identity:
            return
        for name, part in self._parts().items():
            part.load_state_dict(content[name])
        for name in _PLAIN:
            setattr(self, name, content[name])

    def _parts(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("module", "optimizer", "scaler", "average")}
        return {name: part for name, part in parts.items() if part is not None}


_PLAIN = ("epoch", "best", "best_epoch", "best_weights")


def moving_average(module: nn.Module, decay: float) -> AveragedModel | None:
    """The average of `module` over about the last 1 / (1 - decay) steps; None for a decay of 0."""
    if decay == 0:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
