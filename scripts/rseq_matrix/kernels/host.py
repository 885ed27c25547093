"""The running kernel, and whether the probes can run on this machine at all.

Nothing here compares version numbers: what the kernel does is found by asking it.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
from dataclasses import dataclass

from rseq_matrix._native import ffi, lib
from rseq_matrix.errors import MissingError

AT_RSEQ_FEATURE_SIZE = 27
AT_RSEQ_ALIGN = 28

ANSWERS = {errno.EINVAL: "present", 0: "success"}
"""What the answer to a senseless request says: the kernel refuses it; only a filter calls it a success."""


@dataclass(frozen=True)
class Kernel:
    """The running kernel."""

    release: str
    machine: str
    rseq: str
    """"present"; else what it answers to everything: the name of an errno, or "success"."""
    feature_size: int | None
    """Bytes of struct rseq that it uses (AT_RSEQ_FEATURE_SIZE, Linux 6.3); None if it does not say."""
    align: int | None
    cpus: int

    @property
    def has_rseq(self) -> bool:
        """Return whether rseq(2) is there."""
        return self.rseq == "present"


def require_platform() -> None:
    """Raise MissingError on a machine that the probes are not written for."""
    if platform.system() != "Linux":
        raise MissingError(f"rseq is a system call of Linux, and this is {platform.system()}")
    if platform.machine() != "x86_64" or ffi.sizeof("void *") != 8:
        raise MissingError(f"the probes are written for x86-64, and this machine is {platform.machine()}")
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= descriptors <= int(lib.RSM_LOG_FD):
        raise MissingError(
            f"a process may open only {descriptors} files here (ulimit -Hn), and {int(lib.RSM_LOG_FD) + 1} are needed"
        )


def answer_word(number: int) -> str:
    """Return what the answer to a senseless request says: "present", "success", or the name of an errno."""
    return ANSWERS.get(number) or errno.errorcode.get(number, str(number))


def kernel() -> Kernel:
    """Ask the running kernel."""
    answer = int(lib.rsm_native_query_control())
    return Kernel(
        release=platform.release(),
        machine=platform.machine(),
        rseq=answer_word(answer),
        feature_size=int(lib.rsm_native_auxiliary_value(AT_RSEQ_FEATURE_SIZE)) or None,
        align=int(lib.rsm_native_auxiliary_value(AT_RSEQ_ALIGN)) or None,
        cpus=len(os.sched_getaffinity(0)),
    )
