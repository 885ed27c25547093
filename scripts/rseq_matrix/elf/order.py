"""Initialisation and termination functions in the order in which they run (gABI, "Initialization and Termination").

The loader runs DT_PREINIT_ARRAY of the executable, then for each object DT_INIT and DT_INIT_ARRAY from its first entry;
at the end DT_FINI_ARRAY from its last entry, then DT_FINI. A static program does the same by its sections
(glibc csu/libc-start.c, call_init; elf/dl-init.c; elf/dl-call_fini.c).
"""

from __future__ import annotations

from rseq_matrix.elf.facts import Order, OrderedCall
from rseq_matrix.elf.flow import ProgramCode

ENTRIES = 100_000


def order(program: ProgramCode) -> Order:
    """Return the functions of both lists."""
    start = [
        *_array(program, "preinit_array", "DT_PREINIT_ARRAY"),
        *_single(program, "DT_INIT", ".init"),
        *_array(program, "init_array", "DT_INIT_ARRAY"),
    ]
    end = [*reversed(_array(program, "fini_array", "DT_FINI_ARRAY")), *_single(program, "DT_FINI", ".fini")]
    return Order(tuple(start), tuple(end))


def _single(program: ProgramCode, tag: str, section: str) -> list[OrderedCall]:
    address = program.image.tag(tag)
    if address is None and not program.image.dynamic:
        header = program.image.section(section)
        address = header.address if header and header.size else None
    return [] if not address else [_call(program, tag, address)]


def _array(program: ProgramCode, kind: str, tag: str) -> list[OrderedCall]:
    image = program.image
    start, size = image.tag(tag), image.tag(f"{tag}SZ") or 0
    if start is None and not image.dynamic:
        header = image.section(f".{kind}")
        start, size = (header.address, header.size) if header else (None, 0)
    if start is None or (kind == "preinit_array" and image.kind == "shared-object"):
        return []  # ld.so processes it for the executable only
    word = image.machine.word
    found = []
    for place in range(min(size // word, ENTRIES)):
        address = program.memory.value(start + place * word)
        if address is None and image.word(start + place * word) is None:
            break  # beyond what is loaded
        found.append(_call(program, kind, address or 0))
    return found


def _call(program: ProgramCode, kind: str, address: int) -> OrderedCall:
    address = program.entry(address)
    return OrderedCall(kind, address, program.functions.name(address))
