"""What a document becomes at the edge: plain values, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

LEFT_OUT = "left out"

Json = dict[str, Any]
"""An object of JSON, for what crosses a border between processes: facts of a file that a worker read."""


def optional() -> Any:
    """Declare a field that is None by default, and has no key in the JSON as long as it is."""
    return field(default=None, metadata={LEFT_OUT: True})


@cache
def _keys(kind: type) -> tuple[tuple[str, str, bool], ...]:
    """Return (attribute, key, left out where it is None) of a dataclass: `class_` is the key "class"."""
    return tuple((one.name, one.name.rstrip("_"), LEFT_OUT in one.metadata) for one in fields(kind))


def plain(value: Any) -> Any:
    """Return a document as dicts, lists, strings, numbers and None, in the order of its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((key, getattr(value, name), skip) for name, key, skip in _keys(type(value)))
        return {key: plain(found) for key, found, skip in pairs if not (skip and found is None)}
    if isinstance(value, Mapping):
        return {str(key): plain(found) for key, found in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def to_json(document: object) -> str:
    """Return the document as text. The bytes of a file name that are not UTF-8 become escapes of lone surrogates."""
    text = json.dumps(plain(document), indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
