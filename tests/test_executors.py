"""Executors by name; a Dask cluster of real processes, of which a worker is killed half way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtmm.errors import ConfigError, ToolchainError
from dtmm.executors import open_executor
from dtmm.sweep import InProcessExecutor, run_sweep
from tests.test_sweep import evaluated, points, slow_square

ROOT = Path(__file__).parents[1]
WORKERS = 3
POINTS = 24
PATIENCE_S = 60


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler as a user gives it, and its worker processes."""
    about = tmp_path / "scheduler.json"
    processes = [start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                       "--no-dashboard", "--scheduler-file", str(about))]  # fmt: skip
    try:
        wait_for(lambda: about.is_file() and about.read_text().endswith("}"), processes)
        address = json.loads(about.read_text())["address"].removeprefix("tcp://")
        workers = [
            start("distributed.cli.dask_worker", f"tcp://{address}", "--no-nanny", "--no-dashboard",
                  "--nthreads", "1", "--local-directory", str(tmp_path / f"worker{n}"))
            for n in range(WORKERS)
        ]  # fmt: skip
        processes += workers
        yield f"dask://{address}", workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_killed_dask_worker_loses_nothing(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    marks, store = tmp_path / "marks", tmp_path / "store"
    todo = points(marks, POINTS)
    killed = []

    def kill_one(done: int, total: int) -> None:
        busy = {int(each.name.split("-")[1]) for each in marks.glob("*")} if marks.exists() else {}
        victims = [worker for worker in workers if worker.pid in busy]
        if done >= POINTS // 4 and len(busy) == WORKERS and not killed:
            victims[0].send_signal(signal.SIGKILL)
            killed.append(victims[0])

    with open_executor(address) as executor:
        wait_for(lambda: len(executor._client.scheduler_info()["workers"]) == WORKERS, workers)
        results = run_sweep(slow_square, todo, store, executor, kill_one)
    assert killed and killed[0].wait() == -signal.SIGKILL
    assert results == [{"square": x * x} for x in range(POINTS)]
    lines = [json.loads(line.partition(" ")[2]) for line in store.read_text().splitlines()[1:]]
    assert sorted(line["point"]["x"] for line in lines) == list(range(POINTS))
    assert all("result" in line for line in lines)

    before = evaluated(marks)
    with open_executor(address) as executor:
        assert run_sweep(slow_square, todo, store, executor) == results
    assert evaluated(marks) == before


def test_names(tmp_path: Path) -> None:
    with open_executor("here") as executor:
        assert isinstance(executor, InProcessExecutor)
    with open_executor("processes") as executor:
        assert executor is None
    with (
        pytest.raises(ConfigError, match="executor 'dask://' is unknown"),
        open_executor("dask://"),
    ):
        pass


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtmm.executors.CONNECT_S", 0.5)
    with pytest.raises(ToolchainError, match=r"dask://127.0.0.1:1: no Dask scheduler"):  # noqa: SIM117
        with open_executor("dask://127.0.0.1:1"):
            pass
