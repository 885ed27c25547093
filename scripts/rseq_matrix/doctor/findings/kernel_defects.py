"""What a kernel that has rseq does not do as libraries need it."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.vocabulary import CHANGED_RULES, TCMALLOC
from rseq_matrix.documents.doctor import CHANGED_ONLY, PRESENT, WARNING, DoctorFinding, Examined


def behaviour(document: Examined) -> Iterator[DoctorFinding]:
    """The kernel writes the ids only when they change, or its membarrier(2) does not abort."""
    kernel = document.kernel
    if not kernel:
        return
    if kernel.class_ == CHANGED_ONLY:
        yield DoctorFinding(
            "kernel-changed-only",
            WARNING,
            "This kernel writes a thread's CPU number only when it changes: tcmalloc's per-CPU caches, which overwrite "
            "it and wait for the kernel, do not work right here",
            "Update the kernel to 7.0.10 or later, or switch those caches off",
            f"{CHANGED_RULES}; {TCMALLOC}",
        )
    if kernel.rseq == PRESENT and kernel.membarrier.aborts is False:
        yield DoctorFinding(
            "membarrier-does-not-abort",
            WARNING,
            "membarrier(2) accepts its rseq command, but does not interrupt critical sections on other CPUs: "
            "librseq's fences and tcmalloc's resizing rely on that",
            "Report it to who makes the kernel, or what emulates it",
            "membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ",
        )
