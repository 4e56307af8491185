"""Values of settings: their types, and reading each from YAML or a command line."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from types import NoneType
from typing import Any, NewType, get_args

from dtmm.errors import ConfigError

Bytes = NewType("Bytes", int)
"""A size in bytes."""

Nats = NewType("Nats", float)
"""An increase of the mean cross-entropy, natural logarithm."""

Count = NewType("Count", int)
"""A whole number of at least 1."""

Share = NewType("Share", float)
"""From 0 to 1."""

Positive = NewType("Positive", float)
"""Finite and above 0."""

KIB = 1024


def parse_bytes(value: object) -> Bytes:
    """Bytes from `131072`, `"128KiB"`, `"0.5MiB"`, `"100kB"`; a whole, non-negative number.

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(value).strip())
    scale = _UNITS.get(match[2].lower()) if match else None
    size = Fraction(match[1]) * scale if match and scale else None
    if isinstance(value, bool) or size is None or size.denominator != 1:
        raise ConfigError(f"{value!r} is not a size: expected bytes, e.g. 131072 or 128KiB")
    return Bytes(int(size))


def format_bytes(size: int) -> str:
    """`size` in the largest binary unit that divides it: 131072 is `128KiB`."""
    for unit, scale in (("GiB", KIB**3), ("MiB", KIB**2), ("KiB", KIB)):
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def parse_nats(value: object) -> Nats:
    """Nats from `0.05`, `"0.05"` or `"0.05 nats"`; finite and non-negative.

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(?:nats?)?", str(value).strip())
    if not match:
        raise ConfigError(f"{value!r} is not a loss: expected nats, e.g. 0.05")
    return Nats(float(match[1]))


_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
_UNITS |= {"kib": KIB, "mib": KIB**2, "gib": KIB**3}


def _whole(value: object, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"expected a whole number of at least {least}, got {value!r}")
    return value


def _number(value: object, most: float = math.inf) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        limits = "that is not negative" if most == math.inf else f"from 0 to {most:g}"
        raise ConfigError(f"expected a number {limits}, got {value!r}")
    return float(value)


def _positive(value: object) -> float:
    number = _number(value)
    if not 0 < number < math.inf:
        raise ConfigError(f"expected a finite number above 0, got {value!r}")
    return number


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"expected true or false, got {value!r}")
    return value


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ConfigError(f"expected text, got {value!r}")
    return str(value)


_PARSERS: dict[Any, Callable[[object], object]] = {
    int: _whole,
    float: _number,
    str: _text,
    bool: _flag,
    Count: functools.partial(_whole, least=1),
    Share: functools.partial(_number, most=1.0),
    Positive: _positive,
    Bytes: parse_bytes,
    Nats: parse_nats,
}


def parse_value(name: str, hint: Any, value: object) -> object:
    """`value` as the type of a setting (`hint`: of those here, or with `| None`).

    Raises:
        ConfigError: it does not fit; names the setting.
    """
    members = get_args(hint) or (hint,)
    if value is None and NoneType in members:
        return None
    try:
        return _PARSERS[members[0]](value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
