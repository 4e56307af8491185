"""DTMM: puts pruned int8 convolutional networks on Cortex-M55 microcontrollers.

Importing this package loads nothing heavy: a public name is imported from its module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dtmm.artifact import fingerprint, load, save
    from dtmm.config import Config, load_config
    from dtmm.errors import DtmmError
    from dtmm.pipeline.compress import Result, compress

_HOME = {
    "Config": "dtmm.config",
    "DtmmError": "dtmm.errors",
    "Result": "dtmm.pipeline.compress",
    "compress": "dtmm.pipeline.compress",
    "fingerprint": "dtmm.artifact",
    "load": "dtmm.artifact",
    "load_config": "dtmm.config",
    "save": "dtmm.artifact",
}
"""The module that defines each public name."""

__all__ = [
    "Config",
    "DtmmError",
    "Result",
    "__version__",
    "compress",
    "fingerprint",
    "load",
    "load_config",
    "save",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dtmm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
