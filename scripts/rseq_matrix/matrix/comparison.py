"""What differs between two documents of `run --json`: a pure function of the two, and the reading of them with care."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rseq_matrix.documents.diff import (
    DIFF_SCHEMA,
    ComparedHost,
    ComparedLibc,
    ComparedRun,
    DiffDocument,
    FieldChange,
    Value,
)
from rseq_matrix.documents.reading import DamagedError, read
from rseq_matrix.documents.run import SCHEMA, CellResult, Observation, RunDocument
from rseq_matrix.errors import InputError

LARGEST = 1 << 28
"""Bytes that a document may have."""
AXES = ("kernel", "libc", "link", "environment", "stage")
OMITTED = ("kernel", "libc")
"""Axes that are left out of a cell's name where each document has one value of it, so that two libcs compare."""
CPU_NUMBER = "a CPU"
NAMED = 3
"""Values of an axis that a sentence names."""

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


def load(path: Path) -> RunDocument:
    """Read a document of `run --json`; InputError, in one sentence, for anything else."""
    value = _parse(path)
    if not isinstance(value, dict) or "schema" not in value or "cells" not in value:
        _damaged(path, "it has no 'schema' and 'cells'")
    if type(value["schema"]) is not int or value["schema"] != SCHEMA:
        schema = str(value["schema"])[:20]
        raise InputError(f"{path}: it has schema {schema}; this version of rseq-matrix reads schema {SCHEMA}")
    try:
        document = read(RunDocument, value)
    except DamagedError as error:
        _damaged(path, str(error))
    for number, cell in enumerate(document.cells):
        if cell.id.split("/") != [_axis(cell, axis) for axis in AXES]:
            _damaged(path, f"the id of cell {number} is not made of its parts")
    twice = [name for name, count in Counter(cell.id for cell in document.cells).items() if count > 1]
    if twice:
        _damaged(path, f"it has the cell {twice[0]} more than once")
    return document


def _axis(cell: CellResult, axis: str) -> str:
    return str(getattr(cell, axis))


# --- comparing


def _cpu_id(seen: Observation) -> Value:
    """Return what cpu_id says, but not which CPU: that is chance."""
    return CPU_NUMBER if seen.cpu_id is not None and seen.cpu_id >= 0 else seen.cpu_id


@dataclass(frozen=True)
class Field:
    """A field that is compared where the cell was observed in both runs."""

    value: Callable[[Observation], Value]
    known: bool = False
    """Null means that nobody looked: no difference."""


FIELDS: dict[str, Field] = {
    "owner": Field(lambda seen: seen.owner, known=True),
    "thread_pointer": Field(lambda seen: seen.thread_pointer),
    "kernel_registered": Field(lambda seen: seen.kernel_registered, known=True),
    "user_registered": Field(lambda seen: seen.user_registered),
    "rseq_size": Field(lambda seen: seen.rseq_size),
    "rseq_offset": Field(lambda seen: seen.rseq_offset),
    "rseq_flags": Field(lambda seen: seen.rseq_flags),
    "area": Field(lambda seen: seen.area),
    "cpu_id": Field(_cpu_id),
    "relocated": Field(lambda seen: seen.relocated),
    "critical_section": Field(lambda seen: seen.critical_section),
    "oracle.registered": Field(lambda seen: seen.oracle.registered if seen.oracle else None, known=True),
    "oracle.size": Field(lambda seen: seen.oracle.size if seen.oracle else None, known=True),
    "oracle.signature": Field(lambda seen: seen.oracle.signature if seen.oracle else None, known=True),
}
"""What is compared of an observation. Addresses, CPU numbers and the order of records are chance, and are not."""


def _axes(old: RunDocument, new: RunDocument) -> tuple[str, ...]:
    """Return the axes that cells are matched by."""

    def several(axis: str) -> bool:
        return any(len({_axis(cell, axis) for cell in document.cells}) > 1 for document in (old, new))

    return tuple(axis for axis in AXES if axis not in OMITTED or several(axis))


def _apart(old: RunDocument, new: RunDocument, axes: Sequence[str]) -> str:
    """Name the axes in which two documents have nothing in common; empty if there is none."""
    words = []
    for axis in axes:
        before, after = (list(dict.fromkeys(_axis(cell, axis) for cell in document.cells)) for document in (old, new))
        if before and after and not {*before} & {*after}:
            words.append(f"{axis} {_few(before)} against {_few(after)}")
    return f": {', '.join(words)}" if words else ""


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{' and '.join(names[:NAMED]) if not more else ', '.join(names[:NAMED])}{more}"


def _named(document: RunDocument, axes: Sequence[str]) -> dict[str, CellResult]:
    return {"/".join(_axis(cell, axis) for axis in axes): cell for cell in document.cells}


def _differing(old: CellResult, new: CellResult) -> Iterator[tuple[str, Value, Value]]:
    """Yield what differs between two cells."""
    if old.observed_class != new.observed_class:
        yield "class", old.observed_class, new.observed_class
    if old.result != new.result:
        yield "result", old.result, new.result
    if old.subject.path != new.subject.path:
        yield "path", old.subject.path, new.subject.path
    if not old.observed or not new.observed:
        return
    for name, field in FIELDS.items():
        before, after = field.value(old.observed), field.value(new.observed)
        if before != after and not (field.known and None in (before, after)):
            yield name, before, after


def _changes(pairs: Mapping[str, tuple[CellResult, CellResult]]) -> list[FieldChange]:
    found: dict[tuple[str, str], tuple[str, Value, Value, list[str]]] = {}
    for name, (old, new) in pairs.items():
        for field, before, after in _differing(old, new):
            key = (field, repr((before, after)))
            found.setdefault(key, (field, before, after, []))[3].append(name)
    return [FieldChange(field, old, new, tuple(cells)) for field, old, new, cells in found.values()]


def _side(path: Path, document: RunDocument) -> ComparedRun:
    host = document.host
    return ComparedRun(
        path=str(path),
        complete=document.complete,
        cells=len(document.cells),
        host=ComparedHost(host.release, host.rseq, host.feature_size, host.align),
        libcs=tuple(ComparedLibc(libc.id, libc.version, libc.build_id) for libc in document.libcs),
    )


def diff_document(old_path: Path, new_path: Path) -> DiffDocument:
    """Compare two documents of `run --json`. InputError where one cannot be used, or no cell is in both."""
    old, new = load(old_path), load(new_path)
    axes = _axes(old, new)
    before, after = _named(old, axes), _named(new, axes)
    pairs = {name: (cell, after[name]) for name, cell in before.items() if name in after}
    if not pairs:
        why = _apart(old, new, axes)
        raise InputError(f"nothing to compare: no cell is both in {old_path} and in {new_path}{why}")
    order = ["class", "result", "path", *FIELDS]
    return DiffDocument(
        schema=DIFF_SCHEMA,
        kind="diff",
        old=_side(old_path, old),
        new=_side(new_path, new),
        matched_by=axes,
        common=len(pairs),
        changes=tuple(sorted(_changes(pairs), key=lambda one: (order.index(one.field), -len(one.cells)))),
        added=tuple(name for name in after if name not in before),
        vanished=tuple(name for name in before if name not in after),
    )


def class_changed(document: DiffDocument) -> bool:
    """Return whether a cell is of another class in the new document, or could be observed in one only."""
    return any(change.field == "class" for change in document.changes)
