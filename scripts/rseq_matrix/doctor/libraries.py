"""Libraries that a program will load with dlopen(3): does their static TLS fit?"""

from __future__ import annotations

import os
from collections.abc import Sequence

from rseq_matrix.documents.doctor import LaterLibrary
from rseq_matrix.errors import UsageError
from rseq_matrix.lint.inspection import inspect_file
from rseq_matrix.lint.surplus import DEFAULT, Surplus, parse_tunables

TLS_RULE = "tls-size"


def _surplus() -> Surplus:
    """Return the surplus of static TLS that a program started here has."""
    try:
        return parse_tunables(os.environ.get("GLIBC_TUNABLES", ""))
    except UsageError:
        return DEFAULT  # glibc ignores it, too


def _library(path: str, surplus: Surplus) -> LaterLibrary:
    facts = inspect_file(path, surplus)
    finding = next((found for found in facts["findings"] if found["id"] == TLS_RULE), None)
    return LaterLibrary(path, finding is None, finding["sentence"] if finding else None)


def later_libraries(paths: Sequence[str]) -> tuple[LaterLibrary, ...]:
    """Return for each library whether its static TLS fits into glibc's surplus. Raises InputError."""
    surplus = _surplus()
    return tuple(_library(path, surplus) for path in paths)
