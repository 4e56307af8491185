"""Pruning modes by name. A new mode is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from dtmm.errors import ConfigError
from dtmm.pruning.modes.base import Mode, Pruned
from dtmm.pruning.modes.chip import chip
from dtmm.pruning.modes.filterlets import filterlets
from dtmm.pruning.modes.patdnn import patdnn
from dtmm.pruning.modes.unstructured import unstructured

OWN_RULE: Mapping[str, Mode] = {
    "chip": chip,
    "filterlets": filterlets,
    "patdnn": patdnn,
    "unstructured": unstructured,
}
"""Modes that decide by themselves what stays."""

__all__ = ["OWN_RULE", "Mode", "Pruned", "own_rule"]


def own_rule(name: str) -> Mode:
    """The mode of that name. Raises ConfigError on another."""
    if name not in OWN_RULE:
        raise ConfigError(f"pruning mode {name!r} has no rule of its own: {', '.join(OWN_RULE)}")
    return OWN_RULE[name]
