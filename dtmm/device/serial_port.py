"""Reads what firmware writes to a serial port while a command loads it (POSIX)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dtmm.errors import ToolchainError

_LAST = re.compile(rb"^DTMM (END|FAIL|FAULT)\b.*\n", re.MULTILINE)
_POLL_S = 0.1


@contextmanager
def open_port(path: str, baud: int) -> Iterator[int]:
    """The file descriptor of a port, raw, 8 data bits, no parity; what waited in it is dropped.

    Raises ToolchainError when it is missing, no serial port, or does not know the rate.
    """
    rate = getattr(termios, f"B{baud}", None)
    if rate is None:
        raise ToolchainError(f"serial port {path}: rate {baud} is not one that termios knows")
    try:
        port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise ToolchainError(f"serial port {path}: {error.strerror}") from error
    try:
        characters = termios.tcgetattr(port)[6]
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(port, termios.TCSANOW, [0, 0, control, 0, rate, rate, characters])
        termios.tcflush(port, termios.TCIFLUSH)
    except termios.error as error:
        os.close(port)
        raise ToolchainError(f"serial port {path}: {error.args[-1]}") from error
    try:
        yield port
    finally:
        with contextlib.suppress(OSError):
            os.close(port)


def read_report(port: int, timeout_s: float, gone: Callable[[], bool]) -> bytes | None:
    """Everything up to the firmware's last line, None when that did not come in `timeout_s`.

    gone: asked now and then; True ends the wait, with what has come.
    """
    text = b""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ready, _, _ = select.select([port], [], [], _POLL_S)
        if ready:
            with contextlib.suppress(BlockingIOError):
                text += os.read(port, 1 << 16)
            if match := _LAST.search(text):
                return text[: match.end()]
        elif gone():
            return text
    return None
