"""Runs one deployment everywhere: device, host's C library, integer reference; and its accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.config import Config
from dtmm.deploy import Deployment, HostModel, Measurement, run_on_device
from dtmm.errors import MeasurementError
from dtmm.pipeline import files
from dtmm.pipeline.engine import Context
from dtmm.quantization import dequantize_output, quantize_input
from dtmm.quantization import run as run_reference
from dtmm.training.tasks import task_of

COUNTED_IMAGES = 3
"""Images whose instructions are counted; an inference's count hardly depends on its image."""

Int8 = npt.NDArray[np.int8]


def evaluate(context: Context, deployment_file: str, measurement_file: str) -> dict[str, Any]:
    """Measure a deployment on the device, write the measurement, judge its outputs.

    Accuracy is that of the host's C library over all test images, which computes the same bytes.

    Returns:
        "accuracy" (from 0 to 1, see `dtmm.training.tasks.Task.judge`), "bit_exact",
        "images_compared".

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
    wrong = {
        "the host's C library": _differing(on_host[: len(some)], in_reference),
        "the device": _differing(measured.outputs, in_reference),
    }
    bit_exact = not any(images.size for images in wrong.values())
    if not bit_exact:
        raise MeasurementError(_disagreement(wrong, len(some)))
    _require_stack(context.config, measured)
    files.save(context, measurement_file, measured)
    outputs = dequantize_output(deployment.network, on_host)
    return {
        "accuracy": task_of(dataset).judge(outputs, dataset),
        "bit_exact": bit_exact,
        "images_compared": len(some),
    }


def _differing(ours: Int8, reference: Int8) -> npt.NDArray[np.intp]:
    """Numbers of the images with any differing output byte."""
    return np.flatnonzero((ours != reference).reshape(len(ours), -1).any(axis=1))


def _disagreement(wrong: Mapping[str, npt.NDArray[np.intp]], images: int) -> str:
    parts = (
        f"outputs of {who} for {numbers.size} of {images} images, first image {numbers[0]}"
        for who, numbers in wrong.items()
        if numbers.size
    )
    return f"not the integer reference's bytes: {'; '.join(parts)}"


def _require_stack(config: Config, measured: Measurement) -> None:
    if measured.sram["stack"] > config.budget.stack:
        raise MeasurementError(
            f"an inference uses {measured.sram['stack']} B of stack, budget.stack sets aside "
            f"{config.budget.stack} B: give budget.stack at least that"
        )
