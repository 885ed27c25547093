"""rseq(2) is answered by something before the kernel: refused, faked, or in wait for the next thread."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import (
    believing_size,
    errno_name,
    filter_answer,
    is_dead,
    is_faked,
    kernel_answer,
    listed,
    stopped_by_filter,
    suspects,
    was_killed,
)
from rseq_matrix.doctor.findings.vocabulary import (
    ALLOW,
    ERROR,
    FATAL,
    MANUAL,
    NOTE,
    PTHREAD_CREATE,
    SECCOMP,
    WARNING,
    WHAT_FILTER,
    WHO_LOSES,
    Document,
    Found,
)
from rseq_matrix.doctor.thread import GLIBC, NONE


def refused(document: Document) -> Iterator[Found]:
    """The call is refused: by a filter, or by what has no rseq."""
    answer, kernel = kernel_answer(document), document["kernel"]
    off = document["libc"] and document["libc"]["size"] == 0
    if kernel is None and off and stopped_by_filter(document) and not was_killed(document):
        yield (
            "filter-refuses",
            WARNING,
            "A seccomp filter that was in force when the program started refuses the system call rseq: the program has "
            f"no rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile)",
            SECCOMP,
        )
    if answer in ("present", "success") or kernel["refused_after_start"]:
        return
    has_it, filtered = bool(kernel["feature_size"]), bool((document["seccomp"] or {}).get("filters"))
    if has_it or filtered:
        proof = "the kernel announces rseq to every program" if has_it else "such a filter is in force in this shell"
        yield (
            "filter-refuses",
            WARNING,
            f"A filter answers the system call rseq with {answer} in the kernel's place ({proof})"
            f"{suspects(document)}. No program started here has rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile) before programs start",
            SECCOMP,
        )
    else:
        yield (
            "kernel-without-rseq",
            WARNING,
            f"The kernel, or what emulates it here (gVisor, qemu-user, valgrind), answers rseq with {answer}: it does "
            "not have it, and programs take their slower ways",
            "Nothing to repair; a Linux kernel from 4.18 with CONFIG_RSEQ has it",
            "rseq(2)",
        )


def faked(document: Document) -> Iterator[Found]:
    """glibc says that rseq is registered, and the kernel has nothing."""
    empty = [t for t in document["threads"] if t["owner"] == NONE and not t["believed"]]
    if not believing_size(document) or not empty or is_dead(document) or was_killed(document):
        return
    by_filter = is_faked(document)
    why = (
        "a filter answers 'success' without asking the kernel"
        if by_filter
        else "somebody took the registration back since, or the thread was started by one that had lost its own"
    )
    yield (
        "filter-fakes" if by_filter else "registration-gone",
        ERROR if by_filter else WARNING,
        f"glibc says that rseq is registered, but in {listed(empty)} the kernel has nothing: {why}. A library that "
        "looks only at glibc's __rseq_size is fooled; cpu_id in the area, which is negative, tells the truth",
        "Let the filter allow the call, or refuse it with ENOSYS"
        if by_filter
        else "Libraries must look at cpu_id, too",
        f"{MANUAL}; {SECCOMP}",
    )


def refused_after_start(document: Document) -> Iterator[Found]:
    """Threads of what is started here will be refused, and so end it."""
    if document["kernel"] and document["kernel"]["refused_after_start"] and not is_faked(document):
        yield (
            "threads-will-be-killed",
            ERROR,
            f"Programs that are started from this shell are ended by glibc at their first thread ('{FATAL}'): this "
            "very program was registered when it started, and the call has been "
            f"refused ({kernel_answer(document)}) since; something installs a filter in every program"
            f"{suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )


def ahead(document: Document) -> Iterator[Found]:
    """A filter that came after the start waits for the next thread."""
    seccomp = document["seccomp"] or {}
    answer = filter_answer(document)
    registered = [t for t in document["threads"] if t["owner"] == GLIBC]
    if not seccomp.get("filters") or not registered or document["kind"] == "host" or was_killed(document):
        return
    unknown = "it asks another process, a supervisor" if answer.get("action") == "notify" else seccomp.get("unread")
    if unknown:
        yield (
            "filter-unread",
            NOTE,
            f"A seccomp filter ({WHAT_FILTER}) is in force, and what it says of rseq is not known: {unknown}. If it "
            "came after the start and refuses the call, the next thread is fatal",
            "Ask who runs the supervisor" if answer else "Ask again as root",
            SECCOMP,
        )
    elif stopped_by_filter(document):
        yield _next_thread(document, seccomp)


def _next_thread(document: Document, seccomp: Document) -> Found:
    """Say what happens to the next thread, whose registration a filter does not let pass."""
    who = "this program" if seccomp["thread"] is None else f"{seccomp['thread']} of this program"
    ended = (document["run"] or {}).get("moment") == "end"
    head = f"The next thread that {who} {'had started would' if ended else 'starts will'}"
    came = f"its threads have rseq, and a seccomp filter ({WHAT_FILTER}) that came after its start"
    answer = seccomp["rseq"]
    if answer["action"] == "errno" and not answer["errno"]:
        return (
            "threads-will-be-fooled",
            ERROR,
            f"{head} believe that it has rseq, and have none: {came} answers 'success' without asking the kernel. The "
            "CPU number of such a thread stands still, and who trusts it works on another CPU's data",
            ALLOW,
            PTHREAD_CREATE,
        )
    fate, how = {
        "kill": ("end it", "kills who makes the call (SIGSYS)"),
        "kill-thread": ("be killed at once, without a message", "kills who makes the call (SIGSYS)"),
        "trap": ("end it", "answers the call with the signal SIGSYS, which kills"),
        "trace": (f"end it with '{FATAL}'", "refuses the call where no tracer decides (ENOSYS)"),
    }.get(answer["action"]) or (f"end it with '{FATAL}'", f"refuses the call ({errno_name(answer['errno'])})")
    return ("threads-will-be-killed", ERROR, f"{head} {fate}: {came} {how}", ALLOW, PTHREAD_CREATE)
