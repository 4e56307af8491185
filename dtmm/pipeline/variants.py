"""A finished run's problem once more, with another cost model: what would it change?"""

from __future__ import annotations

from pathlib import Path

from dtmm import artifact
from dtmm.config import load_config
from dtmm.errors import ConfigError
from dtmm.latency.base import CostModel
from dtmm.latency.code_size import CodeSize
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.scheduling import first_problem, measures_sensitivity, with_loss_slack
from dtmm.planning.sensitivity import Sensitivity
from dtmm.pruning.importance import Importance
from dtmm.scheduler import Problem

READS = ("config.yaml", "network.dtmm", "importance.dtmm", "code_size.csv")


def run_problem(folder: Path, cost_model: CostModel) -> Problem:
    """The problem that the run in `folder` states under its own settings and this cost model.

    Raises:
        ConfigError: the run lacks a file that its `schedule` stage reads.
        MeasurementError: the cost model has no answer for a choice of the run.
    """
    for name in READS:
        _require(folder, name)
    config = load_config(folder / "config.yaml")
    sensitivity = None
    if measures_sensitivity(config):
        _require(folder, "sensitivity.csv")
        sensitivity = Sensitivity.load(folder / "sensitivity.csv")
    problem = first_problem(
        config,
        fold(artifact.load(folder / "network.dtmm", Network)),
        artifact.load(folder / "importance.dtmm", Importance),
        cost_model,
        CodeSize.load(folder / "code_size.csv"),
        sensitivity,
    )
    return with_loss_slack(problem, config)


def _require(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise ConfigError(f"{folder}: no {name} in this run; `dtmm schedule` writes it")
