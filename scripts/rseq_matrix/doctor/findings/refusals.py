"""rseq(2) is answered by something before the kernel: refused, faked, or in wait for the next thread."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import (
    dead_threads,
    filter_answer,
    glibc_claims,
    is_faked,
    kernel_answer,
    stopped_by_filter,
    was_killed,
)
from rseq_matrix.doctor.findings.vocabulary import (
    ALLOW,
    FATAL,
    MANUAL,
    PTHREAD_CREATE,
    SECCOMP,
    WHAT_FILTER,
    WHO_LOSES,
    listed,
    suspects,
)
from rseq_matrix.documents.doctor import (
    END,
    ERROR,
    GLIBC,
    HOST,
    NONE,
    NOTE,
    PRESENT,
    SUCCESS,
    WARNING,
    DoctorFinding,
    Examined,
    FilterAnswer,
    SeccompFilters,
    errno_name,
)


def refused(document: Examined) -> Iterator[DoctorFinding]:
    """The call is refused: by a filter, or by what has no rseq."""
    answer, kernel = kernel_answer(document), document.kernel
    off = document.libc and document.libc.size == 0
    if kernel is None and off and stopped_by_filter(document) and not was_killed(document):
        yield DoctorFinding(
            "filter-refuses",
            WARNING,
            "A seccomp filter that was in force when the program started refuses the system call rseq: the program has "
            f"no rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile)",
            SECCOMP,
        )
    if kernel is None or answer in (PRESENT, SUCCESS) or kernel.refused_after_start:
        return
    has_it, filtered = bool(kernel.feature_size), bool(document.seccomp and document.seccomp.filters)
    if has_it or filtered:
        proof = "the kernel announces rseq to every program" if has_it else "such a filter is in force in this shell"
        yield DoctorFinding(
            "filter-refuses",
            WARNING,
            f"A filter answers the system call rseq with {answer} in the kernel's place ({proof})"
            f"{suspects(document)}. No program started here has rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile) before programs start",
            SECCOMP,
        )
    else:
        yield DoctorFinding(
            "kernel-without-rseq",
            WARNING,
            f"The kernel, or what emulates it here (gVisor, qemu-user, valgrind), answers rseq with {answer}: it does "
            "not have it, and programs take their slower ways",
            "Nothing to repair; a Linux kernel from 4.18 with CONFIG_RSEQ has it",
            "rseq(2)",
        )


def faked(document: Examined) -> Iterator[DoctorFinding]:
    """glibc says that rseq is registered, and the kernel has nothing."""
    empty = [t for t in document.threads if t.owner == NONE and not t.believed]
    if not glibc_claims(document) or not empty or dead_threads(document) or was_killed(document):
        return
    by_filter = is_faked(document)
    why = (
        "a filter answers 'success' without asking the kernel"
        if by_filter
        else "somebody took the registration back since, or the thread was started by one that had lost its own"
    )
    yield DoctorFinding(
        "filter-fakes" if by_filter else "registration-gone",
        ERROR if by_filter else WARNING,
        f"glibc says that rseq is registered, but in {listed(empty)} the kernel has nothing: {why}. A library that "
        "looks only at glibc's __rseq_size is fooled; cpu_id in the area, which is negative, tells the truth",
        "Let the filter allow the call, or refuse it with ENOSYS"
        if by_filter
        else "Libraries must look at cpu_id, too",
        f"{MANUAL}; {SECCOMP}",
    )


def refused_after_start(document: Examined) -> Iterator[DoctorFinding]:
    """Threads of what is started here will be refused, and so end it."""
    if document.kernel and document.kernel.refused_after_start and not is_faked(document):
        yield DoctorFinding(
            "threads-will-be-killed",
            ERROR,
            f"Programs that are started from this shell are ended by glibc at their first thread ('{FATAL}'): this "
            "very program was registered when it started, and the call has been "
            f"refused ({kernel_answer(document)}) since; something installs a filter in every program"
            f"{suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )


def ahead(document: Examined) -> Iterator[DoctorFinding]:
    """A filter that came after the start waits for the next thread."""
    seccomp = document.seccomp
    answer = filter_answer(document)
    registered = [t for t in document.threads if t.owner == GLIBC]
    if not seccomp or not seccomp.filters or not registered or document.kind == HOST or was_killed(document):
        return
    unknown = "it asks another process, a supervisor" if answer and answer.action == "notify" else seccomp.unread
    if unknown:
        yield DoctorFinding(
            "filter-unread",
            NOTE,
            f"A seccomp filter ({WHAT_FILTER}) is in force, and what it says of rseq is not known: {unknown}. If it "
            "came after the start and refuses the call, the next thread is fatal",
            "Ask who runs the supervisor" if answer else "Ask again as root",
            SECCOMP,
        )
    elif answer and not answer.passes:
        yield _next_thread(document, seccomp, answer)


def _next_thread(document: Examined, seccomp: SeccompFilters, answer: FilterAnswer) -> DoctorFinding:
    """Say what happens to the next thread, whose registration a filter does not let pass."""
    who = "this program" if seccomp.thread is None else f"{seccomp.thread} of this program"
    ended = document.run is not None and document.run.moment == END
    head = f"The next thread that {who} {'had started would' if ended else 'starts will'}"
    came = f"its threads have rseq, and a seccomp filter ({WHAT_FILTER}) that came after its start"
    if answer.fakes:
        return DoctorFinding(
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
    }.get(answer.action) or (f"end it with '{FATAL}'", f"refuses the call ({errno_name(answer.errno or 0)})")
    return DoctorFinding("threads-will-be-killed", ERROR, f"{head} {fate}: {came} {how}", ALLOW, PTHREAD_CREATE)
