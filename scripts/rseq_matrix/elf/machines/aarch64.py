"""AArch64, little-endian (ELF for the Arm 64-bit Architecture, AAELF64; Procedure Call Standard, AAPCS64).

Instructions are read from their words (Arm Architecture Reference Manual, C4, "A64 Instruction Set Encoding"), in which
the fields have fixed places; capstone only says what is an instruction, and how it is written. So nothing depends on
the aliases of its operands, which are others in each major version.
"""

from __future__ import annotations

import capstone

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.execution import (
    THREAD_POINTER,
    Abi,
    CodeStep,
    Flow,
    Row,
    Value,
    add,
    handler_of,
    loaded,
    moved,
    negative,
    nothing,
    number_of,
    scaled,
    sign_extended,
    zero_extended,
)
from rseq_matrix.elf.machines.machine import Machine, Pattern, Relocations

ZERO_OR_STACK = 31  # register 31 is the zero register or the stack pointer, as the instruction says
UXTW, UXTX, SXTW, SXTX = 2, 3, 6, 7  # C4, "option": how an index register is extended


class A64Step(CodeStep):
    """One instruction."""

    abi = Abi(
        bits=64,
        caller_saved=(*range(19), 30),  # AAPCS64, 6.1.1; x18 is no more than a temporary on Linux
        arguments=tuple(range(8)),
        system_call=(8, 0, 1, 2, 3, 4, 5),
        lost_in_system_call=(0,),
        zero=ZERO_OR_STACK,
    )

    @property
    def bits(self) -> int:
        """Return the width of the registers, for instructions whose first bit says it."""
        return 64 if self.field(31, 1) else 32

    def read(self, low: int) -> Value | None:
        """Return the value of the register that a field names, 31 being the zero register."""
        return self.get(self.field(low, 5))

    def read_base(self, low: int = 5) -> Value | None:
        """Return the value of the register that a field names, 31 being the stack pointer, which is not followed."""
        return self.registers.get(self.field(low, 5))

    def put(self, low: int, value: Value | None = None, bits: int = 64) -> None:
        """Note what the register that a field names holds from now on. Of 32 bits only a number is followed."""
        self.write(self.field(low, 5), zero_extended(value, 32) if bits == 32 else value)

    def branch_by_words(self, flow: Flow, low: int, count: int) -> None:
        """Note a branch by a number of words."""
        self.branch(flow, 4 * self.signed(low, count))

    def decode(self) -> None:
        """Find the instruction in its group's table."""
        handler = handler_of(GROUPS[self.word >> 25 & 15], self.word)
        if handler is not None:
            handler(self)


# --- branches, exceptions, system instructions


def _jump_to_register(i: A64Step) -> None:
    """br, blr, ret, eret, and those that authenticate the pointer first (bit 24), which is the same place."""
    i.flow = (Flow.JUMP, Flow.CALL, Flow.RETURN, Flow.RETURN)[min(i.field(21, 3), 3)]
    if i.flow is not Flow.RETURN:
        i.go(i.flow, i.read(5))


def _read_thread_pointer(i: A64Step) -> None:
    i.reads_thread_pointer = True
    i.put(0, THREAD_POINTER)


# --- data


def _form_address(i: A64Step) -> None:
    """adr, adrp."""
    number = i.signed(5, 19) << 2 | i.field(29, 2)
    page = i.field(31, 1)
    i.put(0, Value((i.address & -4096) + (number << 12) if page else i.address + number))


def _add_immediate(i: A64Step) -> None:
    number = i.field(10, 12) << (12 if i.field(22, 1) else 0)
    i.put(0, moved(i.read_base(), -number if i.field(30, 1) else number), i.bits)


def _move_wide(i: A64Step) -> None:
    """movn, movz, movk."""
    shift, operation = 16 * i.field(21, 2), i.field(29, 2)
    number = i.field(5, 16) << shift
    value: Value | None = Value(~number if operation == 0 else number)
    if operation == 3:
        old = number_of(i.read(0))
        value = Value(old.constant & ~(0xFFFF << shift) | number) if old is not None else None
    i.put(0, value, i.bits)


def _logical(i: A64Step) -> None:
    """Of these only `mov` is followed: orr with the zero register, not shifted."""
    is_move = i.field(29, 2) == 1 and i.field(5, 5) == ZERO_OR_STACK and not i.field(10, 6) and not i.field(21, 3)
    i.put(0, i.read(16) if is_move else None, i.bits)


def _add(i: A64Step) -> None:
    shift, amount = i.field(22, 2), i.field(10, 6)
    right = scaled(i.read(16), amount) if shift == 0 or amount == 0 else None
    i.put(0, add(i.read(5), negative(right) if i.field(30, 1) else right), i.bits)


def _add_extended(i: A64Step) -> None:
    right = scaled(_extended(i), i.field(10, 3))
    i.put(0, add(i.read_base(), negative(right) if i.field(30, 1) else right), i.bits)


def _extended(i: A64Step) -> Value | None:
    """Return the index register as the instruction extends it."""
    value, option = i.read(16), i.field(13, 3)
    if option in (UXTX, SXTX):
        return value
    if option == SXTW:
        return sign_extended(value, 32)
    return zero_extended(value, 32) if option == UXTW else None


def _float_and_integer(i: A64Step) -> None:
    """Scalar floating point: conversions to fixed point (bit 21 clear) and to integers write a register."""
    conversion = not i.field(21, 1) or not i.field(10, 6)
    if conversion and i.field(16, 3) not in (2, 3, 7):  # scvtf, ucvtf, fmov: from there
        i.put(0)


def _copy_of_element(i: A64Step) -> None:
    if i.field(11, 4) in (5, 7):  # smov, umov
        i.put(0)


# --- loads and stores


def _transfer(i: A64Step, where: Value | None) -> None:
    """Load or store one register. Its size, kind and direction are in the same fields in all forms."""
    size, direction = i.field(30, 2), i.field(22, 2)
    if i.field(26, 1):
        access = i.load if direction & 1 else i.store
        access(where, 1 << _scale(i))
    elif direction == 0:
        i.store(where, 1 << size, i.read(0))
    elif (size, direction) != (3, 2):  # prfm: only a hint
        i.load(where, 1 << size)
        i.put(0, loaded(where) if (size, direction) == (3, 1) else None)


def _scale(i: A64Step) -> int:
    """Return the size of what _transfer() moves, as a power of two."""
    return i.field(30, 2) | (4 if i.field(26, 1) and i.field(23, 1) else 0)


def _at_offset(i: A64Step) -> None:
    """ldur, ldtr, and with the base moved behind the access (1) or before it (3)."""
    base, mode = i.read_base(), i.field(10, 2)
    there = moved(base, i.signed(12, 9))
    if mode & 1:
        i.put(5, there)
    _transfer(i, base if mode == 1 else there)


def _at_register(i: A64Step) -> None:
    index = scaled(_extended(i), _scale(i) if i.field(12, 1) else 0)
    _transfer(i, add(i.read_base(), index))


def _at_literal(i: A64Step) -> None:
    where, kind = Value(i.address + 4 * i.signed(5, 19)), i.field(30, 2)
    if i.field(26, 1):
        i.load(where, 4 << kind)
    elif kind != 3:  # prfm
        i.load(where, 8 if kind == 1 else 4)
        i.put(0, loaded(where) if kind == 1 else None)


def _pair(i: A64Step) -> None:
    kind, vector, mode, load = i.field(30, 2), i.field(26, 1), i.field(23, 2), i.field(22, 1)
    size = 4 << kind if vector else (4, 4 if load else 8, 8, 8)[kind]  # ldpsw, stgp
    scale = 16 if (kind, vector, load) == (1, 0, 0) else size
    base = i.read_base()
    there = moved(base, i.signed(15, 7) * scale)
    if mode & 1:
        i.put(5, there)
    first = base if mode == 1 else there
    for low, where in ((0, first), (10, moved(first, size))):
        if not load:
            i.store(where, size, None if vector else i.read(low))
            continue
        i.load(where, size)
        if not vector:
            i.put(low, loaded(where) if kind == 2 else None)


def _exclusive(i: A64Step) -> None:
    """ldxr, stxr, ldar, stlr, cas, and pairs. Fields that an instruction does not use name register 31."""
    pair = i.field(21, 1) and not i.field(23, 1)
    casp = pair and not i.field(31, 1)
    compare = casp or (i.field(21, 1) and i.field(23, 1))  # casp, cas
    size = (8 if casp else 2 if pair else 1) << i.field(30, 2)
    if i.field(22, 1) and not compare:
        i.load(i.read_base(), size)
        i.put(0)
        i.put(10)
        return
    i.store(i.read_base(), size, None if compare or pair else i.read(0))
    i.put(16)
    if casp:
        i.write(i.field(16, 5) | 1)


def _atomic(i: A64Step) -> None:
    size = 1 << i.field(30, 2)
    if i.field(12, 4) == 0b1100:  # ldapr
        i.load(i.read_base(), size)
    else:
        i.store(i.read_base(), size)
    i.put(0)


def _structure(i: A64Step) -> None:
    """ld1 to ld4, st1 to st4: vector registers; bit 23 is for those that move the base."""
    where = i.read_base()
    if i.field(22, 1):
        i.load(where, 0)
    else:
        i.store(where, 0)
    if i.field(23, 1):
        i.put(5)


def _some_access(i: A64Step) -> None:
    """Whatever else accesses memory: all that may be a register of it is unknown behind it."""
    for low in (0, 5, 10, 16):
        i.put(low)


BRANCHES: tuple[Row, ...] = (
    (0x7C000000, 0x14000000, lambda i: i.branch_by_words(Flow.CALL if i.field(31, 1) else Flow.JUMP, 0, 26)),
    (0xFF000000, 0x54000000, lambda i: i.branch_by_words(Flow.BRANCH, 5, 19)),  # b.cond
    (0x7E000000, 0x34000000, lambda i: i.branch_by_words(Flow.BRANCH, 5, 19)),
    (0x7E000000, 0x36000000, lambda i: i.branch_by_words(Flow.BRANCH, 5, 14)),
    (0xFE000000, 0xD6000000, _jump_to_register),
    (
        0xFF000000,
        0xD4000000,
        lambda i: i.leave(Flow.SYSTEM_CALL if (i.field(21, 3), i.field(0, 2)) == (0, 1) else Flow.TRAP),
    ),
    (0xFFFFFFE0, 0xD53BD040, _read_thread_pointer),  # mrs xt, tpidr_el0
    (0xFF200000, 0xD5200000, lambda i: i.put(0)),  # mrs, sysl
)
IMMEDIATE: tuple[Row, ...] = (
    (0x1F000000, 0x10000000, _form_address),
    (0x1F800000, 0x11000000, _add_immediate),
    (0x1F800000, 0x12800000, _move_wide),
    (0, 0, lambda i: i.put(0)),
)
REGISTER: tuple[Row, ...] = (
    (0x1F000000, 0x0A000000, _logical),
    (0x1F200000, 0x0B000000, _add),
    (0x1FE00000, 0x0B200000, _add_extended),
    (0x1FE00000, 0x1A400000, nothing),  # ccmp, ccmn
    (0, 0, lambda i: i.put(0)),
)
MEMORY: tuple[Row, ...] = (
    (0x3B000000, 0x39000000, lambda i: _transfer(i, moved(i.read_base(), i.field(10, 12) << _scale(i)))),
    (0x3A000000, 0x28000000, _pair),
    (0x3B200000, 0x38000000, _at_offset),
    (0x3B200C00, 0x38200800, _at_register),
    (0x3B000000, 0x18000000, _at_literal),
    (0x3F000000, 0x08000000, _exclusive),
    (0x3F200C00, 0x38200000, _atomic),
    (0x3F200C00, 0x19000000, _at_offset),  # ldapur, stlur
    (0xBE000000, 0x0C000000, _structure),
    (0, 0, _some_access),
)
VECTOR: tuple[Row, ...] = (
    (0x5F000000, 0x1E000000, _float_and_integer),
    (0x9FE08400, 0x0E000400, _copy_of_element),
)
OTHER: tuple[Row, ...] = (
    (0xFFFF0000, 0, lambda i: i.leave(Flow.TRAP)),  # udf
    (0, 0, lambda i: i.put(0)),  # SVE and SME count into general registers
)
# By bits 28 to 25, as in C4.1, "A64 instruction set encoding".
GROUPS: tuple[tuple[Row, ...], ...] = tuple(
    {8: IMMEDIATE, 9: IMMEDIATE, 10: BRANCHES, 11: BRANCHES, 5: REGISTER, 13: REGISTER, 7: VECTOR, 15: VECTOR}.get(
        group, MEMORY if group & 0b0101 == 0b0100 else OTHER
    )
    for group in range(16)
)


AARCH64 = Machine(
    name="aarch64",
    e_machine="EM_AARCH64",
    little_endian=True,
    capstone=(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN),
    step=A64Step,
    relocations=Relocations.listed(
        "R_AARCH64_",  # 1028 and 1029 are the platform's to choose (AAELF64): glibc elf/elf.h
        "257:ABS64 1024:COPY 1025:GLOB_DAT 1026:JUMP_SLOT 1027:RELATIVE 1028:TLS_DTPMOD 1029:TLS_DTPREL "
        "1030:TLS_TPREL 1031:TLSDESC 1032:IRELATIVE",
        absolute={257},
        module=1028,
        thread_offset={1030},
        descriptor=1031,
    ),
    tls_below=False,
    tcb_size=16,  # AAELF64, "TLS": two words; glibc sysdeps/aarch64/nptl/tls.h, TLS_TCB_SIZE
    signature=bytes.fromhex("00bc28d4"),  # brk #0x45e0
    system_call=293,
    thread_pattern=Pattern(rb"[\x40-\x5f]\xd0\x3b\xd5", b"\xd0\x3b\xd5", (1,)),  # mrs xt, tpidr_el0
    registration_pattern=Pattern(rb"[\xa0-\xbf]\x24\x80[\x52\xd2]", b"\x24\x80", (1,)),  # mov wd or xd, #293
    calls=calls.aarch64,
    boundary=4,
)
