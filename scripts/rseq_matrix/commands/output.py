"""Where a command writes: files whole or not at all, standard output for a machine or a person."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import click
from rich.console import Console
from rich.status import Status

from rseq_matrix.errors import UsageError
from rseq_matrix.matrix.document import check_writable, write_text

STANDARD_OUTPUT = Path("-")
BLANKS = re.compile(r"[ \t]+(?=\n)")


class Seconds(click.FloatRange):
    """A number of seconds in a range. NaN is in every range of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("nan is not a number of seconds", param, ctx)
        return number


class _Trimmed:
    """A file that gets no blanks at the ends of lines, with which rich fills its tables and paragraphs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(BLANKS.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def report_console(stderr: bool = False) -> Console:
    """Return where a report is printed for a person, or into a file or pipe."""
    file = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr) if file.isatty() else Console(file=cast(TextIO, _Trimmed(file)))


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
