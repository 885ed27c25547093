"""What several rules ask a document."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from rseq_matrix.doctor.findings.vocabulary import Document
from rseq_matrix.doctor.thread import NONE
from rseq_matrix.ptrace.filters import PASSING


def kernel_answer(document: Document) -> str:
    """Return what rseq(2) is answered with: "present", an errno's name, "success"; "present" where nobody asked."""
    return str(document["kernel"]["rseq"]) if document["kernel"] else "present"


def filter_answer(document: Document) -> Document:
    """Return what the seccomp filters answer to rseq(2); nothing where there are none, or it is not known."""
    return (document["seccomp"] or {}).get("rseq") or {}


def stopped_by_filter(document: Document) -> bool:
    """Return whether a filter is in force that does not let rseq(2) pass."""
    answer = filter_answer(document)
    return answer.get("action") not in (*PASSING, None)


def is_faked(document: Document) -> bool:
    """Return whether rseq(2) is answered with success by a filter."""
    answer = filter_answer(document)
    return kernel_answer(document) == "success" or (answer.get("action") == "errno" and answer["errno"] == 0)


def was_killed(document: Document) -> bool:
    """Return whether the program that was started was killed."""
    return bool((document["run"] or {}).get("killed_by"))


def believing_size(document: Document) -> bool:
    """Return whether glibc says that it registers rseq."""
    return bool(document["libc"] and document["libc"]["size"])


def dead_threads(document: Document) -> list[Document]:
    """Return the threads whose registration was a success, as far as they were told, and whose cpu_id stands still."""
    believed = [thread for thread in document["threads"] if thread["believed"]]
    return [t for t in believed if (is_faked(document) if t["owner"] == NONE else t["follows"] is False)]


def is_dead(document: Document) -> bool:
    """Return whether a registration is dead."""
    return bool(dead_threads(document))


def suspects(document: Document) -> str:
    """Return who may have done it: what is preloaded; nothing where nothing is."""
    preload = (document["libc"] or {}).get("preload")
    return f" (LD_PRELOAD names {preload})" if preload else ""


def listed(threads: Sequence[Document]) -> str:
    """Return the names of threads as a list in words, of which more than three are counted."""
    names = [thread["name"] for thread in threads]
    if len(names) > 3:
        names[3:] = [f"{len(names) - 3} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def errno_name(number: int) -> str:
    """Return the name of the error that rseq(2) is answered with."""
    return errno.errorcode.get(number, f"error {number}")
