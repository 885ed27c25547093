"""What a process's seccomp filters answer to rseq(2): they are read through ptrace and walked through, never run.

A filter is a program of classic BPF over struct seccomp_data (seccomp(2), <linux/filter.h>). Asking the process's own
kernel entry would be an answer, too, but one that may kill the process.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rseq_matrix._native import ffi, lib
from rseq_matrix.ptrace.tasks import RSEQ_CALL

ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
ORIGINAL = 32
SIGNATURE = 0x53053053
MASK = 0xFFFFFFFF
ROOM = 4096  # BPF_MAXINSNS
MOST_FILTERS = 64
ACTIONS = {
    0x80000000: "kill",
    0x00000000: "kill-thread",
    0x00030000: "trap",
    0x00050000: "errno",
    0x7FC00000: "notify",
    0x7FF00000: "trace",
    0x7FFC0000: "log",
    0x7FFF0000: "allow",
}
"""SECCOMP_RET_… by their upper half, the strictest first (<linux/seccomp.h>)."""


class FilterInstruction(NamedTuple):
    """struct sock_filter."""

    code: int
    if_true: int
    if_false: int
    operand: int


Filter = Sequence[FilterInstruction]

ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x10: lambda a, b: a - b,
    0x20: lambda a, b: a * b,
    0x30: lambda a, b: a // b if b else 0,
    0x40: lambda a, b: a | b,
    0x50: lambda a, b: a & b,
    0x60: lambda a, b: a << b if b < 32 else 0,
    0x70: lambda a, b: a >> b if b < 32 else 0,
    0xA0: lambda a, b: a ^ b,
}
COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0x40: lambda a, b: bool(a & b),
}
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
IMMEDIATE, ABSOLUTE, MEMORY, LENGTH = 0x00, 0x20, 0x60, 0x80
NEGATE, ALWAYS, BY_REGISTER, FROM_ACCUMULATOR, TO_ACCUMULATOR = 0x80, 0x00, 0x08, 0x10, 0x80


def call_data(address: int = 0, length: int = ORIGINAL, flags: int = 0, signature: int = SIGNATURE) -> bytes:
    """Return struct seccomp_data of a call of rseq(2)."""
    return struct.pack("<iIQ6Q", RSEQ_CALL, ARCHITECTURE, 0, address, length, flags, signature, 0, 0)


class _Machine:
    """The registers of classic BPF."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.accumulator = self.index = 0
        self.memory = [0] * 16

    def _loaded(self, instruction: FilterInstruction) -> int:
        mode, operand = instruction.code & 0xE0, instruction.operand
        if mode == ABSOLUTE:
            return int.from_bytes(self.data[operand : operand + 4], "little")
        if mode == MEMORY:
            return self.memory[operand]
        return len(self.data) if mode == LENGTH else operand

    def step(self, instruction: FilterInstruction) -> int:
        """Carry out what is neither a return nor a jump."""
        kind, code = instruction.code & 7, instruction.code
        if kind == LD:
            self.accumulator = self._loaded(instruction)
        elif kind == LDX:
            self.index = self._loaded(instruction)
        elif kind in (ST, STX):
            self.memory[instruction.operand] = self.accumulator if kind == ST else self.index
        elif kind == ALU and code & 0xF0 == NEGATE:
            self.accumulator = -self.accumulator & MASK
        elif kind == ALU:
            self.accumulator = ARITHMETIC[code & 0xF0](self.accumulator, self.operand(instruction)) & MASK
        elif code & 0xF8 == TO_ACCUMULATOR:
            self.accumulator = self.index
        else:
            self.index = self.accumulator
        return 0

    def operand(self, instruction: FilterInstruction) -> int:
        """Return what an instruction combines the accumulator with."""
        return self.index if instruction.code & BY_REGISTER else instruction.operand

    def jump(self, instruction: FilterInstruction) -> int:
        """Return how many instructions are passed over."""
        if instruction.code & 0xF0 == ALWAYS:
            return instruction.operand
        holds = COMPARISONS[instruction.code & 0xF0](self.accumulator, self.operand(instruction))
        return instruction.if_true if holds else instruction.if_false


def value_of(program: Filter, data: bytes) -> int | None:
    """Return what one filter returns; None where it is no program that the kernel would have accepted."""
    machine, at = _Machine(data), 0
    try:
        while True:
            instruction = program[at]
            kind = instruction.code & 7
            if kind == RET:
                return machine.accumulator if instruction.code & 0x18 == FROM_ACCUMULATOR else instruction.operand
            at += 1 + (machine.jump(instruction) if kind == JMP else machine.step(instruction))
    except (IndexError, KeyError):
        return None


def answer_of(programs: Sequence[Filter], data: bytes) -> tuple[str, int | None] | None:
    """Return the action that all filters together come to (seccomp(2): the strictest one); None if one is not known."""
    values = [value_of(program, data) for program in programs]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not values:
        return None
    strictest = min(known, key=lambda value: (value & 0xFFFF0000) - (1 << 32 if value >> 31 else 0))
    action = ACTIONS.get(strictest & 0xFFFF0000, "kill")  # the kernel takes what it does not know for that, too
    return action, strictest & 0xFFFF if action == "errno" else None


def read_filters(tid: int) -> tuple[list[Filter], str | None]:
    """Return the filters of a stopped task, and why they could not be read; None if they could."""
    found: list[Filter] = []
    for which in range(MOST_FILTERS):
        program = ffi.new("struct rsm_filter_instruction[]", ROOM)
        count = ffi.new("unsigned int *")
        error = lib.rsm_trace_filter(tid, which, program, ROOM, count)
        if error in (errno.ENOENT, errno.EINVAL):
            return found, None
        if error in (errno.EACCES, errno.EPERM):
            return [], "only root (CAP_SYS_ADMIN), itself under no filter, may read another process's filters"
        if error:
            return [], f"the kernel does not hand them out ({errno.errorcode.get(error, error)})"
        found.append([FilterInstruction(p.code, p.if_true, p.if_false, p.operand) for p in program[0 : count[0]]])
    return found, None
