"""The subject: the file that is judged, what it exports, and how it gets into a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.elf.critical import critical_sections
from rseq_matrix.elf.facts import Code, Section, Touch
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.touches import Touches
from rseq_matrix.errors import InputError
from rseq_matrix.matrix.trial import NEEDED_NAME
from rseq_matrix.signals import signal_name

REQUIRED = ("rsm_subject_add", "rsm_subject_sum")
OPTIONAL = (
    "rsm_subject_name",
    "rsm_subject_path",
    "rsm_subject_aborts",
    "rsm_subject_register",
    "rsm_subject_push",
    "rsm_subject_pop",
    "rsm_subject_stack",
)
"""csrc/subject.h."""
BUILT_IN = ("split", "atomic", "list")
POINTER = "thread pointer"
"""In the words of what reads that itself, and no variable."""
WATCHED = 64
MACHINE = "x86-64"
SEPARATORS = " :"  # ld.so(8): what separates the entries of LD_PRELOAD
LOADER_SAID = re.compile("^.*?(error while loading shared libraries|cannot be preloaded|symbol lookup error)")


@dataclass(frozen=True)
class Subject:
    """A shared object that keeps to the contract, as far as its file tells."""

    name: str
    path: Path
    """Absolute, without symbolic links: as /proc/PID/maps shows it."""
    exports: frozenset[str]
    """Which functions of the contract it defines."""
    sections: tuple[Section, ...]
    """Its critical sections; addresses are those of the file."""
    code: Code
    """What rsm_subject_add() touches: PLT, GOT, TLS."""
    preload: str
    """What to put into LD_PRELOAD for it."""
    library_path: str
    """Directories that hold it under the name by which objects in other namespaces need it, and what it needs."""
    run_path: tuple[str, ...] = ()
    """Where the dynamic linker searches for the libraries that it needs (DT_RUNPATH, DT_RPATH)."""
    number: int | None = None
    """Of a built-in subject: under which static programs hold it."""

    @property
    def stacks(self) -> bool:
        """Return whether it has stacks, too."""
        return {"rsm_subject_push", "rsm_subject_pop"} <= self.exports

    @property
    def operations(self) -> tuple[str, ...]:
        """Return what can be done with it."""
        return ("add", "push", "pop") if self.stacks else ("add",)

    @property
    def watched(self) -> tuple[Touch, ...]:
        """Return the accesses of an add to thread-local variables, which are wrong before relocation."""
        found = (touch for touch in self.code.touches if touch.kind == "tls" and POINTER not in touch.what)
        return tuple(found)[:WATCHED]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that judges it, besides those of the caller."""
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C",
            "LD_PRELOAD": self.preload,
            "LD_LIBRARY_PATH": self.library_path,
        }


@dataclass(frozen=True)
class _Looked:
    """What the file says."""

    machine: str
    kind: str
    exports: frozenset[str]
    sections: tuple[Section, ...]
    code: Code
    run_path: tuple[str, ...]


def _look(path: Path) -> _Looked:
    """Find the functions of the contract as the dynamic linker does, what an add touches, and critical sections."""
    with Image(str(path)) as image:
        program = ProgramCode(image)
        symbols = image.dynamic_symbols
        named = symbols.named(frozenset(REQUIRED + OPTIONAL))
        addresses = {name: int(symbols.table["value"][index]) for index, name in named if symbols.defined[index]}
        add = addresses.get(REQUIRED[0], 0)
        return _Looked(
            machine=image.machine.name,
            kind=image.kind,
            exports=frozenset(addresses),
            sections=critical_sections(program).sections,
            code=Touches(program).of(add) if add else Code(0, ""),
            run_path=image.names("DT_RUNPATH") + image.names("DT_RPATH"),
        )


def _check(path: Path, looked: _Looked) -> None:
    if looked.machine != MACHINE:
        raise InputError(f"{path}: it is for {looked.machine}, and a subject has to run here, on {MACHINE}")
    if looked.kind != "shared-object":
        raise InputError(f"{path}: it is of the kind '{looked.kind}', and a subject is a shared object (cc -shared)")
    if missing := [required for required in REQUIRED if required not in looked.exports]:
        raise InputError(f"{path}: it does not define {' and '.join(missing)}, as a subject has to (csrc/subject.h)")


def _check_loads(path: Path, preload: str) -> None:
    """Raise InputError with the dynamic linker's words if no process can be started with the subject."""
    environment = {"LD_PRELOAD": preload, "LC_ALL": "C"}
    command = [sys.executable, "-I", "-S", "-c", ""]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    said = next((line for line in done.stderr.splitlines() if preload in line or done.returncode), "")
    if done.returncode < 0:
        said = f"a program that preloads it is killed by {signal_name(-done.returncode)} before its main()"
    if done.returncode or said:
        said = LOADER_SAID.sub(r"\1", said)
        raise InputError(f"{path}: it cannot be loaded: {said or f'exit status {done.returncode}'}")


def _room(path: Path, run_path: tuple[str, ...], room: Path) -> tuple[str, str]:
    """Return what to preload and where else to search, with links in `room` to a path that the loader would split."""
    (room / NEEDED_NAME).symlink_to(path)
    plain = not any(character in str(path) for character in SEPARATORS)
    parts = [part for entry in run_path for part in entry.split(":") if part]
    origins = [part.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(path.parent)) for part in parts]
    return str(path) if plain else str(room / NEEDED_NAME), ":".join([str(room), *origins])


@contextmanager
def opened(path: Path, name: str | None = None, number: int | None = None) -> Iterator[Subject]:
    """Read a subject's file; it can be preloaded as long as the context lasts.

    Raises InputError with one sentence where the file is no shared object for this machine, lacks the contract or
    cannot be loaded.
    """
    path = Path(os.path.realpath(path))
    looked = _look(path)
    _check(path, looked)
    with tempfile.TemporaryDirectory(prefix="rseq-matrix-") as room:
        preload, library_path = _room(path, looked.run_path, Path(room))
        _check_loads(path, preload)
        yield Subject(
            name=name or path.name,
            path=path,
            exports=looked.exports,
            sections=looked.sections,
            code=looked.code,
            preload=preload,
            library_path=library_path,
            run_path=looked.run_path,
            number=number,
        )
