"""The list of libcs: which are known, which are cached, and what is in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.errors import MissingError, RseqMatrixError
from rseq_matrix.libcs.compiler import find_compiler, unsupported_links
from rseq_matrix.libcs.identity import UNREADABLE, build_id_of
from rseq_matrix.libcs.integration import Integration, integration
from rseq_matrix.libcs.roots import Root, open_root
from rseq_matrix.libcs.specs import FETCHED, NAMED, SYSTEM, Spec, parse, spread
from rseq_matrix.libcs.store import Entry, damage, obtain, read, store_directory
from rseq_matrix.libcs.toolchain import Toolchain, toolchain
from rseq_matrix.sources import source_root

IN_SYSTEM, CACHED, NOT_CACHED, DAMAGED, IN_DIRECTORY = "system", "cached", "not fetched", "damaged", "directory"


@dataclass(frozen=True)
class Listed:
    """One libc of the list."""

    spec: str
    state: str
    usable: bool
    problem: str = ""
    version: str | None = None
    package: str | None = None
    build_id: str | None = None
    size: int | None = None
    directory: str | None = None
    loader: str | None = None
    integration: str | None = None
    rseq_offset: int | None = None
    static_thread_pointer_first: bool | None = None


def _build_id(loader: Path) -> str | None:
    """Return the build id of a dynamic linker; None if it has none or cannot be read."""
    try:
        return build_id_of(loader)
    except UNREADABLE:
        return None


def _looked_into(tools: Toolchain) -> Integration:
    return integration(source_root() / "csrc/detect", find_compiler(), tools)


def _listed(spec: Spec, state: str, root: Root | None, entry: Entry | None) -> Listed:
    """Look into one libc that is there."""
    tools = toolchain(root, find_compiler()) if root else Toolchain(unsupported=unsupported_links(find_compiler()))
    found = _looked_into(tools)
    package = entry.packages[0] if entry else None
    return Listed(
        spec=spec.text,
        state=state,
        usable=not found.usable,
        problem=found.usable,
        version=found.version or spec.version or None,
        package=f"{package.name} {package.version} ({package.suite})" if package else None,
        build_id=_build_id(root.loader if root else Path(found.loader)),
        size=entry.size if entry else None,
        directory=str(root.directory) if root else None,
        loader=str(root.loader) if root else found.loader or None,
        integration=found.words,
        rseq_offset=found.offset,
        static_thread_pointer_first=found.static_first,
    )


def look_into(spec: Spec) -> Listed:
    """Look into one libc, which is fetched if it has to be. One that cannot be used is a MissingError."""
    entry = obtain([spec])[spec.text] if spec.fetched else None
    state = CACHED if entry else IN_DIRECTORY if spec.directory else IN_SYSTEM
    found = _listed(spec, state, _root(spec, entry), entry)
    if not found.usable:
        raise MissingError(f"the libc '{spec.text}' cannot be looked into: {found.problem}")
    return found


def _root(spec: Spec, entry: Entry | None) -> Root | None:
    return open_root(entry.root) if entry else open_root(spec.directory) if spec.directory else None


def _one(spec: Spec) -> Listed:
    entry = read(spec.text) if spec.fetched else None
    if spec.fetched and not entry:
        return Listed(spec.text, NOT_CACHED, False, "`run --libc` fetches it")
    if entry and (file := damage(entry)):
        return Listed(spec.text, DAMAGED, False, f"{file} is not what was fetched; `run --libc` fetches it again")
    state = CACHED if entry else IN_DIRECTORY if spec.directory else IN_SYSTEM
    try:
        return _listed(spec, state, _root(spec, entry), entry)
    except RseqMatrixError as error:
        if spec.directory:
            raise  # it was asked for
        return Listed(spec.text, state, False, str(error))


def _cached() -> Iterator[str]:
    """Yield the names in the cache."""
    directory = store_directory()
    if directory.is_dir():
        yield from sorted(path.name for path in directory.iterdir() if NAMED.fullmatch(path.name))


def catalogue(wanted: Iterable[str] = ()) -> list[Listed]:
    """Return the libcs that were asked for, or all that are known or cached."""
    names = spread(tuple(wanted) or (SYSTEM, *FETCHED, *_cached()))
    return [_one(spec) for spec in map(parse, names)]
