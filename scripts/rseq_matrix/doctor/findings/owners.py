"""Who has registered the threads' areas, and whether all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rseq_matrix.doctor.findings.questions import believing_size, listed, was_killed
from rseq_matrix.doctor.findings.vocabulary import ERROR, LIBRSEQ, MANUAL, NOTE, OFF, TCMALLOC, WARNING, Document, Found
from rseq_matrix.doctor.thread import GLIBC, NONE, OTHER
from rseq_matrix.ptrace.filters import SIGNATURE


def other_owner(document: Document) -> Iterator[Found]:
    """The registered area is not glibc's."""
    others = [thread for thread in document["threads"] if thread["owner"] == OTHER]
    if not others:
        return
    home = next((thread["object"] for thread in others if thread["object"]), None)
    where = (f" (its area lies in {home})" if home else "") + _strange_signature(others)
    if believing_size(document):
        old = any(thread["believed"] for thread in others)
        trust = (
            "Who trusts glibc's area, as sched_getcpu() does, reads an old CPU number"
            if old
            else "Who looks only at glibc's __rseq_size takes its area, which is switched off there, for a live one"
        )
        yield (
            "owner-disagrees",
            ERROR,
            f"Two claim rseq: glibc says that it registers an area in every thread, but in {listed(others)} the kernel "
            f"serves another one{where}. {trust}",
            f"Start the program with {OFF}, so that only the other one registers",
            f"{MANUAL}; rseq(2)",
        )
    else:
        yield (
            "own-registration",
            NOTE,
            f"The program, or a library in it, registers rseq itself{where}, in {listed(others)}; glibc leaves it to "
            "it. That works; others that rely on glibc's area take their slower ways",
            "Nothing to repair",
            f"{LIBRSEQ}; {TCMALLOC}",
        )


def _strange_signature(threads: Sequence[Document]) -> str:
    """Return what a signature does that code is not usually built for; nothing for the usual one."""
    strange = next((t["signature"] for t in threads if t["signature"] not in (SIGNATURE, None)), None)
    if strange is None:
        return ""
    return f", with the signature {strange:#x}: the kernel kills restartable code that was built for {SIGNATURE:#x}"


def differ(document: Document) -> Iterator[Found]:
    """The threads are not registered alike."""
    kinds: dict[tuple[Any, ...], list[Document]] = {}
    for thread in document["threads"]:
        if thread["owner"] != "unknown":
            kinds.setdefault((thread["owner"], thread["length"], thread["signature"]), []).append(thread)
    if len(kinds) < 2 or document["kind"] == "host" or was_killed(document):
        return
    words = [f"{listed(alike)}: {_kind(alike[0])}" for alike in kinds.values()]
    more = f"; and {len(words) - 4} other kinds" if len(words) > 4 else ""
    yield (
        "threads-differ",
        WARNING,
        f"The threads are not registered alike ({'; '.join(words[:4])}{more}): a library that looked at one thread "
        "only is wrong about others",
        "A library must look in each thread; raw threads (clone(2)) are registered by nobody",
        "rseq(2)",
    )


def _kind(thread: Document) -> str:
    """Return how a thread is registered."""
    if thread["owner"] == NONE:
        return "not registered"
    by = "by glibc" if thread["owner"] == GLIBC else "by other code"
    signature = "" if thread["signature"] in (SIGNATURE, None) else f", signature {thread['signature']:#x}"
    return f"registered {by}, {thread['length']} bytes{signature}"
