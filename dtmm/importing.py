"""A user's own function or class by name: MODULE:ATTRIBUTE, or FILE.py:ATTRIBUTE."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtmm.errors import ConfigError


def load_callable(name: str, what: str) -> Callable[..., Any]:
    """The function or class behind MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE.

    Modules are looked for in the current folder too. A file is run anew each time.

    Args:
        what: it is to be, for messages ("cost model").

    Raises:
        ConfigError: the file or module cannot be imported, or has no such function or class.
    """
    where, _, attribute = name.rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            if str(Path.cwd()) not in sys.path:
                sys.path.append(str(Path.cwd()))
            module = importlib.import_module(where)
    except Exception as error:  # whatever the user's file raises
        raise ConfigError(
            f"{what} {name}: {where} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ConfigError(f"{what} {name}: {where} has no function or class {attribute!r}")
    made: Callable[..., Any] = found
    return made
