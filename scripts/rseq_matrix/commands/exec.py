"""`rseq-matrix exec`."""

from __future__ import annotations

import os
import signal
import sys

import click

from rseq_matrix.build import Build, build, find_compiler
from rseq_matrix.environments import ENVIRONMENTS, Environment
from rseq_matrix.errors import InputError, UsageError
from rseq_matrix.libcs.programs import command, find_program, library_path, obstacle, read_program
from rseq_matrix.libcs.roots import Root, open_root
from rseq_matrix.libcs.specs import ALL, parse
from rseq_matrix.libcs.store import obtain
from rseq_matrix.libcs.toolchain import borrowed_directories
from rseq_matrix.surrounding import environment_of, needs_build, surrounded
from rseq_matrix.targets import targets

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def _root(text: str) -> Root | None:
    if text == ALL:
        raise UsageError("exec runs a program on one libc: --libc all is for run")
    spec = parse(text)
    if spec.fetched:
        return open_root(obtain([spec])[spec.text].root)
    return open_root(spec.directory) if spec.directory else None


def _build(libc: str, root: Root | None, environment: Environment) -> Build | None:
    """Return what the environment takes: objects that are preloaded have to suit the libc."""
    if not needs_build(environment):
        return None
    own_objects = bool(environment.preload or environment.stand_in)
    return targets([parse(libc)], sabotage=False, tell=lambda _: None)[0].build if root and own_objects else build()


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
    "--environment",
    "surroundings",
    default="default",
    metavar="NAME",
    help=f"{', '.join(ENVIRONMENTS)}.",
    show_default=True,
)
@click.argument("program", nargs=1)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exec(libc: str, surroundings: str, program: str, arguments: tuple[str, ...]) -> None:  # noqa: A001
    """Run any dynamic program on another libc, and end as it ends.

    Its dynamic linker is that libc's, that libc's libraries come first, and its own are found where it would find them.
    Programs that it starts in turn run on the system's libc.
    """
    environment = environment_of(surroundings)
    found = read_program(find_program(program))
    root = _root(libc)
    if root is None:
        started = [str(found.path), *arguments]
    else:
        path = library_path(root, borrowed_directories(root, find_compiler), found)
        problem = obstacle(root, libc, found, path)
        if problem:
            raise InputError(problem)
        started = command(root, found, path, program, arguments)
    if root and environment.secure:
        raise UsageError("a secure program takes the system's dynamic linker: --environment secure goes without --libc")
    _become(*surrounded(environment, _build(libc, root, environment), started))
