"""Where this project keeps what it can make or fetch again, and how two runs keep out of each other's way there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """Return the project's part of XDG's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rseq-matrix"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, and wait for it while another process does."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
