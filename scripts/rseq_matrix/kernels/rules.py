"""The kernel's rules of rseq(2), as a pure model: what a call is answered, and why. Nothing is run here.

A rule stands where the kernel checks it (kernel/rseq.c, sys_rseq): the first that applies is the answer. What differs
between kernels is in `Features`, which are found by experiment (features.py) and never by a version number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

UNREGISTER = 1
"""RSEQ_FLAG_UNREGISTER."""
ORIGINAL_LENGTH = 32
"""The length that every kernel accepts: struct rseq, as it was in the beginning, with its padding."""
USER_END = (1 << 47) - 4096
"""Where the addresses of programs end on x86-64 with page tables of four levels (TASK_SIZE_MAX)."""
KERNEL_HALF = 1 << 63
"""The first address that access_ok() refuses on kernels that look at the sign only (since 6014bc27561f, for a time)."""

SUCCESS = "0"
EINVAL, EBUSY, EPERM, EFAULT, SIGSEGV = "EINVAL", "EBUSY", "EPERM", "EFAULT", "SIGSEGV"

WRITABLE, READ_ONLY, UNMAPPED = "writable", "read-only", "unmapped"
LEAVES, READS, WRITES = "leaves", "reads", "writes"
"""What the kernel does with the memory of an area before it accepts it."""


@dataclass(frozen=True)
class Features:
    """In what kernels differ."""

    feature_size: int | None
    """AT_RSEQ_FEATURE_SIZE; None: the length must be 32."""
    align: int | None
    """AT_RSEQ_ALIGN."""
    flags: int = 0
    """The flags that a registration may have."""
    refuses_flags: bool = True
    """Further flags beside RSEQ_FLAG_UNREGISTER are an error."""
    touches: str = READS
    reset_error: str = EFAULT
    """How an unregistration ends whose area cannot be written: the call fails, or the program is killed."""
    end: int = USER_END
    """From where on an address is refused without a look at the memory."""


@dataclass(frozen=True)
class Call:
    """One call of rseq(2)."""

    address: int
    length: int
    flags: int
    signature: int
    memory: str = WRITABLE
    """What is at the address."""
    points: bool = False
    """The area's rseq_cs is not NULL, and leads to no critical section."""

    @property
    def unregisters(self) -> bool:
        """Return whether it asks for an unregistration."""
        return bool(self.flags & UNREGISTER)


@dataclass(frozen=True)
class AssumedArea:
    """An area that is taken to be registered for a thread, and the memory that lies there: what the rules are asked of.

    What the kernel really has registered is a ptrace.tracee.RegisteredArea.
    """

    address: int
    length: int
    signature: int
    memory: str = WRITABLE


@dataclass(frozen=True)
class CallMoment:
    """A call, what was registered when it was made, and the kernel that it was made to."""

    call: Call
    area: AssumedArea | None
    features: Features

    @property
    def registered(self) -> AssumedArea:
        """Return what is registered, for rules that come behind the one that there is nothing."""
        assert self.area is not None
        return self.area

    def aligned(self, boundary: int | None) -> bool:
        """Return whether the address is a multiple of the boundary."""
        return self.call.address % (boundary or 1) == 0

    def words(self) -> Mapping[str, object]:
        """Return what the sentences name."""
        call, area, features = self.call, self.area, self.features
        return {
            "address": f"{call.address:#x}",
            "length": call.length,
            "flags": f"{call.flags & 0xFFFFFFFF:#x}",
            "unknown": f"{call.flags & 0xFFFFFFFF & ~features.flags:#x}",
            "known": "none" if not features.flags else f"{features.flags:#x}",
            "signature": f"{call.signature:#x}",
            "there": f"{area.address:#x}" if area else "",
            "where": f" (it lies at {area.address:#x})" if area else "",
            "old_length": area.length if area else "",
            "old_signature": f"{area.signature:#x}" if area else "",
            "size": features.feature_size,
            "align": features.align,
            "alignment": call.address & -call.address,
        }


@dataclass(frozen=True)
class KernelRule:
    """One check of the kernel's."""

    id: str
    answer: str
    applies: Callable[[CallMoment], bool]
    because: str
    """The cause in one sentence; a format of CallMoment.words()."""
    look: str
    """What to look at, to see whether it is this."""
    cure: str
    reference: str


@dataclass(frozen=True)
class Answer:
    """What the kernel answers, and what is registered then."""

    word: str
    rule: KernelRule
    because: str
    after: AssumedArea | None


SYS_RSEQ = "Linux kernel/rseq.c, sys_rseq"
FIRST = f"{SYS_RSEQ}, commit d7822b1e24f2"
EXTENSIBLE = f"{SYS_RSEQ}, commit ee3e3ac05c26"
MANUAL = "glibc manual, Restartable Sequences"
HOW_TO_USE_LIBC = (
    "use the area that is there: in a glibc process it lies at the thread pointer plus __rseq_offset; or start the "
    "program with GLIBC_TUNABLES=glibc.pthread.rseq=0, so that glibc registers none"
)
OWN_HISTORY = "which registration this thread made last: strace -f -e trace=rseq shows each"


def _struck_by_length(moment: CallMoment) -> bool:
    size = moment.features.feature_size
    return size is not None and moment.call.length != ORIGINAL_LENGTH and moment.call.length < size


def _past_the_end(moment: CallMoment) -> bool:
    return moment.call.address + moment.call.length > moment.features.end


UNREGISTRATION: Sequence[KernelRule] = (
    KernelRule(
        "unregister-flags",
        EINVAL,
        lambda m: m.features.refuses_flags and m.call.flags & 0xFFFFFFFF != UNREGISTER,
        "the flags {flags} ask to unregister and hold more bits: beside RSEQ_FLAG_UNREGISTER, 1, none may be set",
        "the flags of the call",
        "pass RSEQ_FLAG_UNREGISTER alone",
        f"{SYS_RSEQ}, commit 66528a4575ee",
    ),
    KernelRule(
        "unregister-nothing",
        EINVAL,
        lambda m: m.area is None,
        "nothing is registered for this thread, so there is nothing to unregister (what another thread registered does "
        "not count, and a vfork child or a new program has lost what was registered before)",
        OWN_HISTORY,
        "unregister only in the thread that registered, and only once",
        f"{FIRST}; include/linux/rseq.h, rseq_fork and rseq_execve",
    ),
    KernelRule(
        "unregister-address",
        EINVAL,
        lambda m: m.registered.address != m.call.address,
        "the call unregisters the area at {address}, but the one that is registered for this thread is at {there}",
        OWN_HISTORY,
        "pass the address that was registered; another library's area is not yours to unregister",
        FIRST,
    ),
    KernelRule(
        "unregister-length",
        EINVAL,
        lambda m: m.registered.length != m.call.length,
        "the area was registered with {old_length} bytes and is unregistered with {length}: the lengths must be equal",
        OWN_HISTORY,
        "pass the length of the registration",
        EXTENSIBLE,
    ),
    KernelRule(
        "unregister-signature",
        EPERM,
        lambda m: m.registered.signature != m.call.signature,
        "the signature {signature} is not the one that the area was registered with, {old_signature}",
        OWN_HISTORY,
        "pass the signature of the registration, RSEQ_SIG of <sys/rseq.h>",
        FIRST,
    ),
    KernelRule(
        "unregister-memory-refused",
        EFAULT,
        lambda m: m.registered.memory != WRITABLE and m.features.reset_error == EFAULT,
        "the kernel resets the fields of the area that it unregisters, and cannot: its memory was unmapped, or made "
        "read-only, after the registration",
        "whether munmap(2), mprotect(2) or free(3) came before this call: strace -e trace=rseq,memory",
        "unregister the area first, then give its memory away",
        "Linux kernel/rseq.c, rseq_reset_rseq_cpu_node_id",
    ),
    KernelRule(
        "unregister-memory-fatal",
        SIGSEGV,
        lambda m: m.registered.memory != WRITABLE and m.features.reset_error == SIGSEGV,
        "the kernel resets the fields of the area that it unregisters, and cannot: its memory was unmapped, or made "
        "read-only, after the registration, and for that it kills the program",
        "whether munmap(2), mprotect(2) or free(3) came before this call: strace -e trace=rseq,memory",
        "unregister the area first, then give its memory away",
        "Linux kernel/rseq.c, rseq_reset_ids",
    ),
    KernelRule(
        "unregistered",
        SUCCESS,
        lambda _: True,
        "the area at {address} was registered for this thread, and is no longer: the kernel sets its cpu_id to -1",
        "cpu_id in the area: it is -1 now",
        "",
        FIRST,
    ),
)

REGISTRATION: Sequence[KernelRule] = (
    KernelRule(
        "register-flags",
        EINVAL,
        lambda m: bool(m.call.flags & 0xFFFFFFFF & ~m.features.flags),
        "the flags hold the bits {unknown}, which the kernel does not know for a registration (it knows: {known})",
        "the flags of the call",
        "pass 0, or try again with 0 where a newer flag is refused",
        f"{FIRST}; flags came with d6200245c75e",
    ),
    KernelRule(
        "registered-address",
        EINVAL,
        lambda m: m.area is not None and m.area.address != m.call.address,
        "an area is registered for this thread already, at another address than {address}{where}, and a thread has "
        "only one (glibc 2.35 and later registers one for each thread as it starts)",
        "__rseq_size: if it is not 0, libc has registered an area; strace shows the earlier call",
        HOW_TO_USE_LIBC,
        f"{FIRST}; {MANUAL}",
    ),
    KernelRule(
        "registered-length",
        EINVAL,
        lambda m: m.area is not None and m.area.length != m.call.length,
        "this area is registered for this thread already, with {old_length} bytes and not {length}",
        OWN_HISTORY,
        "register once; to change the length, unregister first",
        EXTENSIBLE,
    ),
    KernelRule(
        "registered-signature",
        EPERM,
        lambda m: m.area is not None and m.area.signature != m.call.signature,
        "this area is registered for this thread already, with the signature {old_signature} and not {signature}",
        OWN_HISTORY,
        "register once, with RSEQ_SIG of <sys/rseq.h>",
        FIRST,
    ),
    KernelRule(
        "registered-twice",
        EBUSY,
        lambda m: m.area is not None,
        "this area is registered for this thread already, with the same length and signature (a fork child inherits "
        "the registration)",
        OWN_HISTORY,
        "nothing is lost: the area is registered, and EBUSY can be taken for success",
        FIRST,
    ),
    KernelRule(
        "length-short",
        EINVAL,
        lambda m: m.call.length < ORIGINAL_LENGTH,
        "a length of {length} is too short: every kernel wants at least 32 bytes, also where it uses fewer",
        "the length of the call; __rseq_size and AT_RSEQ_FEATURE_SIZE may say less than 32, and are no lengths to "
        "register with as they are",
        "register max(32, getauxval(AT_RSEQ_FEATURE_SIZE)) bytes",
        EXTENSIBLE,
    ),
    KernelRule(
        "length-not-original",
        EINVAL,
        lambda m: m.features.feature_size is None and m.call.length != ORIGINAL_LENGTH,
        "a length of {length} is not 32, the only one that a kernel takes which does not tell its feature size",
        "getauxval(AT_RSEQ_FEATURE_SIZE): it is 0 on such a kernel",
        "register 32 bytes where getauxval(AT_RSEQ_FEATURE_SIZE) is 0",
        FIRST,
    ),
    KernelRule(
        "length-feature-size",
        EINVAL,
        _struck_by_length,
        "a length of {length} does not hold the {size} bytes that the kernel uses (AT_RSEQ_FEATURE_SIZE): it takes "
        "32, for old programs, or at least that many",
        "getauxval(AT_RSEQ_FEATURE_SIZE)",
        "register max(32, getauxval(AT_RSEQ_FEATURE_SIZE)) bytes",
        EXTENSIBLE,
    ),
    KernelRule(
        "alignment-original",
        EINVAL,
        lambda m: m.call.length == ORIGINAL_LENGTH and not m.aligned(ORIGINAL_LENGTH),
        "the address {address} is a multiple of {alignment} only, and an area of 32 bytes must lie at a multiple of 32",
        "the address of the call: its last hexadecimal digit must be 0, and the one before it even",
        "align the area: __attribute__((aligned(32))), or aligned_alloc(32, ...)",
        FIRST,
    ),
    KernelRule(
        "alignment-extended",
        EINVAL,
        lambda m: m.call.length != ORIGINAL_LENGTH and not m.aligned(m.features.align),
        "the address {address} is a multiple of {alignment} only, and an area of more than 32 bytes must lie at a "
        "multiple of {align} (AT_RSEQ_ALIGN)",
        "getauxval(AT_RSEQ_ALIGN), and the address of the call",
        "align the area to max(32, getauxval(AT_RSEQ_ALIGN)) bytes",
        f"{EXTENSIBLE}; for features of more than 32 bytes 3b68df978133",
    ),
    KernelRule(
        "address-kernel",
        EFAULT,
        _past_the_end,
        "the area at {address} with its {length} bytes does not lie in the memory of programs, but reaches into the "
        "kernel's half of the addresses",
        "the address of the call: was it computed from an offset whose sign was lost?",
        "pass the address of memory of the program",
        FIRST,
    ),
    KernelRule(
        "null-ignored",
        SUCCESS,
        lambda m: m.call.address == 0 and m.features.touches == LEAVES,
        "the address is NULL: the kernel says yes to that, and registers nothing",
        "the address of the call",
        "pass the address of an area",
        f"{FIRST}, and {SYS_RSEQ} as of fd881d0a085f",
    ),
    KernelRule(
        "null",
        EFAULT,
        lambda m: m.call.address == 0 and m.call.memory == UNMAPPED,
        "the address is NULL, where a program has no memory",
        "the address of the call",
        "pass the address of an area; to unregister, say so in the flags",
        f"{SYS_RSEQ}, commit fd881d0a085f",
    ),
    KernelRule(
        "unmapped-refused",
        EFAULT,
        lambda m: m.call.memory == UNMAPPED and m.features.touches != LEAVES,
        "there is no memory at {address} that the kernel could read for this program",
        "/proc/PID/maps: is the address in it, and readable?",
        "register memory that is there, and keep it as long as the thread lives",
        f"{SYS_RSEQ}, commit fd881d0a085f",
    ),
    KernelRule(
        "unmapped-fatal",
        SIGSEGV,
        lambda m: m.call.memory == UNMAPPED,
        "there is no memory at {address}: the kernel accepts it without a look, and kills the program when it "
        "comes to write the CPU number there",
        "/proc/PID/maps: is the address in it, and writable?",
        "register memory that is there, and keep it as long as the thread lives",
        "Linux kernel/rseq.c, __rseq_handle_notify_resume",
    ),
    KernelRule(
        "read-only-refused",
        EFAULT,
        lambda m: m.call.memory == READ_ONLY and m.features.touches == WRITES,
        "the memory at {address} can be read but not written, and the kernel has to write the CPU number there",
        "/proc/PID/maps: is the address in a writable mapping?",
        "register writable memory",
        f"{SYS_RSEQ}, commit 067b3b41b4dd",
    ),
    KernelRule(
        "read-only-pointer",
        EFAULT,
        lambda m: m.call.memory == READ_ONLY and m.features.touches == READS and m.call.points,
        "the memory at {address} can be read but not written, and the field rseq_cs in it is not NULL: the kernel sets "
        "that field to NULL when it registers an area, and cannot",
        "/proc/PID/maps: is the address in a writable mapping?",
        "register writable memory",
        f"{SYS_RSEQ}, commit fd881d0a085f",
    ),
    KernelRule(
        "read-only-fatal",
        SIGSEGV,
        lambda m: m.call.memory == READ_ONLY,
        "the memory at {address} can be read but not written: the kernel accepts it, and kills the program when it "
        "comes to write the CPU number there",
        "/proc/PID/maps: is the address in a writable mapping?",
        "register writable memory",
        "Linux kernel/rseq.c, __rseq_handle_notify_resume",
    ),
    KernelRule(
        "pointer-fatal",
        SIGSEGV,
        lambda m: m.call.points and m.features.touches == LEAVES,
        "the field rseq_cs of the area at {address} is not NULL and leads to no critical section: the kernel accepts "
        "the area without a look, and kills the program when it comes to follow that pointer",
        "the bytes 8 to 15 of the area before the call",
        "set the area to zeros before it is registered",
        f"{SYS_RSEQ}, as of fd881d0a085f",
    ),
    KernelRule(
        "registered",
        SUCCESS,
        lambda _: True,
        "the kernel has registered the area at {address} for this thread, and keeps the CPU number in it",
        "cpu_id in the area: it is not negative once the call is done",
        "",
        FIRST,
    ),
)

RULES: Mapping[str, KernelRule] = {rule.id: rule for rule in (*UNREGISTRATION, *REGISTRATION)}


ALIVE: Mapping[str, bool] = {"registered": True, "unregistered": False}
"""The rules whose deed can be seen in the area: whether it holds a CPU number afterwards."""


def _after(rule: KernelRule, moment: CallMoment) -> AssumedArea | None:
    if rule.id == "registered":
        call = moment.call
        return AssumedArea(call.address, call.length, call.signature, call.memory)
    return None if rule.id == "unregistered" or rule.answer == SIGSEGV else moment.area


def answer(moment: CallMoment, rules: Mapping[str, KernelRule] = RULES) -> Answer:
    """Return what the kernel answers, by its rules."""
    family = UNREGISTRATION if moment.call.unregisters else REGISTRATION
    rule = next(rule for rule in family if rule.id in rules and rule.applies(moment))
    return Answer(rule.answer, rule, rule.because.format(**moment.words()), _after(rule, moment))
