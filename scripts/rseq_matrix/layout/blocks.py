"""Where things lie around a thread pointer: modules' TLS blocks, the TCB, the rseq area, the padding between them.

Offsets are bytes from the thread pointer. x86-64 has variant II of Drepper, "ELF Handling For Thread-Local Storage"
(section 3): the blocks end below the thread pointer, the TCB begins at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rseq_matrix.layout.dwarf import StructPthread
from rseq_matrix.layout.libc import LibcInProcess, dtv_entry
from rseq_matrix.ptrace.memory import AT_RSEQ_ALIGN, Memory, UnreadableError
from rseq_matrix.ptrace.objects import MappedSegment, Object
from rseq_matrix.ptrace.tracee import TaskState

TLS, TCB, RSEQ, EXTRA, PADDING = "tls", "tcb", "rseq", "extra-tls", "padding"
IN_PTHREAD, IN_EXTRA, OWN, NONE, UNKNOWN = "struct pthread", "extra TLS", "own", "none", "unknown"
TCB_ALIGNMENT = 64  # glibc sysdeps/x86_64/nptl/tls.h
AREA_SIZE, AREA_ALIGNMENT = 32, 32  # struct rseq as of Linux 4.18: what every kernel accepts
DYNAMIC_OFFSETS = (0, -1, -2)  # NO_TLS_OFFSET, FORCED_DYNAMIC_TLS_OFFSET: glibc include/link.h
FAR = 1 << 30  # more than any static TLS: what is further away is somewhere else

Document = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """A piece of memory; `size` is None where its end is not known."""

    name: str
    kind: str
    offset: int
    size: int | None
    alignment: int
    phase: int = 0
    """What the address leaves when divided by the alignment: p_vaddr % p_align of a TLS segment."""
    dtv_offset: int | None = None
    """The offset that the thread's dtv gives, of a TLS block."""

    @property
    def end(self) -> int:
        """Return the offset behind the last byte that is known to belong to it."""
        return self.offset + (self.size or 0)


@dataclass(frozen=True)
class Layout:
    """What all threads of a process share: modules and their TLS offsets; those that are not in static TLS."""

    memory: Memory
    libc: LibcInProcess
    objects: tuple[Object, ...]
    placed: tuple[tuple[Object, MappedSegment, int], ...]
    elsewhere: tuple[str, ...]
    unplaced: tuple[str, ...]
    dwarf: StructPthread | None


def abi_offset(segment: MappedSegment) -> int:
    """Return where the program's own block begins: what the linker assumed when it resolved local-exec accesses.

    The nearest place below the thread pointer that has room and the alignment of p_vaddr (Drepper, section 3.4.6).
    """
    alignment = max(segment.alignment, 1)
    return -(segment.size + (-segment.address - segment.size) % alignment)


def label(found: Object) -> str:
    """Return a module's name; one of another namespace (dlmopen) says so."""
    return f"{found.name} (namespace {found.namespace})" if found.namespace else found.name


def place(memory: Memory, libc: LibcInProcess, objects: Sequence[Object], dwarf: StructPthread | None) -> Layout:
    """Find each module's offset. Raises InputError where memory cannot be read."""
    placed, elsewhere, unplaced = [], [], []
    for index, found in enumerate(objects):
        segment = found.tls
        if segment is None:
            if not found.segments:
                unplaced.append(label(found))
        elif found.link_map and libc.tls_offset is not None:
            offset = memory.word(found.link_map + libc.tls_offset, "q")
            if offset in DYNAMIC_OFFSETS:
                elsewhere.append(label(found))
            else:
                placed.append((found, segment, -offset))
        elif index == 0:
            placed.append((found, segment, abi_offset(segment)))
        else:
            unplaced.append(label(found))
    return Layout(memory, libc, tuple(objects), tuple(placed), tuple(elsewhere), tuple(unplaced), dwarf)


def _module_number(layout: Layout, found: Object) -> int:
    if found is layout.objects[0]:
        return 1  # the program's, always
    at = layout.libc.tls_module
    return 0 if at is None else layout.memory.word(found.link_map + at)


def _tls_blocks(layout: Layout, thread_pointer: int) -> list[Block]:
    blocks = []
    for found, segment, offset in layout.placed:
        alignment = max(segment.alignment, 1)
        at = dtv_entry(layout.memory, layout.libc, thread_pointer, _module_number(layout, found))
        said = None if at is None else at - thread_pointer
        blocks.append(Block(label(found), TLS, offset, segment.size, alignment, segment.address % alignment, said))
    return blocks


def _where(layout: Layout, offset: int, blocks: Sequence[Block], libc_own: bool) -> str:
    """Return whose place an offset is, by geometry alone."""
    size = layout.libc.tcb_size or (layout.dwarf.size if layout.dwarf else None)
    if -FAR < offset < 0 and not any(b.offset <= offset < b.end for b in blocks):
        return IN_EXTRA
    if offset >= 0 and (offset < size if size is not None else libc_own):
        return IN_PTHREAD
    return OWN if layout.libc.rseq or size is not None else UNKNOWN


def _cpu_id(memory: Memory, area: int) -> int | None:
    try:
        return memory.word(area + 4, "i")
    except UnreadableError:
        return None


def rseq_area(layout: Layout, task: TaskState, blocks: Sequence[Block]) -> Document | None:
    """Return what is known of a thread's rseq area, as in schema layout-1; None where there is none to see."""
    said, kernel = layout.libc.rseq, task.registration
    if kernel is None and said is None:
        return None
    at_kernel = kernel.address - task.thread_pointer if kernel else None
    active = said is not None and said.size > 0
    offset = said.offset if said and (active or at_kernel is None) else at_kernel
    assert offset is not None  # one of the two is there
    libc_own = said is not None and offset == said.offset
    where = _where(layout, offset, blocks, libc_own) if libc_own or said is None else OWN
    size = kernel.size if kernel and at_kernel == offset else AREA_SIZE
    alignment = AREA_ALIGNMENT
    if where == IN_EXTRA or size > AREA_SIZE:
        alignment = max(alignment, layout.memory.auxiliary.get(AT_RSEQ_ALIGN, 0) if active or kernel else 0)
    if where == IN_EXTRA and active:
        size = max(size, -(-said.size // alignment) * alignment if said else 0)
    return {
        "offset": offset,
        "size": size,
        "alignment": alignment,
        "feature_size": said.size if said else None,
        "flags": said.flags if said else None,
        "kernel": asdict(kernel) if kernel else None,
        "unasked": task.unasked,
        "cpu_id": _cpu_id(layout.memory, task.thread_pointer + offset),
        "where": where if active or kernel else NONE,
        "dwarf": layout.dwarf.document() if layout.dwarf else None,
    }


def _owner(layout: Layout, address: int, offset: int, blocks: Sequence[Block]) -> str:
    """Return in whose memory an area of somebody's own lies."""
    for block in blocks:
        if block.offset <= offset < block.end:
            return block.name
    for found in layout.objects:
        if found.holds(address):
            return found.name
    home = layout.memory.mapping_at(address)
    return (home.base_name if home else "") or "anonymous memory"


def home_of(layout: Layout, thread_pointer: int, address: int) -> str:
    """Return in whose memory an address lies: a module's TLS block, a loaded object, or what the kernel calls it."""
    return _owner(layout, address, address - thread_pointer, _tls_blocks(layout, thread_pointer))


def _rseq_blocks(layout: Layout, thread_pointer: int, rseq: Document, blocks: Sequence[Block]) -> list[Block]:
    """Return the extra TLS block, libc's area, and the area that somebody else registered."""
    found, said, kernel = [], layout.libc.rseq, rseq["kernel"]
    if said is not None:
        mine = rseq["offset"] == said.offset
        size, alignment = (rseq["size"], rseq["alignment"]) if mine else (AREA_SIZE, AREA_ALIGNMENT)
        if _where(layout, said.offset, blocks, True) == IN_EXTRA:
            found.append(Block("extra TLS", EXTRA, said.offset, size, alignment))
        used = kernel is not None and kernel["address"] == thread_pointer + said.offset
        name = "rseq area" if used else "rseq area (registered nowhere)" if kernel is None else "rseq area (unused)"
        found.append(Block(name, RSEQ, said.offset, size, alignment))
    if kernel is not None and (said is None or kernel["address"] != thread_pointer + said.offset):
        offset = kernel["address"] - thread_pointer
        name = f"own area (registered by {_owner(layout, kernel['address'], offset, blocks)})"
        if said is None and rseq["where"] != OWN:
            name = "rseq area"  # libc may have registered it: it does not say
        found.append(Block(name, RSEQ, offset, kernel["size"], AREA_ALIGNMENT))
    return found


def with_padding(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks by offset, a container before what lies in it, and what is left between them as padding."""
    ordered = sorted(blocks, key=lambda block: (block.offset, block.kind == RSEQ))
    found: list[Block] = []
    reached: int | None = None
    for block in ordered:
        near = abs(block.offset) < FAR
        if near and reached is not None and block.offset > reached:
            found.append(Block("padding", PADDING, reached, block.offset - reached, 1))
        if near and block.size is None:
            reached = FAR  # what lies behind its beginning may be its own
        elif near:
            reached = max(reached if reached is not None else block.offset, block.end)
        found.append(block)
    return found


def thread_document(layout: Layout, task: TaskState) -> Document:
    """Return one thread as in schema layout-1. Without a thread pointer, or with one that is not libc's, no blocks.

    %fs:0 holds the thread pointer itself (psABI, "Thread-Local Storage"): that is how libc's is known.
    """
    pointer = task.thread_pointer
    blocks: list[Block] = []
    rseq = None
    try:
        set_up = pointer != 0 and layout.memory.word(pointer) == pointer
    except UnreadableError:
        set_up = False
    if set_up:
        size = layout.libc.tcb_size or (layout.dwarf.size if layout.dwarf else None)
        tls = _tls_blocks(layout, pointer)
        rseq = rseq_area(layout, task, tls)
        tcb = Block("TCB (struct pthread)", TCB, 0, size, TCB_ALIGNMENT if layout.libc.rseq or size else 8)
        more = _rseq_blocks(layout, pointer, rseq, tls) if rseq else []
        blocks = with_padding([*tls, tcb, *more])
    return {
        "tid": task.tid,
        "thread_pointer": pointer,
        "starting": False,
        "blocks": [asdict(block) for block in blocks],
        "rseq": rseq,
    }
