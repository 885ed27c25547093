"""What differs between two documents of `run --json`: a pure function of the two, and the reading of them with care."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rseq_matrix.errors import InputError
from rseq_matrix.matrix.document import SCHEMA

DIFF_SCHEMA = 1
LARGEST = 1 << 28
"""Bytes that a document may have."""
AXES = ("kernel", "libc", "link", "environment", "stage")
OMITTED = ("kernel", "libc")
"""Axes that are left out of a cell's name where each document has one value of it, so that two libcs compare."""
CPU_NUMBER = "a CPU"
NAMED = 3
"""Values of an axis that a sentence names."""

Document = dict[str, Any]


# --- reading


def _damaged(path: Path, why: str) -> NoReturn:
    raise InputError(f"{path}: no document of `rseq-matrix run --json`: {why}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > LARGEST:
        _damaged(path, f"it is larger than {LARGEST >> 20} MiB")
    return data


def _parse(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except RecursionError:
        _damaged(path, "it is nested too deeply")
    except ValueError as error:  # also what is not UTF-8, and numbers of thousands of digits
        _damaged(path, f"it is not JSON, or damaged ({error})")


TEXT, TRUTH, WHOLE, NOTHING = (str,), (bool,), (int,), type(None)
MAYBE_TEXT, MAYBE_TRUTH, MAYBE_WHOLE = (str, NOTHING), (bool, NOTHING), (int, NOTHING)
Shape = Mapping[str, tuple[type, ...]]

DOCUMENT: Shape = {"complete": TRUTH, "host": (dict,), "libcs": (list,), "cells": (list,)}
HOST: Shape = {"release": TEXT, "rseq": TEXT, "feature_size": MAYBE_WHOLE, "align": MAYBE_WHOLE}
LIBC: Shape = {"id": TEXT, "version": TEXT, "build_id": MAYBE_TEXT}
CELL: Shape = {
    **dict.fromkeys(("id", *AXES, "result"), TEXT),
    "observed": (dict, NOTHING),
    "subject": (dict,),
}
SUBJECT: Shape = {"path": TEXT}
OBSERVED: Shape = {
    "class": MAYBE_TEXT,
    "owner": MAYBE_TEXT,
    "thread_pointer": TRUTH,
    "kernel_registered": MAYBE_TRUTH,
    "user_registered": TRUTH,
    "rseq_size": MAYBE_WHOLE,
    "rseq_offset": MAYBE_WHOLE,
    "rseq_flags": MAYBE_WHOLE,
    "area": TEXT,
    "cpu_id": MAYBE_WHOLE,
    "relocated": TRUTH,
    "critical_section": MAYBE_TEXT,
    "oracle": (dict, NOTHING),
}
ORACLE: Shape = {"registered": TRUTH, "size": MAYBE_WHOLE, "signature": MAYBE_WHOLE}


def _shaped(path: Path, where: str, value: Any, shape: Shape) -> None:
    """Check that an object has these fields, each of one of its types. A truth value is no number."""
    if not isinstance(value, dict):
        _damaged(path, f"{where} is no object")
    for name, types in shape.items():
        if name not in value:
            _damaged(path, f"{where} has no '{name}'")
        if type(value[name]) not in types:
            _damaged(path, f"'{name}' of {where} is not what it should be")


def _check_cell(path: Path, number: int, cell: Any) -> None:
    where = f"cell {number}"
    _shaped(path, where, cell, CELL)
    if cell["id"].split("/") != [cell[axis] for axis in AXES]:
        _damaged(path, f"the id of {where} is not made of its parts")
    _shaped(path, f"the subject of {where}", cell["subject"], SUBJECT)
    if cell["observed"] is not None:
        _shaped(path, f"what was observed of {where}", cell["observed"], OBSERVED)
        if cell["observed"]["oracle"] is not None:
            _shaped(path, f"the oracle of {where}", cell["observed"]["oracle"], ORACLE)


def load(path: Path) -> Document:
    """Read a document of `run --json`; InputError, in one sentence, for anything else."""
    document = _parse(path)
    if not isinstance(document, dict) or "schema" not in document or "cells" not in document:
        _damaged(path, "it has no 'schema' and 'cells'")
    if type(document["schema"]) is not int or document["schema"] != SCHEMA:
        schema = str(document["schema"])[:20]
        raise InputError(f"{path}: it has schema {schema}; this version of rseq-matrix reads schema {SCHEMA}")
    _shaped(path, "the document", document, DOCUMENT)
    _shaped(path, "the host", document["host"], HOST)
    for number, libc in enumerate(document["libcs"]):
        _shaped(path, f"libc {number}", libc, LIBC)
    for number, cell in enumerate(document["cells"]):
        _check_cell(path, number, cell)
    twice = [name for name, count in Counter(cell["id"] for cell in document["cells"]).items() if count > 1]
    if twice:
        _damaged(path, f"it has the cell {twice[0]} more than once")
    return document


# --- comparing


def _observed(name: str) -> Callable[[Document], Any]:
    return lambda cell: cell["observed"][name]


def _oracle(name: str) -> Callable[[Document], Any]:
    return lambda cell: cell["observed"]["oracle"][name] if cell["observed"]["oracle"] else None


def _cpu_id(cell: Document) -> Any:
    """Return what cpu_id says, but not which CPU: that is chance."""
    cpu = cell["observed"]["cpu_id"]
    return CPU_NUMBER if cpu is not None and cpu >= 0 else cpu


@dataclass(frozen=True)
class Field:
    """A field that is compared where the cell was observed in both runs."""

    value: Callable[[Document], Any]
    known: bool = False
    """Null means that nobody looked: no difference."""


FIELDS: dict[str, Field] = {
    "owner": Field(_observed("owner"), known=True),
    "thread_pointer": Field(_observed("thread_pointer")),
    "kernel_registered": Field(_observed("kernel_registered"), known=True),
    "user_registered": Field(_observed("user_registered")),
    "rseq_size": Field(_observed("rseq_size")),
    "rseq_offset": Field(_observed("rseq_offset")),
    "rseq_flags": Field(_observed("rseq_flags")),
    "area": Field(_observed("area")),
    "cpu_id": Field(_cpu_id),
    "relocated": Field(_observed("relocated")),
    "critical_section": Field(_observed("critical_section")),
    "oracle.registered": Field(_oracle("registered"), known=True),
    "oracle.size": Field(_oracle("size"), known=True),
    "oracle.signature": Field(_oracle("signature"), known=True),
}
"""What is compared of an observation. Addresses, CPU numbers and the order of records are chance, and are not."""


@dataclass(frozen=True)
class Change:
    """A field that changed in the same way in some cells."""

    field: str
    old: Any
    new: Any
    cells: tuple[str, ...]


def _class(cell: Document) -> str | None:
    observed = cell["observed"]
    return observed["class"] if observed else None


def _axes(old: Document, new: Document) -> tuple[str, ...]:
    """Return the axes that cells are matched by."""

    def several(axis: str) -> bool:
        return any(len({cell[axis] for cell in document["cells"]}) > 1 for document in (old, new))

    return tuple(axis for axis in AXES if axis not in OMITTED or several(axis))


def _apart(old: Document, new: Document, axes: Sequence[str]) -> str:
    """Name the axes in which two documents have nothing in common; empty if there is none."""
    words = []
    for axis in axes:
        before, after = (list(dict.fromkeys(cell[axis] for cell in document["cells"])) for document in (old, new))
        if before and after and not {*before} & {*after}:
            words.append(f"{axis} {_few(before)} against {_few(after)}")
    return f": {', '.join(words)}" if words else ""


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{' and '.join(names[:NAMED]) if not more else ', '.join(names[:NAMED])}{more}"


def _named(document: Document, axes: Sequence[str]) -> dict[str, Document]:
    return {"/".join(cell[axis] for axis in axes): cell for cell in document["cells"]}


def _differing(old: Document, new: Document) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs between two cells."""
    for name, value in (("class", _class), ("result", lambda cell: cell["result"])):
        if value(old) != value(new):
            yield name, value(old), value(new)
    if old["subject"]["path"] != new["subject"]["path"]:
        yield "path", old["subject"]["path"], new["subject"]["path"]
    if not old["observed"] or not new["observed"]:
        return
    for name, field in FIELDS.items():
        before, after = field.value(old), field.value(new)
        if before != after and not (field.known and None in (before, after)):
            yield name, before, after


def _changes(pairs: Mapping[str, tuple[Document, Document]]) -> list[Change]:
    found: dict[tuple[str, str], tuple[str, Any, Any, list[str]]] = {}
    for name, (old, new) in pairs.items():
        for field, before, after in _differing(old, new):
            key = (field, repr((before, after)))
            found.setdefault(key, (field, before, after, []))[3].append(name)
    return [Change(field, old, new, tuple(cells)) for field, old, new, cells in found.values()]


def _side(path: Path, document: Document) -> Document:
    return {
        "path": str(path),
        "complete": document["complete"],
        "cells": len(document["cells"]),
        "host": {name: document["host"][name] for name in HOST},
        "libcs": [{name: libc[name] for name in LIBC} for libc in document["libcs"]],
    }


def diff_document(old_path: Path, new_path: Path) -> Document:
    """Compare two documents of `run --json`. InputError where one cannot be used, or no cell is in both."""
    old, new = load(old_path), load(new_path)
    axes = _axes(old, new)
    before, after = _named(old, axes), _named(new, axes)
    pairs = {name: (cell, after[name]) for name, cell in before.items() if name in after}
    if not pairs:
        why = _apart(old, new, axes)
        raise InputError(f"nothing to compare: no cell is both in {old_path} and in {new_path}{why}")
    changes = _changes(pairs)
    order = ["class", "result", "path", *FIELDS]
    changes.sort(key=lambda change: (order.index(change.field), -len(change.cells)))
    return {
        "schema": DIFF_SCHEMA,
        "kind": "diff",
        "old": _side(old_path, old),
        "new": _side(new_path, new),
        "matched_by": list(axes),
        "common": len(pairs),
        "changes": [
            {"field": change.field, "old": change.old, "new": change.new, "cells": list(change.cells)}
            for change in changes
        ],
        "added": [name for name in after if name not in before],
        "vanished": [name for name in before if name not in after],
    }


def class_changed(document: Document) -> bool:
    """Return whether a cell is of another class in the new document, or could be observed in one only."""
    return any(change["field"] == "class" for change in document["changes"])
