"""Critical sections: the descriptors that a file has, their code, and what the tables for debuggers say of them.

`__rseq_cs` holds the descriptors, `__rseq_cs_ptr_array` a pointer to each, `__rseq_exit_point_array` pairs of a
section's start and an address that its code may also leave for (librseq include/rseq/rseq-abi.h and its arch headers;
kernel include/uapi/linux/rseq.h, struct rseq_cs). All fields are 64 bits wide on every machine, so that a descriptor is
32 bytes; entries of the tables are that wide, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from rseq_matrix.elf.facts import CodePlace, CriticalSections, Section, SectionInstruction, Tables
from rseq_matrix.elf.flow import ProgramCode, occurrences
from rseq_matrix.elf.machines.execution import CodeStep, Flow, Registers
from rseq_matrix.elf.machines.machine import Pattern
from rseq_matrix.elf.mapped import SectionHeader
from rseq_matrix.elf.touches import STACK_SMASHED

DESCRIPTOR = 32
FIELD = 8
SECTIONS = 10_000
CODE = 4096  # bytes of one section that are disassembled
UNLISTED = 100
TEARDOWN, TEARDOWN_INSTRUCTIONS = 128, 16


def critical_sections(program: ProgramCode) -> CriticalSections:
    """Return all of them with how the tables agree."""
    table = program.image.section("__rseq_cs")
    pointers = _pointers(program, program.image.section("__rseq_cs_ptr_array"))
    exits = _exits(program, program.image.section("__rseq_exit_point_array"))
    descriptors = _descriptors(table, pointers)
    sections = tuple(_section(program, address, exits) for address in descriptors)
    counted = Counter(pointers or ())
    starts = {section.start for section in sections}
    return CriticalSections(
        tables=Tables(
            len(descriptors) if table else None,
            None if pointers is None else len(pointers),
            None if exits is None else len(exits),
        ),
        sections=sections,
        missing=tuple(address for address in descriptors if pointers is not None and not counted[address]),
        doubled=tuple(address for address, count in sorted(counted.items()) if count > 1),
        foreign=tuple(sorted(set(counted) - set(descriptors))),
        foreign_exits=tuple(pair for pair in exits or () if pair[0] not in starts),
        unlisted=_unlisted(program, sections),
        expected_signature=int.from_bytes(program.machine.signature, program.image.order),
    )


# --- tables


def _field(program: ProgramCode, address: int) -> int | None:
    """Return a 64-bit field; a pointer in one is an address-sized word that may need relocation (ld.so applies it)."""
    image = program.image
    raw = image.read(address, FIELD)
    if raw is None:
        return None
    if image.machine.bits == 64:
        return program.memory.value(address)
    low, high = (address, address + 4) if image.machine.little_endian else (address + 4, address)
    value, rest = program.memory.value(low), image.word(high)
    return None if value is None or rest is None else value | rest << 32


def _pointers(program: ProgramCode, header: SectionHeader | None) -> list[int] | None:
    if header is None:
        return None
    fields = (_field(program, header.address + place) for place in range(0, _size(header, FIELD), FIELD))
    return [address for address in fields if address]  # 0: the linker discarded the section


def _exits(program: ProgramCode, header: SectionHeader | None) -> list[tuple[int, int]] | None:
    if header is None:
        return None
    found = []
    for place in range(header.address, header.address + _size(header, 2 * FIELD), 2 * FIELD):
        start, target = _field(program, place), _field(program, place + FIELD)
        if start and target:
            found.append((program.entry(start), program.entry(target)))
    return found


def _size(header: SectionHeader, entry: int) -> int:
    """Return the bytes of a table's whole entries, of as many as are believed."""
    return min(header.size // entry, SECTIONS) * entry


def _descriptors(header: SectionHeader | None, pointers: list[int] | None) -> list[int]:
    """Return the addresses of the descriptors.

    They lie one after the other, each aligned to 32 bytes, unless the alignment was forgotten: there the pointers
    into the table say where they are.
    """
    if header is None:
        return sorted(set(pointers or ()))
    start, end = header.address, header.address + min(header.size, SECTIONS * DESCRIPTOR)
    anchors = sorted({p for p in pointers or () if start <= p <= end - DESCRIPTOR})
    found = []
    at = start if start % DESCRIPTOR == 0 else anchors[0] if anchors else start
    while at + DESCRIPTOR <= end:
        moved = next((p for p in anchors if at <= p < at + DESCRIPTOR), at)
        if moved + DESCRIPTOR > end:
            break
        found.append(moved)
        at = moved + DESCRIPTOR
    return found


# --- one section


def _section(program: ProgramCode, descriptor: int, exits: list[tuple[int, int]] | None) -> Section:
    image = program.image
    head = image.read(descriptor, 8)
    version, flags = image.array(head, "u4").tolist() if head else (0, 0)
    fields = [_field(program, descriptor + place) or 0 for place in (8, 16, 24)]
    start, length, abort = program.entry(fields[0]), fields[1], program.entry(fields[2])
    own_exits = tuple(target for begin, target in exits or () if begin == start)
    size = len(image.machine.signature)
    word = image.read(abort - size, size)
    end = start + length
    return Section(
        descriptor=descriptor,
        version=version,
        flags=flags,
        start=start,
        length=length,
        abort=abort,
        function=program.functions.name(start),
        start_executable=image.executable(start),
        post_commit_executable=image.executable(end) or (length > 0 and image.executable(end - 1)),
        abort_executable=image.executable(abort),
        abort_function=program.functions.name(abort),
        signature=None if word is None else int.from_bytes(word, image.order),
        exit_points=own_exits,
        code=tuple(_code(program, start, min(length, CODE), {abort, *own_exits, end})),
    )


def _code(program: ProgramCode, start: int, length: int, allowed: set[int]) -> list[SectionInstruction]:
    """Return the instructions of a section, marked. The registers are followed to see where indirect jumps lead."""
    found: list[SectionInstruction] = []
    if not program.image.executable(start):
        return found
    registers: Registers = dict(program.machine.initial)
    end = start + length
    for insn in program.instructions(start, end, data=True):
        if isinstance(insn, int):
            raw = program.image.read(insn, min(program.gap(insn), end - insn)) or b""
            found.append(SectionInstruction(insn, raw.hex(), "(no instruction)", "undecodable"))
            continue
        step = program.execute(insn, registers)
        step.apply(registers)
        mark, target = _mark(program, step, range(start, end), allowed)
        found.append(SectionInstruction(step.address, step.raw.hex(), step.text, mark, target))
    return found


def _mark(program: ProgramCode, step: CodeStep, inside: range, allowed: set[int]) -> tuple[str, int | None]:
    if step.flow is Flow.SYSTEM_CALL:
        return "system-call", None
    if step.flow is Flow.RETURN:
        return "branch", None
    if step.flow is Flow.CALL:
        return ("" if program.callee(step) in STACK_SMASHED else "call"), program.destination(step).address
    if step.flow in (Flow.JUMP, Flow.BRANCH):
        target = step.target
        if target is not None and target in inside:
            return "", target
        leaves_well = target is not None and (target in allowed or _leads_on(program, target, allowed))
        return ("exit" if leaves_well else "branch"), target
    return "", None


def _leads_on(program: ProgramCode, start: int, allowed: set[int]) -> bool:
    """Return whether code at a branch's target goes straight on to a place where the section may come out.

    librseq restores registers in such code before it jumps to the exit point (include/rseq/arch/x86/bits.h,
    RSEQ_ASM_DEFINE_TEARDOWN); a debugger with a breakpoint at the exit point still gets hold of the thread.
    """
    registers: Registers = dict(program.machine.initial)
    for count, insn in enumerate(program.instructions(start, start + TEARDOWN)):
        if isinstance(insn, int) or count >= TEARDOWN_INSTRUCTIONS:
            return False
        step = program.execute(insn, registers)
        if step.flow is not Flow.NEXT:
            return step.flow is Flow.JUMP and step.target in allowed
        step.apply(registers)
    return False


# --- what is not in the tables


def _is_instruction(program: ProgramCode, address: int) -> bool:
    """Tell an abort handler's signature from the number that code loads to register; x86 needs no look at the code.

    Where nothing says where the function starts, it could be either, unless all instructions are as long as it.
    """
    machine, function = program.machine, program.functions.around(address)
    if machine.signature_code != machine.signature:
        return True
    if function.start == address and not program.functions.is_start(address):
        return machine.boundary == len(machine.signature)
    return any(address == at for at, *_ in program.listing(function)) or program.modes.is_unused(address)


def _unlisted(program: ProgramCode, sections: Iterable[Section]) -> tuple[CodePlace, ...]:
    """Return the abort signatures in the code that no descriptor leads to."""
    machine = program.machine
    if machine.signature_code in (b"", None):
        return ()
    listed = {section.abort for section in sections}
    found: list[CodePlace] = []
    for at in occurrences(program, Pattern(re.escape(machine.signature_code), machine.signature_code)):
        abort = at + len(machine.signature_code)
        if abort not in listed and len(found) < UNLISTED and _is_instruction(program, at):
            found.append(CodePlace(abort, program.functions.name(abort), "abort handler"))
            listed.add(abort)
    return tuple(found)
