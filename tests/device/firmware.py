"""Pieces of firmware that several tests use."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from dtmm.device import Elf

Build = Callable[..., Elf]
"""The fixture `build` of conftest.py."""

COUNT_DOWN = """
    .syntax unified
    .thumb
    .section .text.count_down, "ax", %progbits
    .global count_down
    .type count_down, %function
    .thumb_func
count_down:
    subs r0, #1
    bne  count_down
    bx   lr
    .size count_down, . - count_down
"""
"""count_down(n) runs 2n + 1 instructions and takes n edges: n - 1 of the loop, one to return."""


def transcript(*lines: str) -> str:
    """What firmware writes for these lines ("REGION 0 12"), with END: checksums by zlib alone."""
    text, so_far = "", b""
    for line in (*lines, f"END {len(lines)}"):
        so_far += f"DTMM {line}\n".encode()
        text += f"DTMM {line} *{zlib.crc32(so_far):08x}\n"
    return text
