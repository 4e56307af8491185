"""Many evaluations of one function, and a results store that survives a kill.

A sweep maps a function over points (dicts of JSON values), through any
`concurrent.futures.Executor`: a process pool by default, `InProcessExecutor` for tests and
debugging, `Client.get_executor()` of Dask distributed when one machine is too small. Every result
is appended to the store as it arrives; a rerun evaluates only what is missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dtmm.errors import DtmmError

Json = Any
"""What JSON holds: None, bool, int, float, str, and lists and str-keyed dicts of these."""

Point = Mapping[str, Json]
Progress = Callable[[int, int], None]


_HOPELESS = 3
"""So many failures before any success end a sweep: what is broken is not the points."""


class SweepError(DtmmError):
    """A point failed, a worker died, or the results store cannot be used."""


def run_sweep(
    function: Callable[..., Json],
    points: Sequence[Point],
    store: str | os.PathLike[str],
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Json]:
    """`function(**point)` for every point, in the order of `points`.

    Args:
        function: importable by worker processes; returns JSON values.
        store: the results file (JSON lines), made if absent; it belongs to one function.
        executor: who evaluates; None: a process pool with a worker per core, closed at the end.
        progress: called with (points finished, points in all), first before any evaluation.

    Raises:
        SweepError: points failed (the others are evaluated and stored first, unless nothing but
            failures came; failures are recorded and tried again by the next run), a worker died,
            or the store is damaged, in use or another function's.
    """
    keys = [_key(point) for point in points]
    with ResultsStore(store, _name(function)) as results:
        missing = {
            key: point for key, point in zip(keys, points, strict=True) if key not in results.values
        }
        total = len(set(keys))
        report = progress or (lambda done, total: None)
        report(total - len(missing), total)
        if missing and executor is None:
            with _process_pool(len(missing)) as pool:
                failed = _evaluate(function, missing, results, pool, report, total)
        elif missing and executor is not None:
            failed = _evaluate(function, missing, results, executor, report, total)
        else:
            failed = []
        if failed:
            raise _failure(failed, total) from failed[0][1]
        return [results.values[key] for key in keys]


def stored_results(
    function: Callable[..., Json], points: Sequence[Point], store: str | os.PathLike[str]
) -> list[Json | None]:
    """What the store has of `points`, in their order, None where it has nothing yet.

    Raises:
        SweepError: the store is damaged, in use or another function's.
    """
    with ResultsStore(store, _name(function)) as results:
        return [results.values.get(_key(point)) for point in points]


class InProcessExecutor(Executor):
    """Evaluates at once in the calling thread: no pickling, plain tracebacks."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # what an executor does: hand it to whoever asks for the result
            future.set_exception(error)
        return future


class ResultsStore:
    """Results by point key, appended line by line; one writer at a time.

    Each line is 16 hex digits of the SHA-256 of the JSON that follows. The first line names the
    function. A last line without its end (a kill while writing) is dropped; any other damage is an
    error. `values` maps point keys to results.

    Raises:
        SweepError: see above, or another process holds the store.
    """

    def __init__(self, path: str | os.PathLike[str], function: str) -> None:
        self.path = Path(path)
        self.values: dict[str, Json] = {}
        self._file = self._open()
        try:
            self._read(function)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResultsStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, point: Point, result: Json) -> None:
        """Append a result; it is on disk when this returns."""
        record = json.loads(_json({"point": dict(point), "result": result}, self.path))
        self._append(record)
        self.values[_key(point)] = record["result"]

    def add_failure(self, point: Point, error: BaseException) -> None:
        """Record that a point failed; it still counts as missing."""
        self._append({"point": dict(point), "error": f"{type(error).__name__}: {error}"})

    def _open(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        except OSError as error:
            raise SweepError(f"cannot open {self.path}: {error.strerror}") from error
        try:
            # a POSIX lock: unlike flock, a forked worker that outlives us does not keep it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise SweepError(f"{self.path} is in use by another process") from None
        return file

    def _read(self, function: str) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        records = [self._parse(n, line) for n, line in enumerate(whole.splitlines(), 1)]
        self._file.truncate(len(whole))
        if not records:
            self._append({"function": function})
        elif records[0].get("function") != function:
            raise SweepError(
                f"{self.path} holds results of {records[0].get('function')}, not {function}"
            )
        self.values = {_key(r["point"]): r["result"] for r in records if "result" in r}

    def _parse(self, number: int, line: bytes) -> dict[str, Json]:
        checksum, _, text = line.partition(b" ")
        if checksum != _checksum(text):
            raise SweepError(f"{self.path} line {number} is damaged: its checksum does not match")
        record: dict[str, Json] = json.loads(text)
        return record

    def _append(self, record: Mapping[str, Json]) -> None:
        text = _json(record, self.path).encode()
        self._file.write(_checksum(text) + b" " + text + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _evaluate(
    function: Callable[..., Json],
    missing: Mapping[str, Point],
    results: ResultsStore,
    executor: Executor,
    report: Progress,
    total: int,
) -> list[tuple[Point, BaseException]]:
    """Store every result as it arrives; return the points that failed."""
    failed: list[tuple[Point, BaseException]] = []
    pending: dict[Future[Json], Point] = {}
    before = done = total - len(missing)

    def record(future: Future[Json], point: Point) -> None:
        nonlocal done
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise SweepError("a worker process died (killed, crashed or out of memory)") from error
        if error is None:
            results.add(point, future.result())
            done += 1
        else:
            results.add_failure(point, error)
            failed.append((point, error))
            if done == before and len(failed) == _HOPELESS:
                raise _failure(failed, total, "; the others were not tried") from failed[0][1]
        report(done, total)

    try:
        for point in missing.values():
            future = executor.submit(function, **point)
            if future.done():  # an executor that runs at once: store before the next one runs
                record(future, point)
            else:
                pending[future] = point
        for future in as_completed(pending):
            record(future, pending[future])
    except BaseException:
        for future in pending:
            future.cancel()
        raise
    return failed


def _failure(
    failed: Sequence[tuple[Point, BaseException]], total: int, more: str = ""
) -> SweepError:
    point, error = failed[0]
    return SweepError(
        f"{len(failed)} of {total} points failed{more}, first {json.dumps(point)}: "
        f"{type(error).__name__}: {error}"
    )


def _process_pool(points: int) -> ProcessPoolExecutor:
    """Spawned workers: forking a process that has threads (torch starts some) can deadlock."""
    workers = min(points, len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Without this a worker whose parent was killed waits for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return f"{function.__module__}.{function.__qualname__}"


def _key(point: Point) -> str:
    return _json(dict(point), "a sweep", sort_keys=True)


def _json(value: Json, where: object, **style: Any) -> str:
    try:
        return json.dumps(value, **style)
    except (TypeError, ValueError) as error:
        raise SweepError(f"{where}: points and results must be JSON values: {error}") from None


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
