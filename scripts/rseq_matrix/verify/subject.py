"""The subject: the file that is judged, what it exports, and how it gets into a process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.elf.facts import Section
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.read import read
from rseq_matrix.errors import InputError

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
MACHINE = "x86-64"
SEPARATORS = " :"  # ld.so(8): what separates the entries of LD_PRELOAD


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
    preload: str
    """What to put into LD_PRELOAD for it."""

    @property
    def stacks(self) -> bool:
        """Return whether it has stacks, too."""
        return {"rsm_subject_push", "rsm_subject_pop"} <= self.exports

    @property
    def operations(self) -> tuple[str, ...]:
        """Return what can be done with it."""
        return ("add", "push", "pop") if self.stacks else ("add",)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that judges it, besides what the caller wants there."""
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_PRELOAD": self.preload}


def _exports(facts_path: str) -> tuple[str, frozenset[str]]:
    """Return the machine, and which functions of the contract the dynamic linker finds in the file."""
    with Image(facts_path) as image:
        symbols = image.dynamic_symbols
        found = {name for index, name in symbols.named(frozenset(REQUIRED + OPTIONAL)) if symbols.defined[index]}
        return image.machine.name, frozenset(found)


def _linked(path: Path, room: Path) -> str:
    """Return a path to the file that has no character at which LD_PRELOAD would be split."""
    if not any(character in str(path) for character in SEPARATORS):
        return str(path)
    link = room / "subject.so"
    link.symlink_to(path)
    return str(link)


@contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[Subject]:
    """Read a subject's file; it can be preloaded as long as the context lasts.

    Raises InputError with one sentence where the file is no shared object for this machine or lacks the contract.
    """
    path = Path(os.path.realpath(path))
    facts = read(str(path))
    machine, exports = _exports(str(path))
    if machine != MACHINE:
        raise InputError(f"{path}: it is for {machine}, and a subject has to run here, on {MACHINE}")
    if facts.kind != "shared-object":
        raise InputError(f"{path}: it is a {facts.kind}, and a subject is a shared object (cc -shared -fPIC)")
    if missing := [required for required in REQUIRED if required not in exports]:
        raise InputError(
            f"{path}: it does not define {' and '.join(missing)}, which a subject has to (csrc/subject.h)"
        )
    with tempfile.TemporaryDirectory(prefix="rseq-matrix-") as room:
        preload = _linked(path, Path(room))
        yield Subject(name or path.name, path, exports, facts.critical_sections.sections, preload)
