"""Building, running and pricing firmware. Knows C sources and ELF files, no networks.

elf = build_elf(model_sources=..., runtime_sources=..., harness_sources=..., out_elf=...)
run = run_firmware(elf.path, count_regions=True)
costs = CycleModel().price(elf.path, run.regions)

cached = cycle_model("m55-v2")                  # behind a data cache; the default is zero-wait
run = run_firmware(elf.path, count_regions=True, cache=cached.cache)
costs = cached.price(elf.path, run.regions, run.cache)
"""

from __future__ import annotations

from dtmm.device.block_counts import RegionCounts
from dtmm.device.build import (
    TARGETS,
    build_elf,
    build_host_library,
    build_host_program,
    firmware_dir,
    target_flags,
)
from dtmm.device.cache_misses import CacheCounts, CachedMemory, DataCache
from dtmm.device.cycle_model import CycleModel, RegionCost, SymbolCost, cycle_model
from dtmm.device.elf import (
    Elf,
    FlashBytes,
    Symbol,
    flash_bytes,
    product_ram_bytes,
    section_sizes,
    sizes_by_prefix,
    symbol,
    symbols,
)
from dtmm.device.memory import MemoryMap
from dtmm.device.protocol import Line, Run
from dtmm.device.provenance import Provenance, collect_provenance
from dtmm.device.qemu import run_firmware
from dtmm.device.registry import Device, device, devices
from dtmm.device.toolchain import Tool, find_tool, require_tool, tools_report

__all__ = [
    "TARGETS",
    "CacheCounts",
    "CachedMemory",
    "CycleModel",
    "DataCache",
    "Device",
    "Elf",
    "FlashBytes",
    "Line",
    "MemoryMap",
    "Provenance",
    "RegionCost",
    "RegionCounts",
    "Run",
    "Symbol",
    "SymbolCost",
    "Tool",
    "build_elf",
    "build_host_library",
    "build_host_program",
    "collect_provenance",
    "cycle_model",
    "device",
    "devices",
    "find_tool",
    "firmware_dir",
    "flash_bytes",
    "product_ram_bytes",
    "require_tool",
    "run_firmware",
    "section_sizes",
    "sizes_by_prefix",
    "symbol",
    "symbols",
    "target_flags",
    "tools_report",
]
