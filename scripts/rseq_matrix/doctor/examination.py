"""The three examinations: of this host, of a running process, of a program that is started for it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.doctor.command import START_LIMIT, follow
from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.helper_programs import HelperOutput, helper, parse, run
from rseq_matrix.doctor.host_libc import PackageQuery, host_libc
from rseq_matrix.doctor.kernel_behaviour import look_at_kernel
from rseq_matrix.doctor.process import look_at_process
from rseq_matrix.doctor.verdict import diagnose
from rseq_matrix.documents.doctor import (
    COMMAND,
    END,
    GLIBC,
    HOST,
    NONE,
    OTHER,
    UNKNOWN,
    Examination,
    Examined,
    ExaminedProcess,
    ExaminedThread,
    LaterLibrary,
    ProgramRun,
    SeccompFilters,
)
from rseq_matrix.errors import MissingError
from rseq_matrix.ptrace.tasks import status_field
from rseq_matrix.signals import signal_name

# --- the host


def _from_inside(name: str, said: HelperOutput) -> ExaminedThread:
    """Return a thread as it saw itself."""
    thread = ExaminedThread("main" if name == "main" else "a second thread")
    if said.number(name, "control") is None:
        return thread
    size, cpu = said.number("libc", "size"), said.number(name, "cpu_id")
    return replace(
        thread,
        owner=_owner_from_inside(name, said),
        length=said.number(name, "length") or None,
        cpu_id=cpu,
        cpu_id_start=said.number(name, "cpu_id_start"),
        believed=None if size is None else size > 0 and cpu is not None and cpu >= 0,
        follows=_experiment(name, "follows", said),
        sched_getcpu_follows=_experiment(name, "sched_getcpu_follows", said),
    )


def _owner_from_inside(name: str, said: HelperOutput) -> str:
    """Return whose area a thread found registered: glibc's can be unregistered and registered again."""
    if said.number(name, "length"):
        return GLIBC
    occupied = said.number(name, "occupied")
    if occupied is None:
        return UNKNOWN
    return OTHER if occupied else NONE


def _experiment(name: str, what: str, said: HelperOutput) -> bool | None:
    """Return what a thread found out about itself by moving from one CPU to another."""
    value = said.number(name, what)
    return None if value is None else bool(value)


def _thread(name: str, said: HelperOutput, seen: ExaminedThread | None) -> ExaminedThread:
    """Return a thread as it saw itself, and as a tracer saw it: that one knows the kernel's registration."""
    thread = _from_inside(name, said)
    if seen is not None and seen.owner != UNKNOWN:
        thread = replace(
            thread,
            tid=seen.tid,
            owner=seen.owner,
            object=seen.object,
            address=seen.address,
            length=seen.length,
            signature=seen.signature,
        )
    return replace(thread, created=name == "main" or said.number(name, "control") is not None)


def _seen(followed: Followed | None, main: bool) -> ExaminedThread | None:
    threads = followed.threads if followed else []
    return next((thread for thread in threads if (thread.name == "main") == main), None)


def _own_filters() -> SeccompFilters:
    """Return how many seccomp filters this process, and so what it starts, is under."""
    me = Path("/proc/self")
    mode, count = status_field(me, "Seccomp") or "0", status_field(me, "Seccomp_filters")
    return SeccompFilters(int(count or 1) if mode != "0" else 0)


def examine_host(build: Build, with_answers: bool = False) -> Examination:
    """Examine this host: its kernel, its libc, and a small program that is started in this environment.

    with_answers: also the table of what the kernel answers to all kinds of calls of rseq(2).
    """
    place = str(helper(build, "place"))
    package = PackageQuery(build)
    followed, untraced = None, None
    try:
        followed = follow([place], whole=True, limit=START_LIMIT)
        said = HelperOutput(parse(followed.output), followed.exit_status or 0, followed.output)
        end = followed.run()
    except MissingError as error:
        untraced = str(error)
        said = run([place])
        end = _end_of(place, said)
    return diagnose(
        Examined(
            kind=HOST,
            kernel=look_at_kernel(build, with_answers),
            libc=host_libc(build, said, package.answer()),
            run=end,
            seccomp=(followed.seccomp if followed else None) or _own_filters(),
            threads=tuple(_thread(name, said, _seen(followed, name == "main")) for name in ("main", "thread")),
            writes=followed.writes if followed else (),
            watched=bool(followed and followed.watched),
            untraced=untraced,
        )
    )


def _end_of(program: str, said: HelperOutput) -> ProgramRun:
    """Return how a program ended that was not traced."""
    killed = said.status < 0
    return ProgramRun(
        program=program,
        moment=END,
        exit_status=None if killed else said.status,
        killed_by=signal_name(-said.status) if killed else None,
        last_words=tuple(said.errors.splitlines()[-1:]),
    )


# --- a process, a program


def examine_process(pid: int) -> Examination:
    """Examine a running process."""
    return diagnose(look_at_process(pid))


def examine_command(argv: Sequence[str], whole: bool, limit: float, libraries: Sequence[str]) -> Examination:
    """Examine a program that is started for it, and the libraries that it will load later."""
    later = _libraries(libraries)
    found = follow(argv, whole, limit)
    return diagnose(
        Examined(
            kind=COMMAND,
            libc=found.libc,
            process=ExaminedProcess(None, found.path, os.environ.get("GLIBC_TUNABLES")),
            run=found.run(),
            seccomp=found.seccomp,
            threads=tuple(found.threads),
            writes=found.writes,
            libraries=later,
            watched=found.watched,
        )
    )


def _libraries(paths: Sequence[str]) -> tuple[LaterLibrary, ...]:
    """Return which libraries fit. What reads ELF files takes a second to import, so only --loads imports it."""
    return importlib.import_module("rseq_matrix.doctor.libraries").later_libraries(paths) if paths else ()
