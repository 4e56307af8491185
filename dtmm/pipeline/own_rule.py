"""Pruning modes with a rule of their own in a run: what budget.flash leaves for weights."""

from __future__ import annotations

from dtmm.config import Config
from dtmm.deploy.deployment import default_kernel
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.latency.code_size import CodeSize
from dtmm.network.fold import fold
from dtmm.network.ir import Conv2D, Network
from dtmm.planning import layout
from dtmm.planning.layout import runs_code
from dtmm.planning.points import kind_of
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW

SPARSE_KERNELS = {"patdnn": (CONV_FKW,), "unstructured": (CONV_CSR,)}
"""Kernels of a mode besides those of the dense network."""


def stored_budget(config: Config, network: Network, code: CodeSize) -> int:
    """Bytes for weights, index and parameters: budget.flash less the code.

    The code is estimated with the kernels of the dense network and the mode's own; what the run's
    report gives is read off the ELF.

    Raises:
        ConfigError: there is no budget. InfeasibleError: it does not even hold the code.
    """
    flash = config.budget.flash
    if flash is None:
        raise ConfigError(f"prune.mode={config.prune.mode} needs budget.flash, expected bytes")
    folded = fold(network)
    place = layout(folded)
    used = set(SPARSE_KERNELS.get(config.prune.mode, ()))
    for op in folded.ops:
        if isinstance(op, Conv2D):
            used.add(default_kernel(place, folded, op))
        elif runs_code(place, op):
            used.add(kind_of(folded, op))
    needed = code.fixed(len(folded.ops), used) + sum(code.kernels.get(kernel, 0) for kernel in used)
    if needed >= flash:
        raise InfeasibleError(
            f"flash={flash} B does not hold the code, about {needed} B: raise budget.flash"
        )
    return flash - needed
