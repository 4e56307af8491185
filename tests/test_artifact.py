"""Saved objects come back equal, byte-stable, and damage of any kind is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dtmm.artifact import describe, fingerprint, load, save, write_atomic
from dtmm.errors import ArtifactError
from dtmm.latency.table import Cost, OpShape, Point
from dtmm.network.ir import Activation, Add, Conv2D, MaxPool2D, Network, Op
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor
from dtmm.scheduler.problem import Budgets, Group, Layer, MemoryStep, Problem


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    weights: npt.NDArray[np.int8]
    scale: float
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Twig:
    name: str | None
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Every kind of field the library's nouns use."""

    name: str
    alive: bool
    height: float
    parts: tuple[Leaf | Twig, ...]
    by_name: Mapping[str, npt.NDArray[np.float32]]
    by_pair: dict[tuple[int, int], Twig]
    mixed: Mapping[str, npt.NDArray[np.int8] | npt.NDArray[np.int32]]
    pair: tuple[int, str]
    tags: frozenset[str]
    best: Leaf | None
    either: int | str
    extra: dict[str, Any]
    anything: npt.NDArray[Any]


def equal(a: object, b: object) -> bool:
    """Deep equality that compares arrays by dtype, shape and bits."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return type(a) is type(b) and all(equal(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def arrays(dtype: str) -> st.SearchStrategy[npt.NDArray[Any]]:
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


leaves = st.builds(Leaf, arrays("i1"), st.floats(), st.sampled_from(Colour))
twigs = st.builds(
    Twig, st.none() | st.text(max_size=5), st.lists(st.integers(), max_size=3).map(tuple)
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
trees = st.builds(
    Tree,
    name=st.text(),
    alive=st.booleans(),
    height=st.floats(),
    parts=st.lists(leaves | twigs, max_size=3).map(tuple),
    by_name=st.dictionaries(st.text(max_size=5), arrays("f4"), max_size=3),
    by_pair=st.dictionaries(st.tuples(st.integers(), st.integers()), twigs, max_size=3),
    mixed=st.dictionaries(st.text(max_size=5), arrays("i1") | arrays("i4"), max_size=3),
    pair=st.tuples(st.integers(), st.text()),
    tags=st.frozensets(st.text(max_size=5), max_size=3),
    best=st.none() | leaves,
    either=st.integers() | st.text(),
    extra=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    anything=arrays("f8") | arrays("?") | arrays("u2") | arrays("<U3") | arrays("c8"),
)

PLAIN = Tree("", False, 0.0, (), {}, {}, {}, (0, ""), frozenset(), None, 0,
             {"": {"$": None, "a": [{"$pairs": 1}]}}, np.array(0.0))  # fmt: skip
"""Keys that look like the file format's own, inside a value typed Any."""

LEAF = Leaf(np.arange(6, dtype=np.int8).reshape(2, 3), 0.5)


@example(tree=PLAIN)
@example(tree=dataclasses.replace(PLAIN, either="0"))
@given(tree=trees)
def test_round_trip(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("artifacts")
    path = save(tree, folder / "tree", {"commit": "abc"})
    again = load(path, Tree)
    assert equal(again, tree)
    assert fingerprint(again) == fingerprint(tree)
    assert save(again, folder / "again", {"commit": "abc"}).read_bytes() == path.read_bytes()


def test_the_library_nouns_round_trip(tmp_path: Path) -> None:
    conv = Conv2D("c", "x", "y", "w", None, stride=(2, 1), activation=Activation.RELU6)
    ops: tuple[Op, ...] = (
        conv,
        MaxPool2D("p", "y", "z", (2, 2), (2, 2)),
        Add("a", ("z", "z"), "out"),
    )
    weights = np.ones((4, 3, 3, 2), np.float32)
    shapes = {"x": (1, 8, 8, 2), "y": (1, 6, 6, 4), "z": (1, 3, 3, 4), "out": (1, 3, 3, 4)}
    network = Network("net", shapes, ops, {"w": weights}, ("x",), ("out",))
    quantized = QuantizedNetwork(
        "net",
        {name: QuantizedTensor(shape, 0.1, -128) for name, shape in shapes.items()},
        ops,
        {"w": weights.astype(np.int8), "b": np.zeros(4, np.int32)},
        {"w": np.full(4, 0.25, np.float32)},
        ("x",),
        ("out",),
    )
    ramp = np.arange(3.0)
    cube = np.zeros((3, 3, 1))
    problem = Problem(
        "p",
        (Group("g", np.array([4, 2, 1]), ramp, ramp, ramp),) * 2,
        (
            Layer(
                "l", 0, 1, ("dense",), np.ones((3, 1), np.int64), cube, cube, cube, cube, cube == 0
            ),
        ),
        (MemoryStep("s", 8.0, {0: ramp, 1: ramp}, None),),
        Budgets(flash=1e5, loss=float("inf")),
        kernel_code={"dense": 512.0},
    )
    point = Point(OpShape("conv2d", (8, 8), (8, 8), (3, 3)), "conv_dense", 16, 32, 288)
    for noun in (network, quantized, problem, point, Cost(1.5, 2.0, 3)):
        again = load(save(noun, tmp_path / "noun"), type(noun))
        assert equal(again, noun)


@given(data=st.data())
def test_any_flipped_byte_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("artifacts") / "leaf"
    content = bytearray(save(LEAF, path).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=str(path)):
        load(path, Leaf)


@given(data=st.data())
def test_any_truncation_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("artifacts") / "leaf"
    content = save(LEAF, path).read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ArtifactError, match=r"truncated|not a dtmm artifact"):
        load(path, Leaf)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(LEAF, tmp_path / "leaf")
    old = path.read_bytes()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(dataclasses.replace(LEAF, scale=2.0), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = save(LEAF, tmp_path / "leaf")
    script = """
        import os, signal, sys
        from dtmm.artifact import write_atomic
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_atomic(sys.argv[1], b"half")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, check=False).returncode == -9
    assert equal(load(path, Leaf), LEAF)


def test_errors_name_the_file_and_what_was_expected(tmp_path: Path) -> None:
    path = save(LEAF, tmp_path / "leaf")
    with pytest.raises(ArtifactError, match=r"leaf holds a Leaf, expected a Twig"):
        load(path, Twig)
    with pytest.raises(ArtifactError, match=r"nowhere does not exist"):
        load(tmp_path / "nowhere", Leaf)
    other = tmp_path / "other"
    other.write_text("hello " * 100)
    with pytest.raises(ArtifactError, match=r"other is not a dtmm artifact"):
        load(other, Leaf)
    np.savez(tmp_path / "plain.npz", a=np.zeros(3))
    with pytest.raises(ArtifactError, match=r"plain.npz is truncated or not a dtmm artifact"):
        load(tmp_path / "plain.npz", Leaf)
    with pytest.raises(ArtifactError, match=r"cannot write .*leaf/x: File exists"):
        save(LEAF, path / "x")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weights", np.zeros(2), "expected an array of int8, got float64"),
        ("weights", np.array([object()]), "expected an array of int8, got object"),
        ("weights", [1, 2], "expected an array"),
        ("scale", "0.5", "expected float"),
        ("scale", True, "expected float"),
    ],
)
def test_a_value_that_contradicts_its_annotation_is_not_stored(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message):
        save(dataclasses.replace(LEAF, **{field: value}), tmp_path / "leaf")
    assert not list(tmp_path.iterdir())


def test_integers_are_never_cut(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected int, got 1\.5"):
        save(Twig("t", (1.5,)), tmp_path / "twig")  # type: ignore[arg-type]
    assert load(save(Twig("t", (np.int64(3),)), tmp_path / "t"), Twig) == Twig("t", (3,))  # type: ignore[arg-type]


def versioned(version: int, **fields: type) -> type[Any]:
    """A dataclass named Versioned; calling it again stands for a later release of the library."""
    made = dataclasses.make_dataclass("Versioned", fields.items(), frozen=True)
    made.__annotations__["ARTIFACT_VERSION"] = ClassVar[int]
    made.ARTIFACT_VERSION = version  # type: ignore[attr-defined]
    return made


def test_other_versions_are_refused(tmp_path: Path) -> None:
    path = save(versioned(2, x=int)(1), tmp_path / "v2")
    with pytest.raises(ArtifactError, match=r"Versioned version 2, newer than the version 1"):
        load(path, versioned(1, x=int))
    with pytest.raises(ArtifactError, match=r"Versioned version 2, older than the version 3"):
        load(path, versioned(3, x=int))
    with pytest.raises(ArtifactError, match=r"field 'y' is missing"):
        load(path, versioned(2, x=int, y=int))
    with pytest.raises(ArtifactError, match=r"Extra fields.*: x"):
        load(path, versioned(2))


@dataclass(frozen=True)
class Inner:
    ARTIFACT_VERSION: ClassVar[int] = 7
    x: int


@dataclass(frozen=True)
class Outer:
    inner: Inner


def test_a_nested_class_carries_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(Outer(Inner(3)), tmp_path / "outer")
    assert describe(path)["versions"] == {"Outer": 1, "Inner": 7}
    monkeypatch.setattr(Inner, "ARTIFACT_VERSION", 8)
    with pytest.raises(ArtifactError, match=r"Inner version 7, older than the version 8"):
        load(path, Outer)


def test_describe_and_numpy_read_the_file(tmp_path: Path) -> None:
    path = save(LEAF, tmp_path / "leaf.npz", {"qemu": "7.2"})
    meta = describe(path)
    assert (meta["kind"], meta["provenance"]) == ("Leaf", {"qemu": "7.2"})
    assert meta["fingerprint"] == fingerprint(LEAF)
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["0"], LEAF.weights)
    assert zipfile.ZipFile(path).testzip() is None


def test_fingerprint_is_of_the_value() -> None:
    rows = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert fingerprint(Leaf(np.asfortranarray(rows), 0.5)) == fingerprint(LEAF)
    assert fingerprint(Leaf(rows.reshape(3, 2), 0.5)) != fingerprint(LEAF)
    assert fingerprint(Leaf(rows, 0.25)) != fingerprint(LEAF)
    one, two = Twig("a", (1,)), Twig("b", (2,))
    tree = {"a": one.sizes, "b": two.sizes}
    assert fingerprint(Box(tree)) == fingerprint(Box(dict(reversed(tree.items()))))


@dataclass(frozen=True)
class Box:
    content: dict[str, tuple[int, ...]]


def test_write_atomic_follows_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    mode = write_atomic(tmp_path / "deep" / "file", "text").stat().st_mode
    assert mode == (tmp_path / "plain").stat().st_mode
