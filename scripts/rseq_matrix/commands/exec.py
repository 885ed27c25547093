"""`rseq-matrix exec`."""

from __future__ import annotations

import os
import signal
import sys

import click

from rseq_matrix.build import find_compiler
from rseq_matrix.environments import ENVIRONMENTS
from rseq_matrix.errors import InputError, UsageError
from rseq_matrix.libcs.programs import command, find_program, library_path, obstacle, read_program
from rseq_matrix.libcs.roots import Root, open_root
from rseq_matrix.libcs.specs import ALL, parse
from rseq_matrix.libcs.store import obtain
from rseq_matrix.libcs.toolchain import borrowed_directories

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def _root(text: str) -> Root | None:
    if text == ALL:
        raise UsageError("exec runs a program on one libc: --libc all is for run")
    spec = parse(text)
    if spec.fetched:
        return open_root(obtain([spec])[spec.text].root)
    return open_root(spec.directory) if spec.directory else None


def _become(arguments: list[str], environment: dict[str, str]) -> None:
    """Put the program in the place of this one, as a shell would start it."""
    sys.stdout.flush()
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(arguments[0], arguments, environment)
    except OSError as error:
        raise InputError(f"{arguments[0]} cannot be run: {error.strerror}") from error


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--libc", "libc", default="system", metavar="SPEC", help="system, glibc-2.31 and the like, or a directory."
)
@click.option(
    "--environment", "surroundings", default="default", metavar="NAME", help="default, tunable-off.", show_default=True
)
@click.argument("program", nargs=1)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exec(libc: str, surroundings: str, program: str, arguments: tuple[str, ...]) -> None:  # noqa: A001
    """Run any dynamic program on another libc, and end as it ends.

    Its dynamic linker is that libc's, that libc's libraries come first, and its own are found where it would find them.
    Programs that it starts in turn run on the system's libc.
    """
    if surroundings not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{surroundings}': known are {', '.join(ENVIRONMENTS)}")
    environment = {**os.environ, **ENVIRONMENTS[surroundings].variables}
    found = read_program(find_program(program))
    root = _root(libc)
    if root is None:
        _become([str(found.path), *arguments], environment)
        return
    path = library_path(root, borrowed_directories(root, find_compiler), found)
    problem = obstacle(root, libc, found, path)
    if problem:
        raise InputError(problem)
    _become(command(root, found, path, program, arguments), environment)
