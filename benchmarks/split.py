"""Which part of a convolution the cycles of a region belong to.

Kernels interleave their work, so cycles are attributed block by block:

- halo: functions that write padding around a tensor (`dtmm_fill_halo` and what it calls in C's
  library: memset);
- a block whose instructions multiply-accumulate is mac, one that requantizes (rounding doubling
  multiplies, rounding shifts, saturation) is requant;
- a block that does both is divided by instruction class: vector multiply-accumulates and vector
  loads against what requantizes;
- other: the rest: argument checks, index expansion, loop control, im2col.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dtmm.device.cycle_model import BlockCost

PARTS = ("halo", "mac", "requant", "other")

_HALO = re.compile(r"dtmm_fill_halo|memset")
_MAC = re.compile(r"vmla|vrmla|smla|smull|mla\b|mls\b|smlal")
_REQUANT = re.compile(
    r"v?q?r?dmulh|vqrdmulh|vqdmulh|vrshl|vqrshl|vqmovn|vmovn|vqrshrn|vrshr|vmullt|vmullb|ssat"
)
_LOAD = re.compile(r"vldr")
_MAX_MIN = re.compile(r"vmax|vmin")


def split(blocks: Sequence[BlockCost]) -> dict[str, float]:
    """Cycles by part; they sum to those of all blocks."""
    parts = dict.fromkeys(PARTS, 0.0)
    for block in blocks:
        for part, share in _shares(block).items():
            parts[part] += share * block.cycles
    return parts


def _shares(block: BlockCost) -> dict[str, float]:
    if _HALO.match(block.symbol):
        return {"halo": 1.0}
    macs = sum(bool(_MAC.match(text)) for text in block.instructions)
    loads = sum(bool(_LOAD.match(text)) for text in block.instructions)
    requant = sum(bool(_REQUANT.match(text) or _MAX_MIN.match(text)) for text in block.instructions)
    if macs and requant:
        whole = macs + loads + requant
        return {"mac": (macs + loads) / whole, "requant": requant / whole}
    if macs:
        return {"mac": 1.0}
    return {"requant": 1.0} if requant else {"other": 1.0}
