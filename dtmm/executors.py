"""Who evaluates a sweep, by name: this process, processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from dtmm.errors import ConfigError, ToolchainError
from dtmm.sweep import InProcessExecutor

DASK = "dask://"
DASK_PORT = 8786
"""Where a scheduler listens unless it is told otherwise."""
CONNECT_S = 10


@contextmanager
def open_executor(name: str = "processes") -> Iterator[Executor | None]:
    """What `dtmm.sweep.run_sweep` takes as its executor, closed at the end.

    Args:
        name: "here"; "processes", one per core, for which `run_sweep` has its own (None); or
            dask://HOST[:PORT], a running Dask scheduler. Its workers must be able to import what
            they evaluate, and see the same folders where points name files. A task whose worker
            dies is given to another one.

    Raises:
        ConfigError: another name.
        ToolchainError: Dask is not installed, or no scheduler answers.
    """
    if name == "here":
        yield InProcessExecutor()
    elif name == "processes":
        yield None
    elif name.startswith(DASK) and len(name) > len(DASK):
        try:
            from distributed import Client
        except ImportError:
            raise ToolchainError(f"executor {name} needs Dask: pip install 'dtmm[dask]'") from None
        host, _, port = name.removeprefix(DASK).partition(":")
        address = f"tcp://{host}:{port or DASK_PORT}"
        try:
            client: Any = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ToolchainError(f"executor {name}: no Dask scheduler: {error}") from None
        with client:
            yield client.get_executor()
    else:
        raise ConfigError(
            f"executor {name!r} is unknown, expected here, processes or dask://HOST:PORT"
        )
