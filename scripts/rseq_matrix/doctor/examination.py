"""The three examinations: of this host, of a running process, of a program that is about to be started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rseq_matrix.build import Build
from rseq_matrix.doctor.command import START_LIMIT, follow
from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.kernel_behaviour import look_at_kernel
from rseq_matrix.doctor.libc import PackageQuery, libc_document
from rseq_matrix.doctor.lines import Spoken, helper, parse, run
from rseq_matrix.doctor.process import look_at_process
from rseq_matrix.doctor.thread import GLIBC, NONE, OTHER, empty_thread
from rseq_matrix.doctor.verdict import diagnose
from rseq_matrix.errors import MissingError
from rseq_matrix.ptrace.seize import status_field
from rseq_matrix.signals import signal_name

Document = dict[str, Any]

SCHEMA = 1
HOST, PROCESS, COMMAND = "host", "process", "command"


def _document(kind: str, **parts: Any) -> Document:
    """Return the document of schema doctor-1, diagnosed."""
    names = ("kernel", "libc", "process", "run", "seccomp")
    document: Document = {"schema": SCHEMA, "kind": kind, **{name: parts.get(name) for name in names}}
    document |= {name: parts.get(name) or [] for name in ("threads", "writes", "libraries")}
    if document["libc"]:
        document["libc"] = {"version": None, "package": None, "tunable": None, "preload": None, **document["libc"]}
    document["watched"] = bool(parts.get("watched"))
    document["untraced"] = parts.get("untraced")
    return {**document, **diagnose(document)}


# --- the host


def _from_inside(name: str, spoken: Spoken) -> Document:
    """Return a thread as it saw itself."""
    length, occupied = spoken.number(name, "length"), spoken.number(name, "occupied")
    thread = empty_thread("main" if name == "main" else "a second thread")
    if spoken.number(name, "control") is None:
        return thread
    thread["length"] = length or None
    thread["cpu_id"], thread["cpu_id_start"] = spoken.number(name, "cpu_id"), spoken.number(name, "cpu_id_start")
    if length:
        thread["owner"] = GLIBC
    elif occupied is not None:
        thread["owner"] = OTHER if occupied else NONE
    size, cpu = spoken.number("libc", "size"), thread["cpu_id"]
    thread["believed"] = None if size is None else size > 0 and cpu is not None and cpu >= 0
    return {**thread, **_experiments(name, spoken)}


def _experiments(name: str, spoken: Spoken) -> Document:
    """Return what a thread found out about itself by moving from one CPU to another."""
    answers = {key: spoken.number(name, key) for key in ("follows", "sched_getcpu_follows")}
    return {key: None if value is None else bool(value) for key, value in answers.items()}


def _thread(name: str, spoken: Spoken, seen: Document | None) -> Document:
    """Return a thread as it saw itself, and as a tracer saw it: that one knows the kernel's registration."""
    thread = _from_inside(name, spoken)
    if seen is not None and seen["owner"] != "unknown":
        thread |= {key: seen[key] for key in ("tid", "owner", "object", "address", "length", "signature")}
    thread["created"] = True if name == "main" else spoken.number(name, "control") is not None
    return thread


def _seen(followed: Followed | None, main: bool) -> Document | None:
    threads = followed.threads if followed else []
    return next((thread for thread in threads if (thread["name"] == "main") == main), None)


def _own_filters() -> Document:
    """Return how many seccomp filters this process, and so what it starts, is under."""
    me = Path("/proc/self")
    mode, count = status_field(me, "Seccomp") or "0", status_field(me, "Seccomp_filters")
    return {"filters": int(count or 1) if mode != "0" else 0, "thread": None, "rseq": None, "unread": None}


def examine_host(build: Build, with_answers: bool = False) -> Document:
    """Examine this host: its kernel, its libc, and a small program that is started in this environment.

    with_answers: also the table of what the kernel answers to all kinds of calls of rseq(2).
    """
    place = str(helper(build, "place"))
    package = PackageQuery(build)
    followed, untraced = None, None
    try:
        followed = follow([place], whole=True, limit=START_LIMIT)
        spoken = Spoken(parse(followed.output), followed.exit_status or 0, followed.output)
        end = followed.document()
    except MissingError as error:
        untraced = str(error)
        spoken = run([place])
        end = _end_of(place, spoken)
    return _document(
        HOST,
        kernel=look_at_kernel(build, with_answers),
        libc=libc_document(build, spoken, package.answer()),
        threads=[_thread(name, spoken, _seen(followed, name == "main")) for name in ("main", "thread")],
        run=end,
        seccomp=(followed.seccomp if followed else None) or _own_filters(),
        writes=followed.writes if followed else [],
        watched=bool(followed and followed.watched),
        untraced=untraced,
    )


def _end_of(program: str, spoken: Spoken) -> Document:
    """Return how a program ended that nobody traced."""
    killed = spoken.status < 0
    return {
        **Followed(program, moment="end").document(),
        "exit_status": None if killed else spoken.status,
        "killed_by": signal_name(-spoken.status) if killed else None,
        "last_words": spoken.errors.splitlines()[-1:],
    }


# --- a process, a program


def examine_process(pid: int) -> Document:
    """Examine a running process."""
    return _document(PROCESS, **look_at_process(pid))


def examine_command(argv: Sequence[str], whole: bool, limit: float, libraries: Sequence[str]) -> Document:
    """Examine a program that is started for it, and the libraries that it will load later."""
    later = _libraries(libraries)
    found = follow(argv, whole, limit)
    return _document(
        COMMAND,
        process={"pid": None, "program": found.path, "tunables": tunables_of_environment()},
        libc=found.libc,
        threads=found.threads,
        run=found.document(),
        seccomp=found.seccomp,
        writes=found.writes,
        watched=found.watched,
        libraries=later,
    )


def tunables_of_environment() -> str | None:
    """Return GLIBC_TUNABLES as a program that is started from here gets it."""
    return os.environ.get("GLIBC_TUNABLES")


def _libraries(paths: Sequence[str]) -> list[Document]:
    """Return which libraries fit. What reads files takes a second to load: nobody else is to wait for it."""
    return importlib.import_module("rseq_matrix.doctor.libraries").library_documents(paths) if paths else []
