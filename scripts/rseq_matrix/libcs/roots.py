"""What is in a directory that holds a libc: its loader, its libraries, its headers and start files.

The directory is an extracted root, a container's file system, or glibc's build tree. Symbolic links in it are followed
as inside the root: an absolute one does not lead to the host's files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from rseq_matrix.cache import unusable_letter
from rseq_matrix.errors import InputError

MACHINE = "EM_X86_64"
MACHINE_NAME = "x86-64"
LIBRARY_DIRECTORIES = (
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib/x86_64-linux-musl",
    "usr/lib/x86_64-linux-musl",
    "lib",
    "usr/lib",
)
INCLUDE_DIRECTORIES = (
    "usr/include/x86_64-linux-gnu",
    "usr/include/x86_64-linux-musl",
    "usr/include",
    "include",
)
BUILD_TREE = ("elf", "nptl", "dlfcn", "math", "rt", "nss", "resolv", "csu")
"""Where glibc's own testrun.sh looks for the libraries that it built."""

LOADERS = {"glibc": "ld-linux-x86-64.so.2", "musl": "ld-musl-x86_64.so.1"}
LIBRARIES = {"glibc": "libc.so.6", "musl": "libc.so"}
ANY_LOADER = ("ld-linux*.so.*", "ld-musl-*.so.*", "ld64.so.*", "ld.so.1")
LINK_LIMIT = 40


@dataclass(frozen=True)
class Root:
    """One libc in a directory."""

    directory: Path
    family: str
    """glibc or musl: whose file names it has. What it can do is found out by experiment."""
    build_tree: bool
    loader: Path
    libc: Path
    library_directories: tuple[Path, ...]
    include_directories: tuple[Path, ...]

    def find(self, name: str) -> Path | None:
        """Return a start file or library of it."""
        if self.build_tree:  # not the root of a file system: its symbolic links are followed as they are
            return next((path for place in self.library_directories if (path := place / name).is_file()), None)
        return next(_files(self.directory, self.library_directories, name), None)

    def find_compiler_part(self, name: str) -> Path | None:
        """Return a part of the compiler's run-time library that lies in it."""
        parts = sorted(self.directory.glob(f"usr/lib/gcc/x86_64-*/*/{name}"), reverse=True)
        return parts[0] if parts else None


def resolve(root: Path, path: Path) -> Path | None:
    """Follow symbolic links as inside the root. None if it leads nowhere, or in circles."""
    rest = list(path.relative_to(root).parts)
    at: list[str] = []
    for _ in range(LINK_LIMIT * 10):
        if not rest:
            return root.joinpath(*at)
        part = rest.pop(0)
        if part == "..":
            at = at[:-1]
            continue
        here = root.joinpath(*at, part)
        if here.is_symlink():
            target = here.readlink()
            if target.is_absolute():
                at = []
            rest = [piece for piece in target.parts if piece != "/"] + rest
        elif here.exists():
            at.append(part)
        else:
            return None
    return None


def _files(root: Path, directories: Iterable[Path], name: str) -> Iterator[Path]:
    for directory in directories:
        found = resolve(root, directory / name)
        if found and found.is_file():
            yield found


def _with_libraries(directories: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(path for path in directories if any(path.glob("*.so*")))


def _existing(root: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """Return the directories that are there, each once, links followed."""
    found = (resolve(root, root / name) for name in names)
    return tuple(dict.fromkeys(path for path in found if path and path.is_dir()))


def machine_of(path: Path) -> str:
    """Return the machine that an ELF file is for. A file that is not one is an InputError."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            return str(elf.header["e_machine"]) if elf.elfclass == 64 else f"{elf.header['e_machine']}, 32 bits"
    except (ELFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a dynamic linker that could be read: {error}") from error


def _other_machine(directory: Path, directories: Iterable[Path]) -> str:
    """Return the machine of a loader that is there, but not for this machine; empty if there is none."""
    for place in directories:
        for pattern in ANY_LOADER:
            for path in sorted(place.glob(pattern)):
                found = resolve(directory, path)
                if found and found.is_file():
                    return machine_of(found).removeprefix("EM_")
    return ""


def _require_directory(directory: Path) -> Path:
    try:
        if not directory.is_dir():
            what = "it is not a directory" if directory.exists() else "there is no such directory"
            raise InputError(f"no libc in {directory}: {what}")
        os.scandir(directory).close()
    except OSError as error:
        raise InputError(f"no libc in {directory}: {error.strerror}") from error
    directory = directory.resolve()
    bad = unusable_letter(directory)
    if bad:
        raise InputError(f"the path {directory} cannot be used: a search path or list of libraries cannot hold {bad!r}")
    return directory


def _build_tree(directory: Path) -> Root | None:
    """Return the root that a glibc build tree is; None if the directory is none."""
    loader = next((p for p in (directory / "elf/ld.so", directory / "elf/ld-linux-x86-64.so.2") if p.is_file()), None)
    libc = directory / "libc.so"
    if not loader or not libc.is_file():
        return None
    installed = directory / "testroot.pristine"  # what `make check` installs for the tests that run in a container
    headers = _existing(installed, INCLUDE_DIRECTORIES) if installed.is_dir() else ()
    directories = (directory, *_existing(directory, BUILD_TREE))
    return Root(directory, "glibc", True, loader.resolve(), libc, directories, headers)


def open_root(given: Path) -> Root:
    """Find the libc in a directory. One without a loader, or for another machine, is an InputError."""
    directory = _require_directory(given)
    root = _build_tree(directory)
    if root:
        _require_loader(given, root.loader)
        return root
    directories = _with_libraries(_existing(directory, LIBRARY_DIRECTORIES))
    for family, loader_name in LOADERS.items():
        loader = next(_files(directory, directories, loader_name), None)
        if not loader:
            continue
        _require_loader(given, loader)
        libc = next(_files(directory, directories, LIBRARIES[family]), None)
        if family == "musl":
            libc = loader  # one file is both
        if not libc:
            raise InputError(f"no libc in {given}: it has the dynamic linker {loader_name}, but no {LIBRARIES[family]}")
        headers = _existing(directory, INCLUDE_DIRECTORIES)
        headers = headers if any((path / "stdlib.h").is_file() for path in headers) else ()
        return Root(directory, family, False, loader, libc, directories, headers)
    other = _other_machine(directory, directories)
    if other:
        raise InputError(f"the libc in {given} is for another machine ({other}), and this one is {MACHINE_NAME}")
    raise InputError(f"no libc in {given}: no dynamic linker ({' or '.join(LOADERS.values())}) was found there")


def _require_loader(given: Path, loader: Path) -> None:
    """Raise InputError for a dynamic linker that cannot be run here."""
    machine = machine_of(loader)
    if machine != MACHINE:
        name = machine.removeprefix("EM_")
        raise InputError(f"the libc in {given} is for another machine ({name}), and this one is {MACHINE_NAME}")
    if not os.access(loader, os.X_OK):
        raise InputError(f"the libc in {given} cannot be used: its dynamic linker {loader} is not executable")
