"""Where this project keeps what it can make or fetch again, and how two runs keep out of each other's way there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rseq_matrix.errors import MissingError

UNUSABLE = ':;,$"[]\\'
"""What the search path of libraries, CMake's lists or the compiler's options would read otherwise."""


def unusable_letter(path: Path) -> str:
    """Return a letter for which a libc cannot be used from there; empty if there is none."""
    return next((letter for letter in str(path) if letter in UNUSABLE or not letter.isprintable()), "")


def cache_directory() -> Path:
    """Return the project's part of XDG's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rseq-matrix"


def require_usable_cache() -> None:
    """Raise MissingError where the cache directory cannot hold a libc."""
    bad = unusable_letter(cache_directory())
    if bad:
        raise MissingError(
            f"the cache directory {cache_directory()} cannot hold a libc: a search path or list of libraries cannot "
            f"hold {bad!r}; set XDG_CACHE_HOME to another"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, and wait for it while another process does."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
