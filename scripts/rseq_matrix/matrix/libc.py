"""A libc of the matrix: what it is, and those of its features that the model must be told of.

Nothing here compares version numbers. A feature is read from an ELF file or found by an experiment.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix._native import ffi, lib
from rseq_matrix.build import Build
from rseq_matrix.errors import MissingError
from rseq_matrix.libcs.identity import UNREADABLE, build_id_of, defines, interpreter_of
from rseq_matrix.model.stages import LINKS
from rseq_matrix.model.timeline import BEFORE, BEHIND, NOWHERE

RSEQ_SYMBOL = "__rseq_offset"

VERSION = re.compile(r"\d[\w.+-]*")


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
    area: Mapping[str, str]
    """For each link: on which side of the thread pointer the rseq area of a thread lies."""
    preloaded_first: bool = False
    """Constructors of a preloaded object are called before those of a needed library."""
    audit_binds_lazily: bool = False
    """Any audit library makes binding lazy."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """What it does not have of that which some stages need, and why that is believed."""
    spec: str = "system"
    """How it is asked for."""
    borrowed: tuple[str, ...] = ()
    """What its directory lacks, so that the system's was taken: start files, headers."""


def own_libc_version() -> str | None:
    """Return the version of the glibc that Python runs on, None if that is another libc."""
    version = lib.rsm_native_libc_version()
    return str(ffi.string(version).decode()) if version else None


def _experiment(build: Build, name: str, **environment: str) -> subprocess.CompletedProcess[str] | None:
    """Run a program of csrc/detect in its directory. None if it was not built or does not run."""
    program = build.directory / name
    if name in build.failures or not program.is_file():
        return None
    try:
        return subprocess.run(
            [program],
            capture_output=True,
            text=True,
            errors="replace",
            env={**build.environment, **environment},
            cwd=program.parent,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _any_program(build: Build, link: str) -> Path:
    """Return a program of the link that could be built; all are linked to the same libc."""
    names = ("unregister", "quick_exit", "main_exit", "threads", "life", "exec")
    paths = [build.directory / link / name for name in names if f"{link}/{name}" not in build.failures]
    return next((path for path in paths if path.is_file()), build.directory / link / names[0])


def _told(build: Build) -> str:
    """Return "glibc-2.36" and the like, as the libc that a program linked here runs on tells it; empty if none does."""
    done = _experiment(build, "dynamic-lazy/libc_version")
    version = done.stdout.strip() if done and done.returncode == 0 else ""
    return f"glibc-{version}" if VERSION.fullmatch(version) else ""


def _banner(loader: str | None) -> str:
    """Return "musl-1.2.5" and the like: musl's loader tells its name when it is run alone. Empty from another."""
    try:
        done = subprocess.run([str(loader)], capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"(musl) libc .*\nVersion (\d[\w.+-]*)", done.stderr)
    return f"{found[1]}-{found[2]}" if found else ""


def _static_order(build: Build, link: str) -> bool:
    """Run the experiment of csrc/detect/static_thread_pointer.c; false where the link cannot be built at all."""
    name = f"{link}/static_thread_pointer"
    if link in build.unsupported or name in build.failures or "ifunc" in build.absent:
        return False
    done = _experiment(build, name)
    if done is None or done.returncode not in (0, 1):
        raise MissingError(f"the experiment {name} gave no answer, so the order of a static program's start is unknown")
    return done.returncode == 0


def _area(build: Build, link: str) -> str:
    """Run the experiment of csrc/detect/area.c."""
    done = _experiment(build, f"{link}/area")
    offset = int(done.stdout or 0) if done and re.fullmatch(r"-?\d*", done.stdout.strip()) else 0
    return BEHIND if offset > 0 else BEFORE if offset < 0 else NOWHERE


def _preloaded_first(build: Build) -> bool:
    """Run the experiment of csrc/detect/constructor_order.c."""
    done = _experiment(build, "dynamic-now/constructor_order", LD_PRELOAD="./constructor_order_preloaded.so")
    return done is not None and done.stdout.split() == ["preloaded", "needed"]


def _audit_binds_lazily(build: Build) -> bool:
    """Run the experiment of csrc/detect/audit_binding.c."""
    if "audit" in build.absent:
        return False
    done = _experiment(build, "dynamic-now/audit_binding", LD_AUDIT="./audit_binding_library.so")
    return done is not None and done.stdout.split() == ["main", "bound"]


def _registrations(dynamic: Path, static: Path) -> tuple[str | None, str | None, bool, bool]:
    """Read the loader's name, its build id, and whether the loader and the static program define __rseq_offset."""
    loader = interpreter_of(dynamic) if dynamic.exists() else ""
    build_id = build_id_of(Path(loader)) if loader else None
    by_loader = bool(loader) and defines(Path(loader), ".dynsym", RSEQ_SYMBOL)
    by_program = static.exists() and defines(static, ".symtab", RSEQ_SYMBOL)
    return loader or None, build_id, by_loader, by_program


def libc_of(build: Build, spec: str = "system") -> Libc:
    """Find out what a libc is and does, from the programs that were linked against it."""
    try:
        facts = _registrations(*(_any_program(build, link) for link in ("dynamic-lazy", "static")))
    except UNREADABLE as error:
        raise MissingError(f"the dynamic linker of the libc '{spec}' cannot be read: {error}") from error
    loader, build_id, registers_dynamic, registers_static = facts
    name = _told(build) or _banner(loader)
    if not name and spec == "system" and own_libc_version():
        name = f"glibc-{own_libc_version()}"
    if not name:
        raise MissingError(
            f"the libc '{spec}' is neither glibc nor musl, or no program that is linked to it runs: it tells no version"
        )
    return Libc(
        id=name,
        version=name.partition("-")[2],
        build_id=build_id,
        loader=loader,
        registers_dynamic=registers_dynamic,
        registers_static=registers_static,
        static_thread_pointer_first={link: _static_order(build, link) for link in ("static", "static-pie")},
        area={link: _area(build, link) for link in LINKS},
        preloaded_first=_preloaded_first(build),
        audit_binds_lazily=_audit_binds_lazily(build),
        absent=build.absent,
        spec=spec,
    )
