"""Follows code: the steps of a function with the values that they work on, and where its calls lead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from rseq_matrix.elf.functions import Function, Functions
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.machines.execution import Access, CodeStep, Flow, ObjectContext, Registers, Value
from rseq_matrix.elf.machines.machine import Disassembler, Pattern
from rseq_matrix.elf.modes import ARM, THUMB, Modes
from rseq_matrix.elf.relocations import Relocated, Slot
from rseq_matrix.elf.walk import CodeWalk

STUB_SIZE = 32
STUB_INSTRUCTIONS = 6  # of a PLT stub, in the longest of the psABIs (ppc64le)
SHF_EXECINSTR = 4
CODE = 1 << 28  # bytes of code that are looked at in one file
PIECE, OVERLAP = 1 << 22, 32  # and at once
READ_AHEAD = 4096  # bytes given to the disassembler at once


class Destination(NamedTuple):
    """Where a call or jump leads: an address of the file, or a symbol, by the slot that it goes through."""

    address: int | None
    symbol: str = ""
    slot: int | None = None  # the word that holds the destination, if it is not direct
    stub: bool = False  # through the PLT

    @property
    def unknown(self) -> bool:
        """Return whether nothing is known of it."""
        return self.address is None and not self.symbol and self.slot is None


UNKNOWN = Destination(None)


class ProgramCode:
    """A file's code with what is needed to follow it."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.machine = image.machine
        self.memory = Relocated(image)
        self.functions = Functions(image)
        self.modes = Modes(image)
        self._stubs: dict[int, Destination | None] = {}

    @property
    def code(self) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of pieces of the loaded segments that may be executed.

        The pieces overlap by more than an instruction, so that what is sought is in one of them as a whole, or in two.
        """
        left = CODE
        for segment in self.image.loads:
            for start in range(0, min(segment.file_size, left) if segment.executable else 0, PIECE):
                at, size = segment.offset + start, min(PIECE + OVERLAP, segment.file_size - start)
                yield segment.address + start, self.image.data[at : at + size]
                self.image.forget(at, size)
                left -= PIECE

    @cached_property
    def whole(self) -> bool:
        """Return whether `code` is all of it."""
        return sum(segment.file_size for segment in self.image.loads if segment.executable) <= CODE

    @cached_property
    def context(self) -> ObjectContext:
        """Return what decoders may have to know of the file."""
        got = self.image.tag("DT_PLTGOT") or self._section_address(".got.plt") or self._section_address(".got")
        toc = self._section_address(".got")
        toc = toc + 0x8000 if toc else None  # .TOC. (ELFv2 ABI, 3.3)
        return ObjectContext(toc, got, self.memory.constant, self._returns_thread_pointer, self._is_descriptor)

    def _is_descriptor(self, address: int) -> bool:
        relocation = self.memory.at(address % 2**self.machine.bits)
        return relocation is not None and relocation.type == self.machine.relocations.descriptor

    def _section_address(self, name: str) -> int | None:
        section = self.image.section(name)
        return section.address if section else None

    @cached_property
    def _disassembler(self) -> Disassembler:
        return self.machine.disassembler()

    def instructions(self, start: int, end: int, data: bool = False) -> Iterator[Any]:
        """Yield the instructions in [start, end) as far as that is loaded; the address where there is none.

        With `data`, what is marked as data on arm is read as code, too.
        """
        at, end = start, min(end, self._end_of_segment(start))
        if self.machine.thumb:
            yield from self.modes.instructions(at, end, self.modes.at(at).kind if data else "")
            return
        while at < end:
            raw = self.image.read(at, min(end - at, READ_AHEAD))
            if not raw:
                return
            before = at
            for insn in self._disassembler.instructions(raw, at):
                yield insn
                at = insn.address + insn.size
            if at == before:
                yield at
                at += self.gap(at)

    def gap(self, address: int) -> int:
        """Return how many bytes are left out where there is no instruction, or none that capstone knows."""
        if self.machine.thumb:
            return self.modes.gap(address)
        length, raw = self.machine.length, self.image.read(address, 1)
        return length(raw) if length is not None and raw else self.machine.boundary

    def _end_of_segment(self, address: int) -> int:
        segment = self.image.segment_at(address)
        return segment.address + segment.memory_size if segment else address

    def listing(self, function: Function) -> Iterator[tuple[int, int, str, str]]:
        """Yield a function's instructions (address, size, mnemonic, operands); cheaper than following them."""
        if self.machine.thumb:
            listed = self.instructions(function.start, function.end)
            yield from ((i.address, i.size, i.mnemonic, i.op_str) for i in listed if not isinstance(i, int))
            return
        at = function.start
        while at < function.end:
            raw = self.image.read(at, min(function.end - at, READ_AHEAD))
            if not raw:
                return
            before = at
            for insn in self._disassembler.listed(raw, at):
                yield insn
                at = insn[0] + insn[1]
            if at == before:
                at += self.gap(at)

    # --- one function

    def steps(self, function: Function, to_end: bool = True, limit: int | None = None) -> list[CodeStep]:
        """Return the steps of a function, at most `limit`.

        They go up to where its path ends if its end is not certain (`to_end` false).
        """
        return self._walk(function, to_end, limit).steps

    def walk(self, function: Function) -> Iterator[tuple[CodeStep, Registers]]:
        """Yield each step with what the registers hold behind it (which the next step changes)."""
        return self._walk(function).states()

    def _walk(self, function: Function, to_end: bool = True, limit: int | None = None) -> CodeWalk:
        code, step = range(function.start, function.end), self.machine.step
        return CodeWalk(
            code,
            self.machine.initial,
            lambda at: self.instructions(at, function.end),
            self._learn,
            step.is_padding,
            function.heads,
            to_end,
            limit,
        )

    def _learn(self, insn: Any, registers: Registers) -> CodeStep:
        """Execute an instruction; remember the instruction set of what it leads to."""
        step = self.execute(insn, registers)
        if self.machine.thumb and step.target is not None:
            self.modes.learn(step.target, insn.thumb != step.switches)
        return step

    def execute(self, insn: Any, registers: Registers) -> CodeStep:
        """Return what an instruction does with the registers; they stay as they are."""
        return self.machine.step(insn, registers, self.context)

    # --- values

    def resolve(self, value: Value | None) -> int | None:
        """Return the number or the file's own address that a value is, once relocated."""
        if value is None or value.thread:
            return None
        mask: int = 2**self.machine.bits - 1
        if value.word is None:
            return value.constant & mask
        at = value.word.address & mask
        for depth in range(value.word.depth):
            found = self.memory.value(at)
            if found is None:
                return None
            at = (found + value.word.plus) & mask if depth + 1 < value.word.depth else found
        return (at + value.constant) & mask

    def signed(self, number: int) -> int:
        """Return a constant, which is modulo 2**bits, as the offset that it is."""
        half: int = 2 ** (self.machine.bits - 1)
        return (number + half) % (2 * half) - half

    def settled(self, value: Value) -> Value:
        """Return a value with the number that the linker put into its word for good, if it did that.

        Such are offsets from the thread pointer in an executable's GOT.
        """
        word, mask = value.word, 2**self.machine.bits - 1
        number = self.memory.linked(word.address & mask) if word is not None and word.depth == 1 else None
        return Value(value.constant + self.signed(number), value.thread) if number is not None else value

    def slot_of(self, access: Access) -> int | None:
        """Return the file's address that an access goes to, or None."""
        mask: int = 2**self.machine.bits - 1
        return access.address.constant & mask if access.address.known else None

    # --- where it goes

    def entry(self, address: int) -> int:
        """Return the code that a pointer leads to: without Thumb's mark, which is remembered."""
        if not self.machine.thumb:
            return address
        self.modes.learn(address & ~1, bool(address & 1))
        return address & ~1

    def is_function(self, pointer: int) -> bool:
        """Return whether a number is the address of a function: by its start, or by Thumb's mark on code."""
        if not self.machine.thumb or self.functions.is_start(pointer & ~1):
            return self.functions.is_start(pointer & ~1 if self.machine.thumb else pointer)
        code = (s for s in self.image.sections if s.flags & SHF_EXECINSTR)
        return bool(pointer & 1) and any(s.address <= pointer < s.address + s.size for s in code)

    def readable(self, address: int) -> bool:
        """Return whether there is code at an address, of a known instruction set."""
        return self.image.executable(address) and (
            not self.machine.thumb or self.modes.at(address).kind in (ARM, THUMB)
        )

    @cached_property
    def thread_readers(self) -> frozenset[int]:
        """Return the file's functions that return the thread pointer and keep all other registers."""
        found = {self.entry(value) for value in self.image.defined(*self.machine.thread_functions)}
        pattern = self.machine.thread_function
        return frozenset(found.union(occurrences(self, pattern) if pattern is not None else ()))

    def _returns_thread_pointer(self, address: int) -> bool:
        stub = self.stub(address)
        return address in self.thread_readers or (stub is not None and stub.symbol in self.machine.thread_functions)

    def callee(self, step: CodeStep) -> str:
        """Return the name of what a call or jump leads to, "" where nothing says it."""
        return self.name(self.destination(step))

    def name(self, destination: Destination) -> str:
        """Return the symbol of a destination, or the function that holds its address."""
        if destination.symbol or destination.address is None:
            return destination.symbol
        return self.functions.name(destination.address)

    def destination(self, step: CodeStep) -> Destination:
        """Return where a call or jump leads; UNKNOWN where the code does not show it."""
        if step.target is not None:
            return self.stub(step.target) or Destination(step.target)
        slot = self._slot_through(step.through)
        return UNKNOWN if slot is None else self._by_slot(slot, stub=False)

    def _slot_through(self, through: Value | None) -> int | None:
        """Return the address of the word that holds where a call or jump leads."""
        if through is None or through.thread or through.word is None or through.word.depth != 1 or through.constant:
            return None
        mask: int = 2**self.machine.bits - 1
        return through.word.address & mask

    def _by_slot(self, address: int, stub: bool) -> Destination:
        slot = self.memory.slot(address)
        relocation = self.memory.at(address)
        if slot is None:
            return UNKNOWN
        if relocation is None and not self.image.static:
            segment = self.image.segment_at(address)
            if segment is None or segment.writable:
                return UNKNOWN  # a variable: whatever was stored there last
        code = self.entry(slot.address) if slot.address is not None else None
        return Destination(code, self._slot_name(slot), address, stub)

    def _slot_name(self, slot: Slot) -> str:
        if slot.symbol:
            return slot.symbol
        return self.functions.name(slot.address) if slot.address is not None else ""

    def stub(self, address: int) -> Destination | None:
        """Return where a PLT stub at an address leads; None if that is no stub."""
        if address not in self._stubs:
            self._stubs[address] = self._read_stub(address)
        return self._stubs[address]

    def _read_stub(self, address: int) -> Destination | None:
        """Where the instruction set is not known, it may be either: nothing but a stub looks like one."""
        end = address + STUB_SIZE
        if not self.machine.thumb or self.readable(address):
            return self._follow_stub(self.instructions(address, end))
        kinds = (self.modes.instructions(address, end, kind) for kind in (ARM, THUMB))
        return next(filter(None, map(self._follow_stub, kinds)), None)

    def _follow_stub(self, instructions: Iterator[Any]) -> Destination | None:
        registers: Registers = dict(self.machine.initial)
        if self.machine.stub_base is not None and self.context.got is not None:
            registers[self.machine.stub_base] = Value(self.context.got)
        # Without what the callee returns: a stub calls none, and to know it could need this stub.
        context = replace(self.context, returns_thread_pointer=lambda _: False)
        for count, insn in enumerate(instructions):
            if isinstance(insn, int) or count >= STUB_INSTRUCTIONS:
                return None
            step = self.machine.step(insn, registers, context)
            if step.flow is Flow.NEXT:
                step.apply(registers)
                continue
            if step.flow is Flow.JUMP and step.target is not None and step.switches:  # arm: `bx pc` before the stub
                self.modes.learn(step.target, not insn.thumb)
                return self.stub(step.target)
            slot = self._slot_through(step.through) if step.flow in (Flow.JUMP, Flow.CALL) else None
            return self._by_slot(slot, stub=True) if slot is not None and self.memory.at(slot) is not None else None
        return None


# --- bytes


def occurrences(program: ProgramCode, pattern: Pattern) -> Iterator[int]:
    """Yield the addresses where a pattern matches bytes of code, on instruction boundaries."""
    step = 4 if pattern.thumb else program.machine.boundary
    for address, raw in program.code:
        for place in _places(raw, pattern):
            if (address + place) % step == 0:
                if pattern.thumb:
                    program.modes.learn(address + place, thumb=False)
                yield address + place
        for match in re.finditer(pattern.thumb, raw, re.DOTALL) if pattern.thumb else ():
            if (address + match.start()) % 2 == 0:
                program.modes.learn(address + match.start(), thumb=True)
                yield address + match.start()


def _places(raw: bytes, pattern: Pattern) -> Iterator[int]:
    if not pattern.literal:
        yield from (found.start() for found in re.finditer(pattern.expression, raw, re.DOTALL))
        return
    expression = re.compile(pattern.expression, re.DOTALL)
    at = raw.find(pattern.literal)
    while at >= 0:
        for before in pattern.before:
            if at >= before and expression.match(raw, at - before):
                yield at - before
                break
        at = raw.find(pattern.literal, at + 1)
