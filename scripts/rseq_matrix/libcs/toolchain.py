"""How a program is compiled and linked against the libc of a root, so that nothing of the system's libc gets in.

The compiler's own search for headers, start files and libraries is switched off (-nostdinc, -nostdlib) and everything
is named by its path, because --sysroot does not displace the multiarch directories that Debian's compiler searches.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix.cache import cache_directory, require_usable_cache
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.libcs.compiler import find_file
from rseq_matrix.libcs.roots import Root

KERNEL_HEADERS = ("linux", "asm", "asm-generic")
OF_THE_HOST = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "LD_RUN_PATH", "CFLAGS", "CPPFLAGS", "LDFLAGS")
"""Environment variables by which headers and libraries of the host would get into what is built for another libc."""


@dataclass(frozen=True)
class Parts:
    """What stands before and behind the objects in a link."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Toolchain:
    """How to compile, link and run against one libc. The default: what the compiler does by itself."""

    key: str = ""
    compile: tuple[str, ...] = ()
    program: Parts = field(default_factory=Parts)
    object: Parts = field(default_factory=Parts)
    static: Parts = field(default_factory=Parts)
    static_pie: Parts = field(default_factory=Parts)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Links that this libc cannot have, and why."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a dynamic program needs to run on this libc."""
    directory: str = ""
    """The root, as it was given."""
    borrowed: tuple[str, ...] = ()
    """What is not the root's own, but the system's."""

    @property
    def build_environment(self) -> dict[str, str]:
        """Return the environment of compilers and linkers: for the system's libc it is the user's."""
        return without_the_host() if self.key else dict(os.environ)

    def options(self) -> list[str]:
        """Return CMake's variables."""
        if not self.key:
            return []
        values = {"COMPILE": self.compile}
        for name in ("program", "object", "static", "static_pie"):
            parts: Parts = getattr(self, name)
            values[f"{name.upper()}_BEFORE"] = parts.before
            values[f"{name.upper()}_AFTER"] = tuple(map(_for_shell, parts.after))
        return ["-DRSM_LIBC=1", *(f"-DRSM_LIBC_{name}={';'.join(value)}" for name, value in values.items())]


def without_the_host() -> dict[str, str]:
    """Return the environment without what names headers and libraries of the host."""
    return {name: value for name, value in os.environ.items() if name not in OF_THE_HOST}


def _for_shell(item: str) -> str:
    """Return an item behind the objects as CMake wants it: it quotes files itself, but passes on what begins with -."""
    return f"-{shlex.quote(item[1:])}" if item.startswith("-") else item


def _system_include(compiler: Sequence[str], header: str) -> Path | None:
    """Return the directory in which the compiler finds a header of the system."""
    command = [*compiler, "-E", "-H", "-x", "c", "-", "-o", os.devnull]
    text = f"#include <{header}>\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=without_the_host())
    for line in done.stderr.splitlines():
        path = line.lstrip(". ")
        if line.startswith(". ") and path.endswith(f"/{header}"):
            return Path(path.removesuffix(f"/{header}")).resolve()
    return None


def _linked_directory(name: str, links: Mapping[str, Path]) -> Path:
    """Return a directory in the cache that holds nothing but these links. Those that are right are left alone."""
    digest = hashlib.sha256(repr(sorted(links.items())).encode()).hexdigest()[:12]
    directory = cache_directory() / "borrowed" / f"{name}-{digest}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for link, target in links.items():
            _link(directory / link, target)
    except OSError as error:
        raise MissingError(f"the cache directory {directory} cannot be used: {error.strerror}") from error
    return directory


def _link(link: Path, target: Path) -> None:
    """Make a link, which another run may make at the same time."""
    if link.is_symlink() and link.readlink() == target:
        return
    with tempfile.TemporaryDirectory(dir=link.parent, prefix=".") as directory:
        beside = Path(directory) / link.name
        beside.symlink_to(target)
        beside.replace(link)


def _kernel_headers(compiler: Sequence[str]) -> Path | None:
    """Return a directory with the kernel's headers alone: they are of no libc, so the system's serve all."""
    found = {name: _system_include(compiler, f"{name}/errno.h") for name in KERNEL_HEADERS}
    links = {name: path / name for name, path in found.items() if path}
    return _linked_directory("kernel-headers", links) if links else None


def _verbatim(library: Path) -> str:
    """Name a shared library so that CMake makes nothing else of it: not -lc, and no run path."""
    return f"-Wl,{library}"


def _named(library: Path) -> list[str]:
    """Name libc so that programs need it by its file's name: musl's has no DT_SONAME, and a path would be kept."""
    return [f"-L{library.parent}", f"-l:{library.name}"]


class _Assembly:
    """Puts a toolchain together, and notes what the root lacks."""

    def __init__(self, root: Root, compiler: Sequence[str]) -> None:
        self.root = root
        self.compiler = compiler
        self.borrowed: list[str] = []

    def own_or_borrowed(self, name: str) -> Path | None:
        """Return a start file of the root, or of the system, where that could do."""
        own = self.root.find(name)
        if own or self.root.family != "glibc":
            return own
        found = find_file(self.compiler, name, without_the_host())
        if found:
            self.borrowed.append(name)
        return found

    def required(self, name: str) -> str:
        """Return a file without which nothing can be linked."""
        found = self.own_or_borrowed(name)
        if not found:
            raise InputError(
                f"no program can be linked to the libc in {self.root.directory}: it has no {name}; install its "
                "development package there (Debian: libc6-dev or musl-dev)"
            )
        return str(found)

    def compiler_part(self, name: str) -> str:
        """Return a part of the compiler's own run-time library."""
        found = find_file(self.compiler, name, without_the_host())
        if not found:
            raise MissingError(f"the C compiler '{' '.join(self.compiler)}' has no {name}; install it whole")
        return str(found)

    def static_runtime(self) -> list[str]:
        """Return the compiler's static run-time library: the root's, because unwinding needs functions of its libc."""
        names = ("libgcc.a", "libgcc_eh.a")
        own = [self.root.find_compiler_part(name) for name in names]
        if all(own):
            return [self.compiler_part("libgcc.a"), *map(str, own)]
        return [self.compiler_part(name) for name in names]

    def compile(self) -> tuple[str, ...]:
        """Return the options that replace the compiler's search for headers."""
        headers = list(self.root.include_directories)
        if not headers:
            self.borrowed.append("headers")
            return ()
        kernel = None if any((path / "linux/errno.h").is_file() for path in headers) else _kernel_headers(self.compiler)
        own = Path(self.compiler_part("include"))
        directories = [own, *headers, *([kernel] if kernel else [])]
        return ("-nostdinc", *(f"-isystem{path}" for path in directories))

    def dynamic(self, start: str, end: str, first: Sequence[str]) -> Parts:
        """Return what surrounds the objects of a dynamic program or a shared object."""
        libraries = [self.root.find(name) for name in ("libpthread.so.0", "libdl.so.2")]
        separate = self.root.loader != self.root.libc
        nonshared = self.own_or_borrowed("libc_nonshared.a")
        after = [
            "-Wl,--as-needed",
            *(_verbatim(path) for path in libraries if path),
            "-Wl,--no-as-needed",
            *([_verbatim(self.root.libc)] if separate else _named(self.root.libc)),
            *([str(nonshared)] if nonshared else []),
            *(["-Wl,--as-needed", _verbatim(self.root.loader), "-Wl,--no-as-needed"] if separate else []),
            self.compiler_part("libgcc.a"),
            self.compiler_part(end),
            self.required("crtn.o"),
        ]
        before = ["-nostdlib", *first, self.required("crti.o"), self.compiler_part(start)]
        return Parts(tuple(before), tuple(after))

    def static(self, start: str, begin: str, end: str) -> Parts | str:
        """Return what surrounds the objects of a static program, or why there can be none."""
        lost = [name for name in (start, "libc.a") if not self.root.find(name)]
        if lost:
            return f"{' and '.join(lost)} not found in {self.root.directory}"
        archives = [self.root.find(name) for name in ("libpthread.a", "libdl.a", "libc.a")]
        before = ("-nostdlib", str(self.root.find(start)), self.required("crti.o"), self.compiler_part(begin))
        group = [*(str(path) for path in archives if path), *self.static_runtime()]
        after = ("-Wl,--start-group", *group, "-Wl,--end-group", self.compiler_part(end), self.required("crtn.o"))
        return Parts(before, after)


def borrowed_directories(root: Root, compiler: Callable[[], Sequence[str]]) -> list[Path]:
    """Return the directories that a root's dynamic linker has to look into besides its own.

    The compiler's unwinder, without which no thread can be cancelled, is the system's where the root has none.
    """
    if root.family != "glibc" or root.find("libgcc_s.so.1"):
        return []
    try:
        unwinder = find_file(compiler(), "libgcc_s.so.1", without_the_host())
    except MissingError:  # running programs takes no compiler
        return []
    return [_linked_directory("unwinder", {"libgcc_s.so.1": unwinder.resolve()})] if unwinder else []


def _library_path(root: Root, compiler: Sequence[str]) -> str:
    """Return where the dynamic linker is to look."""
    return ":".join(map(str, (*root.library_directories, *borrowed_directories(root, lambda: compiler))))


def _key(root: Root) -> str:
    """Name what the programs are linked to, by everything of the root that goes into them."""
    digest = hashlib.sha256()
    names = ("libc.a", "libpthread.a", "libc_nonshared.a", "crt1.o", "Scrt1.o", "rcrt1.o", "crti.o", "crtn.o")
    for path in (root.loader, root.libc, *(root.find(name) for name in names)):
        if path:
            state = path.stat()
            digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:20]


def toolchain(root: Root, compiler: Sequence[str]) -> Toolchain:
    """Return how to compile, link and run against the libc of a root."""
    require_usable_cache()
    assembly = _Assembly(root, compiler)
    interpreter = f"-Wl,--dynamic-linker={root.loader}"
    parts = {
        "static": assembly.static("crt1.o", "crtbeginT.o", "crtend.o"),
        "static-pie": assembly.static("rcrt1.o", "crtbeginS.o", "crtendS.o"),
    }
    found = {link: part if isinstance(part, Parts) else Parts() for link, part in parts.items()}
    return Toolchain(
        key=_key(root),
        directory=str(root.directory),
        compile=assembly.compile(),
        program=assembly.dynamic("crtbeginS.o", "crtendS.o", [interpreter, assembly.required("Scrt1.o")]),
        object=assembly.dynamic("crtbeginS.o", "crtendS.o", []),
        static=found["static"],
        static_pie=found["static-pie"],
        unsupported={link: part for link, part in parts.items() if isinstance(part, str)},
        environment={"LD_LIBRARY_PATH": _library_path(root, compiler)},
        borrowed=tuple(dict.fromkeys(assembly.borrowed)),
    )
