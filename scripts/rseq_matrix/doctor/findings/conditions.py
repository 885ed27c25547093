"""Conditions that several rules test."""

from __future__ import annotations

from rseq_matrix.documents.doctor import NONE, PRESENT, SUCCESS, Examined, ExaminedThread, FilterAnswer


def kernel_answer(document: Examined) -> str:
    """Return what rseq(2) is answered with: "present", an errno's name, "success"; "present" where not examined."""
    return document.kernel.rseq if document.kernel else PRESENT


def filter_answer(document: Examined) -> FilterAnswer | None:
    """Return what the seccomp filters answer to rseq(2); None where there are none, or it is not known."""
    return document.seccomp.rseq if document.seccomp else None


def stopped_by_filter(document: Examined) -> bool:
    """Return whether a seccomp filter is installed that does not let rseq(2) pass."""
    answer = filter_answer(document)
    return answer is not None and not answer.passes


def is_faked(document: Examined) -> bool:
    """Return whether a filter makes rseq(2) return success without passing it to the kernel."""
    answer = filter_answer(document)
    return kernel_answer(document) == SUCCESS or (answer is not None and answer.fakes)


def was_killed(document: Examined) -> bool:
    """Return whether the program that was started was killed."""
    return bool(document.run and document.run.killed_by)


def glibc_claims(document: Examined) -> bool:
    """Return whether glibc says that it registers rseq: __rseq_size is not 0."""
    return bool(document.libc and document.libc.size)


def dead_threads(document: Examined) -> list[ExaminedThread]:
    """Return the threads for which rseq(2) returned success, and whose cpu_id does not change all the same."""
    believed = [thread for thread in document.threads if thread.believed]
    return [t for t in believed if (is_faked(document) if t.owner == NONE else t.follows is False)]
