"""What is around the matrix: the kernel, the libc, and those features of the libc that the model must be told of.

Nothing here compares version numbers. A feature is read from an ELF file or found by an experiment.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection
from elftools.elf.segments import InterpSegment

from rseq_matrix._native import ffi, lib
from rseq_matrix.build import Build
from rseq_matrix.errors import MissingError
from rseq_matrix.timeline import World

AT_RSEQ_FEATURE_SIZE = 27
AT_RSEQ_ALIGN = 28
RSEQ_SYMBOL = "__rseq_offset"

ANSWERS = {errno.EINVAL: "present", 0: "success"}
"""What the answer to a senseless request says: the kernel refuses it; only a filter calls it a success."""


@dataclass(frozen=True)
class Kernel:
    """The running kernel."""

    release: str
    machine: str
    rseq: str
    """"present"; else what it answers to everything: the name of an errno, or "success"."""
    feature_size: int | None
    """Bytes of struct rseq that it uses (AT_RSEQ_FEATURE_SIZE, Linux 6.3); None if it does not say."""
    align: int | None
    cpus: int

    @property
    def has_rseq(self) -> bool:
        """Return whether rseq(2) is there."""
        return self.rseq == "present"


@dataclass(frozen=True)
class Libc:
    """A libc, as found on disk and by running."""

    id: str
    version: str
    build_id: str | None
    """Of the dynamic linker."""
    loader: str | None
    registers_dynamic: bool
    registers_static: bool
    static_thread_pointer_first: Mapping[str, bool]
    """For each static link: the thread pointer is set before IRELATIVE relocations are applied."""


def require_platform() -> None:
    """Raise MissingError on a machine that the probes are not written for."""
    if platform.system() != "Linux":
        raise MissingError(f"rseq is a system call of Linux, and this is {platform.system()}")
    if platform.machine() != "x86_64" or ffi.sizeof("void *") != 8:
        raise MissingError(f"the probes are written for x86-64, and this machine is {platform.machine()}")
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= descriptors <= int(lib.RSM_LOG_FD):
        raise MissingError(
            f"a process may open only {descriptors} files here (ulimit -Hn), and {int(lib.RSM_LOG_FD) + 1} are needed"
        )


def kernel() -> Kernel:
    """Ask the running kernel."""
    answer = int(lib.rsm_native_query_control())
    return Kernel(
        release=platform.release(),
        machine=platform.machine(),
        rseq=ANSWERS.get(answer) or errno.errorcode.get(answer, str(answer)),
        feature_size=int(lib.rsm_native_auxiliary_value(AT_RSEQ_FEATURE_SIZE)) or None,
        align=int(lib.rsm_native_auxiliary_value(AT_RSEQ_ALIGN)) or None,
        cpus=len(os.sched_getaffinity(0)),
    )


def own_libc_version() -> str | None:
    """Return the version of the glibc that Python runs on, None if that is another libc."""
    version = lib.rsm_native_libc_version()
    return str(ffi.string(version).decode()) if version else None


def _defines(elf: ELFFile, section: str) -> bool:
    """Return whether the section, a symbol table, defines __rseq_offset."""
    table = elf.get_section_by_name(section)
    if not isinstance(table, SymbolTableSection):
        return False
    return any(symbol["st_shndx"] != "SHN_UNDEF" for symbol in table.get_symbol_by_name(RSEQ_SYMBOL) or ())


def _build_id(elf: ELFFile) -> str | None:
    section = elf.get_section_by_name(".note.gnu.build-id")
    notes = section.iter_notes() if isinstance(section, NoteSection) else ()
    return next((str(note["n_desc"]) for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"), None)


def _loader_of(program: Path) -> str | None:
    with program.open("rb") as file:
        for segment in ELFFile(file).iter_segments():
            if isinstance(segment, InterpSegment):
                return str(segment.get_interp_name())
    return None


def _experiment(program: Path) -> subprocess.CompletedProcess[str] | None:
    """Run a program of csrc/detect. None if it was not built or does not run."""
    try:
        return subprocess.run([program], capture_output=True, text=True, env={}, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _any_program(build: Build, link: str) -> Path:
    """Return a program of the link that could be built; all are linked to the same libc."""
    names = ("unregister", "quick_exit", "main_exit", "threads", "life", "exec")
    paths = [build.directory / link / name for name in names if f"{link}/{name}" not in build.failures]
    return next((path for path in paths if path.is_file()), build.directory / link / names[0])


def _version(build: Build) -> str:
    """Return the version that a program linked here runs on; a libc that is not glibc is a MissingError."""
    done = _experiment(build.directory / "dynamic-lazy" / "libc_version")
    version = done.stdout.strip() if done and done.returncode == 0 else own_libc_version()
    if not version or not re.fullmatch(r"\d[\w.+-]*", version):
        raise MissingError(
            "the system's libc is not glibc, so nothing registers rseq here and there is nothing to run the matrix on"
        )
    return version


def _static_order(build: Build, link: str) -> bool:
    """Run the experiment of csrc/detect/static_thread_pointer.c; false where the link cannot be built at all."""
    name = f"{link}/static_thread_pointer"
    if link in build.unsupported or name in build.failures:
        return False
    done = _experiment(build.directory / name)
    if done is None or done.returncode not in (0, 1):
        raise MissingError(f"the experiment {name} gave no answer, so the order of a static program's start is unknown")
    return done.returncode == 0


def system_libc(build: Build) -> Libc:
    """Find out what the system's libc is, from the programs that were linked against it."""
    version = _version(build)
    dynamic, static = (_any_program(build, link) for link in ("dynamic-lazy", "static"))
    loader = build_id = None
    registers_dynamic = registers_static = False
    try:
        loader = _loader_of(dynamic) if dynamic.exists() else None
        if loader:
            with Path(loader).open("rb") as file:
                elf = ELFFile(file)
                build_id, registers_dynamic = _build_id(elf), _defines(elf, ".dynsym")
        if static.exists():
            with static.open("rb") as file:
                registers_static = _defines(ELFFile(file), ".symtab")
    except (OSError, ELFError) as error:
        raise MissingError(f"the system's dynamic linker {loader} cannot be read: {error}") from error
    return Libc(
        id=f"glibc-{version}",
        version=version,
        build_id=build_id,
        loader=loader,
        registers_dynamic=registers_dynamic,
        registers_static=registers_static,
        static_thread_pointer_first={link: _static_order(build, link) for link in ("static", "static-pie")},
    )


def world(libc: Libc, link: str, environment: str, running: Kernel) -> World:
    """Tell the model what it needs to know."""
    return World(
        link=link,
        environment=environment,
        libc_registers=libc.registers_dynamic if link.startswith("dynamic") else libc.registers_static,
        kernel_rseq=running.rseq,
        static_thread_pointer_first=libc.static_thread_pointer_first.get(link, True),
    )
