"""Where a command writes: files whole or not at all, standard output for a machine or a person."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import click
from rich.console import Console
from rich.status import Status

from rseq_matrix.errors import UsageError

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


def _is_special(path: Path) -> bool:
    """Return whether there is something that is not a file, like a device or a FIFO: written into, never replaced."""
    return path.exists() and not path.is_file()


def check_writable(path: Path) -> None:
    """Raise UsageError now, before anything runs, if `path` cannot be written later."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory")
    if _is_special(target):
        return
    if not os.access(target.parent, os.W_OK | os.X_OK):
        problem = "is not writable" if target.parent.is_dir() else "does not exist"
        raise UsageError(f"cannot write {path}: the directory {target.parent} {problem}")


def _replace(target: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp() makes it private, a report is not
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: beside it, then renamed over it. A symbolic link stays and is followed."""
    target = Path(os.path.realpath(path))
    try:
        if _is_special(target):
            with target.open("w", encoding="utf-8") as file:
                file.write(text)
        else:
            _replace(target, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


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
