"""Saving and loading: every object of the pipeline is one file, versioned, checksummed, atomic.

A file is an uncompressed zip that `numpy.load` opens too: the arrays as `.npy` members and
`meta.json` with the object's fields, its class, the format and class versions, and where it came
from. The zip's comment is the SHA-256 of every byte before it, so that any damage is noticed.
Nothing is ever pickled.

A class says `ARTIFACT_VERSION: ClassVar[int] = 2` when the meaning of its fields changes. A new
field with a default needs no new version: old files load, and an old reader refuses new files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import dtmm
from dtmm.codec import Tree, from_tree, to_tree, versions
from dtmm.errors import ArtifactError

FORMAT_VERSION = 1

T = TypeVar("T")
_Array = npt.NDArray[Any]

_META = "meta.json"
_LABEL = b"sha256:"
_TRAILER = len(_LABEL) + 64
_ARRAY = "$array"


def save(
    obj: object, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write the dataclass instance `obj` to `path`, replacing what is there in one step.

    The same object and provenance give the same bytes. Missing parent folders are made.

    Args:
        provenance: anything JSON holds that tells how `obj` was made (tool versions, a commit).

    Raises:
        ArtifactError: a field cannot be stored, or the file cannot be written.
    """
    arrays: list[_Array] = []
    payload = _without_arrays(to_tree(obj), arrays)
    meta = {
        "format": FORMAT_VERSION,
        "kind": type(obj).__name__,
        "versions": versions(type(obj)),
        "dtmm": dtmm.__version__,
        "fingerprint": fingerprint(obj),
        "provenance": dict(provenance or {}),
        "payload": payload,
    }
    return write_atomic(path, _pack(_json(meta, indent=1), arrays))


def load(path: str | os.PathLike[str], cls: type[T]) -> T:
    """The `cls` stored in the file at `path`.

    Raises:
        ArtifactError: the file is missing, damaged, no artifact, of another class or version.
    """
    archive, meta = _open(path)
    if meta["kind"] != cls.__name__:
        raise ArtifactError(f"{path} holds a {meta['kind']}, expected a {cls.__name__}")
    for name, known in versions(cls).items():
        stored = meta["versions"].get(name, known)
        if stored != known:
            age = "newer" if stored > known else "older"
            raise ArtifactError(
                f"{path} holds {name} version {stored}, {age} than the version {known} "
                f"of this dtmm {dtmm.__version__}; make it again"
            )
    try:
        return from_tree(_with_arrays(meta["payload"], archive), cls)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file's kind, versions, fingerprint and provenance, whatever its class.

    Raises:
        ArtifactError: the file is missing, damaged or no artifact.
    """
    meta = dict(_open(path)[1])
    del meta["payload"]
    return meta


def fingerprint(obj: object) -> str:
    """SHA-256 (hex) of an object's class, versions and contents.

    Equal objects have equal fingerprints, whatever the order of their dicts or the memory layout of
    their arrays; provenance plays no part.
    """
    kind = type(obj)
    identity = [kind.__name__, versions(kind), _with_hashes(to_tree(obj))]
    return hashlib.sha256(_json(identity, sort_keys=True).encode()).hexdigest()


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write `data` (text as UTF-8) so that `path` holds either its old content or all of the new.

    Raises:
        ArtifactError: the folder or the file cannot be written; nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    content = data.encode() if isinstance(data, str) else data
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise ArtifactError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _json(value: Any, **style: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, **style)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"cannot be stored as JSON: {error}") from None


# --- bytes -----------------------------------------------------------------------------------


def _pack(meta: str, arrays: list[_Array]) -> bytes:
    """The zip with its checksum as comment. Fixed times and no compression: same in, same out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_META), meta)
        for number, array in enumerate(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{number}.npy"), member.getvalue())
        archive.comment = bytes(_TRAILER)
    body = buffer.getvalue()[:-_TRAILER]
    return body + _LABEL + hashlib.sha256(body).hexdigest().encode()


def _open(path: str | os.PathLike[str]) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    """The verified archive and its `meta.json`."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    body, trailer = data[:-_TRAILER], data[-_TRAILER:]
    if not body.startswith(b"PK\x03\x04"):
        raise ArtifactError(f"{path} is not a dtmm artifact (or its first bytes are damaged)")
    if not trailer.startswith(_LABEL):
        raise ArtifactError(f"{path} is truncated or not a dtmm artifact: it ends without checksum")
    if trailer != _LABEL + hashlib.sha256(body).hexdigest().encode():
        raise ArtifactError(f"{path} is damaged: its checksum does not match its content")
    archive = zipfile.ZipFile(io.BytesIO(data))
    meta: dict[str, Any] = json.loads(archive.read(_META))
    if meta["format"] != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has file format {meta['format']}, this dtmm reads {FORMAT_VERSION}"
        )
    return archive, meta


# --- arrays in and out of the tree -----------------------------------------------------------


def _canonical(array: _Array) -> _Array:
    """C order, little endian: equal arrays get equal bytes."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _without_arrays(tree: Tree, arrays: list[_Array]) -> Tree:
    """`tree` with each array moved to `arrays` and its number left in its place."""
    if isinstance(tree, np.ndarray):
        arrays.append(_canonical(tree))
        return {_ARRAY: len(arrays) - 1}
    if isinstance(tree, dict):
        return {key: _without_arrays(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_arrays(value, arrays) for value in tree]
    return tree


def _with_arrays(tree: Tree, archive: zipfile.ZipFile) -> Tree:
    if isinstance(tree, dict):
        if _ARRAY in tree:
            member = io.BytesIO(archive.read(f"{tree[_ARRAY]}.npy"))
            return np.lib.format.read_array(member, allow_pickle=False)
        return {key: _with_arrays(value, archive) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_arrays(value, archive) for value in tree]
    return tree


def _with_hashes(tree: Tree) -> Tree:
    """`tree` with arrays hashed and key-value pairs sorted, so that equal objects look equal."""
    if isinstance(tree, np.ndarray):
        array = _canonical(tree)
        return {_ARRAY: [array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).hexdigest()]}
    if isinstance(tree, dict):
        hashed = {key: _with_hashes(value) for key, value in tree.items()}
        if "$pairs" in hashed:
            hashed["$pairs"] = sorted(hashed["$pairs"], key=lambda pair: json.dumps(pair))
        return hashed
    if isinstance(tree, list | tuple):
        return [_with_hashes(value) for value in tree]
    return tree
