"""What is known of a machine: its row in the table, which every machine module fills."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import capstone

from rseq_matrix.elf.machines.calls import Finder
from rseq_matrix.elf.machines.execution import CodeStep, Encoded, Registers, Value


class TlsModel(str, enum.Enum):
    """The access models of the TLS ABI (Drepper, "ELF Handling For Thread-Local Storage"), and TLS descriptors."""

    GLOBAL_DYNAMIC = "global-dynamic"
    LOCAL_DYNAMIC = "local-dynamic"
    INITIAL_EXEC = "initial-exec"
    LOCAL_EXEC = "local-exec"
    DESCRIPTOR = "descriptor"


class Pattern(NamedTuple):
    """Bytes of code to look for: a regular expression.

    All matches hold `literal`, `before` bytes behind their start: looking for that first is much faster.
    """

    expression: bytes
    literal: bytes = b""
    before: tuple[int, ...] = (0,)
    thumb: bytes = b""  # arm: the expression for its other instruction set


@dataclass(frozen=True)
class Relocations:
    """Types of dynamic relocations, by number (the machine's psABI)."""

    names: Mapping[int, str]
    relative: int
    irelative: int
    absolute: frozenset[int]  # a word: symbol + addend
    got: frozenset[int]  # a word: symbol (GLOB_DAT, JUMP_SLOT)
    module: int  # DTPMOD
    thread_offset: frozenset[int]  # TPOFF, TPREL
    descriptor: int | None  # TLSDESC
    copy: int

    @staticmethod
    def listed(
        prefix: str, names: str, absolute: set[int], module: int, thread_offset: set[int], descriptor: int | None = None
    ) -> Relocations:
        """Return the types of a list of `number:name`, without their prefix; some have the same name everywhere."""
        pairs = (entry.split(":") for entry in names.split())
        known = {int(number): name for number, name in pairs}
        number_of = {name: number for number, name in known.items()}
        return Relocations(
            {number: prefix + name for number, name in known.items()},
            number_of["RELATIVE"],
            number_of["IRELATIVE"],
            frozenset(absolute),
            frozenset(number_of[name] for name in ("GLOB_DAT", "JUMP_SLOT", "JMP_SLOT") if name in number_of),
            module,
            frozenset(thread_offset),
            descriptor,
            number_of["COPY"],
        )


class Disassembler:
    """Capstone's, for one machine, and on arm for one of its instruction sets. It tells no operands."""

    def __init__(self, architecture: int, mode: int) -> None:
        self.capstone: Any = capstone.Cs(architecture, mode)

    def listed(self, raw: bytes, address: int) -> Iterator[tuple[int, int, str, str]]:
        """Yield address, size, mnemonic and operands from the start on, up to what is no instruction."""
        found: Iterator[tuple[int, int, str, str]] = self.capstone.disasm_lite(raw, address)
        return found

    def instructions(self, raw: bytes, address: int) -> Iterator[Any]:
        """Yield the same as the machine's steps execute it."""
        for at, size, mnemonic, operands in self.listed(raw, address):
            yield Encoded(at, size, raw[at - address : at - address + size], mnemonic, operands)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Machine:
    """What is known of one machine."""

    name: str
    e_machine: str
    little_endian: bool
    capstone: tuple[int, int]  # architecture, mode
    step: type[CodeStep]  # executes an instruction
    relocations: Relocations
    tls_below: bool  # TLS variant II: blocks lie below the thread pointer
    signature: bytes  # before an abort handler, as it is in the file (glibc bits/rseq.h RSEQ_SIG)
    system_call: int  # the number of rseq(2)
    signature_opening: bytes = b""  # the bytes that make it an instruction: code with both has an abort handler
    canary: int | None = None  # of the stack protector, from the thread pointer; None: a variable, behind the GOT
    tcb_size: int = 0  # variant I: bytes from the thread pointer to the first block; see tls_offset()
    tls_bias: int = 0  # what the thread pointer points behind the start of that area (ppc64: 0x7000)
    tls_alignment: int = 32  # the least alignment of a process's static TLS (glibc nptl/descr.h, TCB_ALIGNMENT)
    thread_pattern: Pattern | None = None  # code that reads the thread pointer
    registration_pattern: Pattern | None = None  # code that loads the number of rseq(2)
    calls: Finder | None = None  # finds direct calls
    reader: type[Disassembler] = Disassembler
    relative: bool = False  # capstone writes a branch's displacement, not its target
    boundary: int = 1  # every instruction is aligned to this
    length: Callable[[bytes], int] | None = None  # of an instruction that capstone does not know; else `boundary`
    thumb: bool = False  # there are two instruction sets: bit 0 of a code address says which, and is not part of it
    data_of: Callable[[Encoded, Callable[[int, int], bytes | None]], Iterable[int]] | None = None  # see elf/modes.py
    thread_functions: frozenset[str] = frozenset()  # return the thread pointer, and keep what others need not (arm)
    thread_function: Pattern | None = None  # the code of one
    initial: Registers = field(default_factory=dict)  # what registers hold where a function starts
    stub_base: int | None = None  # the register that holds the GOT's address in a PLT stub (i386 psABI, "PLT")

    @property
    def bits(self) -> int:
        """Return the width of an address."""
        return self.step.abi.bits

    @property
    def signature_code(self) -> bytes:
        """Return the signature as an instruction."""
        return self.signature_opening + self.signature

    def is_canary(self, address: Value) -> bool:
        """Return whether an address is that of the stack protector's canary in the TCB."""
        return self.canary is not None and address == Value(self.canary, thread=True)

    @property
    def word(self) -> int:
        """Return the size of an address, in bytes."""
        return self.bits // 8

    def tls_offset(self, address: int, size: int, alignment: int) -> int:
        """Return where the executable's TLS block starts, from the thread pointer in bytes; the ABI fixes it.

        `address` is p_vaddr of PT_TLS: the block keeps its remainder (glibc elf/dl-tls.c, _dl_determine_tlsoffset).
        """
        alignment = max(alignment, 1)
        first = -address % alignment
        if self.tls_below:
            return -(_round_up(size - first, alignment) + first)
        start = _round_up(self.tcb_size, alignment)
        if start - self.tcb_size < first:
            start += alignment
        return start - first - self.tls_bias

    def disassembler(self, thumb: bool = False) -> Disassembler:
        """Return a disassembler; only arm has one for `thumb`. Not to be used by two threads at once."""
        architecture, mode = self.capstone
        return self.reader(architecture, mode | capstone.CS_MODE_THUMB if thumb else mode)
