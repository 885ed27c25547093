"""The cache of fetched libcs: whole or not there, and checked file by file before it is used.

An entry is made in a directory beside its place and renamed into it when everything is on the disk, with a list of its
files and their digests. A run that is killed leaves such a directory, which the next one removes. One run at a time
fetches; another one waits, and finds what the first one made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rseq_matrix.cache import cache_directory, locked, require_usable_cache
from rseq_matrix.errors import MissingError, RseqMatrixError
from rseq_matrix.libcs.packages import Index, Package, extract
from rseq_matrix.libcs.specs import Spec

MANIFEST = "entry.json"
ROOT = "root"
UNFINISHED = ".unfinished-"
DISCARDED = ".discarded-"
LOADER = re.compile(r"(ld-[^/]+\.so(\.\d+)?|x86_64-linux-musl/libc\.so)$")
"""The name of a dynamic linker, which has to be executable."""


@dataclass(frozen=True)
class Entry:
    """A fetched libc."""

    name: str
    directory: Path
    packages: tuple[Package, ...]
    files: dict[str, str]
    """The digest of each file, or where a symbolic link leads."""
    executable: tuple[str, ...] = ()
    """The files that may be executed."""

    @property
    def root(self) -> Path:
        """Return the directory that the packages were unpacked in."""
        return self.directory / ROOT

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(path.stat().st_size for path in map(self.root.joinpath, self.files) if path.is_file())


def store_directory() -> Path:
    """Return where the entries are."""
    return cache_directory() / "libc"


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _walk(root: Path) -> dict[str, str]:
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            found[str(path.relative_to(root))] = _state(path)
    return found


def _may_be_executed(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _executable(root: Path, files: Iterable[str]) -> list[str]:
    """Return the files that may be executed. Where a link leads is another file's matter."""
    return [name for name in files if not (root / name).is_symlink() and _may_be_executed(root / name)]


def _files(manifest: dict[str, Any]) -> dict[str, str]:
    files = dict(manifest["files"])
    if not all(isinstance(value, str) for value in files.values()):
        raise ValueError("a digest is a text")
    return files


def _recorded_executable(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Return what may be executed, as it was written down. An older list has no such field: the dynamic linkers."""
    if "executable" not in manifest:
        files = _files(manifest).items()
        return tuple(name for name, state in files if LOADER.search(name) and not state.startswith("->"))
    return tuple(map(str, manifest["executable"]))


def read(name: str) -> Entry | None:
    """Return what the cache says that it has; None if there is nothing or it cannot be read. It is not checked."""
    directory = store_directory() / name
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
        packages = tuple(Package(**package) for package in manifest["packages"])
        return Entry(name, directory, packages, _files(manifest), _recorded_executable(manifest))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def damage(entry: Entry) -> str:
    """Return the first file that is not what was fetched; empty if all are."""
    if not entry.packages or not entry.files:
        return MANIFEST
    try:
        found = _walk(entry.root)
        differing = {name for name, _ in found.items() ^ entry.files.items()}
        lost = {name for name in {*entry.executable} - differing if not _may_be_executed(entry.root / name)}
    except OSError as error:
        return str(error.filename)
    return min(differing | lost, default="")


def sound(name: str) -> Entry | None:
    """Return an entry that was checked; None if there is none, or it is damaged."""
    entry = read(name)
    return entry if entry and not damage(entry) else None


def _sweep(directory: Path) -> None:
    """Remove what a run that was killed left. The lock is held, so nobody works on it."""
    for path in directory.iterdir():
        if path.name.startswith((UNFINISHED, DISCARDED)):
            shutil.rmtree(path, ignore_errors=True)


def _packages(spec: Spec, index: Index) -> list[Package]:
    """Return the packages that make up a libc, as that suite has them."""
    if spec.family == "musl":
        first = index.find("musl", spec.version)
        names = ["musl-dev"]
    else:
        first = index.find("libc6", spec.version)
        names = ["libc6-dev"]
    development = [index.find(name, first.upstream) for name in names]
    return [first, *development, *_compiler_packages(first, index)]


def _compiler_packages(libc: Package, index: Index) -> list[Package]:
    """Return the compiler's run-time library of that suite: cancellation unwinds with it, and it suits that libc."""
    if libc.name != "libc6":
        return []
    unwinder = index.companion("libgcc-s1", libc.suite)
    if unwinder is None:
        return []
    number = unwinder.version.partition(".")[0]
    static = index.companion(f"libgcc-{number}-dev", libc.suite)
    return [unwinder, static] if static else [unwinder]


def _make(spec: Spec, index: Index, unfinished: Path) -> None:
    """Fetch one libc into a new directory, and write down what is in it."""
    packages = _packages(spec, index)
    for archive in index.fetch(packages):
        of_compiler = archive.name.startswith("libgcc-") and "-dev_" in archive.name
        extract(archive, unfinished / ROOT, compiler_parts_only=of_compiler)
    files = _walk(unfinished / ROOT)
    manifest = {
        "packages": [asdict(package) for package in packages],
        "files": files,
        "executable": _executable(unfinished / ROOT, files),
    }
    with (unfinished / MANIFEST).open("w") as file:
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())


def _put(made: Path, place: Path) -> None:
    """Give a finished directory its name. A damaged one that has it goes."""
    made.chmod(0o755)
    if place.exists():
        discarded = Path(tempfile.mkdtemp(prefix=DISCARDED, dir=place.parent))
        place.rename(discarded)
        made.rename(place)
        shutil.rmtree(discarded, ignore_errors=True)
    else:
        made.rename(place)


def _fetch(missing: Sequence[Spec], directory: Path) -> None:
    """Fetch one after the other: those that were finished stay, whatever happens to the next."""
    base = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=directory))
    waiting = list(missing)
    try:
        index = Index(base)
        while waiting:
            unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=directory))
            try:
                _make(waiting[0], index, unfinished)
                _put(unfinished, directory / waiting[0].text)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            waiting.pop(0)
    except RseqMatrixError as error:
        raise type(error)(_sentence(waiting, error)) from error
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _sentence(missing: Sequence[Spec], error: RseqMatrixError) -> str:
    """Say what could not be had, and whether that is because a cached one is damaged."""
    names = " and ".join(spec.text for spec in missing)
    if all(read(spec.text) for spec in missing):
        return f"what the cache has of {names} is damaged and cannot be fetched again: {error}"
    return f"{names} cannot be fetched: {error}"


def obtain(specs: Sequence[Spec]) -> dict[str, Entry]:
    """Return the entries of the libcs, from the cache where it has them whole, else fetched."""
    if not specs:
        return {}
    require_usable_cache()
    found = _sound(specs)
    if len(found) == len(specs):
        return found
    directory = store_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / "lock"):
            found |= _sound(spec for spec in specs if spec.text not in found)
            _sweep(directory)
            missing = [spec for spec in specs if spec.text not in found]
            if missing:
                _fetch(missing, directory)
    except OSError as error:
        raise MissingError(f"cannot keep a libc in the cache directory {directory}: {error.strerror}") from error
    return found | {spec.text: entry for spec in missing if (entry := read(spec.text))}


def _sound(specs: Iterable[Spec]) -> dict[str, Entry]:
    return {spec.text: entry for spec in specs if (entry := sound(spec.text))}
