"""Libraries that a program will load later: is there room for their thread-local variables?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rseq_matrix.errors import UsageError
from rseq_matrix.lint.inspection import inspect_file
from rseq_matrix.lint.surplus import DEFAULT, Surplus, parse_tunables

Document = dict[str, Any]

TLS_RULE = "tls-size"


def _surplus() -> Surplus:
    """Return the reserve of static TLS that a program started here has."""
    try:
        return parse_tunables(os.environ.get("GLIBC_TUNABLES", ""))
    except UsageError:
        return DEFAULT  # glibc passes over it, too


def _library(path: str, surplus: Surplus) -> Document:
    facts = inspect_file(path, surplus)
    finding = next((found for found in facts["findings"] if found["id"] == TLS_RULE), None)
    return {"path": path, "fits": finding is None, "sentence": finding["sentence"] if finding else None}


def library_documents(paths: Sequence[str]) -> list[Document]:
    """Return of each library whether its static TLS fits into what glibc keeps in reserve. Raises InputError."""
    surplus = _surplus()
    return [_library(path, surplus) for path in paths]
