"""`rseq-matrix exec`."""

from __future__ import annotations

import os
import signal
import sys

import click

from rseq_matrix.build import Build, build
from rseq_matrix.environments.any_program import keep_places, loses_places, needs_build, surrounded
from rseq_matrix.environments.catalogue import ENVIRONMENTS, Environment, environment_of
from rseq_matrix.errors import InputError, UsageError
from rseq_matrix.libcs.compiler import find_compiler
from rseq_matrix.libcs.programs import (
    StartedFile,
    command,
    find_program,
    library_path,
    obstacle,
    read_program,
    require_family,
    rights_lost,
)
from rseq_matrix.libcs.roots import Root, open_root
from rseq_matrix.libcs.specs import ALL, SYSTEM, parse
from rseq_matrix.libcs.store import obtain
from rseq_matrix.libcs.toolchain import borrowed_directories
from rseq_matrix.matrix.targets import targets

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def _root(text: str, program: StartedFile) -> Root | None:
    """Return the libc that the program is to run on; None for the system's."""
    if text == ALL:
        raise UsageError("exec runs a program on one libc: --libc all is for run")
    spec = parse(text)
    require_family(spec.family, program, text)  # before anything is fetched
    directory = obtain([spec])[spec.text].root if spec.fetched else spec.directory
    if not directory:
        return None
    root = open_root(directory)
    require_family(root.family, program, text)
    return root


def _build(libc: str, root: Root | None, environment: Environment) -> Build | None:
    """Return what the environment takes: objects that are preloaded have to suit the libc."""
    if not needs_build(environment):
        return None
    own_objects = bool(environment.preload or environment.stand_in)
    return targets([parse(libc)], sabotage=False, tell=lambda _: None)[0].build if root and own_objects else build()


def _become(file: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Put the program in the place of this one, as a shell would start it."""
    sys.stdout.flush()
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(file, arguments, environment)
    except OSError as error:
        raise InputError(f"{file} cannot be run: {error.strerror}") from error


def _tell_rights_lost(program: StartedFile) -> None:
    kinds = rights_lost(program)
    if kinds:
        said = f"{program.path} runs with your own rights: it is {kinds}, and on another libc that has no effect"
        print(f"rseq-matrix: {said}", file=sys.stderr, flush=True)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--libc", "libc", default="system", metavar="SPEC", help="system, a name like glibc-2.31, or a directory."
)
@click.option(
    "--environment",
    "environment_name",
    default="default",
    metavar="NAME",
    help=f"{', '.join(ENVIRONMENTS)}.",
    show_default=True,
)
@click.argument("program", nargs=1)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exec(libc: str, environment_name: str, program: str, arguments: tuple[str, ...]) -> None:  # noqa: A001
    """Run any dynamic program on another libc, or any program in another environment, and exit with its status.

    On another libc its dynamic linker is that libc's, that libc's libraries come first, and its own are found where it
    would find them. Programs that it starts in turn run on the system's libc. Rights that its file gives (set-uid,
    set-gid, capabilities) have no effect there.
    """
    environment = environment_of(environment_name)
    found = read_program(find_program(program), needs_linker=libc != SYSTEM)
    if not found.interpreter and (environment.preload or environment.stand_in):
        raise InputError(
            f"{program} is static and preloads nothing, which the environment {environment.name} is made by"
        )
    root = _root(libc, found)
    if root and environment.secure:
        raise UsageError("a secure program takes the system's dynamic linker: --environment secure goes without --libc")
    if root is None:
        started = [found.start, *arguments]
    else:
        path = library_path(root, borrowed_directories(root, find_compiler), found)
        problem = obstacle(root, libc, found, path)
        if problem:
            raise InputError(problem)
        _tell_rights_lost(found)
        started = command(root, found, path, program, arguments)
    words, variables = surrounded(environment, _build(libc, root, environment), started)
    if loses_places(environment):
        keep_places()
    own_name = root is None and words[0] == found.start  # nothing stands between: it is told the name that was typed
    _become(words[0], [program, *arguments] if own_name else words, variables)
