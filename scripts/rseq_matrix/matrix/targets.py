"""The libcs of a run, made ready: fetched, built against, and looked into."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rseq_matrix.build import Build, build
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.libcs.compiler import find_compiler
from rseq_matrix.libcs.roots import Root, open_root
from rseq_matrix.libcs.specs import Spec
from rseq_matrix.libcs.store import Entry, obtain
from rseq_matrix.libcs.toolchain import toolchain
from rseq_matrix.matrix.libc import Libc, libc_of

RELEASE = re.compile(rb"GNU C Library[^\n]*release version (\d+(?:\.\d+)*)")
SUFFIX = 8
"""Letters of the build id that tell two libcs of the same version apart."""


@dataclass(frozen=True)
class Target:
    """One libc, with what was built against it."""

    libc: Libc
    build: Build
    also: tuple[str, ...] = ()
    """How else the same build was asked for."""

    @property
    def repeated(self) -> str:
        """Say that it was asked for more than once; empty if it was not."""
        if not self.also:
            return ""
        names = " and as ".join((*self.also, self.libc.spec))
        return f"{self.libc.id} was asked for as {names}, which are the same build: it is run once, as {self.libc.spec}"


def root_of(spec: Spec, entries: dict[str, Entry]) -> Root | None:
    """Return the root of a libc; None for the system's."""
    if spec.fetched:
        return open_root(entries[spec.text].root)
    return open_root(spec.directory) if spec.directory else None


def written_version(libc: Path) -> str:
    """Return the version that glibc's libc.so.6 carries in its text; empty if there is none."""
    found = RELEASE.search(libc.read_bytes())
    return found[1].decode() if found else ""


def _require_own(spec: Spec, root: Root, libc: Libc) -> None:
    """Make sure that programs linked to a root run on its libc and on no other."""
    if libc.loader != str(root.loader):
        raise MissingError(f"programs for the libc '{spec.text}' start with {libc.loader}, not with {root.loader}")
    written = written_version(root.libc) if root.family == "glibc" else spec.version
    if written and libc.version != written:
        raise MissingError(f"programs for the libc '{spec.text}' run on {libc.id}, not on {written}")


def system_target(sabotage: bool = False) -> Target:
    """Make the system's libc ready."""
    made = build(sabotage=sabotage)
    return Target(libc_of(made), made)


def _target(spec: Spec, root: Root | None, sabotage: bool) -> Target:
    if root is None:
        return system_target(sabotage)
    tools = toolchain(root, find_compiler())
    made = build(sabotage=sabotage, tools=tools)
    try:
        libc = libc_of(made, spec.text)
    except MissingError as error:
        raise (InputError if spec.directory else MissingError)(str(error)) from error
    _require_own(spec, root, libc)
    return Target(replace(libc, borrowed=tools.borrowed), made)


def _distinct(targets: Sequence[Target]) -> list[Target]:
    """Give libcs of the same version, but of different builds, names of their own.

    The same build twice is one: that which can have more links.
    """
    by_build: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        by_build.setdefault((target.libc.id, target.libc.build_id or target.libc.spec), []).append(target)
    seen: Counter[str] = Counter()
    result = []
    for same in by_build.values():
        target = min(same, key=lambda one: len(one.build.unsupported))
        libc = target.libc
        seen[libc.id] += 1
        if seen[libc.id] > 1:
            libc = replace(libc, id=f"{libc.id}-{(libc.build_id or str(seen[libc.id]))[:SUFFIX]}")
        result.append(Target(libc, target.build, tuple(one.libc.spec for one in same if one is not target)))
    return result


def targets(specs: Sequence[Spec], sabotage: bool, tell: Callable[[str], None]) -> list[Target]:
    """Make the libcs ready. `tell` is told what is going on."""
    fetched = [spec for spec in specs if spec.fetched]
    if fetched:
        tell(f"looking at {', '.join(spec.text for spec in fetched)}")
    entries = obtain(fetched)
    roots = {
        spec.text: root_of(spec, entries) for spec in specs
    }  # what is wrong with a directory is said before building
    made = []
    for spec in specs:
        tell(f"building the probes for {spec.text}")
        made.append(_target(spec, roots[spec.text], sabotage))
    return _distinct(made)
