"""RISC-V, 64-bit (RISC-V ELF psABI; RISC-V Instruction Set Manual, Volume I).

Instructions are read from their words, in which the fields have fixed places: capstone tells neither the registers that
an instruction writes nor the operands that an alias hides. It only says what is an instruction, and how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import capstone

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.machine import (
    THREAD_POINTER,
    Access,
    Flow,
    Machine,
    Pattern,
    Registers,
    Relocations,
    Step,
    Surroundings,
    Value,
    add,
    loaded,
)

ZERO, RA, SP, TP, T0 = 0, 1, 2, 4, 5
LINKS = (RA, T0)  # jalr with one of them calls or returns (ISA manual, "Return-address stack prediction hints")
CALLER_SAVED = (RA, *range(5, 8), *range(10, 18), *range(28, 32))  # psABI, "Integer Register Convention"
A0 = 10
ARGUMENTS = range(A0, A0 + 8)
SYSTEM_CALL = (17, *range(A0, A0 + 6))  # syscall(2)


class Operation(NamedTuple):
    """What an instruction does, compressed or not. A register that it does not have is 0, the one that is always 0."""

    name: str
    rd: int = 0
    rs1: int = 0
    rs2: int = 0
    number: int = 0
    size: int = 0  # in memory; 0 where it is not known


UNKNOWN = Operation("unknown")
NOTHING = Operation("other")
TRAP = Operation("trap")


def _signed(number: int, bits: int) -> int:
    """Return the number that these bits are in two's complement."""
    return ((number + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))


def _bits(word: int, low: int, count: int) -> int:
    return word >> low & ((1 << count) - 1)


def _gather(word: int, *parts: tuple[int, int, int]) -> int:
    """Return a number whose bits are scattered: (where they are, how many, where they belong)."""
    return sum(_bits(word, low, count) << place for low, count, place in parts)


def _rd(word: int) -> int:
    return _bits(word, 7, 5)


def _rs1(word: int) -> int:
    return _bits(word, 15, 5)


def _rs2(word: int) -> int:
    return _bits(word, 20, 5)


def _kind(word: int) -> int:
    return _bits(word, 12, 3)  # funct3


def _immediate(word: int) -> int:
    return _signed(word >> 20, 12)


# --- 32 bits: by opcode


def _upper(name: str) -> Callable[[int], Operation]:
    return lambda word: Operation(name, _rd(word), number=_signed(word & 0xFFFFF000, 32))


def _with_immediate(wide: bool) -> Callable[[int], Operation]:
    names = {0: "addi", 1: "slli", 5: "srli"} if wide else {0: "addiw"}

    def read(word: int) -> Operation:
        name, number = names.get(_kind(word), "other"), _immediate(word)
        if name in ("slli", "srli") and number >> 6:  # srai, and what the extension Zbb has
            name = "other"
        return Operation(name, _rd(word), _rs1(word), number=number)

    return read


def _with_register(wide: bool) -> Callable[[int], Operation]:
    names = {0: "add", 0x20: "sub"} if wide else {0: "addw", 0x20: "subw"}

    def read(word: int) -> Operation:
        name = names.get(word >> 25, "other") if _kind(word) == 0 else "other"
        return Operation(name, _rd(word), _rs1(word), _rs2(word))

    return read


def _load(word: int) -> Operation:
    return Operation("load", _rd(word), _rs1(word), number=_immediate(word), size=1 << (_kind(word) & 3))


def _store(word: int) -> Operation:
    number = _signed(word >> 25 << 5 | _rd(word), 12)
    return Operation("store", 0, _rs1(word), _rs2(word), number, 1 << _kind(word))


def _load_other(word: int) -> Operation:
    """Into a register of the floating point unit; the kinds 0 and 5 to 7 are those of vectors."""
    kind = _kind(word)
    if kind in (1, 2, 3, 4):
        return Operation("load", 0, _rs1(word), number=_immediate(word), size=1 << kind)
    return Operation("load", 0, _rs1(word))


def _store_other(word: int) -> Operation:
    kind = _kind(word)
    if kind in (1, 2, 3, 4):
        return _store(word)._replace(name="store other", rs2=0)
    return Operation("store other", 0, _rs1(word))


def _atomic(word: int) -> Operation:
    if _kind(word) > 3:
        return UNKNOWN  # amocas.q writes two registers
    name = "load atomically" if word >> 27 == 2 else "exchange"  # lr; all others store
    return Operation(name, _rd(word), _rs1(word), _rs2(word), size=1 << _kind(word))


def _branch(word: int) -> Operation:
    number = _gather(word, (8, 4, 1), (25, 6, 5), (7, 1, 11), (31, 1, 12))
    return Operation("branch", 0, _rs1(word), _rs2(word), _signed(number, 13))


def _jump(word: int) -> Operation:
    number = _gather(word, (21, 10, 1), (20, 1, 11), (12, 8, 12), (31, 1, 20))
    return Operation("jal", _rd(word), number=_signed(number, 21))


def _jump_to_register(word: int) -> Operation:
    return Operation("jalr", _rd(word), _rs1(word), number=_immediate(word))


def _system(word: int) -> Operation:
    kind = _kind(word)
    if kind == 0:
        known = {0x00000073: "ecall", 0x00100073: "trap", 0x10200073: "return", 0x30200073: "return"}
        return Operation(known.get(word, "other"))
    if kind in (1, 5) and _bits(word, 30, 2) == 3:  # csrrw to a read-only register: an illegal instruction, unimp
        return TRAP
    return Operation("other", _rd(word))


def _float(word: int) -> Operation:
    """Comparisons, conversions and moves to integers write an integer register."""
    return Operation("other", _rd(word) if word >> 27 in (0b10100, 0b11000, 0b11100) else 0)


def _vector(word: int) -> Operation:
    """vsetvl and its kin write an integer register; so do vcpop, vfirst and vmv.x.s."""
    return Operation("other", _rd(word) if _kind(word) in (2, 7) else 0)


def _nothing(_word: int) -> Operation:
    return NOTHING


OPCODES: dict[int, Callable[[int], Operation]] = {
    0x03: _load,
    0x07: _load_other,
    0x0F: _nothing,  # fence
    0x13: _with_immediate(wide=True),
    0x17: _upper("auipc"),
    0x1B: _with_immediate(wide=False),
    0x23: _store,
    0x27: _store_other,
    0x2F: _atomic,
    0x33: _with_register(wide=True),
    0x37: _upper("lui"),
    0x3B: _with_register(wide=False),
    **dict.fromkeys((0x43, 0x47, 0x4B, 0x4F), _nothing),  # fmadd and its kin
    0x53: _float,
    0x57: _vector,
    0x63: _branch,
    0x67: _jump_to_register,
    0x6F: _jump,
    0x73: _system,
    0x77: _nothing,  # vectors: cryptography
}


# --- 16 bits: by quadrant and funct3 (ISA manual, "RVC instruction set listings")


def _small(half: int, low: int) -> int:
    return 8 + _bits(half, low, 3)  # three bits name x8 to x15


def _number(half: int) -> int:
    return _signed(_gather(half, (2, 5, 0), (12, 1, 5)), 6)


def _offset(half: int, size: int) -> int:
    if size == 8:
        return _gather(half, (10, 3, 3), (5, 2, 6))
    return _gather(half, (6, 1, 2), (10, 3, 3), (5, 1, 6))


def _c_load(size: int, integer: bool = True) -> Callable[[int], Operation]:
    return lambda half: Operation(
        "load", _small(half, 2) if integer else 0, _small(half, 7), number=_offset(half, size), size=size
    )


def _c_store(size: int, integer: bool = True) -> Callable[[int], Operation]:
    name = "store" if integer else "store other"
    return lambda half: Operation(
        name, 0, _small(half, 7), _small(half, 2) if integer else 0, _offset(half, size), size
    )


def _c_narrow(half: int) -> Operation:
    """c.lbu, c.lhu, c.lh, c.sb, c.sh (extension Zcb)."""
    which = _bits(half, 10, 3)
    if which > 3:
        return UNKNOWN
    number = _gather(half, (5, 1, 1)) if which & 1 else _gather(half, (6, 1, 0), (5, 1, 1))
    base, register, size = _small(half, 7), _small(half, 2), 2 if which & 1 else 1
    if which < 2:
        return Operation("load", register, base, number=number, size=size)
    return Operation("store", 0, base, register, number, size)


def _c_load_from_stack(size: int, integer: bool = True) -> Callable[[int], Operation]:
    parts = ((5, 2, 3), (12, 1, 5), (2, 3, 6)) if size == 8 else ((4, 3, 2), (12, 1, 5), (2, 2, 6))
    return lambda half: Operation("load", _rd(half) if integer else 0, SP, number=_gather(half, *parts), size=size)


def _c_store_on_stack(size: int, integer: bool = True) -> Callable[[int], Operation]:
    name = "store" if integer else "store other"
    parts = ((10, 3, 3), (7, 3, 6)) if size == 8 else ((9, 4, 2), (7, 2, 6))
    return lambda half: Operation(name, 0, SP, _bits(half, 2, 5) if integer else 0, _gather(half, *parts), size)


def _c_add_to_stack_pointer(half: int) -> Operation:
    return Operation("other", _small(half, 2), SP) if half else TRAP


def _c_add_immediate(name: str, from_zero: bool = False) -> Callable[[int], Operation]:
    return lambda half: Operation(name, _rd(half), 0 if from_zero else _rd(half), number=_number(half))


def _c_upper(half: int) -> Operation:
    if _rd(half) == SP:
        return Operation("other", SP, SP)  # c.addi16sp
    return Operation("lui", _rd(half), number=_number(half) << 12) if _number(half) else NOTHING  # c.mop


def _c_arithmetic(half: int) -> Operation:
    rd = _small(half, 7)
    if _bits(half, 10, 2) == 0:
        return Operation("srli", rd, rd, number=_number(half) & 63)
    if _bits(half, 10, 2) != 3:
        return Operation("other", rd, rd)
    names = {(0, 0): "sub", (1, 0): "subw", (1, 1): "addw"}
    return Operation(names.get((_bits(half, 12, 1), _bits(half, 5, 2)), "other"), rd, rd, _small(half, 2))


def _c_jump(half: int) -> Operation:
    parts = ((3, 3, 1), (11, 1, 4), (2, 1, 5), (7, 1, 6), (6, 1, 7), (9, 2, 8), (8, 1, 10), (12, 1, 11))
    return Operation("jal", number=_signed(_gather(half, *parts), 12))


def _c_branch(half: int) -> Operation:
    number = _gather(half, (3, 2, 1), (10, 2, 3), (2, 1, 5), (5, 2, 6), (12, 1, 8))
    return Operation("branch", 0, _small(half, 7), number=_signed(number, 9))


def _c_shift(half: int) -> Operation:
    return Operation("slli", _rd(half), _rd(half), number=_number(half) & 63)


def _c_move_or_jump(half: int) -> Operation:
    rd, rs2, second = _rd(half), _bits(half, 2, 5), _bits(half, 12, 1)
    if rs2:
        return Operation("add", rd, rd if second else ZERO, rs2)
    return Operation("jalr", RA if second else ZERO, rd) if rd else TRAP  # c.ebreak


COMPRESSED: dict[tuple[int, int], Callable[[int], Operation]] = {
    (0, 0): _c_add_to_stack_pointer,
    (0, 1): _c_load(8, integer=False),
    (0, 2): _c_load(4),
    (0, 3): _c_load(8),
    (0, 4): _c_narrow,
    (0, 5): _c_store(8, integer=False),
    (0, 6): _c_store(4),
    (0, 7): _c_store(8),
    (1, 0): _c_add_immediate("addi"),
    (1, 1): _c_add_immediate("addiw"),
    (1, 2): _c_add_immediate("addi", from_zero=True),
    (1, 3): _c_upper,
    (1, 4): _c_arithmetic,
    (1, 5): _c_jump,
    (1, 6): _c_branch,
    (1, 7): _c_branch,
    (2, 0): _c_shift,
    (2, 1): _c_load_from_stack(8, integer=False),
    (2, 2): _c_load_from_stack(4),
    (2, 3): _c_load_from_stack(8),
    (2, 4): _c_move_or_jump,
    (2, 5): _c_store_on_stack(8, integer=False),
    (2, 6): _c_store_on_stack(4),
    (2, 7): _c_store_on_stack(8),
}


def _operation(raw: bytes) -> Operation:
    """Return what an instruction does."""
    word = int.from_bytes(raw, "little")
    read = COMPRESSED.get((word & 3, word >> 13)) if len(raw) == 2 else OPCODES.get(word & 0x7F)
    return read(word) if read else UNKNOWN


# --- execution


def _known(value: Value | None, change: Callable[[int], int]) -> Value | None:
    """Return a changed number; of anything else nothing is known."""
    return Value(change(value.constant)) if value is not None and value.known else None


def _moved(value: Value | None, number: int) -> Value | None:
    return value.plus(number) if value is not None else None


def _negative(value: Value | None) -> Value | None:
    return _known(value, lambda number: -number)


def _word(value: Value | None) -> Value | None:
    return _known(value, lambda number: _signed(number, 32))


RESULTS: dict[str, Callable[[Operation, Value | None, Value | None, int], Value | None]] = {
    "lui": lambda operation, _left, _right, _address: Value(operation.number),
    "auipc": lambda operation, _left, _right, address: Value(address + operation.number),
    "addi": lambda operation, left, _right, _address: _moved(left, operation.number),
    "addiw": lambda operation, left, _right, _address: _word(_moved(left, operation.number)),
    "slli": lambda operation, left, _right, _address: _known(left, lambda number: number << operation.number),
    "srli": lambda operation, left, _right, _address: _known(left, lambda n: n % 2**64 >> operation.number),
    "add": lambda _operation, left, right, _address: add(left, right),
    "sub": lambda _operation, left, right, _address: add(left, _negative(right)),
    "addw": lambda _operation, left, right, _address: _word(add(left, right)),
    "subw": lambda _operation, left, right, _address: _word(add(left, _negative(right))),
    "load": lambda operation, left, _right, _address: (
        loaded(_moved(left, operation.number)) if operation.size == 8 else None
    ),
}
FLOWS = {
    "branch": Flow.BRANCH,
    "ecall": Flow.SYSTEM_CALL,
    "trap": Flow.TRAP,
    "return": Flow.RETURN,
}
LOADS = ("load", "load atomically")
STORES = ("store", "store other", "exchange")


def _flow(operation: Operation, where: Value | None) -> Flow:
    if operation.name in ("jal", "jalr"):
        if operation.rd in LINKS:
            return Flow.CALL
        returns = operation.name == "jalr" and operation.rd == ZERO and operation.rs1 in LINKS
        return Flow.RETURN if returns and where is None else Flow.JUMP  # a PLT stub's t1 is for its first entry
    return FLOWS.get(operation.name, Flow.NEXT)


def _accesses(operation: Operation, where: Value | None, right: Value | None) -> tuple[Access, ...]:
    store = operation.name in STORES
    if where is None or not (store or operation.name in LOADS):
        return ()
    value = right if operation.name == "store" else None
    return (Access(where, store, operation.size, _known(value, lambda n: n % (1 << 8 * operation.size)) or value),)


def _update(operation: Operation, registers: Registers, result: Value | None, flow: Flow) -> None:
    if operation.name == "unknown":
        registers.clear()
    elif flow is Flow.CALL:
        for register in CALLER_SAVED:
            registers.pop(register, None)
    elif flow is Flow.SYSTEM_CALL:
        registers.pop(A0, None)
    elif operation.rd != ZERO:
        registers.pop(operation.rd, None)
        if result is not None:
            registers[operation.rd] = result._replace(constant=_signed(result.constant, 64))


def _execute(insn: Any, registers: Registers, surroundings: Surroundings) -> Step:  # noqa: ARG001
    raw = bytes(insn.bytes)
    operation = _operation(raw)
    left, right = (Value(0) if r == ZERO else registers.get(r) for r in (operation.rs1, operation.rs2))
    where = _moved(left, operation.number)
    flow = _flow(operation, where)
    target, through = None, None
    if operation.name in ("jal", "branch"):
        target = (insn.address + operation.number) % 2**64
    elif operation.name == "jalr" and flow is not Flow.RETURN:
        direct = where is not None and where.known  # auipc before it: as far as 2 GiB
        target, through = (where.constant % 2**64, None) if where is not None and direct else (None, where)
    arguments: tuple[Value | None, ...] = ()
    if flow in (Flow.CALL, Flow.SYSTEM_CALL):
        chosen = ARGUMENTS if flow is Flow.CALL else SYSTEM_CALL
        arguments = tuple(registers.get(register) for register in chosen)
    find_result = RESULTS.get(operation.name)
    result = find_result(operation, left, right, insn.address) if find_result else None
    accesses = _accesses(operation, where, right)
    _update(operation, registers, result, flow)
    return Step(
        address=insn.address,
        size=insn.size,
        raw=raw,
        text=f"{insn.mnemonic} {insn.op_str}".strip(),
        flow=flow,
        target=target,
        through=through,
        accesses=accesses,
        reads_thread_pointer=TP in (operation.rs1, operation.rs2),
        arguments=arguments,
    )


# --- what is an instruction


class Newer(NamedTuple):
    """An instruction that capstone does not know."""

    address: int
    size: int
    bytes: bytes
    mnemonic: str
    op_str: str


# Where extensions that capstone 5 does not know have theirs (Zba, Zbb, Zicond, Zfa, Zicboz, Zacas, Zimop, Zcb, V...),
# of which the profile RVA23 has most: of these only the destination is of interest, and that is where it always is.
EXTENDED = frozenset({0x07, 0x0F, 0x13, 0x1B, 0x27, 0x2F, 0x33, 0x3B, 0x53, 0x57, 0x73, 0x77})
EXTENDED_COMPRESSED = frozenset({(0, 4), (1, 4)})


def _newer(raw: bytes, address: int) -> Newer | None:
    word = int.from_bytes(raw[:4], "little")
    if word & 3 != 3:
        size = 2
        known = (word & 3, _bits(word, 13, 3)) in EXTENDED_COMPRESSED
    else:
        size = 4
        known = word & 0x7F in EXTENDED
    if not known or len(raw) < size:
        return None
    return Newer(address, size, raw[:size], ".insn", f"{size}, {int.from_bytes(raw[:size], 'little'):#x}")


class Disassembler:
    """Capstone's, that does not stop at instructions of extensions that it does not know."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def disasm(self, raw: bytes, address: int) -> Iterator[Any]:
        """Yield the instructions from the start on, up to what is none."""
        place = 0
        while place < len(raw):
            for insn in self._inner.disasm(raw[place:], address + place):
                yield insn
                place = insn.address + insn.size - address
            newer = _newer(raw[place : place + 4], address + place)
            if newer is None:
                return
            yield newer
            place += newer.size

    def disasm_lite(self, raw: bytes, address: int) -> Iterator[tuple[int, int, str, str]]:
        """Yield the same as tuples: address, size, mnemonic, operands."""
        for insn in self.disasm(raw, address):
            yield insn.address, insn.size, insn.mnemonic, insn.op_str


@dataclass(frozen=True)
class RiscV(Machine):
    """The machine, with a disassembler that goes on where capstone's stops."""

    def disassembler(self, detail: bool = True) -> Any:
        """Return one; with `detail`, what capstone knows tells its operands."""
        return Disassembler(super().disassembler(detail))


# The second half of an instruction may look like one, and so may what starts at an odd byte: matches are empty, so that
# none hides another.
TP_FIRST = rb"[" + bytes(range(0x02, 0x100, 0x10)) + rb"]"  # bits 16 to 23, where rs1 is tp
READS_TP = (
    rb"[\x12\x92][\x80-\x9f]",  # c.mv, c.add
    rb"[\x33\xb3][\x00-\x0f\x80-\x8f][\x40-\x4f]\x00",  # add rd, rs1, tp
    rb"[\x33\xb3][\x00-\x0f]" + TP_FIRST + rb"[\x00\x01]",  # add rd, tp, rs2
    rb"[\x13\x93][\x00-\x0f]" + TP_FIRST,  # addi, mv
    rb"[\x03\x83\x07\x87\x23\xa3\x27\xa7\x2f\xaf][\x00-\x7f]" + TP_FIRST,  # loads, stores, atomics
)

RISCV64 = RiscV(
    name="riscv64",
    e_machine="EM_RISCV",
    bits=64,
    little_endian=True,
    capstone=(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    decoder=_execute,
    relocations=Relocations(
        names={
            1: "R_RISCV_32",
            2: "R_RISCV_64",
            3: "R_RISCV_RELATIVE",
            4: "R_RISCV_COPY",
            5: "R_RISCV_JUMP_SLOT",
            7: "R_RISCV_TLS_DTPMOD64",
            9: "R_RISCV_TLS_DTPREL64",
            11: "R_RISCV_TLS_TPREL64",
            12: "R_RISCV_TLSDESC",
            58: "R_RISCV_IRELATIVE",
        },
        relative=3,
        irelative=58,
        absolute=frozenset({2}),  # GOT entries of data and functions, too: there is no GLOB_DAT
        got=frozenset({5}),
        module=7,
        thread_offset=frozenset({11}),
        descriptor=12,
        copy=4,
    ),
    tls_below=False,
    tcb_size=0,  # tp is behind the TCB, where the first block starts (psABI, "Thread Local Storage")
    tls_bias=0,
    tls_alignment=32,  # glibc nptl/descr.h, TCB_ALIGNMENT
    signature=bytes.fromhex("731040f1"),
    signature_code=bytes.fromhex("731040f1"),  # csrw mhartid, x0
    system_call=293,
    canary=lambda _: False,  # a variable, behind the GOT
    thread_pattern=Pattern(rb"(?=" + rb"|".join(READS_TP) + rb")"),
    registration_pattern=Pattern(rb"[\x13\x93][\x00-\x0f]\x50\x12", b"\x50\x12", (2,)),  # li rd, 293
    calls=calls.riscv,
    step=2,
    initial={TP: THREAD_POINTER},
)
