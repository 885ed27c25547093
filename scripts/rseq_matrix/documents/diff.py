"""The document of `diff --json`, schema/diff-1.json."""

from __future__ import annotations

from dataclasses import dataclass

DIFF_SCHEMA = 1

Value = str | int | bool | None


@dataclass(frozen=True)
class ComparedHost:
    """What is shown of a host. Sizes in bytes."""

    release: str
    rseq: str
    feature_size: int | None
    align: int | None


@dataclass(frozen=True)
class ComparedLibc:
    """What is shown of a libc."""

    id: str
    version: str
    build_id: str | None


@dataclass(frozen=True)
class ComparedRun:
    """One of the two documents."""

    path: str
    complete: bool
    cells: int
    host: ComparedHost
    libcs: tuple[ComparedLibc, ...]


@dataclass(frozen=True)
class FieldChange:
    """A field that changed in the same way in some cells."""

    field: str
    old: Value
    new: Value
    cells: tuple[str, ...]


@dataclass(frozen=True)
class DiffDocument:
    """What differs between two runs."""

    schema: int
    kind: str
    old: ComparedRun
    new: ComparedRun
    matched_by: tuple[str, ...]
    common: int
    """Cells that are in both."""
    changes: tuple[FieldChange, ...]
    added: tuple[str, ...]
    vanished: tuple[str, ...]
