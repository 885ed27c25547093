"""What a process's libc says about its thread structures: the public rseq symbols, and what it has for debuggers.

glibc describes struct pthread and struct link_map in the symbols `_thread_db_*` (nptl_db/structs.def), for
libthread_db.
They are in libc.so.6's dynamic symbols (GLIBC_PRIVATE), and in a static program's .symtab where it starts threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rseq_matrix.elf.image import Image
from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.memory import ProcessMemory, UnreadableError
from rseq_matrix.ptrace.objects import Object, is_static

RSEQ_NAMES = ("__rseq_offset", "__rseq_size", "__rseq_flags")
SIZE_NAME = "_thread_db_sizeof_pthread"
FIELD_NAMES = {
    "dtv": "_thread_db_pthread_dtvp",
    "tls_offset": "_thread_db_link_map_l_tls_offset",
    "tls_module": "_thread_db_link_map_l_tls_modid",
}
NAMES = frozenset((*RSEQ_NAMES, SIZE_NAME, *FIELD_NAMES.values()))
HEADER_DTV = 8  # offsetof (tcbhead_t, dtv), glibc sysdeps/x86_64/nptl/tls.h

Find = Callable[[str], "int | None"]


@dataclass(frozen=True)
class RseqSymbols:
    """__rseq_offset, __rseq_size (0: nothing registered), __rseq_flags (glibc manual, "Restartable Sequences")."""

    offset: int
    size: int
    flags: int


@dataclass(frozen=True)
class LibcInProcess:
    """What is known of a process's libc; None for what it does not say."""

    rseq: RseqSymbols | None
    tcb_size: int | None
    """sizeof (struct pthread)."""
    dtv: int | None
    """offsetof (struct pthread, …dtv)."""
    tls_offset: int | None
    """offsetof (struct link_map, l_tls_offset)."""
    tls_module: int | None
    """offsetof (struct link_map, l_tls_modid)."""
    build_ids: tuple[str, ...]
    """Of the files that have its debug information: libc first."""


def _static_symbols(memory: ProcessMemory, program: Object) -> dict[str, int]:
    """Return the addresses of the wanted symbols of a static program, from its file; {} where it was stripped."""
    try:
        with Image(str(memory.directory / "exe")) as image:
            table = image.all_symbols
            found = [(index, name) for index, name in table.named(NAMES) if table.defined[index]]
            return {name: program.bias + int(table.table["value"][index]) for index, name in found}
    except InputError:
        return {}


def _finder(memory: ProcessMemory, objects: Sequence[Object]) -> Find:
    """Return the function that finds a symbol: libc's own, never the copy of it that an executable may hold."""
    if is_static(memory, objects):
        return _static_symbols(memory, objects[0]).get
    libraries = [found for found in objects[1:] if found.namespace == 0]
    libraries.sort(key=lambda found: not found.name.startswith(("libc.so", "ld-linux")))  # before preloaded ones
    return lambda name: next((at for found in libraries if (at := found.symbol(name)) is not None), None)


def _rseq(memory: ProcessMemory, find: Find) -> RseqSymbols | None:
    offset, size, flags = (find(name) for name in RSEQ_NAMES)
    if offset is None or size is None or flags is None:
        return None
    return RseqSymbols(memory.word(offset, "q"), memory.word(size, "I"), memory.word(flags, "I"))


def _field(memory: ProcessMemory, find: Find, name: str) -> int | None:
    """Return where a field lies in its structure: the third of {size in bits, elements, offset in bytes}."""
    at = find(FIELD_NAMES[name])
    return None if at is None else memory.words(at, "III")[2]


def read_libc(memory: ProcessMemory, objects: Sequence[Object]) -> LibcInProcess:
    """Read what the libc of these objects says. Raises InputError where its memory cannot be read."""
    find = _finder(memory, objects)
    size = find(SIZE_NAME)
    rseq = _rseq(memory, find)
    dtv = _field(memory, find, "dtv")
    if dtv is None and rseq is not None:
        dtv = HEADER_DTV
    homes = sorted(objects, key=lambda found: not found.name.startswith(("libc.so", "ld-linux")))
    return LibcInProcess(
        rseq,
        None if size is None else memory.word(size, "I"),
        dtv,
        _field(memory, find, "tls_offset"),
        _field(memory, find, "tls_module"),
        tuple(found.build_id for found in homes[:2] if found.build_id),
    )


def dtv_entry(memory: ProcessMemory, libc: LibcInProcess, thread_pointer: int, module: int) -> int | None:
    """Return where a thread's dtv says that a module's block lies; None where it does not (yet) or there is no dtv.

    dtv[-1].counter is the number of slots; each is {pointer, what to free}; -1 is TLS_DTV_UNALLOCATED (glibc
    sysdeps/generic/dl-dtv.h).
    """
    if libc.dtv is None:
        return None
    try:
        dtv = memory.word(thread_pointer + libc.dtv)
        if not 0 < module <= memory.word(dtv - 16):
            return None
        block = memory.word(dtv + 16 * module)
    except UnreadableError:
        return None
    return None if block in (0, (1 << 64) - 1) else block
