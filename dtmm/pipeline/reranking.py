"""Which of the scheduler's best schedules is fine-tuned: the one with the lowest measured loss.

The program minimises latency under an estimate of the loss that adds up what layers cost alone.
Measuring a handful of its best solutions takes seconds and sees what layers cost together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtmm.artifact import fingerprint
from dtmm.data import Samples
from dtmm.network.ir import Network
from dtmm.planning import select
from dtmm.pruning.importance import Importance
from dtmm.pruning.measured_loss import pruned_loss
from dtmm.pruning.removal import remove
from dtmm.scheduler import Schedule
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.training.batches import training_batches
from dtmm.training.tasks import task_of

BATCH = 128


def rerank(
    network: Network,
    importance: Importance,
    schedules: Sequence[Schedule],
    dataset: Samples,
    images: int,
    store: Path,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """A row per schedule, in the given order: its totals, its losses, whether it is `taken`.

    Args:
        network: trained, unfolded. importance: decides what goes, as `select` does.
        images: training images to judge on; as many others re-estimate batch normalization.
        store: results file of `dtmm.sweep`: a rerun measures what is missing.
        progress: called with (schedules measured, schedules in all).

    Returns:
        latency (cycles), flash, sram (bytes), estimated_loss, raw_loss, measured_loss (nats; the
        latter the mean loss with batch normalization re-estimated, which decides), taken.
    """
    batches = list(training_batches(dataset, 2 * images, BATCH, seed))
    half, loss = (len(batches) + 1) // 2, task_of(dataset).loss
    judged, calibration = batches[:half], batches[half:] or batches
    parts = (fingerprint(network), fingerprint(importance), dataset.hash, images, seed)
    of = hashlib.sha256(repr(parts).encode()).hexdigest()

    def judge(small: Network) -> dict[str, Any]:
        return asdict(pruned_loss(small, calibration, judged, loss))

    measure = _Measure({(s.levels, s.options): s for s in schedules}, network, importance, judge)
    points = [{"of": of, "levels": [*s.levels], "options": [*s.options]} for s in schedules]
    found = run_sweep(measure.losses, points, store, InProcessExecutor(), progress)
    measured = [result["reestimated"] for result in found]
    best = int(np.argmin(measured))
    return pd.DataFrame(
        {
            "latency": [s.latency for s in schedules],
            "flash": [s.flash for s in schedules],
            "sram": [s.sram for s in schedules],
            "estimated_loss": [s.loss for s in schedules],
            "raw_loss": [result["raw"] for result in found],
            "measured_loss": measured,
            "taken": [n == best for n in range(len(schedules))],
        }
    )


class _Measure:
    """The function of the sweep: from a decision to the losses of what it leaves."""

    def __init__(
        self,
        schedules: dict[tuple[tuple[int, ...], tuple[int, ...]], Schedule],
        network: Network,
        importance: Importance,
        judge: Callable[[Network], dict[str, Any]],
    ) -> None:
        self.schedules, self.judge = schedules, judge
        self.network, self.importance = network, importance

    def losses(self, of: str, levels: list[int], options: list[int]) -> dict[str, Any]:
        """In nats."""
        schedule = self.schedules[tuple(levels), tuple(options)]
        return self.judge(remove(self.network, select(self.network, self.importance, schedule)))
