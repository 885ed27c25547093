"""The words that the rules share: severities, references, messages of glibc, and sentences that several say."""

from __future__ import annotations

from typing import Any

from rseq_matrix.doctor.libc import TUNABLE
from rseq_matrix.model import timeline

Document = dict[str, Any]
Found = tuple[str, str, str, str, str]  # id, severity, sentence, what to do, reference

ERROR, WARNING, NOTE = "error", "warning", "note"
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

WHAT_FILTER = "a list, set by a sandbox, container or service manager, of the system calls that a program may make"
ALLOW = f"allow rseq(2) in the filter (or sandbox profile), or start the program with {OFF}"
WHO_LOSES = (
    "Nothing breaks. glibc's sched_getcpu() gets slower, and libraries that use glibc's area take their slower way; "
    "librseq then registers areas of its own, and tcmalloc, which needs one of its own, can have its per-CPU caches"
)
