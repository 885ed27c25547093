"""The facts and the decoder that every machine module provides, and the values that a decoder follows.

A decoder is a small abstract interpreter: it follows constants, the thread pointer and words of memory through the
registers of straight-line code. That is enough to see a GOT load, a call through the PLT, a TLS access, the arguments
of a system call and a store to a field of the rseq area, on every machine alike; what a decoder does not understand
becomes "unknown", never a guess.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import capstone

from rseq_matrix.elf.machines.calls import Finder


class Word(NamedTuple):
    """A word of memory that code has loaded: at `address`, or, with depth 2, the word that this one points to."""

    address: int
    depth: int = 1
    plus: int = 0  # added to the word before it is followed, at depth 2


class Value(NamedTuple):
    """What a register holds: thread pointer (if `thread`) + loaded word (if any) + constant, modulo 2**bits."""

    constant: int = 0
    thread: bool = False
    word: Word | None = None

    @property
    def known(self) -> bool:
        """Return whether this is a plain number."""
        return not self.thread and self.word is None

    def plus(self, number: int) -> Value:
        """Return this value moved by a number of bytes."""
        return self._replace(constant=self.constant + number)


THREAD_POINTER = Value(0, thread=True)


def add(one: Value | None, other: Value | None) -> Value | None:
    """Return the sum, or None where it has no form here (two thread pointers, two words)."""
    if one is None or other is None or (one.thread and other.thread) or (one.word and other.word):
        return None
    return Value(one.constant + other.constant, one.thread or other.thread, one.word or other.word)


def loaded(where: Value | None) -> Value | None:
    """Return what a load of a word from there gives."""
    if where is None or where.thread:
        return None
    if where.word is None:
        return Value(0, word=Word(where.constant))
    if where.word.depth == 1:
        return Value(0, word=Word(where.word.address, 2, where.constant))
    return None


class Flow(enum.Enum):
    """Where an instruction goes on."""

    NEXT = "next"
    CALL = "call"
    JUMP = "jump"  # always taken; does not come back
    BRANCH = "branch"  # taken or not
    RETURN = "return"
    SYSTEM_CALL = "system call"
    TRAP = "trap"  # ud2, brk, hlt: ends the path


class Access(NamedTuple):
    """One access to memory whose address is known in part. `size` in bytes, 0 where it is not known."""

    address: Value
    store: bool
    size: int
    value: Value | None = None  # what is stored, where known


@dataclass(frozen=True)
class Step:
    """One instruction, and what it does as far as its decoder follows."""

    address: int
    size: int
    raw: bytes
    text: str
    flow: Flow = Flow.NEXT
    target: int | None = None  # of a direct call, jump or branch
    through: Value | None = None  # where an indirect call or jump goes, where known; None with target None: unknown
    accesses: tuple[Access, ...] = ()
    reads_thread_pointer: bool = False
    arguments: tuple[Value | None, ...] = ()  # of a CALL or JUMP: integer ones; of a SYSTEM_CALL: its number first
    compared: tuple[Value | None, ...] = ()  # the two that it compares
    switches: bool = False  # what is at the target is of arm's other instruction set

    @property
    def end(self) -> int:
        """Return the address behind the instruction."""
        return self.address + self.size


Registers = dict[int, Value]


class Encoded(NamedTuple):
    """An instruction of a machine with two instruction sets (arm); otherwise as capstone has it."""

    address: int
    size: int
    bytes: bytes
    mnemonic: str
    op_str: str
    thumb: bool


def _unknown(_address: int) -> None:
    return None


def _never(_address: int) -> bool:
    return False


@dataclass
class Surroundings:
    """What a decoder may have to know of the object: the value that the ABI keeps in a base register, if it has one."""

    toc: int | None = None  # ppc64le: r2 (ELFv2 ABI 2.2.1, .TOC.)
    got: int | None = None  # i386: DT_PLTGOT
    constant: Callable[[int], int | None] = _unknown  # the word at an address, if it is one that never changes
    returns_thread_pointer: Callable[[int], bool] = _never  # whether a call of that address does (arm)
    descriptor: Callable[[int], bool] = _never  # whether the word at an address is a TLS descriptor's (x86)


class Decoder(Protocol):
    """Executes one capstone instruction on the registers (changing them) and says what it did."""

    def __call__(self, insn: Any, registers: Registers, surroundings: Surroundings) -> Step:
        """Return the step; registers that the instruction writes and that are not followed are removed."""


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


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Machine:
    """What is known of one machine."""

    name: str
    e_machine: str
    bits: int
    little_endian: bool
    capstone: tuple[int, int]  # architecture, mode
    decoder: Decoder
    relocations: Relocations
    tls_below: bool  # TLS variant II: blocks lie below the thread pointer
    tcb_size: int  # variant I: bytes from the thread pointer to the first block; see tls_offset()
    tls_bias: int  # what the thread pointer points behind the start of that area (ppc64: 0x7000)
    tls_alignment: int  # the least alignment of a process's static TLS (glibc nptl/descr.h TCB_ALIGNMENT)
    signature: bytes  # before an abort handler, as it is in the file (glibc bits/rseq.h RSEQ_SIG)
    signature_code: bytes  # the same with the bytes that make it an instruction: code with it has an abort handler
    system_call: int  # the number of rseq(2)
    canary: Callable[[Value], bool]  # whether a thread-pointer-relative address is the stack protector's canary
    thread_pattern: Pattern | None = None  # code that reads the thread pointer
    registration_pattern: Pattern | None = None  # code that loads the number of rseq(2)
    calls: Finder | None = None  # finds direct calls
    step: int = 1  # every instruction is aligned to this
    length: Callable[[bytes], int] | None = None  # of an instruction that capstone does not know; else it is `step`
    thumb: bool = False  # there are two instruction sets: bit 0 of a code address says which, and is not part of it
    data_of: Callable[[Encoded, Callable[[int, int], bytes | None]], Iterable[int]] | None = None  # see elf/modes.py
    thread_functions: frozenset[str] = frozenset()  # return the thread pointer, and keep what others need not (arm)
    thread_function: Pattern | None = None  # the code of one
    initial: Registers = field(default_factory=dict)  # what registers hold where a function starts
    stub_base: int | None = None  # the register that holds the GOT's address in a PLT stub (i386 psABI, "PLT")

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

    def disassembler(self, detail: bool = True) -> Any:
        """Return a capstone disassembler; with `detail`, it tells operands."""
        made = capstone.Cs(*self.capstone)
        made.detail = detail
        return made
