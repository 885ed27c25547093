"""Reading a document of JSON with care: what it must hold is what its dataclass says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

CALLED = "called"
"""The metadata of a field that names what it holds in a sentence; of a tuple, one of its items."""

TOP = "the document"

Kind = TypeVar("Kind")


class DamagedError(Exception):
    """What is read is no such document. The message says where, as the end of a sentence."""


@dataclass(frozen=True)
class _Field:
    attribute: str
    key: str
    types: tuple[Any, ...]
    called: str
    required: bool


def _types(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is UnionType else (hint,)


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    """Return what a dataclass says of its fields."""
    hints = get_type_hints(kind)
    found = []
    for one in fields(kind):
        types = _types(hints[one.name])
        required = one.default is MISSING and one.default_factory is MISSING
        found.append(_Field(one.name, one.name.rstrip("_"), types, str(one.metadata.get(CALLED, "")), required))
    return tuple(found)


def _item(kind: Any, value: Any, inside: str) -> Any:
    """Return a part of a list or of an object with keys of its own."""
    return _object(kind, value, inside) if is_dataclass(kind) else _converted(_types(kind), value, inside, inside)


def _as_object(kinds: Sequence[Any], value: dict[str, Any], inside: str) -> Any:
    """Return an object as the one of several dataclasses whose fields it has; else as the last, which says why not."""
    for kind in kinds[:-1]:
        if {one.key for one in _fields(kind) if one.required} <= value.keys():
            return _object(kind, value, inside)
    return _object(kinds[-1], value, inside)


def _converted(types: Sequence[Any], value: Any, problem: str, inside: str) -> Any:
    """Return a value as one of the types: a truth value is no number. `inside` names what an object in it is."""
    if Any in types or type(value) in types:
        return value
    objects = [kind for kind in types if is_dataclass(kind)]
    if objects and isinstance(value, dict):
        return _as_object(objects, value, inside)
    for kind in types:
        if get_origin(kind) is tuple and isinstance(value, list):
            return tuple(_item(get_args(kind)[0], one, f"{inside} {number}") for number, one in enumerate(value))
        if get_origin(kind) is Mapping and isinstance(value, dict):
            return {key: _item(get_args(kind)[1], one, inside) for key, one in value.items()}
    raise DamagedError(f"{problem} is not what it should be")


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise DamagedError(f"{where} is no object")
    given = {}
    for one in (one for one in _fields(kind) if one.key in value):
        inside = one.called if where == TOP else f"{one.called} of {where}"
        given[one.attribute] = _converted(one.types, value[one.key], f"'{one.key}' of {where}", inside)
    lost = next((one.key for one in _fields(kind) if one.required and one.key not in value), None)
    if lost:
        raise DamagedError(f"{where} has no '{lost}'")
    return kind(**given)


def read(kind: type[Kind], value: Any) -> Kind:
    """Return a document of JSON as its dataclass. Fields that it does not know are passed over. Raises DamagedError."""
    document: Kind = _object(kind, value, TOP)
    return document
