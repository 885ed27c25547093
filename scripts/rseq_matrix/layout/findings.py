"""What is wrong with a layout. Pure: from the threads of a process to findings, nothing is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product

from rseq_matrix.documents.layout import (
    ERROR,
    EXTRA,
    IN_EXTRA,
    IN_PTHREAD,
    NOTE,
    OWN,
    RSEQ,
    TCB,
    TLS,
    Block,
    LaidOutRseq,
    LaidOutThread,
    LayoutFinding,
    StructPthread,
)

Found = tuple[str, str, str, str]
"""A finding without its threads: id, severity, sentence, reference."""

SHOWN_THREADS = 4

ABI = "Drepper, ELF Handling For Thread-Local Storage, section 3 (variant II)"
MANUAL = "glibc manual, Restartable Sequences"
PLACE = "glibc elf/dl-tls.c, _dl_determine_tlsoffset"
INITIAL = "glibc sysdeps/nptl/dl_tls_init_tp.c"
KERNEL = "Linux kernel/rseq.c; rseq(2)"
EXTRA_TLS = "glibc sysdeps/unix/sysv/linux/dl-extra_tls.h"
PTHREAD = "glibc nptl/descr.h, struct pthread"
DTV = "glibc elf/dl-tls.c, _dl_allocate_tls_init"


def signed(offset: int) -> str:
    """Return an offset from the thread pointer as it is written everywhere: with its sign."""
    return f"{offset:+d}"


def _end(block: Block) -> int:
    """Return the first offset behind what is known to belong to a block; a TCB of unknown size has its header."""
    return block.offset + (block.size or 1)


def _meet(one: Block, other: Block) -> bool:
    return one.offset < _end(other) and other.offset < _end(one)


def _inside(inner: Block, outer: Block) -> bool:
    open_end = outer.size is None
    return outer.offset <= inner.offset and (open_end or _end(inner) <= _end(outer))


def _of_kind(thread: LaidOutThread, *kinds: str) -> list[Block]:
    return [block for block in thread.blocks if block.kind in kinds]


def _span(block: Block) -> str:
    return f"{block.name} ({signed(block.offset)}, {block.size or 'unknown'} bytes)"


def _block_overlap(thread: LaidOutThread) -> Iterator[Found]:
    for one, other in combinations(_of_kind(thread, TLS, TCB, EXTRA), 2):
        if _meet(one, other):
            yield (
                "layout-block-overlap",
                ERROR,
                f"{_span(one)} and {_span(other)} overlap: one module's thread-local variables overwrite the other's. "
                "Link the module again with correct program headers, or report it to the maker of libc",
                f"{PLACE}; {ABI}",
            )


def _block_misaligned(thread: LaidOutThread) -> Iterator[Found]:
    for block in _of_kind(thread, TLS):
        left = (thread.thread_pointer + block.offset) % block.alignment
        if left != block.phase:
            yield (
                "layout-block-misaligned",
                ERROR,
                f"{_span(block)} must leave {block.phase} when its address is divided by {block.alignment} "
                f"(PT_TLS) and leaves {left}: its aligned variables are not, and vector accesses to them may fault. "
                "Check p_align and p_vaddr of the module's PT_TLS (readelf -lW)",
                f"{PLACE}; {ABI}",
            )


def _dtv(thread: LaidOutThread) -> Iterator[Found]:
    for block in _of_kind(thread, TLS):
        if block.dtv_offset not in (None, block.offset):
            yield (
                "layout-dtv",
                ERROR,
                f"{_span(block)}: the thread's dtv has this module's block at {signed(block.dtv_offset)}: code that "
                "calls __tls_get_addr and code of the initial-exec or local-exec model see different variables",
                f"{DTV}; {ABI}",
            )


def _overlap(thread: LaidOutThread) -> Iterator[Found]:
    rseq = thread.rseq
    for area, block in product(_of_kind(thread, RSEQ), _of_kind(thread, TLS, TCB)):
        own = rseq is None or rseq.where == OWN or area.offset != rseq.offset
        allowed = own or block.kind == TCB
        if _meet(area, block) and not (allowed and _inside(area, block)):
            yield (
                "layout-rseq-overlap",
                ERROR,
                f"the rseq area ({signed(area.offset)}, {area.size} bytes) overlaps {_span(block)}: the kernel "
                "overwrites that memory at every return to user space, and its owner makes rseq_cs point nowhere. "
                "Start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0 and report it",
                f"{MANUAL}; {KERNEL}",
            )


def _misaligned(thread: LaidOutThread) -> Iterator[Found]:
    rseq = thread.rseq
    if rseq and (left := (thread.thread_pointer + rseq.offset) % rseq.alignment):
        yield (
            "layout-rseq-misaligned",
            ERROR,
            f"the rseq area at {signed(rseq.offset)} must be aligned to {rseq.alignment} bytes and is {left} "
            "bytes off: the kernel refuses to register it (EINVAL), so that no thread has rseq",
            f"{EXTRA_TLS}; {KERNEL}" if rseq.where == IN_EXTRA else KERNEL,
        )


def _offset(thread: LaidOutThread) -> Iterator[Found]:
    rseq = thread.rseq
    if not rseq or not rseq.feature_size or not rseq.kernel:
        return
    kernel = rseq.kernel.address - thread.thread_pointer
    if kernel != rseq.offset:
        yield (
            "layout-rseq-offset",
            ERROR,
            f"the kernel has the area at {signed(kernel)} registered, __rseq_offset says {signed(rseq.offset)}: "
            "libraries that trust glibc (and glibc's sched_getcpu) read an area that nobody writes. Who registers an "
            "own area must leave glibc's alone, or have it switched off (GLIBC_TUNABLES=glibc.pthread.rseq=0)",
            f"{MANUAL}; {KERNEL}",
        )


def _stale(thread: LaidOutThread) -> Iterator[Found]:
    rseq = thread.rseq
    if not rseq or not rseq.feature_size or rseq.kernel or rseq.unasked or thread.starting:
        return
    said = f"__rseq_size is {rseq.feature_size}, but the kernel has no area registered for this thread"
    if rseq.cpu_id is not None and rseq.cpu_id >= 0:
        yield (
            "layout-rseq-stale",
            ERROR,
            f"{said}, and cpu_id in the area is {rseq.cpu_id}: libraries take the fast path, nothing aborts it, and "
            "per-CPU data are corrupted silently. Such a thread must not run rseq code: it was made with raw clone(2), "
            "or its area was unregistered behind a copy",
            f"{MANUAL}; {KERNEL}",
        )
    else:
        yield (
            "layout-rseq-stale",
            ERROR,
            f"{said} (cpu_id {rseq.cpu_id}): a library that looks at __rseq_size alone, and not at cpu_id, is "
            "misled. Somebody unregistered the area, or the thread is only just starting: look again",
            f"{MANUAL}; {INITIAL}",
        )


def _member(rseq: LaidOutRseq, dwarf: StructPthread) -> Iterator[Found]:
    expected = dwarf.offset if dwarf.member else None
    actual = rseq.offset if rseq.where == IN_PTHREAD else None
    if expected != actual:
        said = f"at offset {expected}" if dwarf.member else "nowhere (libc has it in the extra TLS block)"
        yield (
            "layout-dwarf",
            ERROR,
            f"__rseq_offset is {signed(rseq.offset)}, but the debug information of libc ({dwarf.file}) has the "
            f"rseq area of struct pthread {said}: a debugger, or CRIU, looks in the wrong place. Install the debug "
            "package of this very libc; if it is that, report it",
            f"{PTHREAD}; {EXTRA_TLS}",
        )


def _dwarf(thread: LaidOutThread) -> Iterator[Found]:
    rseq = thread.rseq
    if not rseq or not rseq.dwarf or rseq.feature_size is None or rseq.where not in (IN_PTHREAD, IN_EXTRA):
        return
    yield from _member(rseq, rseq.dwarf)
    sizes = {block.size for block in _of_kind(thread, TCB)} - {None, rseq.dwarf.size}
    if sizes:
        yield (
            "layout-dwarf",
            ERROR,
            f"struct pthread has {sizes.pop()} bytes by _thread_db_sizeof_pthread and {rseq.dwarf.size} by the debug "
            f"information of libc ({rseq.dwarf.file}): debuggers misread this libc's threads",
            PTHREAD,
        )


RULES: tuple[Callable[[LaidOutThread], Iterator[Found]], ...] = (
    _overlap,
    _misaligned,
    _offset,
    _stale,
    _block_misaligned,
    _block_overlap,
    _dtv,
    _dwarf,
)


def _where(tids: Sequence[int]) -> str:
    shown = ", ".join(map(str, tids[:SHOWN_THREADS]))
    more = len(tids) - SHOWN_THREADS
    where = f"thread{'s' if len(tids) > 1 else ''} {shown}" + (f" and {more} more" if more > 0 else "")
    return where if tids else "process"


def _collect(found: Iterable[tuple[Found, int]]) -> tuple[LayoutFinding, ...]:
    """Say each thing once, with the threads that it is true for."""
    said: dict[Found, list[int]] = {}
    for one, tid in found:
        said.setdefault(one, []).append(tid)
    return tuple(LayoutFinding(*one, where=_where(tids)) for one, tids in said.items())


def judge(threads: Sequence[LaidOutThread]) -> tuple[LayoutFinding, ...]:
    """Return the findings about threads, in the order of RULES."""
    return _collect((one, thread.tid) for rule in RULES for thread in threads for one in rule(thread))


def notes(threads: Sequence[LaidOutThread], unplaced: Sequence[str]) -> tuple[LayoutFinding, ...]:
    """Return what the picture cannot show."""
    found: list[tuple[Found, list[int]]] = []
    if unplaced:
        names = ", ".join(unplaced)
        text = f"where {names} has its TLS cannot be read: this libc does not publish it (_thread_db_*), or its image "
        found.append((("layout-unplaced", NOTE, f"{text}is not in memory", "glibc nptl_db/structs.def"), []))
    for why in sorted({t.rseq.unasked for t in threads if t.rseq and t.rseq.unasked}):
        text = f"the kernel does not tell its registration ({why}; Linux 5.13 and later do): only libc's word is shown"
        found.append((("layout-kernel-silent", NOTE, text, "Linux commit 90f093fa8ea4"), []))
    bare = [thread.tid for thread in threads if not thread.blocks]
    if bare:
        text = "no thread pointer of libc's: no thread-local variables and no __rseq_offset may be used there"
        found.append((("layout-no-thread-pointer", NOTE, text, "psABI, Thread-Local Storage"), bare))
    return tuple(LayoutFinding(*one, where=_where(tids)) for one, tids in found)
