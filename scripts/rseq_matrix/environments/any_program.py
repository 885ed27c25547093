"""Any program in the environment of a cell: what `exec --environment` starts."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.environments.catalogue import SCRATCH, Environment, Start, started
from rseq_matrix.environments.readiness import ENTER, find_tool, missing
from rseq_matrix.errors import MissingError

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


def _variables(environment: Environment) -> dict[str, str]:
    """Return the environment's variables, behind what the user has in them: the last setting of a tunable counts."""
    return {
        name: ":".join(filter(None, (os.environ.get(name), value))) for name, value in environment.variables.items()
    }


def _preloaded(environment: Environment, build: Build) -> dict[str, str]:
    """Return the program's variables."""
    variables = _variables(environment)
    name = environment.stand_in or environment.preload
    if not name:
        return variables
    objects = [os.environ.get("LD_PRELOAD", ""), _file(build, f"dynamic-now/{name}")]
    return {**variables, "LD_PRELOAD": ":".join(filter(None, objects))}


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
    start = Start([str(copy), *arguments[1:]], _variables(environment), _file(build, ENTER), directory=here)
    return started(environment, None, start)


def _is_file(number: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:  # closed
        return False


def loses_places(environment: Environment) -> bool:
    """Return whether the program would not go on in a file where this process stands in it: gVisor knows no offsets."""
    return environment.log_in_file and any(map(_is_file, range(3)))


def _append_to_files() -> None:
    """Make the program write behind what is in a file already: in gVisor it would start at the file's beginning."""
    for number in filter(_is_file, (1, 2)):
        try:
            again = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_APPEND)
        except OSError:  # not ours to open
            continue
        os.dup2(again, number)
        os.close(again)


def _read_from_here() -> None:
    """Let the program read what is left of a file, through a pipe: in gVisor it would start at its beginning."""
    if not _is_file(0) or os.lseek(0, 0, os.SEEK_CUR) == 0:
        return
    reader = subprocess.Popen(["cat"], stdout=subprocess.PIPE)
    if reader.stdout:
        os.dup2(reader.stdout.fileno(), 0)
        reader.stdout.close()


def _end_as(status: int) -> None:
    """End as a child did. status: the wait status."""
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def keep_places() -> None:
    """Return in a child, in which the program writes to files. This process waits and goes in them where it went.

    Who writes next to a file that it shares with the program, a shell's script say, would else write over that.
    """
    child = os.fork()
    if child == 0:
        _read_from_here()
        _append_to_files()
        return
    for ignored in (signal.SIGINT, signal.SIGQUIT):  # a terminal sends them to the child, too
        signal.signal(ignored, signal.SIG_IGN)
    for passed_on in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(passed_on, lambda sent, _frame: os.kill(child, sent))
    status = os.waitpid(child, 0)[1]
    for number in filter(_is_file, (1, 2)):
        os.lseek(number, 0, os.SEEK_END)
    _end_as(status)


def surrounded(
    environment: Environment, build: Build | None, arguments: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables with which a program is started in an environment.

    build: what was built for the program's libc; None where nothing is needed of it. Raises MissingError where the
    environment's tool is not there. For a secure program the working directory changes: an exec has to follow.
    """
    if build is None:
        return list(arguments), {**os.environ, **_variables(environment)}
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
    start = Start(arguments, own, _file(build, ENTER))
    return started(environment, find_tool(environment), start), dict(os.environ)
