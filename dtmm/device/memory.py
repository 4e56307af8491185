"""Where firmware lies in the memories of the Corstone SSE-300 on MPS3 AN547."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dtmm.errors import ToolchainError

KIB = 1024
MIB = 1024 * KIB

# Name -> (origin, bytes), from Arm AN547, "Memory map overview". The board has 2 GiB of DDR4; what
# firmware may use of it is capped so that the simulator's host needs little memory.
REGIONS: dict[str, tuple[int, int]] = {
    "ITCM": (0x0000_0000, 512 * KIB),
    "SRAM": (0x0100_0000, 2 * MIB),
    "DTCM": (0x2000_0000, 512 * KIB),
    "ISRAM": (0x2100_0000, 4 * MIB),
    "DDR": (0x6000_0000, 256 * MIB),
}


@dataclass(frozen=True)
class MemoryMap:
    """The region (a key of REGIONS) of each part of the firmware.

    weights: arrays in sections .dtmm.weights, .dtmm.index, .dtmm.params and the product's
    constants. When they do not fit there, build_elf links with `weights_overflow` instead (None:
    it is an error). harness: the harness's constants, such as test images, which are no part of
    what a user ships. data: .data and .bss, hence the arena. stack_bytes: at the top of its
    region; an overflow is a fault. Raises ToolchainError on an unknown region or a stack larger
    than its region.
    """

    code: str = "ITCM"
    weights: str = "ITCM"
    weights_overflow: str | None = "SRAM"
    harness: str = "DDR"
    data: str = "ISRAM"
    stack: str = "DTCM"
    stack_bytes: int = 64 * KIB

    def __post_init__(self) -> None:
        for field in fields(self):
            region = getattr(self, field.name)
            if isinstance(region, str) and region not in REGIONS:
                known = ", ".join(REGIONS)
                raise ToolchainError(f"memory region {field.name}={region!r}: expected {known}")
        limit = REGIONS[self.stack][1]
        if not (0 < self.stack_bytes <= limit and self.stack_bytes % 16 == 0):
            raise ToolchainError(
                f"stack_bytes={self.stack_bytes}: expected a multiple of 16 up to {limit} "
                f"({self.stack})"
            )

    def linker_script(self) -> str:
        """The text of memory.ld, which firmware/an547.ld includes."""
        regions = [
            f"  {name} (rwx) : ORIGIN = {origin:#010x}, LENGTH = {size // KIB}K"
            for name, (origin, size) in REGIONS.items()
        ]
        aliases = [
            f'REGION_ALIAS("{part.upper()}", {getattr(self, part)})'
            for part in ("code", "weights", "harness", "data", "stack")
        ]
        lines = ["MEMORY", "{", *regions, "}", *aliases, f"STACK_SIZE = {self.stack_bytes};", ""]
        return "\n".join(lines)

    def describe(self) -> str:
        """One line for provenance, such as `code ITCM, weights ITCM, ..., zero wait states`."""
        return (
            f"code {self.code}, weights {self.weights}, data {self.data}, stack {self.stack}, "
            "zero wait states"
        )
