"""From a .tflite file to firmware without training: read, pack without loss, deploy, compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.deploy import Deployment, HostModel, Measurement, plan, run_on_device
from dtmm.errors import DtmmError, MeasurementError, UnsupportedError
from dtmm.network.ir import Conv2D
from dtmm.planning import layout
from dtmm.pruning.lossless import pack
from dtmm.quantization import QuantizedNetwork, run
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.storage import weight_format
from dtmm.storage.kernel_ids import CONV_DENSE, CONV_FWCS, LISTED, family, variant

SYSTEMS = ("dense", "packed")
"""The network as the file has it, and with what cannot change an output byte left out."""

FEWEST_CHANNELS = 16
"""Of an input, for FWCS to be no slower than dense with few zero filterlets (docs/kernels.md)."""


@dataclass(frozen=True)
class Imported:
    """A model that was read.

    Attributes:
        name: of the file.
        deployments: by system of SYSTEMS.
        measurements: by system; empty where nothing was run.
        filterlets, zero_filterlets: of all convolutions of the file.
        channels, removed_channels: filters of all convolutions, and how many packing left out.
    """

    name: str
    deployments: Mapping[str, Deployment]
    measurements: Mapping[str, Measurement]
    filterlets: int
    zero_filterlets: int
    channels: int
    removed_channels: int

    @property
    def packed(self) -> Deployment:
        """What to use: the packed form where it was asked for."""
        return self.deployments.get("packed", self.deployments["dense"])


def import_model(path: Path, find_filterlets: bool, images: int = 2, seed: int = 0) -> Imported:
    """Read a model, deploy it, and run it everywhere.

    Args:
        find_filterlets: also pack it: dead channels leave, filterlets that are zero are not stored.
        images: random ones, on which device, host library and integer reference must agree to the
            byte, packed or not; 0 to run nothing.

    Raises:
        DataError, UnsupportedError, ToolchainError: see `load_tflite` and `run_on_device`.
        MeasurementError: an output byte differs.
    """
    network = load_tflite(path)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedError(
            f"model {path} has {len(network.inputs)} inputs and {len(network.outputs)} outputs, "
            "expected one of each"
        )
    forms = {"dense": network}
    if find_filterlets:
        forms["packed"] = pack(network)
    deployments = {system: deploy_int8(form, system == "packed") for system, form in forms.items()}
    measurements: dict[str, Measurement] = {}
    if images:
        codes = random_images(network, images, seed)
        expected = run(network, codes)
        for system, deployment in deployments.items():
            measurements[system] = run_on_device(deployment, codes, counted_images=1)
            what = f"model {path}, {system}"
            require_same_bytes(what, expected, deployment, codes, measurements[system])
    kept = [np.asarray(network.params[op.weight].any(axis=3)) for op in _convs(network)]
    after = sum(len(forms[SYSTEMS[find_filterlets]].params[op.weight]) for op in _convs(network))
    channels = sum(len(each) for each in kept)
    return Imported(
        name=network.name,
        deployments=deployments,
        measurements=measurements,
        filterlets=sum(each.size for each in kept),
        zero_filterlets=sum(int((~each).sum()) for each in kept),
        channels=channels,
        removed_channels=channels - after,
    )


def random_images(network: QuantizedNetwork, count: int, seed: int = 0) -> npt.NDArray[np.int8]:
    """[count, H, W, C] of every code."""
    shape = network.tensors[network.inputs[0]].shape[1:]
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)


def _convs(network: QuantizedNetwork) -> list[Conv2D]:
    return [op for op in network.ops if isinstance(op, Conv2D)]


def deploy_int8(network: QuantizedNetwork, fwcs: bool = True) -> Deployment:
    """A network with the fastest kernels; FWCS, if at all, where it takes fewer bytes."""
    deployment = plan(network, layout(dequantize(network)))
    kernels = {
        op.name: deployment.kernels[op.name].replace(CONV_FWCS, CONV_DENSE, 1)
        for op in _convs(network)
        if family(deployment.kernels[op.name]) == CONV_FWCS and not (fwcs and _pays(network, op))
    }
    return deploy_kernels(network, kernels)


def deploy_kernels(network: QuantizedNetwork, kernels: Mapping[str, str]) -> Deployment:
    """A network with these kernels, the default ones where none is named.

    Runs lie in flash where listing them in scratch memory would make the arena larger.
    """
    place = layout(dequantize(network))
    deployment = plan(network, place, kernels)
    listed = {
        name: f"{kernel}{LISTED}"
        for name, kernel in deployment.kernels.items()
        if family(kernel) == CONV_FWCS and variant(kernel) and _is_highest(deployment, name)
    }
    return plan(network, place, {**kernels, **listed}) if listed else deployment


def _is_highest(deployment: Deployment, name: str) -> bool:
    """Whether an operator's scratch memory reaches beyond all tensors."""
    start = deployment.arena.scratch.get(name)
    end = 0 if start is None else start + deployment.scratch[name]
    return end > deployment.arena.tensor_bytes


def _pays(network: QuantizedNetwork, op: Conv2D) -> bool:
    filters, height, width, channels = network.params[op.weight].shape
    kept = int(network.params[op.weight].any(axis=3).sum())
    dense, sparse = (
        weight_format(kernel).size(count, filters, (height, width), channels).total
        for kernel, count in ((CONV_DENSE, filters * height * width), (CONV_FWCS, kept))
    )
    return channels >= FEWEST_CHANNELS and sparse < dense


def require_same_bytes(
    what: str,
    expected: npt.NDArray[np.int8],
    deployment: Deployment,
    codes: npt.NDArray[np.int8],
    measured: Measurement,
) -> None:
    """Compare host library and device with the integer reference's outputs.

    Raises:
        MeasurementError: an output byte differs, of `what`.
    """
    for where, found in (("host library", HostModel(deployment).run(codes)),
                         ("device", measured.outputs)):  # fmt: skip
        if not np.array_equal(found, expected):
            different = int((found != expected).sum())
            raise MeasurementError(
                f"{what}: {different} of {expected.size} output bytes of the {where} differ from "
                "the integer reference's"
            )


def models_in(paths: tuple[Path, ...]) -> list[Path]:
    """The .tflite files that paths name, those of folders in alphabetic order.

    Raises:
        DtmmError: a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.tflite")) if path.is_dir() else [path]
        if not inside:
            raise DtmmError(f"folder {path} has no .tflite file")
        found += inside
    return found
