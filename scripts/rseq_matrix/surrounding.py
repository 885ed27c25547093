"""Any program in the surroundings of a cell: what `exec --environment` starts."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.environments import SCRATCH, Environment, Start, started
from rseq_matrix.errors import MissingError
from rseq_matrix.readiness import ENTER, find_tool, missing

SINGLE_STEP = "single_step"
COPIES = "secure-programs"


def needs_build(environment: Environment) -> bool:
    """Return whether it takes something that has to be built."""
    return environment.wrapped or environment.stepped or bool(environment.preload or environment.stand_in)


def _file(build: Build, name: str) -> str:
    path = build.directory / name
    if name in build.failures or not path.exists():
        raise MissingError(f"{name} could not be built: {build.failures.get(name, 'it is not there')}")
    return str(path)


def _preloaded(environment: Environment, build: Build) -> dict[str, str]:
    """Return the program's variables."""
    name = environment.stand_in or environment.preload
    if not name:
        return dict(environment.variables)
    objects = [os.environ.get("LD_PRELOAD", ""), _file(build, f"dynamic-now/{name}")]
    return {**environment.variables, "LD_PRELOAD": ":".join(filter(None, objects))}


def _copied(build: Build, program: str) -> Path:
    """Return a directory that holds a copy of the program and nothing else."""
    about = Path(program).stat()
    key = hashlib.sha256(f"{program} {about.st_mtime_ns} {about.st_size}".encode()).hexdigest()[:16]
    place = build.directory / COPIES / key
    place.mkdir(parents=True, exist_ok=True)
    if not (place / Path(program).name).exists():
        shutil.copy2(program, place / Path(program).name)
    return place


def _secure(environment: Environment, build: Build, arguments: Sequence[str]) -> list[str]:
    """Start a copy of the program, from a directory in which nothing else is copied."""
    here, program = str(Path.cwd()), Path(arguments[0]).resolve()
    (build.directory / SCRATCH).mkdir(exist_ok=True)
    os.chdir(_copied(build, str(program)))
    copy = build.directory / SCRATCH / "programs" / program.name
    start = Start([str(copy), *arguments[1:]], dict(environment.variables), _file(build, ENTER), directory=here)
    return started(environment, None, start)


def _append_to_files() -> None:
    """Make the program write behind what is in a file already: in gVisor it would start at the file's beginning."""
    for number in (1, 2):
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                continue
            again = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_APPEND)
        except OSError:  # closed, or not ours to open
            continue
        os.dup2(again, number)
        os.close(again)


def surrounded(
    environment: Environment, build: Build | None, arguments: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables with which a program is started in an environment.

    build: what was built for the program's libc; None where nothing is needed of it. Raises MissingError where the
    environment's tool is not there. For a secure program the working directory changes: an exec has to follow.
    """
    if build is None:
        return list(arguments), {**os.environ, **environment.variables}
    lost = missing(environment)
    if lost:
        raise MissingError(f"the environment {environment.name} cannot be had: {lost}")
    if environment.secure:
        return _secure(environment, build, arguments), dict(os.environ)
    own = _preloaded(environment, build)
    if environment.stepped:
        return [_file(build, SINGLE_STEP), *arguments], {**os.environ, **own}
    if not environment.wrapped:
        return list(arguments), {**os.environ, **own}
    if environment.log_in_file:
        _append_to_files()
    start = Start(arguments, own, _file(build, ENTER))
    return started(environment, find_tool(environment), start), dict(os.environ)
