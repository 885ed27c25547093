"""rseq(2) does not reach a kernel that has it: it fails, is faked, or will fail in the next thread."""

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
    ALLOW_TO_USE,
    FATAL,
    MANUAL,
    ONLY_SLOWER,
    PTHREAD_CREATE,
    SECCOMP,
    WHAT_FILTER,
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
    """rseq(2) fails: because of a filter, or because there is no rseq."""
    answer, kernel = kernel_answer(document), document.kernel
    off = document.libc and document.libc.size == 0
    if kernel is None and off and stopped_by_filter(document) and not was_killed(document):
        yield DoctorFinding(
            "filter-refuses",
            WARNING,
            "A seccomp filter that was installed before the program started makes rseq(2) fail: the program cannot use "
            f"rseq. {ONLY_SLOWER}",
            ALLOW_TO_USE,
            SECCOMP,
        )
    if kernel is None or answer in (PRESENT, SUCCESS) or kernel.refused_after_start:
        return
    has_it, filtered = bool(kernel.feature_size), bool(document.seccomp and document.seccomp.filters)
    if has_it or filtered:
        proof = "the kernel announces rseq to every program" if has_it else "this shell is under a seccomp filter"
        yield DoctorFinding(
            "filter-refuses",
            WARNING,
            f"A filter makes rseq(2) fail with {answer} before it reaches the kernel ({proof}){suspects(document)}. No "
            f"program that is started here can use rseq. {ONLY_SLOWER}",
            ALLOW_TO_USE,
            SECCOMP,
        )
    else:
        yield DoctorFinding(
            "kernel-without-rseq",
            WARNING,
            f"rseq(2) fails with {answer}: the kernel, or what emulates it here (gVisor, qemu-user, valgrind), does "
            "not have it, and programs run their slower code",
            "Nothing to repair; Linux 4.18 and later has rseq if it is built with CONFIG_RSEQ",
            "rseq(2)",
        )


def faked(document: Examined) -> Iterator[DoctorFinding]:
    """glibc says that rseq is registered, and the kernel has no registration."""
    empty = [t for t in document.threads if t.owner == NONE and not t.believed]
    if not glibc_claims(document) or not empty or dead_threads(document) or was_killed(document):
        return
    by_filter = is_faked(document)
    why = (
        "a filter answers 'success' without passing the call to the kernel"
        if by_filter
        else "the thread was unregistered later, or it was created by a thread that was no longer registered"
    )
    yield DoctorFinding(
        "filter-fakes" if by_filter else "registration-gone",
        ERROR if by_filter else WARNING,
        f"glibc says that rseq is registered, but in {listed(empty)} the kernel has no area registered: {why}. A "
        "library that checks only glibc's __rseq_size is misled; cpu_id in the area is negative there",
        "Let the filter allow rseq(2), or make it fail with ENOSYS"
        if by_filter
        else "Libraries must check cpu_id, too",
        f"{MANUAL}; {SECCOMP}",
    )


def refused_after_start(document: Examined) -> Iterator[DoctorFinding]:
    """Programs that are started here cannot register their second thread, which terminates them."""
    if document.kernel and document.kernel.refused_after_start and not is_faked(document):
        yield DoctorFinding(
            "threads-will-be-killed",
            ERROR,
            "glibc terminates programs that are started from this shell as soon as they create a thread "
            f"('{FATAL}'): this very program was registered when it started, and rseq(2) has failed with "
            f"{kernel_answer(document)} since; something installs a filter in every program{suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )


def ahead(document: Examined) -> Iterator[DoctorFinding]:
    """A filter that was installed after the start does not let the next thread be registered."""
    seccomp = document.seccomp
    answer = filter_answer(document)
    registered = [t for t in document.threads if t.owner == GLIBC]
    if not seccomp or not seccomp.filters or not registered or document.kind == HOST or was_killed(document):
        return
    unknown = (
        "it leaves the call to another process, a supervisor"
        if answer and answer.action == "notify"
        else seccomp.unread
    )
    if unknown:
        yield DoctorFinding(
            "filter-unread",
            NOTE,
            f"A seccomp filter ({WHAT_FILTER}) is installed, and what it does with rseq(2) is not known: {unknown}. If "
            "it was installed after the start and refuses the call, the next thread terminates the program",
            "Find out what the supervisor answers" if answer else "Run the doctor as root",
            SECCOMP,
        )
    elif answer and not answer.passes:
        yield _next_thread(document, seccomp, answer)


def _next_thread(document: Examined, seccomp: SeccompFilters, answer: FilterAnswer) -> DoctorFinding:
    """Return what happens to the next thread, whose registration a filter does not let pass."""
    creator = "this program" if seccomp.thread is None else f"{seccomp.thread} of this program"
    ended = document.run is not None and document.run.moment == END
    head = f"The next thread that {creator} {'had created would' if ended else 'creates will'}"
    cause = f"its threads are registered, and a seccomp filter ({WHAT_FILTER}) that was installed after its start"
    if answer.fakes:
        return DoctorFinding(
            "threads-will-be-fooled",
            ERROR,
            f"{head} look registered and not be: {cause} answers 'success' without passing the call to the kernel. The "
            "CPU number of such a thread does not change: code that trusts it uses the data of another CPU",
            ALLOW,
            PTHREAD_CREATE,
        )
    fate, how = {
        "kill": ("terminate it", "kills the program that makes the call (SIGSYS)"),
        "kill-thread": ("be killed at once, without a message", "kills the thread that makes the call (SIGSYS)"),
        "trap": ("terminate it", "answers the call with the signal SIGSYS, which is fatal"),
        "trace": (f"terminate it with '{FATAL}'", "refuses the call where no tracer handles it (ENOSYS)"),
    }.get(answer.action) or (f"terminate it with '{FATAL}'", f"refuses the call ({errno_name(answer.errno or 0)})")
    return DoctorFinding("threads-will-be-killed", ERROR, f"{head} {fate}: {cause} {how}", ALLOW, PTHREAD_CREATE)
