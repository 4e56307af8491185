"""`dtmm.compress`: every stage of a run on a caller's own module and dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtmm.config import Config
from dtmm.deploy import Deployment
from dtmm.errors import ConfigError
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.data_free import NO_DATA, random_dataset
from dtmm.pipeline.engine import open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import GivenSource
from dtmm.pipeline.stages import stages
from dtmm.quantization.quantized import QuantizedNetwork

if TYPE_CHECKING:
    from torch import nn

    from dtmm.data import Samples


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes:
        folder: the run folder: report.html, project/ (the C project) and every noun on the way.
        report: the content of report.json.
        network: the pruned, fine-tuned float network.
        deployment: its int8 form with stored weights and memory plan.
    """

    folder: Path
    report: dict[str, Any]
    network: Network
    deployment: Deployment


def compress(
    model: nn.Module | QuantizedNetwork,
    dataset: Samples | None,
    config: Config | None = None,
    progress: Progress | None = None,
) -> Result:
    """Prune, fine-tune, quantize, deploy and measure a trained classifier or detector.

    The module is not changed. Calling again with the same arguments reuses the run folder.

    Args:
        model: trained, float [N, C, H, W] to logits (to [N, C, H, W] of `dtmm.detection.grid` with
            a DetectionDataset), of operators that `from_torch` reads; or an int8 network
            (`load_tflite`), whose float form is pruned, tuned and quantized again.
        dataset: None, for an int8 network alone: weights decide what goes, nothing is trained.
        config: settings and budgets (`dtmm.load_config`); `config.run` names the run folder,
            `config.model.name` the network.

    Raises:
        DtmmError: an unsupported operator, budgets that nothing can meet (the message names the
            smallest feasible values), a missing tool, or outputs that differ between device, host
            and reference.
    """
    settings = config or Config()
    if dataset is None:
        if not isinstance(model, QuantizedNetwork):
            raise ConfigError(f"a {type(model).__name__} needs a dataset, an int8 network does not")
        dataset = random_dataset(model)
        settings = replace(settings, data=replace(settings.data, name=NO_DATA))
    source = GivenSource(model, dataset, settings.model.name)
    context = open_run(settings, progress or Progress(), source)
    run_until(context, stages(context.config), "report")
    return Result(
        folder=context.folder.path,
        report=json.loads(context.folder.file("report.json").read_text()),
        network=files.load(context, "tuned.dtmm", Network),
        deployment=files.load(context, "deployment.dtmm", Deployment),
    )
