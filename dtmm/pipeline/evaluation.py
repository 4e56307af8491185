"""Runs one deployment everywhere: device, host's C library, integer reference; and its accuracy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from dtmm.config import Config
from dtmm.deploy import Deployment, HostModel, Measurement, run_on_device
from dtmm.errors import MeasurementError
from dtmm.pipeline import files
from dtmm.pipeline.engine import Context
from dtmm.quantization import quantize_input
from dtmm.quantization import run as run_reference

COUNTED_IMAGES = 3
"""Images whose instructions are counted; an inference's count hardly depends on its image."""

Int8 = npt.NDArray[np.int8]


def evaluate(context: Context, deployment_file: str, measurement_file: str) -> float:
    """Measure a deployment on the device, write the measurement, return its test accuracy.

    Accuracy is that of the host's C library over all test images, which computes the same bytes.

    Raises:
        MeasurementError: an output byte differs between device, host and reference, or the stack
            exceeds what `budget.stack` sets aside.
    """
    deployment = files.load(context, deployment_file, Deployment)
    dataset = context.source.dataset
    inputs = quantize_input(deployment.network, dataset.to_input(dataset.test_images))
    some = inputs[: context.config.device.images]
    context.progress.line(f"{len(some)} images on the simulated Cortex-M55, {len(inputs)} here")
    # The simulator is a process of its own: it runs on one core while this one computes on another.
    with ThreadPoolExecutor(1) as pool, context.progress.bar("test images") as bar:
        on_device = pool.submit(run_on_device, deployment, some, COUNTED_IMAGES)
        on_host = HostModel(deployment).run(inputs, threads=1, progress=bar)
        measured = on_device.result()
    in_reference = run_reference(deployment.network, some)
    _require_equal("the host's C library", on_host[: len(some)], in_reference)
    _require_equal("the device", measured.outputs, in_reference)
    _require_stack(context.config, measured)
    files.save(context, measurement_file, measured)
    return float(np.mean(on_host.argmax(axis=1) == dataset.test_labels))


def _require_equal(what: str, ours: Int8, reference: Int8) -> None:
    wrong = np.flatnonzero((ours != reference).reshape(len(ours), -1).any(axis=1))
    if wrong.size:
        raise MeasurementError(
            f"outputs of {what} differ from the integer reference for {wrong.size} of "
            f"{len(ours)} images, first for image {wrong[0]}"
        )


def _require_stack(config: Config, measured: Measurement) -> None:
    if measured.sram["stack"] > config.budget.stack:
        raise MeasurementError(
            f"an inference uses {measured.sram['stack']} B of stack, budget.stack sets aside "
            f"{config.budget.stack} B"
        )
