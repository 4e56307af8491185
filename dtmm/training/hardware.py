"""Where training runs and in which precision: a setting, never a change of code."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from dtmm.errors import ConfigError

PRECISIONS = ("auto", "bf16", "fp16", "fp32")


def pick_device(name: str) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1"); "auto" is CUDA where there is one.

    Raises:
        ConfigError: not a CPU or CUDA device, or CUDA is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices")
    return device


def make_deterministic(device: torch.device) -> None:
    """Has CUDA choose the same convolution kernels in every run; a CPU does so by itself."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's parameters; the CPU for a module without any."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of the matrix products: "auto" is the fastest half precision, float32 without one.

    A CPU without AVX-512 emulates bfloat16 and is 4 times slower with it than with float32.

    Raises:
        ConfigError: unknown precision.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}")
    if device.type == "cuda":
        auto = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    else:
        fast = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        auto = torch.bfloat16 if fast else torch.float32
    types = {"auto": auto, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    return types[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Forward passes inside use `dtype` where that is safe."""
    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)
