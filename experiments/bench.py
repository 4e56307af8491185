"""One trained network with all that its schedules are made of, kept in a run folder.

    bench = open_bench(job)
    problem = bench.problem(flash=256 * 1024)
    network = bench.pruned(solve(problem))

Full runs take ResNet-12 on Fashion-MNIST, quick ones a tiny network on digits, both with the
checkpoints that the package ships. A part that the job exchanges has a run folder of its own.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dtmm
from dtmm import artifact
from dtmm.config import Config, load_config
from dtmm.config_values import Bytes, Nats
from dtmm.data import Samples
from dtmm.latency.base import CostModel
from dtmm.latency.code_size import CodeSize
from dtmm.latency.table import LatencyTable
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.engine import Context, open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.scheduling import first_problem, measures_sensitivity
from dtmm.pipeline.stages import stages
from dtmm.planning import select
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.pruning.removal import remove
from dtmm.scheduler import Objective, Problem, Schedule, solve
from dtmm.scheduler.least_loss import near_least_loss
from experiments.experiment import QUICK_RESULTS, Job, commit, exchanged

SETTINGS = {
    "solver": "schedule.solver",
    "cost_model": "table.cost_model",
    "loss_model": "schedule.loss_model",
    "criterion": "importance.criterion",
    "device": "device.name",
}
"""Fields of Swap by the setting of a run that they stand for."""

FULL = (
    "model.name=resnet12",
    "data.name=fashion_mnist",
    "table.channel_levels=5",
    "table.filterlet_levels=4",
)
QUICK = (
    "model.name=tiny_resnet",
    "data.name=digits",
    "table.channel_levels=2",
    "table.filterlet_levels=2",
    "importance.batches=2",
    "sensitivity.points=2",
    "sensitivity.images=64",
)
MEASURED = ("importance.criterion=taylor_squared", "schedule.loss_model=joint")
"""The estimate that ranks schedules best (experiments.loss_fidelity)."""

SLACK = 1.1
"""A schedule may have so many times the least estimated loss within its flash."""


def settings(job: Job, *overrides: str) -> Config:
    """Settings of a run of the job: its network, `overrides`, and what it exchanges."""
    own = [f"{SETTINGS[name]}={value}" for name, value in job.swap.given().items()
           if name in SETTINGS]  # fmt: skip
    given = [*(QUICK if job.quick else FULL), *overrides, *own]
    known = zlib.crc32(" ".join(given).encode())
    folder = job.folder if job.quick else QUICK_RESULTS
    return load_config(overrides=[*given, f"run.folder={folder}", f"run.name=run_{known:08x}"])


def reach(config: Config, *last: str) -> Context:
    """The run with these stages, and those before them, up to date."""
    context = open_run(config, Progress())
    for stage in last:
        run_until(context, stages(config), stage)
    return context


@dataclass(frozen=True)
class Bench:
    """The nouns of a run.

    Attributes:
        curves: measured sensitivity, where the loss model needs it.
        folder: of the run.
    """

    config: Config
    dataset: Samples
    network: Network
    importance: Importance
    table: LatencyTable
    code: CodeSize
    curves: Sensitivity | None
    folder: Path

    @cached_property
    def folded(self) -> Network:
        """Batch normalization folded."""
        return fold(self.network)

    def problem(
        self,
        flash: int | None,
        loss: float | None = None,
        cost_model: CostModel | None = None,
    ) -> Problem:
        """The fastest schedule within bytes of flash and nats.

        Args:
            cost_model: None: the run's table.
        """
        budget = dataclasses.replace(
            self.config.budget,
            flash=None if flash is None else Bytes(flash),
            sram=None,
            max_loss=None if loss is None else Nats(loss),
        )
        return first_problem(
            dataclasses.replace(self.config, budget=budget),
            self.folded,
            self.importance,
            cost_model or self.table,
            self.code,
            self.curves,
        )

    def fast_problem(self, share: float, slack: float = SLACK) -> Problem:
        """The problem within a share of the dense network's flash and `slack` times the least loss
        there."""
        return near_least_loss(self.problem(round(share * self.dense_flash)), slack - 1)

    @cached_property
    def dense_flash(self) -> float:
        """Bytes of the schedule that removes nothing."""
        free = dataclasses.replace(self.problem(None), objective=Objective.only("loss"))
        nothing = dataclasses.replace(free.budgets, loss=0.0)
        dense = dataclasses.replace(free, budgets=nothing, objective=Objective.only("flash"))
        return solve(dense).flash

    def pruned(self, schedule: Schedule) -> Network:
        """The network that a schedule leaves, not tuned."""
        return remove(self.network, select(self.network, self.importance, schedule))

    def about(self, name: str, job: Job, unit: str) -> dict[str, str]:
        """Provenance of a table."""
        table = self.table.provenance
        return {
            "experiment": f"experiments.{name}",
            "commit": commit(),
            "dtmm": dtmm.__version__,
            "network": f"{self.config.model.name} on {self.dataset.name}",
            "dataset_sha256": self.dataset.hash,
            **{key: str(table[key]) for key in ("compiler", "qemu", "cycle_model", "memory_map")
               if key in table},
            "latency_table": f"{len(self.table.costs)} points, {self.config.table.cost_model}",
            "loss": f"{self.config.schedule.loss_model} over {self.importance.criterion}",
            "unit": unit,
            **exchanged(job.swap),
        }  # fmt: skip


def counted(channels: Mapping[str, int], filterlets: Mapping[str, int]) -> Schedule:
    """A schedule by its counts alone, which is what `select` reads of one."""
    numbers = ("objective", "bound", "gap", "seconds", "latency", "flash", "sram", "loss")
    unknown: dict[str, Any] = dict.fromkeys(numbers, 0.0)
    return Schedule(channels, filterlets, {}, status="feasible", solver="", **unknown)


def open_bench(job: Job, *overrides: str) -> Bench:
    """The bench of a job; what its run folder has is not made again."""
    config = settings(job, *MEASURED, *overrides)
    needs_curves = measures_sensitivity(config)
    context = reach(config, "importance", "profile", *(["sensitivity"] if needs_curves else []))
    file = context.folder.file
    return Bench(
        config=config,
        dataset=context.source.dataset,
        network=artifact.load(file("network.dtmm"), Network),
        importance=artifact.load(file("importance.dtmm"), Importance),
        table=LatencyTable.load(file("latency.csv")),
        code=CodeSize.load(file("code_size.csv")),
        curves=Sensitivity.load(file("sensitivity.csv")) if needs_curves else None,
        folder=context.folder.path,
    )


RUN = ("finetune.epochs=2", "finetune.images_per_epoch=6144")
QUICK_RUN = (
    "finetune.epochs=1",
    "finetune.images_per_epoch=256",
    "budget.flash=27KiB",
    "device.images=2",
)
"""Of a whole run, besides the network's; everything else as `dtmm demo`."""


def whole_run(job: Job) -> tuple[dict[str, Any], Path]:
    """The report of a run from the trained network to the measured one, and its folder."""
    config = settings(job, *(QUICK_RUN if job.quick else RUN))
    context = reach(config, "report")
    report: dict[str, Any] = json.loads(context.folder.file("report.json").read_text())
    return report, context.folder.path


def run_about(name: str, job: Job, report: Mapping[str, Any], unit: str) -> dict[str, str]:
    """Provenance of a table read off a run."""
    schedule, source = report["schedule"], report["provenance"]
    keys = ("compiler", "qemu", "cycle_model", "memory_map", "dtmm_version", "commit",
            "dataset_sha256")  # fmt: skip
    return {
        "experiment": f"experiments.{name}",
        "run": f"{report['model']} on {report['dataset']}",
        **{key: str(source[key]) for key in keys},
        "seed": str(settings(job).run.seed),
        "schedule": f"{schedule['solver']}, {schedule['status']}, gap {schedule['gap']:g}",
        "unit": unit,
        **exchanged(job.swap),
    }
