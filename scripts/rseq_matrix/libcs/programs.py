"""A program of the user's under another libc: is that possible, what would be missing, and how it is started."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_DT_FLAGS_1
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import InterpSegment

from rseq_matrix.errors import InputError, in_words
from rseq_matrix.libcs.roots import MACHINE, MACHINE_NAME, Root
from rseq_matrix.signals import signal_name

TIME_LIMIT = 20
FOUND = re.compile(r"=> (/.*) \(0x")
LISTED = re.compile(r"^\t(\S+) => (/.*) \(0x", re.MULTILINE)
OF_LIBC = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")
"""What belongs to glibc's dynamic linker, and to no other: they share private data."""

CAPABILITIES = "security.capability"
"""The extended attribute that setcap(8) sets."""

VERSION_LOST = re.compile(r"version `([^']+)' not found \(required by (.+)\)")
SYMBOL_LOST = re.compile(r"Error relocating (.+): (\S+): symbol not found")


@dataclass(frozen=True)
class StartedFile:
    """A program."""

    path: Path
    interpreter: str
    """Empty: it is static."""
    needed: tuple[str, ...]
    start: str
    """The path as it is started by. It has a slash: a dynamic linker looks for other names among the libraries."""

    @property
    def family(self) -> str:
        """Return the libc that it was linked to; empty if it names none."""
        if "libc.so.6" in self.needed:
            return "glibc"
        musl = any(name == "libc.so" or name.startswith("libc.musl-") for name in self.needed)
        return "musl" if musl or "ld-musl" in self.interpreter else ""


def find_program(name: str) -> str:
    """Return the file that a shell would start, as it would name it. One that is not there is an InputError."""
    found = shutil.which(name)
    if not found and "/" not in name:
        raise InputError(f"no program '{name}' is on the PATH")
    try:
        mode = Path(found or name).stat().st_mode
    except OSError as error:
        raise InputError(f"{name} cannot be run: {error.strerror}") from error
    if not found or not stat.S_ISREG(mode):  # a pipe would be waited for
        raise InputError(f"{name} cannot be run: it is not {'a regular file' if found else 'executable'}")
    return found if "/" in found else f"./{found}"  # an empty part of the PATH is the current directory


def _needed(elf: ELFFile) -> tuple[str, ...]:
    section = elf.get_section_by_name(".dynamic")
    if not isinstance(section, DynamicSection):
        return ()
    return tuple(str(getattr(tag, "needed", "")) for tag in section.iter_tags("DT_NEEDED"))


def _is_static_program(elf: ELFFile) -> bool:
    """Return whether a file without a dynamic linker is a program: a static-pie says that it is no library."""
    if elf.header["e_type"] != "ET_DYN":
        return bool(elf.header["e_type"] == "ET_EXEC")
    section = elf.get_section_by_name(".dynamic")
    flags = section.iter_tags("DT_FLAGS_1") if isinstance(section, DynamicSection) else ()
    return any(tag["d_val"] & ENUM_DT_FLAGS_1["DF_1_PIE"] for tag in flags)


def read_program(start: str, needs_linker: bool = True) -> StartedFile:
    """Read a program. One that is for another machine, or has no dynamic linker and needs one, is an InputError."""
    path = Path(start)
    try:
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                raise InputError(f"{path} is not an ELF program: give the program that runs it")
            elf = ELFFile(file)
            machine = str(elf.header["e_machine"])
            if machine != MACHINE or elf.elfclass != 64:
                what = machine.removeprefix("EM_") if elf.elfclass == 64 else f"{machine.removeprefix('EM_')}, 32 bits"
                raise InputError(f"{path} is for another machine ({what}), and this one is {MACHINE_NAME}")
            interpreters = [s.get_interp_name() for s in elf.iter_segments() if isinstance(s, InterpSegment)]
            if not interpreters and not needs_linker and _is_static_program(elf):
                return StartedFile(path, "", (), start)
            if not interpreters:
                raise InputError(f"{path} is not a dynamic program: it names no dynamic linker, so it has its own libc")
            return StartedFile(path, str(interpreters[0]), _needed(elf), start)
    except (ELFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _symbol_of_version(path: Path, version: str) -> str:
    """Return a symbol that a file needs in that version; empty if it needs the version alone."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            needs = elf.get_section_by_name(".gnu.version_r")
            indices = elf.get_section_by_name(".gnu.version")
            symbols = elf.get_section_by_name(".dynsym")
            if not isinstance(needs, GNUVerNeedSection) or not isinstance(indices, GNUVerSymSection):
                return ""
            wanted = {a["vna_other"] for _, names in needs.iter_versions() for a in names if a.name == version}
            return _symbol_of_index(symbols, indices, wanted)
    except (ELFError, OSError, ValueError, KeyError):
        return ""


def _symbol_of_index(symbols: Any, indices: GNUVerSymSection, wanted: set[int]) -> str:
    if not isinstance(symbols, SymbolTableSection):
        return ""
    for number in range(1, symbols.num_symbols()):
        if indices.get_symbol(number)["ndx"] in wanted:
            return str(symbols.get_symbol(number).name)
    return ""


def _list(loader: Path, path: str, program: StartedFile, environment: Mapping[str, str]) -> tuple[str, int]:
    """Let a dynamic linker say what it would load, without starting the program."""
    command = [str(loader), *(["--library-path", path] if path else []), "--list", program.start]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=TIME_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return in_words(error), -1
    return done.stdout + done.stderr, done.returncode


def library_path(root: Root, own: Sequence[Path], program: StartedFile) -> str:
    """Return where the libraries of a program are to be looked for.

    First in the libc's own directories, then where the user says (LD_LIBRARY_PATH), then where the program's own
    dynamic linker finds them.
    """
    directories = [str(path) for path in (*root.library_directories, *own)]
    directories += [path for path in re.split("[:;]", os.environ.get("LD_LIBRARY_PATH", "")) if path]
    if Path(program.interpreter).is_file() and program.family == root.family:
        listed, _ = _list(Path(program.interpreter), "", program, os.environ)
        directories += [str(Path(path).parent) for path in FOUND.findall(listed)]
    return ":".join(dict.fromkeys(directories))


def rights_lost(program: StartedFile) -> str:
    """Say which rights a program has by its file alone; empty if none.

    The kernel gives them to the program that it starts, which on another libc is the dynamic linker.
    """
    state = program.path.stat()
    kinds = []
    if state.st_mode & stat.S_ISUID and state.st_uid != os.geteuid():
        kinds.append("set-uid")
    if state.st_mode & stat.S_ISGID and state.st_mode & stat.S_IXGRP and state.st_gid != os.getegid():
        kinds.append("set-gid")
    try:
        if os.geteuid() and CAPABILITIES in os.listxattr(program.path):
            kinds.append("given capabilities")
    except OSError:
        pass  # a file system without attributes has no capabilities
    return " and ".join(kinds)


def _foreign_part(root: Root, program: StartedFile, name: str, listed: str) -> str:
    """Say which part of another glibc a program would load; empty if none."""
    for library, found in LISTED.findall(listed) if root.family == "glibc" else ():
        own = root.find(library) if library in OF_LIBC else None
        if own and not own.samefile(found):
            return (
                f"{program.path} finds {found} by its own run path before that of {name}, and the two cannot be mixed: "
                "change its DT_RPATH (patchelf --remove-rpath)"
            )
    return ""


def require_family(family: str, program: StartedFile, name: str) -> None:
    """Raise InputError for a program that was linked to a libc of another family. family: empty if not known yet."""
    if program.family and family and program.family != family:
        raise InputError(f"{program.path} was linked to {program.family}, and {name} is {family}")


def obstacle(root: Root, name: str, program: StartedFile, path: str) -> str:
    """Say why a program cannot run on the libc; empty if it can.

    name: what the libc is called; path: where its libraries are looked for.
    """
    listed, status = _list(root.loader, path, program, os.environ)
    if status < 0:
        return f"the dynamic linker of {name} does not run ({listed.strip() or f'killed by {signal_name(-status)}'})"
    version = VERSION_LOST.search(listed)
    if version:
        symbol = _symbol_of_version(Path(version[2]), version[1])
        what = f"{symbol}@{version[1]}" if symbol else f"the version {version[1]}"
        by = "" if Path(version[2]) == program.path else f" (by its library {version[2]})"
        return f"{program.path} needs {what}{by}, which {name} does not have"
    lost = SYMBOL_LOST.search(listed)
    if lost:
        by = "" if Path(lost[1]) == program.path else f" (by its library {lost[1]})"
        return f"{program.path} needs {lost[2]}{by}, which neither {name} nor a library that it finds has"
    return _foreign_part(root, program, name, listed)


def command(root: Root, program: StartedFile, path: str, name: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a program by the libc's own dynamic linker.

    name: what the program is to be told as its own name, where the dynamic linker can.
    """
    renamed = ["--argv0", name] if b"--argv0" in root.loader.read_bytes() else []
    return [str(root.loader), "--library-path", path, *renamed, program.start, *arguments]
