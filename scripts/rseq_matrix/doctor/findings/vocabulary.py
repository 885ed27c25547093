"""The words that the rules share: references, messages of glibc, and parts of sentences."""

from __future__ import annotations

from collections.abc import Sequence

from rseq_matrix.documents.doctor import TUNABLE, Examined, ExaminedThread
from rseq_matrix.model import timeline

FATAL = timeline.FATAL.message
MESSAGE = FATAL.partition(": ")[2]
OFF = f"GLIBC_TUNABLES={TUNABLE}=0"

PTHREAD_CREATE = "glibc nptl/pthread_create.c, start_thread and __pthread_create_2_1"
MANUAL = "glibc manual, Restartable Sequences"
TUNABLES = "glibc manual, POSIX Thread Tunables; elf/dl-tunables.c, __tunables_init"
GETCPU = "glibc sysdeps/unix/sysv/linux/sched_getcpu.c"
TCMALLOC = "tcmalloc docs/rseq.md, internal/percpu.cc InitThreadPerCpu"
LIBRSEQ = "librseq src/rseq.c, rseq_init"
SECCOMP = "seccomp(2); rseq(2)"
V2_RULES = "Linux Documentation/userspace-api/rseq.rst, Optimized RSEQ V2; commits 82f572449cfe, 99428157dcf3"
CHANGED_RULES = "Linux commits 566d8015f7ee (6.19) and b9eac6a9d93c (which took it back)"

WHAT_FILTER = "a list of the system calls that a program may make, set by a sandbox, container or service manager"
ALLOW = f"Allow rseq(2) in the filter (or sandbox profile), or start the program with {OFF}"
ALLOW_TO_USE = "To use rseq, allow rseq(2) in the filter (or in the profile of the container, service or sandbox)"
ONLY_SLOWER = (
    "Nothing breaks: glibc's sched_getcpu() gets slower, and libraries that use glibc's area run their slower code"
)
OTHERS_REGISTER = "librseq and tcmalloc register areas of their own, which tcmalloc's per-CPU caches need"


def suspects(document: Examined) -> str:
    """Return a hint at preloaded libraries, which may be the cause; "" where there are none."""
    preload = document.libc.preload if document.libc else None
    return f" (LD_PRELOAD names {preload})" if preload else ""


def listed(threads: Sequence[ExaminedThread]) -> str:
    """Return the names of threads as a list in words: three names at most, and how many more there are."""
    names = [thread.name for thread in threads]
    if len(names) > 3:
        names[3:] = [f"{len(names) - 3} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
