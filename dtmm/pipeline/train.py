"""`dtmm train`: a dense float checkpoint and the log of how it was trained."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dtmm.artifact import write_atomic
from dtmm.config import Config
from dtmm.data import load_samples
from dtmm.errors import ArtifactError
from dtmm.models import build_model, load_checkpoint, save_checkpoint
from dtmm.pipeline.progress import Progress
from dtmm.training.dense import Epoch, train_dense
from dtmm.training.loop import LoopConfig
from dtmm.training.tasks import task_of


def train_checkpoint(config: Config, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Train `config.model` on `config.data`, write the checkpoint and, beside it, its log (CSV).

    It begins with the weights of `config.model.checkpoint` where one is given, else with random
    ones. The checkpoint's metadata has the command that made it, and as "began" the command that
    made the one it began with.

    Every epoch is saved beside them (.pt, deleted at the end): the same call after a kill goes on
    from there.

    Raises:
        DtmmError: unknown model or dataset, missing files, or a path that cannot be written.
    """
    out = out or Path("checkpoints") / f"{config.model.name}_{config.data.name}.safetensors"
    dataset = load_samples(config.data.name, config.data.folder)
    measure = task_of(dataset).measure
    settings = config.train
    torch.manual_seed(settings.seed)
    module = build_model(config.model.name, dataset)
    began = _begin(module, config.model.checkpoint)
    loop = LoopConfig(
        epochs=settings.epochs,
        images_per_epoch=settings.images_per_epoch,
        batch=settings.batch,
        optimizer=settings.optimizer,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        flip=dataset.mirror,
        precision=settings.precision,
        device=settings.device,
        seed=settings.seed,
    )
    table, saved = out.with_suffix(".csv"), out.with_suffix(".pt")
    lines = _from_csv(table) if saved.is_file() and table.is_file() else []
    if not lines:  # of a run whose log is gone nothing could be said
        saved.unlink(missing_ok=True)

    def keep(epoch: Epoch) -> None:
        lines[:] = [*(line for line in lines if line.epoch < epoch.epoch), epoch]
        write_atomic(table, _as_csv(lines))
        progress.line(
            f"epoch {epoch.epoch + 1}: loss {epoch.loss:.4f}, test {measure} "
            f"{100 * epoch.accuracy:.2f} % ({epoch.seconds:.0f} s)"
        )

    run = sha256(repr((config.model.name, dataset.hash, loop, began)).encode()).hexdigest()
    with progress.bar("training") as bar:
        log = train_dense(
            module,
            dataset,
            loop,
            progress=bar,
            on_epoch=keep,
            checkpoint=(saved, run),
            earlier=tuple(lines),
        )
    command = (
        f"dtmm train --out {out} model.name={config.model.name} data.name={config.data.name} "
        f"train.epochs={settings.epochs} train.batch={settings.batch} train.lr={settings.lr:g} "
        f"train.weight_decay={settings.weight_decay:g} train.seed={settings.seed}"
    )
    if config.model.checkpoint is not None:
        command += f" model.checkpoint={config.model.checkpoint}"
    if settings.optimizer != "sgd":
        command += f" train.optimizer={settings.optimizer}"
    if settings.images_per_epoch is not None:
        command += f" train.images_per_epoch={settings.images_per_epoch}"
    metadata = {
        "model": config.model.name,
        "dataset": config.data.name,
        "dataset_hash": dataset.hash,
        f"test_{measure}": f"{log[-1].accuracy:.4f}",
        "command": command,
        "torch": torch.__version__,
        **began,
    }
    save_checkpoint(out, module, metadata)
    saved.unlink(missing_ok=True)
    last = {"accuracy": log[-1].accuracy, "measure": measure, "seconds": log[-1].seconds}
    return {"checkpoint": str(out), **last}


def _begin(module: nn.Module, given: str | None) -> dict[str, str]:
    """Load the checkpoint that is given; what is known of it, for the new one's metadata."""
    if given is None:
        return {}
    path = Path(given)
    metadata = load_checkpoint(path, module)
    return {
        "began": metadata.get("command", path.name),
        "began_sha256": sha256(path.read_bytes()).hexdigest(),
    }


def _as_csv(log: Sequence[Epoch]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in log)
    return text.getvalue()


def _from_csv(path: Path) -> list[Epoch]:
    """What `_as_csv` wrote. Raises ArtifactError on anything else."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return [
            Epoch(
                int(row["epoch"]), *(float(row[name]) for name in ("loss", "accuracy", "seconds"))
            )
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no training log: {error}; delete it to start again"
        ) from None
