"""Answers that are not the kernel's: what stands before it, and what kernels answer that have no rseq."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rseq_matrix.kernels.answers import WELL_ALIGNED
from rseq_matrix.kernels.features import PRESENT, SIGNATURE, Host
from rseq_matrix.kernels.rules import ORIGINAL_LENGTH, READ_ONLY, SIGSEGV, SUCCESS, UNREGISTER, Call, Features
from rseq_matrix.kernels.sequences import SIGSYS, CallStep, becomes, behind_filter, by_main, moves

ENOSYS, EPERM = "ENOSYS", "EPERM"
SECCOMP_STATUS = (
    "the line Seccomp of /proc/PID/status: 2 means that a filter is installed, by the program, its container engine "
    "(Docker, podman) or systemd (SystemCallFilter=)"
)
ALLOW = (
    "let the filter allow rseq(2): it only shows a program which CPU it runs on, as getcpu(2) does, and glibc 2.35 and "
    "later calls it"
)


@dataclass(frozen=True)
class Elsewhere:
    """A cause that is not a rule of the kernel."""

    id: str
    because: str
    look: str
    cure: str
    reference: str
    word: str = ""
    """What a filter has to answer, for a replay; empty where a replay needs what cannot be made here."""
    alive: bool | None = None
    """Whether the area must show a CPU number then; None: that does not matter."""

    def steps(self) -> list[CallStep]:
        """Return a replay; empty if there is none."""
        call = Call(WELL_ALIGNED, ORIGINAL_LENGTH, 0, SIGNATURE)
        if self is AREA_LOST:
            return [by_main(call), becomes(READ_ONLY), moves()] if len(os.sched_getaffinity(0)) > 1 else []
        if self is FAKE_UNREGISTRATION:
            return [by_main(call), behind_filter(self.word), by_main(replace(call, flags=UNREGISTER))]
        return [behind_filter(self.word), by_main(call)] if self.word else []


def refused_by_filter(word: str) -> Elsewhere:
    """Return the cause that a filter answers an errno."""
    return Elsewhere(
        "filter",
        f"a seccomp filter (a list of allowed system calls, which the kernel goes through before it does anything) "
        f"answers {word} to rseq(2), and the kernel is not asked",
        SECCOMP_STATUS,
        ALLOW,
        "seccomp(2), SECCOMP_RET_ERRNO",
        word,
    )


FAKE = Elsewhere(
    "filter-success",
    "a seccomp filter answers success without asking the kernel: nothing is registered, and cpu_id in the area "
    "stays -1, though __rseq_size of glibc then says that rseq is in use",
    f"cpu_id in the area: it is -1, and real registrations never leave it so; {SECCOMP_STATUS}",
    ALLOW,
    "seccomp(2), SECCOMP_RET_ERRNO with errno 0",
    SUCCESS,
    alive=False,
)
FAKE_UNREGISTRATION = Elsewhere(
    "filter-success",
    "a seccomp filter answers success without asking the kernel: what was registered for this thread before is "
    "still registered, and the kernel still writes into its memory",
    f"cpu_id in the area: a real unregistration sets it to -1; {SECCOMP_STATUS}",
    ALLOW,
    "seccomp(2), SECCOMP_RET_ERRNO with errno 0",
    SUCCESS,
    alive=True,
)
FILTER_KILLS = Elsewhere(
    "filter-kills",
    "a seccomp filter answers rseq(2) with SIGSYS, the signal that ends a program for a system call that it may not "
    "make",
    f"{SECCOMP_STATUS}; the kernel's log has a line with syscall=334",
    ALLOW,
    "seccomp(2), SECCOMP_RET_KILL_PROCESS",
    SIGSYS,
)
AREA_LOST = Elsewhere(
    "area-lost",
    "the area was valid when it was registered, but its memory was unmapped or made read-only while the thread "
    "still ran, and the kernel kills a program if it cannot write the CPU number into its area",
    "whether munmap(2) or mprotect(2) came between the registration and the signal: strace -f -e trace=rseq,memory; "
    "the signal says si_code=SI_KERNEL",
    "unregister an area before its memory is unmapped or freed; libc's areas live as long as their threads",
    "Linux kernel/rseq.c, __rseq_handle_notify_resume",
    SIGSEGV,
)
NO_RSEQ = Elsewhere(
    "kernel-without-rseq",
    "the kernel has no rseq(2): it is older than Linux 4.18, or was built without CONFIG_RSEQ",
    "uname -r, and the line CONFIG_RSEQ of /boot/config-$(uname -r) or /proc/config.gz",
    "nothing needs to be done in the program: libraries use atomics instead, and glibc works without rseq",
    "Linux kernel/sys_ni.c, COND_SYSCALL(rseq), commit d7822b1e24f2",
)
EMULATOR = Elsewhere(
    "emulator",
    "the program does not run on the kernel itself: valgrind, qemu-user and gVisor answer ENOSYS to rseq(2)",
    "how the program was started; in gVisor dmesg says so, under valgrind and qemu-user /proc/PID/exe is that tool",
    "nothing needs to be done: rseq is not available there, and code with a fallback uses that",
    "valgrind coregrind/m_syswrap/syswrap-amd64-linux.c; gVisor pkg/sentry/syscalls/linux/sys_rseq.go; qemu "
    "linux-user/syscall.c",
)


def injected(word: str) -> Elsewhere:
    """Return the cause that strace was told to answer."""
    return Elsewhere(
        "injected",
        f"strace itself answered {word} and the kernel was not asked: the line says INJECTED, so strace ran with -e "
        "inject",
        "the options of strace",
        "run strace without -e inject",
        "strace(1), Tampering",
    )


def unknown_answer(word: str) -> Elsewhere:
    """Return the cause of an answer that no rule of any kernel gives."""
    found = refused_by_filter(word)
    because = f"the kernel itself never answers {word} to such a call: {found.because}"
    return Elsewhere("filter", because, found.look, found.cure, found.reference, word)


def elsewhere(word: str, flags: int | None, host: Host) -> Sequence[Elsewhere]:
    """Return what an answer may come from where it does not come from the rules of the kernel."""
    if word == SUCCESS and (flags or 0) & UNREGISTER:
        return [FAKE_UNREGISTRATION]
    if word == ENOSYS:
        absent = [NO_RSEQ] if host.rseq in (PRESENT, ENOSYS) else []
        return [refused_by_filter(word), *absent, EMULATOR]
    if word == EPERM:
        return [refused_by_filter(word)]
    return {SUCCESS: [FAKE], SIGSYS: [FILTER_KILLS], SIGSEGV: [AREA_LOST]}.get(word, [])


KERNELS: dict[str, Features] = {
    "Linux 4.18": Features(None, None, 0, False, "leaves"),
    "Linux 5.10": Features(None, None, 0, True, "leaves"),
    "Linux 6.6": Features(28, 32, 0, True, "leaves"),
    "Linux 6.18": Features(28, 32, 0, True, "reads"),
    "Linux 7.0": Features(33, 64, 2, True, "writes", "SIGSEGV"),
}
"""The rules of others, for a line that comes from another machine. As of the release: distributions may differ."""
