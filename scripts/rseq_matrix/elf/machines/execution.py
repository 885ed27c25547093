"""The execution core: what every machine's decoder follows of an instruction, and what the ABI adds at its end.

A decoder is a small abstract interpreter: it follows constants, the thread pointer and words of memory through the
registers of straight-line code. That is enough to see a GOT load, a call through the PLT, a TLS access, the arguments
of a system call and a store to a field of the rseq area, on every machine alike; what a decoder does not understand
becomes "unknown", never a guess.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple


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
        return Value(self.constant + number, self.thread, self.word)


Registers = dict[int, Value]
ZERO = Value(0)
THREAD_POINTER = Value(0, thread=True)


def signed(number: int, bits: int) -> int:
    """Return the number that the lowest bits are in two's complement."""
    half = 1 << (bits - 1)
    return (number + half & (half << 1) - 1) - half


def add(one: Value | None, other: Value | None) -> Value | None:
    """Return the sum, or None where it has no form here (two thread pointers, two words)."""
    if one is None or other is None or (one.thread and other.thread) or (one.word and other.word):
        return None
    return Value(one.constant + other.constant, one.thread or other.thread, one.word or other.word)


def moved(value: Value | None, number: int) -> Value | None:
    """Return a value moved by a number of bytes."""
    return value.plus(number) if value is not None else None


def loaded(where: Value | None) -> Value | None:
    """Return what a load of a word from there gives."""
    if where is None or where.thread:
        return None
    if where.word is None:
        return Value(0, word=Word(where.constant))
    if where.word.depth == 1:
        return Value(0, word=Word(where.word.address, 2, where.constant))
    return None


def number_of(value: Value | None) -> Value | None:
    """Return the value if it is a plain number: of anything else, half a register or a multiple is not followed."""
    return value if value is not None and value.word is None and not value.thread else None


def negative(value: Value | None) -> Value | None:
    """Return the negative of a number."""
    return Value(-value.constant) if value is not None and value.known else None


def scaled(value: Value | None, shift: int) -> Value | None:
    """Return a value shifted to the left."""
    if shift == 0 or value is None:
        return value
    return Value(value.constant << shift) if value.known else None


def zero_extended(value: Value | None, bits: int) -> Value | None:
    """Return the lowest bits of a number."""
    return Value(value.constant & (1 << bits) - 1) if value is not None and value.known else None


def sign_extended(value: Value | None, bits: int) -> Value | None:
    """Return the number that the lowest bits of a number are in two's complement."""
    return Value(signed(value.constant, bits)) if value is not None and value.known else None


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


class Encoded(NamedTuple):
    """An instruction as it is in the code, and as capstone writes it."""

    address: int
    size: int
    bytes: bytes
    mnemonic: str
    op_str: str
    thumb: bool = False  # arm: it is of the other instruction set


def _unknown(_address: int) -> None:
    return None


def _never(_address: int) -> bool:
    return False


@dataclass
class ObjectContext:
    """What a decoder may have to know of the object: the value that the ABI keeps in a base register, if it has one."""

    toc: int | None = None  # ppc64le: r2 (ELFv2 ABI 2.2.1, .TOC.)
    got: int | None = None  # i386: DT_PLTGOT
    constant: Callable[[int], int | None] = _unknown  # the word at an address, if it is one that never changes
    returns_thread_pointer: Callable[[int], bool] = _never  # whether a call of that address does (arm)
    descriptor: Callable[[int], bool] = _never  # whether the word at an address is a TLS descriptor's (x86)


@dataclass(frozen=True)
class Abi:
    """What calls (psABI) and system calls (syscall(2)) do with the registers, by the decoder's numbers of these."""

    bits: int
    caller_saved: tuple[int, ...]
    arguments: tuple[int, ...]
    system_call: tuple[int, ...]  # its number, then its arguments
    lost_in_system_call: tuple[int, ...]
    zero: int | None = None  # the register that is always 0
    lost_for_thread_pointer: tuple[int, ...] = ()  # by a function that returns it, and keeps what others need not
    lost_for_descriptor: tuple[int, ...] = ()  # by the function of a TLS descriptor


class CodeStep:
    """One instruction, and what it does as far as its decoder follows. Once it is made, nobody changes it.

    Each machine has a class of its own, that fills it in by decode(); the methods for that are in the second half.
    """

    abi: ClassVar[Abi]

    flow = Flow.NEXT
    target: int | None = None  # of a call, jump or branch
    through: Value | None = None  # where an indirect call or jump goes, where known in part
    accesses: tuple[Access, ...] = ()
    reads_thread_pointer = False
    arguments: tuple[Value | None, ...] = ()  # of a CALL or JUMP: integer ones; of a SYSTEM_CALL: its number first
    compared: tuple[Value | None, ...] = ()  # the two that it compares
    switches = False  # what is at the target is of arm's other instruction set

    def __init__(self, insn: Any, registers: Registers, context: ObjectContext) -> None:
        """Execute an instruction on the registers, which stay as they are: apply() changes them."""
        self.address: int
        self.size: int
        self.raw: bytes
        self.address, self.size, self.raw, self.mnemonic, self.operands, self.thumb = insn
        self.insn = insn
        self.registers = registers
        self.context = context
        self.written: dict[int, Value | None] = {}  # what registers hold behind it; None: unknown
        self.word = int.from_bytes(self.raw, "little")
        self.decode()
        self.finish()
        del self.registers, self.context

    @staticmethod
    def is_padding(insn: Any) -> bool:
        """Return whether an instruction does nothing: between functions and before loops, where nobody comes by."""
        return "nop" in insn.mnemonic

    @property
    def end(self) -> int:
        """Return the address behind the instruction."""
        return self.address + self.size

    @property
    def text(self) -> str:
        """Return the instruction as capstone writes it."""
        return f"{self.mnemonic} {self.operands}".strip()

    def apply(self, registers: Registers) -> None:
        """Change registers as the instruction does."""
        for number, value in self.written.items():
            if value is None:
                registers.pop(number, None)
            else:
                registers[number] = value

    # --- for decoders: fields

    def field(self, low: int, count: int) -> int:
        """Return the bits of the instruction's word from `low` on."""
        return self.word >> low & (1 << count) - 1

    def signed(self, low: int, count: int) -> int:
        """Return a field as a number with a sign."""
        return signed(self.word >> low, count)

    # --- effects

    def decode(self) -> None:
        """Note what the instruction does."""
        raise NotImplementedError

    def within(self, value: Value) -> Value:
        """Return a value whose constant has the one form that a register's width has for it: with a sign."""
        half = 1 << (self.abi.bits - 1)
        if -half <= value.constant < half:
            return value
        return Value(signed(value.constant, self.abi.bits), value.thread, value.word)

    def get(self, register: int) -> Value | None:
        """Return what a register holds before the instruction."""
        return ZERO if register == self.abi.zero else self.registers.get(register)

    def write(self, register: int, value: Value | None = None) -> None:
        """Note what a register holds behind the instruction."""
        if register != self.abi.zero:
            self.written[register] = self.within(value) if value is not None else None

    def forget(self, registers: Iterable[int]) -> None:
        """Note that nothing is known of some registers behind the instruction."""
        self.written.update(dict.fromkeys(registers))

    def load(self, where: Value | None, size: int) -> None:
        """Note a load."""
        if where is not None:
            self.accesses += (Access(self.within(where), False, size),)

    def store(self, where: Value | None, size: int, value: Value | None = None) -> None:
        """Note a store."""
        if where is not None:
            stored = zero_extended(value, 8 * size) if size else None
            self.accesses += (Access(self.within(where), True, size, stored or value),)

    def leave(self, flow: Flow, target: int | None = None) -> None:
        """Note where it goes on."""
        self.flow, self.target = flow, target

    def branch(self, flow: Flow, displacement: int) -> None:
        """Note a call, jump or branch by a number of bytes."""
        self.leave(flow, self.address + displacement & (1 << self.abi.bits) - 1)

    def go(self, flow: Flow, where: Value | None) -> None:
        """Note a call, jump or branch to an address that is computed."""
        self.flow = flow
        if where is not None and where.known:
            self.target = where.constant & (1 << self.abi.bits) - 1
        else:
            self.through = where

    # --- the end

    def finish(self) -> None:
        """Add what the ABI says of calls and system calls."""
        abi, flow = self.abi, self.flow
        if flow is Flow.SYSTEM_CALL:
            self.arguments = tuple([self.registers.get(number) for number in abi.system_call])
            self.forget(abi.lost_in_system_call)
        elif flow is Flow.CALL or flow is Flow.JUMP:
            self.arguments = tuple([self.registers.get(number) for number in abi.arguments])
            if flow is Flow.CALL:
                self.call()

    def call(self) -> None:
        """Note what a call does to the registers."""
        abi, through = self.abi, self.through
        if abi.lost_for_thread_pointer and self.target is not None and self.context.returns_thread_pointer(self.target):
            self.forget(abi.lost_for_thread_pointer)
            self.write(abi.arguments[0], THREAD_POINTER)
        elif abi.lost_for_descriptor and through and through.word and self.context.descriptor(through.word.address):
            self.forget(abi.lost_for_descriptor)
        else:
            self.forget(abi.caller_saved)


Handler = Callable[[Any], None]
Row = tuple[int, int, Handler]  # the instructions whose word, masked, is this


def nothing(_step: CodeStep) -> None:
    """Write no register that is followed."""


def handler_of(rows: Iterable[Row], word: int) -> Handler | None:
    """Return what executes an instruction: of the first row that it belongs to."""
    for mask, pattern, handler in rows:
        if word & mask == pattern:
            return handler
    return None
