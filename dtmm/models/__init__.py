"""Models by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from dtmm.data import Samples
from dtmm.errors import ConfigError
from dtmm.models.checkpoint import load_checkpoint, save_checkpoint, shipped_checkpoint
from dtmm.models.mlperf_tiny import DSCNN, MobileNetV1, ResNet8
from dtmm.models.resnet import ResNet
from dtmm.models.squeezenet import SqueezeNet
from dtmm.models.tiny_yolo import TinyYolo
from dtmm.models.vgg import VGG

MODELS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "resnet12": ResNet,
    "tiny_resnet": lambda channels, classes: ResNet(channels, classes, widths=(8, 16)),
    "vgg11": VGG,
    "squeezenet": SqueezeNet,
    "resnet8": ResNet8,
    "ds_cnn": DSCNN,
    "mobilenet_v1_025": MobileNetV1,
    "tiny_yolo": TinyYolo,
}
"""name -> constructor(in_channels, classes)."""

__all__ = ["MODELS", "build_model", "load_checkpoint", "save_checkpoint", "shipped_checkpoint"]


def build_model(name: str, dataset: Samples) -> nn.Module:
    """An untrained model for the dataset's channels and classes.

    Raises:
        ConfigError: unknown name.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    return MODELS[name](dataset.image_shape[2], len(dataset.classes))
