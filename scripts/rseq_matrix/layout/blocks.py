"""Where things lie around a thread pointer: modules' TLS blocks, the TCB, the rseq area, the padding between them.

Offsets are bytes from the thread pointer. x86-64 has variant II of Drepper, "ELF Handling For Thread-Local Storage"
(section 3): the blocks end below the thread pointer, the TCB begins at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rseq_matrix.documents.layout import (
    EXTRA,
    FAR,
    IN_EXTRA,
    IN_PTHREAD,
    NONE,
    OWN,
    PADDING,
    RSEQ,
    TCB,
    TLS,
    UNKNOWN,
    Block,
    KernelArea,
    LaidOutRseq,
    LaidOutThread,
    StructPthread,
)
from rseq_matrix.layout.libc import LibcInProcess, RseqSymbols, dtv_entry
from rseq_matrix.ptrace.memory import AT_RSEQ_ALIGN, ProcessMemory, UnreadableError
from rseq_matrix.ptrace.objects import MappedSegment, Object
from rseq_matrix.ptrace.tracee import RegisteredArea, TaskState

TCB_ALIGNMENT = 64  # glibc sysdeps/x86_64/nptl/tls.h
AREA_SIZE, AREA_ALIGNMENT = 32, 32  # struct rseq as of Linux 4.18: what every kernel accepts
DYNAMIC_OFFSETS = (0, -1, -2)  # NO_TLS_OFFSET, FORCED_DYNAMIC_TLS_OFFSET: glibc include/link.h


@dataclass(frozen=True)
class Layout:
    """What all threads of a process share: modules and their TLS offsets; those that are not in static TLS."""

    memory: ProcessMemory
    libc: LibcInProcess
    objects: tuple[Object, ...]
    placed: tuple[tuple[Object, MappedSegment, int], ...]
    elsewhere: tuple[str, ...]
    unplaced: tuple[str, ...]
    dwarf: StructPthread | None

    @property
    def tcb_size(self) -> int | None:
        """Return sizeof (struct pthread), from libc or its debug information; None where neither says it."""
        return self.libc.tcb_size or (self.dwarf.size if self.dwarf else None)


def abi_offset(segment: MappedSegment) -> int:
    """Return where the program's own block begins: what the linker assumed when it resolved local-exec accesses.

    The nearest place below the thread pointer that has room and the alignment of p_vaddr (Drepper, section 3.4.6).
    """
    alignment = max(segment.alignment, 1)
    return -(segment.size + (-segment.address - segment.size) % alignment)


def label(found: Object) -> str:
    """Return a module's name; one of another namespace (dlmopen) says so."""
    return f"{found.name} (namespace {found.namespace})" if found.namespace else found.name


def place(memory: ProcessMemory, libc: LibcInProcess, objects: Sequence[Object], dwarf: StructPthread | None) -> Layout:
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
    size = layout.tcb_size
    if -FAR < offset < 0 and not any(b.offset <= offset < b.end for b in blocks):
        return IN_EXTRA
    if offset >= 0 and (offset < size if size is not None else libc_own):
        return IN_PTHREAD
    return OWN if layout.libc.rseq or size is not None else UNKNOWN


def _cpu_id(memory: ProcessMemory, area: int) -> int | None:
    try:
        return memory.word(area + 4, "i")
    except UnreadableError:
        return None


def _offset_of_area(said: RseqSymbols | None, at_kernel: int | None) -> int | None:
    """Return where the area is: libc's, if that is in use or nobody's is, else the one that the kernel has."""
    return said.offset if said and (said.size or at_kernel is None) else at_kernel


def _place_of_area(layout: Layout, offset: int, blocks: Sequence[Block]) -> str:
    """Return whose place the area is in that a thread uses. One that is not libc's is its owner's, wherever it is."""
    said = layout.libc.rseq
    return OWN if said and offset != said.offset else _where(layout, offset, blocks, said is not None)


def _extent(layout: Layout, where: str, registered: int | None, used: bool) -> tuple[int, int]:
    """Return the size and the alignment of an area: `registered` bytes, or those of the first kernels.

    A larger area, and one in the extra TLS block, has the alignment that the kernel asks for (AT_RSEQ_ALIGN). libc
    makes the extra TLS block a multiple of that.
    """
    size = AREA_SIZE if registered is None else registered
    alignment = AREA_ALIGNMENT
    if used and (where == IN_EXTRA or size > AREA_SIZE):
        alignment = max(alignment, layout.memory.auxiliary.get(AT_RSEQ_ALIGN, 0))
    if where == IN_EXTRA and layout.libc.rseq:
        size = max(size, -(-layout.libc.rseq.size // alignment) * alignment)
    return size, alignment


def _kernel_area(area: RegisteredArea | None) -> KernelArea | None:
    return KernelArea(area.address, area.size, area.signature, area.flags) if area else None


def rseq_area(layout: Layout, task: TaskState, blocks: Sequence[Block]) -> LaidOutRseq | None:
    """Return what is known of a thread's rseq area; None where there is none to see."""
    said, kernel = layout.libc.rseq, task.registration
    at_kernel = kernel.address - task.thread_pointer if kernel else None
    offset = _offset_of_area(said, at_kernel)
    if offset is None:
        return None
    where = _place_of_area(layout, offset, blocks)
    used = kernel is not None or (said is not None and said.size > 0)
    size, alignment = _extent(layout, where, kernel.size if kernel and at_kernel == offset else None, used)
    return LaidOutRseq(
        offset=offset,
        size=size,
        alignment=alignment,
        feature_size=said.size if said else None,
        flags=said.flags if said else None,
        kernel=_kernel_area(kernel),
        unasked=task.unasked,
        cpu_id=_cpu_id(layout.memory, task.thread_pointer + offset),
        where=where if used else NONE,
        dwarf=layout.dwarf,
    )


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


def _libc_blocks(layout: Layout, thread_pointer: int, rseq: LaidOutRseq, blocks: Sequence[Block]) -> list[Block]:
    """Return the extra TLS block, where libc has one, and libc's rseq area; nothing of a libc that has none."""
    said, kernel = layout.libc.rseq, rseq.kernel
    if said is None:
        return []
    size, alignment = (rseq.size, rseq.alignment) if rseq.offset == said.offset else (AREA_SIZE, AREA_ALIGNMENT)
    name = "rseq area"
    if kernel is None:
        name = "rseq area (registered nowhere)"
    elif kernel.address != thread_pointer + said.offset:
        name = "rseq area (unused)"
    area = Block(name, RSEQ, said.offset, size, alignment)
    if _where(layout, said.offset, blocks, True) == IN_EXTRA:
        return [Block("extra TLS", EXTRA, said.offset, size, alignment), area]
    return [area]


def _kernel_blocks(layout: Layout, thread_pointer: int, rseq: LaidOutRseq, blocks: Sequence[Block]) -> list[Block]:
    """Return the area that the kernel has registered, where libc does not say that it is its own."""
    said, kernel = layout.libc.rseq, rseq.kernel
    if kernel is None:
        return []
    offset = kernel.address - thread_pointer
    if said and offset == said.offset:
        return []
    name = f"own area (registered by {_owner(layout, kernel.address, offset, blocks)})"
    if said is None and rseq.where != OWN:
        name = "rseq area"  # libc may have registered it: it does not say
    return [Block(name, RSEQ, offset, kernel.size, AREA_ALIGNMENT)]


def with_padding(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks by offset, a container before what lies in it, and what is left between them as padding."""
    ordered = sorted(blocks, key=lambda block: (block.offset, block.kind == RSEQ))
    found: list[Block] = []
    reached: int | None = None
    for block in ordered:
        if block.near and reached is not None and block.offset > reached:
            found.append(Block("padding", PADDING, reached, block.offset - reached, 1))
        if block.near and block.size is None:
            reached = FAR  # what lies behind its beginning may be its own
        elif block.near:
            reached = max(reached if reached is not None else block.offset, block.end)
        found.append(block)
    return found


def _has_libcs_pointer(memory: ProcessMemory, pointer: int) -> bool:
    """Return whether a thread pointer is set up as libc does it.

    %fs:0 holds the thread pointer itself (psABI, "Thread-Local Storage"): that is how libc's is known.
    """
    try:
        return pointer != 0 and memory.word(pointer) == pointer
    except UnreadableError:
        return False


def laid_out_thread(layout: Layout, task: TaskState) -> LaidOutThread:
    """Return where things are around a thread's pointer. Without one, or with one that is not libc's, no blocks."""
    pointer = task.thread_pointer
    if not _has_libcs_pointer(layout.memory, pointer):
        return LaidOutThread(task.tid, pointer, False, (), None)
    size = layout.tcb_size
    blocks = _tls_blocks(layout, pointer)
    rseq = rseq_area(layout, task, blocks)
    tcb = Block("TCB (struct pthread)", TCB, 0, size, TCB_ALIGNMENT if layout.libc.rseq or size else 8)
    more: list[Block] = []
    if rseq:
        more = _libc_blocks(layout, pointer, rseq, blocks) + _kernel_blocks(layout, pointer, rseq, blocks)
    return LaidOutThread(task.tid, pointer, False, tuple(with_padding([*blocks, tcb, *more])), rseq)
