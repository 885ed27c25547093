"""Thread-local storage: the segment, and the access models in use (Drepper, "ELF Handling For Thread-Local Storage").

Relocations tell the models of what a loader relocates. A static link leaves none, nor does local-exec code anywhere:
there the code tells, by its accesses relative to the thread pointer that fall into the executable's own block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from rseq_matrix.elf.calls import calls_of, thread_windows
from rseq_matrix.elf.code import Reach
from rseq_matrix.elf.facts import CodePlace, ModelUse, Tls, TlsSegment
from rseq_matrix.elf.flow import ProgramCode, occurrences
from rseq_matrix.elf.functions import Function
from rseq_matrix.elf.machines.execution import Flow
from rseq_matrix.elf.machines.machine import Pattern, TlsModel
from rseq_matrix.elf.touches import TLS_GET_ADDR

DF_STATIC_TLS = 0x10
OWN = ""  # the symbol of a relocation against the file's own block
REACH = Reach(before=12, behind=12)
CALL = Reach(before=1, behind=1)  # a call is two instructions on riscv
DYNAMIC = (TlsModel.GLOBAL_DYNAMIC.value, TlsModel.LOCAL_DYNAMIC.value)
DATA16_LEA_RDI = b"\x66\x48\x8d\x3d"  # x86-64: lea disp32(%rip), %rdi behind a prefix that is padding

Uses = dict[tuple[str, str], list[str]]


def tls(program: ProgramCode) -> tuple[Tls, bool]:
    """Return the facts, and whether all the code that could tell of more was examined."""
    segment = _segment(program)
    uses: Uses = {}
    static_symbols = _by_relocations(program, uses)
    calls: list[CodePlace] = []
    examined = True
    if program.image.kind != "shared-object" and segment is not None:
        examined = _by_code(program, segment, uses)
        calls, whole = _dynamic_accesses(program, uses)
        examined = examined and whole
    models = tuple(
        ModelUse(model, evidence, len(examples), next((e for e in examples if e), "an own variable"))
        for (model, evidence), examples in sorted(uses.items())
    )
    flag = bool((program.image.tag("DT_FLAGS") or 0) & DF_STATIC_TLS)
    return Tls(segment, models, flag, tuple(calls), tuple(sorted(static_symbols))), examined


def _segment(program: ProgramCode) -> TlsSegment | None:
    found = program.image.tls
    if found is None:
        return None
    return TlsSegment(found.address, found.memory_size, max(found.alignment, 1), found.file_size)


# --- relocations


def _by_relocations(program: ProgramCode, uses: Uses) -> set[str]:
    """Note the models that relocations show. Returns the symbols of initial-exec ones, OWN among them."""
    memory, types = program.memory, program.machine.relocations
    static: set[str] = set()
    wanted = [types.module, *types.thread_offset, *([types.descriptor] if types.descriptor is not None else [])]
    symbols = program.image.dynamic_symbols
    lea_slots = _slots_of_global_dynamic(program) if memory.count(types.module) else frozenset()
    for found in memory.of_types(*wanted):
        name = memory.symbol(found)
        if found.type == types.module:
            own = not name and not _is_global_dynamic(program, found.address, lea_slots)
            model = TlsModel.LOCAL_DYNAMIC if own else TlsModel.GLOBAL_DYNAMIC
        elif found.type == types.descriptor:
            model = TlsModel.DESCRIPTOR
        else:
            model = TlsModel.INITIAL_EXEC
            static.add(OWN if not name or symbols.defined[found.symbol] else _versioned(program, found.symbol))
        uses.setdefault((model.value, "relocation"), []).append(name)
    return static


def _versioned(program: ProgramCode, index: int) -> str:
    symbols = program.image.dynamic_symbols
    version = symbols.version(index)
    return f"{symbols.name(index)}@{version}" if version else symbols.name(index)


def _is_global_dynamic(program: ProgramCode, slot: int, lea_slots: frozenset[int]) -> bool:
    """Tell the two users of a module number without a symbol apart: a variable of the file's own, or local-dynamic.

    The second word is the variable's offset in the block; local-dynamic code adds offsets itself and has 0 there. For
    the variable at offset 0, x86-64's code sequence decides (psABI, "Thread-Local Storage").
    """
    second = slot + program.machine.word
    if program.memory.at(second) is not None or program.image.word(second):
        return True
    return slot in lea_slots


def _slots_of_global_dynamic(program: ProgramCode) -> frozenset[int]:
    """Return the words that x86-64's global-dynamic code loads the address of: with a prefix that is padding."""
    if program.machine.name != "x86-64":
        return frozenset()
    found = set()
    for place in occurrences(program, Pattern(re.escape(DATA16_LEA_RDI), DATA16_LEA_RDI)):
        end = place + len(DATA16_LEA_RDI) + 4
        raw = program.image.read(end - 4, 4)
        if raw:
            found.add(end + int.from_bytes(raw, "little", signed=True))
    return frozenset(found)


# --- code


def _by_code(program: ProgramCode, segment: TlsSegment, uses: Uses) -> bool:
    """Note the model that an executable's code shows. Returns whether all of it was examined.

    It is local-exec where the linker knew the offset, be that in the code or in a word that nothing changes: of
    initial-exec it makes that everywhere, though on arm, riscv and s390x the code goes on loading it from the GOT.
    """
    machine = program.machine
    start = machine.tls_offset(segment.address, segment.size, segment.alignment)
    names = _variables(program)
    found = thread_windows(program, REACH)
    for piece in found.pieces:
        for step in program.steps(piece):
            for access in step.accesses:
                address = program.settled(access.address)
                offset = (address.constant - start) % 2**machine.bits
                if address.thread and address.word is None and offset < max(segment.size, 1):
                    example = names.get(offset) or f"{program.functions.place(step.address)} ({step.text})"
                    uses.setdefault((TlsModel.LOCAL_EXEC.value, "code"), []).append(example)
    return found.complete


def _dynamic_accesses(program: ProgramCode, uses: Uses) -> tuple[list[CodePlace], bool]:
    """Return an executable's calls of __tls_get_addr, which the linker could not or would not relax, and whether all.

    Of a variable of its own it knows the module and the offset, and leaves no relocation: the calls show the model.
    """
    found = calls_of(program, TLS_GET_ADDR, CALL, own=program.image.static)
    calls = [place for piece in found.pieces for place in _calls_in(program, piece)]
    if calls and not any(model in DYNAMIC for model, _ in uses):
        uses[TlsModel.GLOBAL_DYNAMIC.value, "code"] = [place.function for place in calls]
    return calls, found.complete


def _calls_in(program: ProgramCode, piece: Function) -> Iterator[CodePlace]:
    for step in program.steps(piece):
        if step.flow in (Flow.CALL, Flow.JUMP) and program.callee(step) in TLS_GET_ADDR:
            yield CodePlace(step.address, program.functions.name(step.address), step.text)


def _variables(program: ProgramCode) -> dict[int, str]:
    """Return the names of the thread-local variables by their offset in the block."""
    return dict(_thread_local_symbols(program))


def _thread_local_symbols(program: ProgramCode) -> Iterator[tuple[int, str]]:
    for table in program.image.symbol_tables:
        for index in np.flatnonzero((table.types == 6) & table.defined):  # STT_TLS
            yield int(table.table["value"][index]), table.name(int(index))
