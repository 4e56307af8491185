"""Objects to JSON trees and back, led by their type hints; arrays stay arrays at the leaves.

`cattrs` does the walking. This file adds what it leaves open or does too kindly for stored data:
numpy arrays with their dtype checked, unions of dataclasses (a tag names the class), mappings with
keys of any hashable type, infinities, and no silent conversion (1.5 never becomes the int 1).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping, Set
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from dtmm.errors import ArtifactError

Tree = Any
"""None, bool, int, float, str, numpy array, or list and str-keyed dict of these."""

T = TypeVar("T")
Hook = Callable[..., Any]
Factory = Callable[[Any], Hook]

_TAG = "$type"
_PAIRS = "$pairs"
_NAMED_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_tree(obj: object) -> Tree:
    """`obj`, a dataclass instance, as a tree.

    Raises:
        ArtifactError: a value does not fit its annotation or its type cannot be stored.
    """
    cls = type(obj)
    try:
        return _converter.unstructure(obj, unstructure_as=cls)
    except ArtifactError:
        raise
    except Exception as error:  # cattrs lets whatever a hook raises through
        raise ArtifactError(f"cannot store a {cls.__name__}: {error}") from error


def from_tree(tree: Tree, cls: type[T]) -> T:
    """The `cls` that `tree` describes.

    Raises:
        ArtifactError: a field is missing, unknown or of another type; the message holds its path.
    """
    try:
        return _converter.structure(tree, cls)
    except Exception as error:  # cattrs raises exception groups of whatever the hooks raised
        reasons = "; ".join(transform_error(error, format_exception=_reason))
        raise ArtifactError(f"not a valid {cls.__name__}: {reasons}") from error


def versions(cls: type) -> dict[str, int]:
    """`ARTIFACT_VERSION` (1 where absent) of every dataclass reachable from `cls`, by name."""
    found: dict[type, None] = {}
    _reach(cls, found)
    return {each.__name__: getattr(each, "ARTIFACT_VERSION", 1) for each in found}


def _reach(hint: Any, found: dict[type, None]) -> None:
    for argument in get_args(hint):
        _reach(argument, found)
    if _is_dataclass(hint) and hint not in found:
        found[hint] = None
        hints = get_type_hints(hint)
        for each in dataclasses.fields(hint):
            _reach(hints[each.name], found)


def _reason(error: BaseException, wanted: type | None) -> str:
    if isinstance(error, KeyError):
        return f"field {error} is missing"
    return str(error) or type(error).__name__


# --- scalars ---------------------------------------------------------------------------------


def _scalar(kind: type, convert: Callable[[Any], Any]) -> Hook:
    def hook(value: Any, _type: Any = None) -> Any:
        try:
            return convert(value)
        except (TypeError, KeyError):
            raise ArtifactError(f"expected {kind.__name__}, got {value!r:.60}") from None

    return hook


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _to_float(value: Any) -> float:
    if isinstance(value, str):
        return _NAMED_FLOATS[value]
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    return float(value)


def _from_float(value: Any) -> float | str:
    number = _to_float(value)
    return number if math.isfinite(number) else str(number)


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


# --- arrays ----------------------------------------------------------------------------------


def _is_array(hint: Any) -> bool:
    return hint is np.ndarray or get_origin(hint) is np.ndarray


def _dtype(hint: Any) -> type:
    """The scalar type an array annotation asks for; `np.generic` where it leaves it open."""
    wanted = get_args(get_args(hint)[1])[0] if get_args(hint) else np.generic
    wanted = get_origin(wanted) or wanted
    return wanted if isinstance(wanted, type) and issubclass(wanted, np.generic) else np.generic


def _array_hook(hint: Any) -> Hook:
    wanted = _dtype(hint)

    def hook(value: Any, _type: Any = None) -> Any:
        if not isinstance(value, np.ndarray):
            raise ArtifactError(f"expected an array, got {value!r:.60}")
        if value.dtype.hasobject or not np.issubdtype(value.dtype, wanted):
            raise ArtifactError(f"expected an array of {wanted.__name__}, got {value.dtype}")
        return value

    return hook


# --- dataclasses and unions ------------------------------------------------------------------


def _is_dataclass(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _dataclass_unstructure(cls: type) -> Hook:
    fields: Hook = make_dict_unstructure_fn(cls, _converter)

    def hook(value: Any) -> Tree:
        if type(value) is not cls:
            raise ArtifactError(f"expected {cls.__name__}, got {value!r:.60}")
        return fields(value)

    return hook


def _dataclass_structure(cls: type) -> Hook:
    return make_dict_structure_fn(cls, _converter, _cattrs_forbid_extra_keys=True)


def _members(hint: Any) -> tuple[Any, ...]:
    return tuple(each for each in get_args(hint) if each is not NoneType)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _accepts(hint: Any, value: Any) -> bool:
    """Whether `value`, an object being stored, is of the union member `hint`."""
    if _is_array(hint):
        return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, _dtype(hint))
    return type(value) is (get_origin(hint) or hint)


def _union_unstructure(hint: Any) -> Hook:
    members = _members(hint)
    hooks = [_converter.get_unstructure_hook(each) for each in members]

    def hook(value: Any) -> Tree:
        if value is None and NoneType in get_args(hint):
            return None
        if len(members) == 1:
            return hooks[0](value)
        for member, store in zip(members, hooks, strict=True):
            if _accepts(member, value):
                tree = store(value)
                return {_TAG: member.__name__, **tree} if _is_dataclass(member) else tree
        raise ArtifactError(f"expected {_names(members)}, got {value!r:.60}")

    return hook


def _union_structure(hint: Any) -> Hook:
    members = _members(hint)
    tagged = {each.__name__: each for each in members if _is_dataclass(each)}
    plain = [each for each in members if not _is_dataclass(each)]

    def hook(tree: Tree, _type: Any) -> Any:
        if tree is None and NoneType in get_args(hint):
            return None
        if len(members) == 1:
            return _converter.structure(tree, members[0])
        if isinstance(tree, dict) and tree.get(_TAG) in tagged:
            rest = {key: value for key, value in tree.items() if key != _TAG}
            return _converter.structure(rest, tagged[tree[_TAG]])
        if type(tree) in plain:  # before "0" is taken for an int
            return tree
        for member in plain:
            try:
                return _converter.structure(tree, member)
            except Exception:  # not this member: every failure means "try the next"
                continue
        raise ArtifactError(f"expected {_names(members)}, got {tree!r:.60}")

    return hook


def _names(members: tuple[Any, ...]) -> str:
    return " or ".join(getattr(each, "__name__", str(each)) for each in members)


# --- mappings --------------------------------------------------------------------------------


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _arguments(hint: Any) -> tuple[Any, Any]:
    key, value = get_args(hint) or (str, Any)
    return key, value


def _mapping_unstructure(hint: Any) -> Hook:
    key_type, value_type = _arguments(hint)
    key_hook = _converter.get_unstructure_hook(key_type)
    value_hook = _converter.get_unstructure_hook(value_type)

    def hook(mapping: Any) -> Tree:
        if not isinstance(mapping, Mapping):
            raise ArtifactError(f"expected a mapping, got {mapping!r:.60}")
        pairs = [[key_hook(key), value_hook(value)] for key, value in mapping.items()]
        plain = key_type is str and not any(key.startswith("$") for key, _ in pairs)
        return dict(pairs) if plain else {_PAIRS: pairs}

    return hook


def _mapping_structure(hint: Any) -> Hook:
    key_type, value_type = _arguments(hint)

    def hook(tree: Tree, _type: Any) -> dict[Any, Any]:
        if not isinstance(tree, dict):
            raise ArtifactError(f"expected a mapping, got {tree!r:.60}")
        pairs = tree[_PAIRS] if _PAIRS in tree else tree.items()
        structure = _converter.structure
        return {structure(key, key_type): structure(value, value_type) for key, value in pairs}

    return hook


# --- the converter ---------------------------------------------------------------------------


def _restore_plain(tree: Tree, _type: Any = None) -> Any:
    """A value of a field typed Any: JSON, whose mappings with "$" keys were stored as pairs."""
    if isinstance(tree, dict):
        pairs = tree[_PAIRS] if _PAIRS in tree else tree.items()
        return {key: _restore_plain(value) for key, value in pairs}
    return [_restore_plain(each) for each in tree] if isinstance(tree, list) else tree


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, unstruct_collection_overrides={Set: sorted})
    converter.register_structure_hook_func(lambda hint: hint in (Any, object), _restore_plain)
    scalars: tuple[tuple[type, Hook, Hook], ...] = (
        (bool, _to_bool, _to_bool),
        (int, _to_int, _to_int),
        (float, _from_float, _to_float),
        (str, _to_str, _to_str),
    )
    for kind, store, restore in scalars:
        exactly = functools.partial(operator.is_, kind)
        converter.register_unstructure_hook_func(exactly, _scalar(kind, store))
        converter.register_structure_hook_func(exactly, _scalar(kind, restore))
    factories: tuple[tuple[Callable[[Any], bool], Factory, Factory], ...] = (
        (_is_array, _array_hook, _array_hook),
        (_is_dataclass, _dataclass_unstructure, _dataclass_structure),
        (_is_union, _union_unstructure, _union_structure),
        (_is_mapping, _mapping_unstructure, _mapping_structure),
    )
    for predicate, store_factory, restore_factory in factories:
        converter.register_unstructure_hook_factory(predicate, store_factory)
        converter.register_structure_hook_factory(predicate, restore_factory)
    return converter


_converter = _make_converter()
