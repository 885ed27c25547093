"""What a file does with restartable sequences: references to glibc's symbols, an area of its own, rseq(2), stores.

The area's fields are those of struct rseq (kernel include/uapi/linux/rseq.h); where glibc's area lies is said by
`__rseq_offset` (glibc manual, "Restartable Sequences").
"""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.elf.calls import thread_windows
from rseq_matrix.elf.code import Reach, windows
from rseq_matrix.elf.facts import OwnArea, Reference, RegistrationCall, RseqUse, Write
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.functions import Function
from rseq_matrix.elf.machines.execution import Access, CodeStep, Flow, Value, Word
from rseq_matrix.elf.symbols import Symbols

OFFSET = "__rseq_offset"
GLIBC_SYMBOLS = frozenset({OFFSET, "__rseq_size", "__rseq_flags"})
OWN_AREA = "__rseq_abi"
STT_TLS, STB_WEAK = 6, 2
SYSCALL = "syscall"  # syscall(2)'s wrapper: the number is the first argument
FIELDS = {0: "cpu_id_start", 4: "cpu_id", 8: "rseq_cs", 16: "flags", 20: "node_id", 24: "mm_cid", 28: "slice_ctrl"}
WRITABLE = ("rseq_cs", "flags", "slice_ctrl")
GLIBC, OWN = "glibc", "own"
AREA_SIZE = 32
REACH = Reach(before=40, behind=40)


def rseq(program: ProgramCode) -> RseqUse:
    """Return the facts."""
    references = tuple(_references(program))
    area = _own_area(program)
    finder = _Finder(program, area)
    writes_offset = bool(finder.offset_words or finder.offset_variables)
    pieces, examined = _pieces(program, writes_offset or area is not None)
    registrations: dict[int, RegistrationCall] = {}
    writes: dict[int, Write] = {}
    for piece in pieces:
        for step in program.steps(piece):
            registrations.update((found.address, found) for found in finder.registrations(step))
            writes.update((found.address, found) for found in finder.writes(step))
    return RseqUse(references, area, tuple(registrations.values()), tuple(writes.values()), examined)


def _references(program: ProgramCode) -> Iterator[Reference]:
    symbols = program.image.dynamic_symbols
    for index, name in symbols.named(GLIBC_SYMBOLS):
        if not symbols.defined[index]:
            weak = int(symbols.bindings[index]) == STB_WEAK
            yield Reference(name, "weak" if weak else "strong", symbols.version(index))
        elif _copied(program, index):
            yield Reference(name, "strong", symbols.version(index))


def _copied(program: ProgramCode, index: int) -> bool:
    """Return whether a symbol of an executable is a copy of the library's variable (a COPY relocation)."""
    return any(found.symbol == index for found in program.memory.of_types(program.machine.relocations.copy))


def _own_area(program: ProgramCode) -> OwnArea | None:
    best = None
    for symbols in program.image.symbol_tables:
        for index, _ in symbols.named(frozenset({OWN_AREA})):
            if int(symbols.types[index]) == STT_TLS:
                found = _area(program, symbols, index)
                best = found if best is None or (found.defined and not best.defined) else best
    return best


def _area(program: ProgramCode, symbols: Symbols, index: int) -> OwnArea:
    row = symbols.table[index]
    if not symbols.defined[index]:
        return OwnArea(OWN_AREA, 0, 0, False)
    segment = program.image.tls
    alignment = max(segment.alignment, 1) if segment else 1
    offset = int(row["value"])
    # The block is aligned as the segment; within it, the offset's lowest bit is all that is sure.
    guaranteed = min(alignment, offset & -offset) if offset else alignment
    return OwnArea(OWN_AREA, int(row["size"]), guaranteed, True)


def _field(offset: int, size: int) -> str | None:
    """Return the field that a store of `size` bytes at an offset changes; of several, one that is not the program's."""
    ends = [*list(FIELDS)[1:], AREA_SIZE]
    hit = [n for (at, n), end in zip(FIELDS.items(), ends, strict=True) if offset < end and at < offset + max(size, 1)]
    return next((name for name in hit if name not in WRITABLE), hit[0] if hit else None)


def _pieces(program: ProgramCode, uses_areas: bool) -> tuple[list[Function], bool]:
    """Return the code that may register or write, and whether that is all that could."""
    machine = program.machine
    pieces: list[Function] = []
    complete = True
    if uses_areas and (machine.registration_pattern is None or machine.thread_pattern is None):
        return windows(program, None, REACH)
    found = [windows(program, machine.registration_pattern, REACH)] if machine.registration_pattern is not None else []
    found += [thread_windows(program, REACH)] if uses_areas else []
    for one in found:
        pieces += one.pieces
        complete = complete and one.complete
    return pieces, complete


class _Finder:
    """Recognises the steps that register an area or write into one."""

    def __init__(self, program: ProgramCode, area: OwnArea | None) -> None:
        self.program = program
        self.offset_words = frozenset(self._offset_words())
        self.offset_variables = frozenset(program.image.defined(OFFSET))  # where the file has it: copied, or linked in
        self.own = self._own_range(area)
        self.own_words = frozenset(self._own_words())

    def _offset_words(self) -> Iterator[int]:
        """Yield the addresses of GOT entries that point to __rseq_offset."""
        memory = self.program.memory
        for found in memory.of_types(*self.program.machine.relocations.got, *memory.types.absolute):
            if memory.symbol(found) == OFFSET:
                yield found.address

    def _own_range(self, area: OwnArea | None) -> range:
        """Return where the own area lies from the thread pointer: known in an executable only."""
        image, segment = self.program.image, self.program.image.tls
        value = next(image.defined(OWN_AREA), None)
        if area is None or not area.defined or segment is None or value is None or image.kind == "shared-object":
            return range(0)
        start = image.machine.tls_offset(segment.address, segment.memory_size, segment.alignment) + value
        return range(start, start + max(area.size, AREA_SIZE))

    def _own_words(self) -> Iterator[int]:
        """Yield the addresses of GOT entries with the own area's offset from the thread pointer."""
        memory = self.program.memory
        for found in memory.of_types(*self.program.machine.relocations.thread_offset):
            if memory.symbol(found) == OWN_AREA:
                yield found.address

    # --- registrations

    def registrations(self, step: CodeStep) -> Iterator[RegistrationCall]:
        """Yield the registration that a system call, or a call of syscall(2)'s wrapper, is."""
        arguments = step.arguments
        if not arguments or arguments[0] != Value(self.program.machine.system_call):
            return
        called = step.flow in (Flow.CALL, Flow.JUMP) and self.program.callee(step) == SYSCALL
        if not called and step.flow is not Flow.SYSTEM_CALL:
            return
        length, flags, signature = (self._number(arguments, place) for place in (2, 3, 4))
        name = self.program.functions.name(step.address)
        yield RegistrationCall(step.address, name, length, flags, signature)

    def _number(self, arguments: tuple[Value | None, ...], place: int) -> int | None:
        value = arguments[place] if place < len(arguments) else None
        return value.constant & 0xFFFFFFFF if value is not None and value.known else None

    # --- stores

    def writes(self, step: CodeStep) -> Iterator[Write]:
        """Yield the stores into a field of an area."""
        for access in step.accesses:
            if not access.store or not access.address.thread:
                continue
            area, offset = self._where(access)
            field = _field(offset, access.size) if area is not None else None
            if area is None or field is None:
                continue
            value = access.value.constant if access.value is not None and access.value.known else None
            name = self.program.functions.name(step.address)
            yield Write(step.address, name, step.text, area, field, value)

    def _where(self, access: Access) -> tuple[str | None, int]:
        """Return which area an access goes to and its offset in it."""
        address = access.address
        if address.word is None or not self._is_offset(address.word):
            address = self.program.settled(address)
        offset, word = self.program.signed(address.constant), address.word
        if word is None:
            return (OWN, offset - self.own.start) if offset in self.own else (None, 0)
        if self._is_offset(word):
            return GLIBC, offset
        return (OWN, offset) if word.depth == 1 and word.address in self.own_words else (None, 0)

    def _is_offset(self, word: Word) -> bool:
        """Return whether a word is the value of __rseq_offset."""
        if word.depth == 1:
            return word.address in self.offset_variables
        return word.address in self.offset_words and word.plus == 0
