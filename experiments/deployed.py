"""A network's int8 outputs on test images, and what the deployment takes on the simulated device.

Every output that counts is the host's C library's; on a few images the device's and the integer
reference's bytes are compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.data import Samples
from dtmm.deploy import HostModel, Measurement, plan, run_on_device
from dtmm.errors import MeasurementError
from dtmm.network.fold import fold
from dtmm.planning import layout
from dtmm.pruning.modes import Pruned
from dtmm.quantization import dequantize_output, quantize, quantize_input
from dtmm.quantization import run as run_reference
from dtmm.training.calibrate import activation_ranges

CALIBRATION_IMAGES = 512
COMPARED_IMAGES = 2
"""Test images whose output bytes on the device are compared with the integer reference's."""


@dataclass(frozen=True)
class Deployed:
    """What a deployment computes and takes.

    Attributes:
        outputs: [N, ...] float32, the int8 outputs by their scale and zero point.
        kernels: ids of the convolutions' kernels.
    """

    outputs: npt.NDArray[np.float32]
    measured: Measurement
    kernels: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """Sizes in bytes, cycles and kernels, for a table of cells."""
        measured = self.measured
        return {
            "flash": sum(measured.flash.values()),
            "sram": sum(measured.sram.values()),
            "cycles": measured.cycles,
            "instructions": measured.instructions,
            **{f"flash_{part}": size for part, size in measured.flash.items()},
            "kernels": " ".join(self.kernels),
            "provenance": _texts(measured.provenance),
        }


def deploy(name: str, pruned: Pruned, dataset: Samples, test_images: int) -> Deployed:
    """Quantize, deploy, and run the first `test_images` test images.

    Raises:
        MeasurementError: an output byte differs between device, host and integer reference.
    """
    folded = fold(pruned.network)
    rng = np.random.default_rng(0)
    few = min(CALIBRATION_IMAGES, len(dataset.train_images))
    chosen = rng.choice(len(dataset.train_images), few, replace=False)
    ranges = activation_ranges(folded, dataset.to_input(dataset.train_images[chosen]))
    deployment = plan(quantize(folded, ranges), layout(folded), pruned.kernels)
    network = deployment.network
    inputs = quantize_input(network, dataset.to_input(dataset.test_images[:test_images]))
    some = inputs[:COMPARED_IMAGES]
    measured = run_on_device(deployment, some, counted_images=1)
    outputs = HostModel(deployment).run(inputs)
    expected = run_reference(network, some)
    for ours in (measured.outputs, outputs[: len(some)]):
        if not np.array_equal(ours.reshape(expected.shape), expected):
            raise MeasurementError(f"{name}: device, host and reference compute differently")
    kernels = tuple(sorted(set(deployment.kernels.values())))
    return Deployed(dequantize_output(network, outputs), measured, kernels)


def _texts(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in provenance.items()}
