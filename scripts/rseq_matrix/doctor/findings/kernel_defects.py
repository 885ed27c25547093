"""What libraries need and a kernel that has rseq does not do."""

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
            "it and rely on the kernel to write it again, do not work correctly",
            "Update the kernel to 7.0.10 or later, or switch those caches off",
            f"{CHANGED_RULES}; {TCMALLOC}",
        )
    if kernel.rseq == PRESENT and kernel.membarrier.aborts is False:
        yield DoctorFinding(
            "membarrier-does-not-abort",
            WARNING,
            "membarrier(2) accepts its rseq command, but does not restart critical sections on other CPUs: "
            "librseq's fences and the resizing of tcmalloc's caches rely on that",
            "Report it to the vendor of the kernel, or to the project that emulates it",
            "membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ",
        )
