"""Sweeps: every point once, results that survive a kill, failures that are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.sweep import InProcessExecutor, ResultsStore, SweepError, run_sweep, stored_results

POINTS = [{"x": x, "folder": ""} for x in range(6)]


def square(x: int, folder: str) -> dict[str, int]:
    """x squared; leaves a mark per evaluation in `folder`."""
    if folder:
        Path(folder, f"{x}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return {"square": x * x}


def slow_square(x: int, folder: str) -> dict[str, int]:
    time.sleep(0.15)
    return square(x, folder)


def fails_on_three(x: int, folder: str) -> int:
    if x == 3 and not Path(folder, "mended").exists():
        raise ValueError("three is not wanted")
    square(x, folder)
    return x


def dies(x: int) -> None:
    os._exit(x)


def points(folder: Path, count: int = 6) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    return [{"x": x, "folder": str(folder)} for x in range(count)]


def evaluated(folder: Path) -> list[int]:
    """The x of every evaluation, sorted."""
    return sorted(int(each.name.split("-")[0]) for each in folder.iterdir() if "-" in each.name)


def test_results_come_in_the_order_of_the_points_and_nothing_runs_twice(tmp_path: Path) -> None:
    todo = points(tmp_path / "marks")
    store = tmp_path / "deep" / "store"
    seen: list[tuple[int, int]] = []
    repeated = [*todo, todo[2]]
    first = run_sweep(square, repeated, store, InProcessExecutor(), lambda *step: seen.append(step))
    assert [each["square"] for each in first] == [0, 1, 4, 9, 16, 25, 4]
    assert seen == [(n, 6) for n in range(7)]
    assert run_sweep(square, todo[::-1], store, InProcessExecutor()) == first[5::-1]
    assert evaluated(tmp_path / "marks") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor])
def test_pools_give_the_same(pool: Any, tmp_path: Path) -> None:
    todo = points(tmp_path / "marks")
    executor = pool(2) if pool else None
    results = run_sweep(square, todo, tmp_path / "store", executor)
    assert results == [{"square": x * x} for x in range(6)]
    assert evaluated(tmp_path / "marks") == [0, 1, 2, 3, 4, 5]


def test_dask_distributed_is_an_executor(tmp_path: Path) -> None:
    from distributed import Client

    todo = points(tmp_path / "marks")
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        results = run_sweep(square, todo, tmp_path / "store", client.get_executor())
    assert results == [{"square": x * x} for x in range(6)]


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL to the parent of a process pool, with results half way; then finish here."""
    marks, store = tmp_path / "marks", tmp_path / "store"
    todo = points(marks, 12)
    script = (
        "from tests.test_sweep import *\n"
        f"run_sweep(slow_square, points(Path({str(marks)!r}), 12), {str(store)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 60
    while not store.exists() or store.read_bytes().count(b"\n") < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with ResultsStore(store, "tests.test_sweep.slow_square") as results:
        kept = len(results.values)
    assert 4 <= kept < 12
    wait_for_the_end_of_workers(marks)

    before = evaluated(marks)
    results = run_sweep(slow_square, todo, store, InProcessExecutor())
    assert results == [{"square": x * x} for x in range(12)]
    assert len(evaluated(marks)) - len(before) == 12 - kept


def wait_for_the_end_of_workers(marks: Path) -> None:
    """Workers of a killed parent must end by themselves."""
    workers = {int(each.name.split("-")[1]) for each in marks.iterdir()}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{each}").exists() for each in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


@given(cut=st.integers(0, 10_000))
def test_a_store_cut_anywhere_is_completed(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("sweep") / "store"
    expected = run_sweep(square, POINTS, store, InProcessExecutor())
    whole = store.read_bytes()
    store.write_bytes(whole[: cut % len(whole)])
    assert run_sweep(square, POINTS, store, InProcessExecutor()) == expected
    assert sorted(store.read_bytes().splitlines()) == sorted(whole.splitlines())


@given(data=st.data())
def test_a_changed_byte_is_never_a_wrong_result(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("sweep") / "store"
    expected = run_sweep(square, POINTS, store, InProcessExecutor())
    content = bytearray(store.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    store.write_bytes(content)
    if place == len(content) - 1:  # the last newline: looks like a kill while writing
        assert run_sweep(square, POINTS, store, InProcessExecutor()) == expected
    else:
        with pytest.raises(SweepError, match=r"line \d+ is damaged"):
            run_sweep(square, POINTS, store, InProcessExecutor())


def test_a_failing_point_is_told_recorded_and_tried_again(tmp_path: Path) -> None:
    marks, store = tmp_path / "marks", tmp_path / "store"
    todo = points(marks)
    with pytest.raises(
        SweepError, match=r'1 of 6 points failed, first \{"x": 3.*ValueError: three is not wanted'
    ):
        run_sweep(fails_on_three, todo, store, InProcessExecutor())
    assert evaluated(marks) == [0, 1, 2, 4, 5]
    assert b"three is not wanted" in store.read_bytes()
    (marks / "mended").touch()
    assert run_sweep(fails_on_three, todo, store, InProcessExecutor()) == [0, 1, 2, 3, 4, 5]
    assert evaluated(marks) == [0, 1, 2, 3, 4, 5]


def fails_before(x: int, folder: str, first: int) -> int:
    square(x, folder)
    if x < first:
        raise ValueError(f"{x} is too early")
    return x


@pytest.mark.parametrize(("first", "tried"), [(2, 6), (3, 3), (6, 3)])
def test_a_sweep_without_hope_ends_early(first: int, tried: int, tmp_path: Path) -> None:
    todo = [{**point, "first": first} for point in points(tmp_path / "marks")]
    message = rf"{min(first, 3)} of 6 points failed.*ValueError: 0 is too early"
    with pytest.raises(SweepError, match=message):
        run_sweep(fails_before, todo, tmp_path / "store", InProcessExecutor())
    assert len(evaluated(tmp_path / "marks")) == tried


def test_a_dead_worker_is_told(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="a worker process died"):
        run_sweep(dies, [{"x": 1}], tmp_path / "store")


def test_what_is_stored_is_known_without_evaluating(tmp_path: Path) -> None:
    store, todo = tmp_path / "r.jsonl", points(tmp_path)
    assert stored_results(square, todo, store) == [None] * len(todo)
    run_sweep(square, todo[1:3], store, InProcessExecutor())
    before = evaluated(tmp_path)
    assert stored_results(square, todo[:3], store) == [None, {"square": 1}, {"square": 4}]
    assert evaluated(tmp_path) == before
    with pytest.raises(SweepError, match="not"):
        stored_results(slow_square, todo, store)


def test_a_store_belongs_to_one_function_and_one_process(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run_sweep(square, POINTS, store, InProcessExecutor())
    with pytest.raises(SweepError, match=r"holds results of .*\.square, not .*\.slow_square"):
        run_sweep(slow_square, POINTS, store, InProcessExecutor())
    with ResultsStore(store, "tests.test_sweep.square"), ProcessPoolExecutor(1) as pool:
        future = pool.submit(run_sweep, square, POINTS, store, None)
        with pytest.raises(SweepError, match="in use by another process"):
            future.result()


def test_points_and_results_are_json(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="must be JSON values"):
        run_sweep(square, [{"x": object()}], tmp_path / "store", InProcessExecutor())
    with pytest.raises(SweepError, match="must be JSON values"):
        run_sweep(complex, [{"real": 1}], tmp_path / "store", InProcessExecutor())
