"""References to glibc's symbols, registrations, and stores into rseq areas."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.inspect import ERROR, WARNING, LintFinding
from rseq_matrix.elf.facts import FileFacts, RegistrationCall, Write
from rseq_matrix.lint.rules import finding

ORIGINAL_SIZE = 32  # of struct rseq, which every kernel with rseq(2) takes
ALIGNMENT = 32
QUERY = 0  # the length of a call that only asks whether the system call is there: EINVAL or ENOSYS
UNREGISTER = 1  # RSEQ_FLAG_UNREGISTER
READ_ONLY = frozenset({"cpu_id_start", "cpu_id", "node_id", "mm_cid"})
# What an owner may write before registration and behind a failure (RSEQ_CPU_ID_UNINITIALIZED, ..._REGISTRATION_FAILED).
NOT_REGISTERED = frozenset({0xFFFFFFFF, 0xFFFFFFFE, 2**64 - 1, 2**64 - 2, -1, -2})


def judge(facts: FileFacts) -> Iterator[LintFinding]:
    """Yield the findings about references, registrations and stores."""
    for reference in facts.rseq.references:
        if reference.binding == "strong":
            version = f"@{reference.version}" if reference.version else ""
            yield finding(
                "rseq-strong-reference",
                WARNING,
                reference.symbol,
                f"the reference to {reference.symbol}{version} is strong: where libc does not have it (glibc before "
                "2.35, musl) the object does not load at all; declare it weak and check its address",
            )
    for registration in facts.rseq.registrations:
        yield from _length(registration)
    for write in facts.rseq.writes:
        yield from _write(write)
    area = facts.rseq.own_area
    if area is not None and area.defined and area.alignment < ALIGNMENT:
        yield finding(
            "rseq-alignment",
            ERROR,
            area.symbol,
            f"{area.symbol} is aligned to {area.alignment} bytes only: rseq(2) answers EINVAL to an address that is "
            f"not a multiple of {ALIGNMENT}; declare it with __attribute__((aligned({ALIGNMENT})))",
        )


def _length(registration: RegistrationCall) -> Iterator[LintFinding]:
    length = registration.length
    if length is None or (registration.flags or 0) & UNREGISTER or length in (QUERY, ORIGINAL_SIZE):
        return
    where = f"{registration.function or 'code'} ({registration.address:#x})"
    if length < ORIGINAL_SIZE:
        sentence = f"{where} registers {length} bytes, and every kernel answers EINVAL to less than {ORIGINAL_SIZE}"
        yield finding("rseq-length", ERROR, where, f"{sentence}; register {ORIGINAL_SIZE}")
    else:
        sentence = f"{where} registers {length} bytes, which kernels before 6.3 refuse with EINVAL"
        advice = f"take the auxiliary vector's AT_RSEQ_FEATURE_SIZE, or {ORIGINAL_SIZE}"
        yield finding("rseq-length", WARNING, where, f"{sentence}; {advice}")


def _write(write: Write) -> Iterator[LintFinding]:
    if write.field not in READ_ONLY or (write.area == "own" and write.value in NOT_REGISTERED):
        return
    where = f"{write.function or 'code'} ({write.address:#x})"
    what = f"{where} writes {write.field} with '{write.instruction}'"
    if write.area == "glibc":
        sentence = (
            f"{what} into glibc's rseq area, where only the kernel writes: other users of rseq in the thread read a "
            "wrong CPU number, and kernels that check it kill the process"
        )
        yield finding("rseq-write-read-only", ERROR, where, sentence)
    else:
        sentence = (
            f"{what} into its own rseq area: right before registration, but while it is registered only the kernel "
            "writes there, and kernels that check it kill the process"
        )
        yield finding("rseq-write-read-only", WARNING, where, sentence)
