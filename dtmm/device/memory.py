"""Where firmware lies in the memories of a board: MPS3 AN547 (Cortex-M55), MPS2 AN386 (M4)."""

from __future__ import annotations

from dataclasses import dataclass

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

AN547, AN386 = "mps3-an547", "mps2-an386"
BOARDS: dict[str, dict[str, tuple[int, int]]] = {
    AN547: REGIONS,
    # Arm AN386, "Memory map"; the PSRAM is 16 MiB
    AN386: {
        "SSRAM1": (0x0000_0000, 4 * MIB),
        "SSRAM23": (0x2000_0000, 4 * MIB),
        "PSRAM": (0x2100_0000, 16 * MIB),
    },
}
"""Memories by the name of QEMU's machine."""

_PARTS = ("code", "weights", "harness", "data", "stack")


@dataclass(frozen=True)
class MemoryMap:
    """The region (a key of BOARDS[board]) of each part of the firmware.

    weights: arrays in sections .dtmm.weights, .dtmm.index, .dtmm.params and the product's
    constants. When they do not fit there, build_elf links with `weights_overflow` instead (None:
    it is an error). harness: the harness's constants, such as test images, which are no part of
    what a user ships. data: .data and .bss, hence the arena. stack_bytes: at the top of its
    region; an overflow is a fault where the core has a stack limit (not on a Cortex-M4). Raises
    ToolchainError on an unknown board or region or a stack larger than its region.
    """

    code: str = "ITCM"
    weights: str = "ITCM"
    weights_overflow: str | None = "SRAM"
    harness: str = "DDR"
    data: str = "ISRAM"
    stack: str = "DTCM"
    stack_bytes: int = 64 * KIB
    board: str = AN547

    def __post_init__(self) -> None:
        if self.board not in BOARDS:
            raise ToolchainError(f"board {self.board!r}: expected one of {', '.join(BOARDS)}")
        regions = BOARDS[self.board]
        for part in (*_PARTS, "weights_overflow"):
            region = getattr(self, part)
            if region is not None and region not in regions:
                known = ", ".join(regions)
                raise ToolchainError(f"memory region {part}={region!r}: expected {known}")
        limit = regions[self.stack][1]
        if not (0 < self.stack_bytes <= limit and self.stack_bytes % 16 == 0):
            raise ToolchainError(
                f"stack_bytes={self.stack_bytes}: expected a multiple of 16 up to {limit} "
                f"({self.stack})"
            )

    def linker_script(self) -> str:
        """The text of memory.ld, which firmware/an547.ld includes."""
        regions = [
            f"  {name} (rwx) : ORIGIN = {origin:#010x}, LENGTH = {size // KIB}K"
            for name, (origin, size) in BOARDS[self.board].items()
        ]
        aliases = [f'REGION_ALIAS("{part.upper()}", {getattr(self, part)})' for part in _PARTS]
        lines = ["MEMORY", "{", *regions, "}", *aliases, f"STACK_SIZE = {self.stack_bytes};", ""]
        return "\n".join(lines)

    def describe(self) -> str:
        """One line for provenance, such as `code ITCM, weights ITCM, data ISRAM, stack DTCM`."""
        return f"code {self.code}, weights {self.weights}, data {self.data}, stack {self.stack}"


AN386_MAP = MemoryMap(
    code="SSRAM1",
    weights="SSRAM1",
    weights_overflow="PSRAM",
    harness="PSRAM",
    data="SSRAM23",
    stack="PSRAM",
    board=AN386,
)
"""Firmware of a Cortex-M4."""
