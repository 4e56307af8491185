"""From a trained float network to int8, as the settings say, and how much each tensor lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dtmm.config import QuantizeConfig
from dtmm.data import Samples
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.quantization import QuantizedNetwork, quantize, quantize_input, run
from dtmm.quantization.equalize import equalize
from dtmm.quantization.error import TensorError, tensor_errors
from dtmm.training.bias_correction import correct_biases
from dtmm.training.calibrate import activation_ranges
from dtmm.training.executor import Executor
from dtmm.training.loop import to_tensor
from dtmm.training.masks import Masks
from dtmm.training.qat import train_int8


@dataclass(frozen=True)
class Int8:
    """An int8 network, and the folded float network that it rounds."""

    network: QuantizedNetwork
    folded: Network


def to_int8(
    network: Network,
    dataset: Samples,
    config: QuantizeConfig,
    progress: Callable[[int, int], None] | None = None,
    masks: Masks | None = None,
) -> Int8:
    """Fold, calibrate on training images, and train or correct where the settings ask for it.

    Zero weights stay exactly zero.

    Args:
        progress: of quantization-aware training, (steps done, steps in all).
        masks: as for `Executor`, held by quantization-aware training.

    Raises:
        ConfigError: unknown range method or device.
        UnsupportedError: an operator that cannot be folded.
    """
    images = calibration_images(dataset, config)
    folded = fold(network)
    if config.equalize:
        folded = equalize(folded)
    ranges = activation_ranges(folded, images, config.ranges)
    if config.qat_epochs:
        folded, ranges = train_int8(folded, ranges, dataset, config, progress, masks)
    quantized = quantize(folded, ranges)
    if config.bias_correction:
        quantized = quantize(correct_biases(folded, quantized, images), ranges)
    return Int8(quantized, folded)


def calibration_images(dataset: Samples, config: QuantizeConfig) -> npt.NDArray[np.float32]:
    """[N, H, W, C]: so many training images as the settings say, drawn by their seed."""
    count = min(config.calibration_images, len(dataset.train_images))
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(len(dataset.train_images), count, replace=False)
    return dataset.to_input(dataset.train_images[chosen])


@torch.no_grad()
def int8_errors(int8: Int8, images: npt.NDArray[np.float32]) -> tuple[TensorError, ...]:
    """Per tensor, how far the int8 network is from its float one on [N, H, W, C] images."""
    exact: dict[str, npt.NDArray[np.float32]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        nhwc = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
        exact[name] = nhwc.numpy()

    Executor(int8.folded).eval()(to_tensor(images), watch=keep)
    found = run(int8.network, quantize_input(int8.network, images), keep_all=True)
    return tensor_errors(int8.folded, int8.network, exact, found)
