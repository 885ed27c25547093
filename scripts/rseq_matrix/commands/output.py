"""Where a command writes: files whole or not at all, standard output for a machine or a person."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.status import Status

from rseq_matrix.document import check_writable, write_text
from rseq_matrix.errors import UsageError

STANDARD_OUTPUT = Path("-")


def emit(path: Path, text: str) -> None:
    """Write a text to a file, or to standard output for "-"."""
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(path, text)


def check_outputs(paths: Iterable[Path | None]) -> bool:
    """Raise UsageError now for what could not be written later. Returns whether standard output is one of them."""
    wanted = [path for path in paths if path]
    named = [path for path in wanted if path != STANDARD_OUTPUT]
    for path in named:
        check_writable(path)
    if len({os.path.realpath(path) for path in named}) < len(named):
        raise UsageError("two outputs cannot have the same file")
    return STANDARD_OUTPUT in wanted


@contextmanager
def waiting_for(what: str) -> Iterator[Status]:
    """Show a person what is being waited for, and let it be said anew."""
    with Console(stderr=True).status(what) as status:
        if not sys.stderr.isatty():
            status.stop()
        yield status
