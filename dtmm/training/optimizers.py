"""Optimizers by name, and the rate they follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from torch import nn, optim

from dtmm.errors import ConfigError

_Maker = Callable[[Iterable[nn.Parameter], float, float, float], optim.Optimizer]

OPTIMIZERS: Mapping[str, _Maker] = {
    "sgd": lambda p, lr, momentum, decay: optim.SGD(
        p, lr, momentum, weight_decay=decay, nesterov=momentum > 0
    ),
    "adam": lambda p, lr, momentum, decay: optim.Adam(p, lr, (momentum, 0.999), weight_decay=decay),
    "adamw": lambda p, lr, momentum, decay: optim.AdamW(
        p, lr, (momentum, 0.999), weight_decay=decay
    ),
    "rmsprop": lambda p, lr, momentum, decay: optim.RMSprop(
        p, lr, momentum=momentum, weight_decay=decay
    ),
}
"""name -> maker(parameters, peak rate, momentum, weight decay); Adam's momentum is its beta 1."""


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
) -> optim.Optimizer:
    """The optimizer called `name`.

    Raises:
        ConfigError: unknown name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}; known: {', '.join(sorted(OPTIMIZERS))}")
    return OPTIMIZERS[name](parameters, lr, momentum, weight_decay)


def rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Rises linearly over the share `warmup` of `total` steps, then falls to 0 along a cosine.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5
    without restarts.
    """
    rising = max(int(total * warmup), 1)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))
