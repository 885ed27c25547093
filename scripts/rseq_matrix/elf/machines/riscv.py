"""RISC-V, 64-bit (RISC-V ELF psABI; RISC-V Instruction Set Manual, Volume I).

Instructions are read from their words by tables in the manner of the manual's listings: capstone tells neither the
registers that an instruction writes nor the operands that an alias hides. It only says what is an instruction, and how
it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import capstone

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.execution import (
    THREAD_POINTER,
    Abi,
    CodeStep,
    Flow,
    Value,
    add,
    loaded,
    moved,
    negative,
    number_of,
    scaled,
    sign_extended,
    signed,
)
from rseq_matrix.elf.machines.machine import Disassembler, Machine, Pattern, Relocations

ZERO, RA, SP, TP, T0, A0 = 0, 1, 2, 4, 5, 10
LINKS = (RA, T0)  # jalr with one of them calls or returns (ISA manual, "Return-address stack prediction hints")


class RiscvOperation(NamedTuple):
    """What an instruction does, compressed or not. A register that it does not have is 0, the one that is always 0."""

    name: str
    rd: int = 0
    rs1: int = 0
    rs2: int = 0
    number: int = 0
    size: int = 0  # in memory; 0 where it is not known


class Register(NamedTuple):
    """Where an instruction names a register: in some bits, counted from a register on."""

    low: int
    width: int = 5
    first: int = 0

    def read(self, word: int) -> int:
        """Return the register that an instruction names."""
        return self.first + _bits(word, self.low, self.width)


class Immediate(NamedTuple):
    """An immediate: its pieces (where they are, how many bits, where they belong), and its width if it has a sign."""

    width: int
    pieces: tuple[tuple[int, int, int], ...]

    def read(self, word: int) -> int:
        """Return the immediate of an instruction."""
        number = sum(_bits(word, low, count) << place for low, count, place in self.pieces)
        return signed(number, self.width) if self.width else number


class Format(NamedTuple):
    """The instructions whose word, masked, is `pattern`: their operation, and where its parts are."""

    mask: int
    pattern: int
    name: str
    rd: Register | int = ZERO
    rs1: Register | int = ZERO
    rs2: Register | int = ZERO
    number: Immediate | None = None
    size: int = 0

    def read(self, word: int) -> RiscvOperation:
        """Return the operation of such an instruction."""
        rd, rs1, rs2 = (r if isinstance(r, int) else r.read(word) for r in (self.rd, self.rs1, self.rs2))
        return RiscvOperation(self.name, rd, rs1, rs2, self.number.read(word) if self.number else 0, self.size)


def _bits(word: int, low: int, count: int) -> int:
    return word >> low & ((1 << count) - 1)


RD, RS1, RS2 = Register(7), Register(15), Register(20)
I_TYPE = Immediate(12, ((20, 12, 0),))
S_TYPE = Immediate(12, ((7, 5, 0), (25, 7, 5)))
B_TYPE = Immediate(13, ((8, 4, 1), (25, 6, 5), (7, 1, 11), (31, 1, 12)))
U_TYPE = Immediate(32, ((12, 20, 12),))
J_TYPE = Immediate(21, ((21, 10, 1), (20, 1, 11), (12, 8, 12), (31, 1, 20)))
SHIFT = Immediate(0, ((20, 6, 0),))
OPCODE, KIND, WHOLE = 0x7F, 0x707F, 0xFFFFFFFF  # KIND: with funct3

FORMATS = (
    *(Format(0x307F, 0x03 | log << 12, "load", RD, RS1, ZERO, I_TYPE, 1 << log) for log in range(4)),
    *(Format(KIND, 0x07 | log << 12, "load", ZERO, RS1, ZERO, I_TYPE, 1 << log) for log in range(1, 5)),  # flw ...
    Format(OPCODE, 0x07, "load", ZERO, RS1),  # vectors
    Format(OPCODE, 0x0F, "other"),  # fence
    Format(KIND, 0x13, "addi", RD, RS1, ZERO, I_TYPE),
    Format(0xFC00707F, 0x1013, "slli", RD, RS1, ZERO, SHIFT),
    Format(0xFC00707F, 0x5013, "srli", RD, RS1, ZERO, SHIFT),  # not srai, and what the extension Zbb has
    Format(OPCODE, 0x13, "other", RD, RS1),
    Format(OPCODE, 0x17, "auipc", RD, ZERO, ZERO, U_TYPE),
    Format(KIND, 0x1B, "addiw", RD, RS1, ZERO, I_TYPE),
    Format(OPCODE, 0x1B, "other", RD, RS1),
    *(Format(KIND, 0x23 | log << 12, "store", ZERO, RS1, RS2, S_TYPE, 1 << log) for log in range(4)),
    *(Format(KIND, 0x27 | log << 12, "store other", ZERO, RS1, ZERO, S_TYPE, 1 << log) for log in range(1, 5)),
    Format(OPCODE, 0x27, "store other", ZERO, RS1),
    *(Format(0xF800707F, 0x1000002F | log << 12, "load atomically", RD, RS1, size=1 << log) for log in range(4)),  # lr
    *(Format(KIND, 0x2F | log << 12, "exchange", RD, RS1, RS2, size=1 << log) for log in range(4)),
    Format(0xFE00707F, 0x33, "add", RD, RS1, RS2),
    Format(0xFE00707F, 0x40000033, "sub", RD, RS1, RS2),
    Format(OPCODE, 0x33, "other", RD, RS1, RS2),
    Format(OPCODE, 0x37, "lui", RD, ZERO, ZERO, U_TYPE),
    Format(0xFE00707F, 0x3B, "addw", RD, RS1, RS2),
    Format(0xFE00707F, 0x4000003B, "subw", RD, RS1, RS2),
    Format(OPCODE, 0x3B, "other", RD, RS1, RS2),
    *(Format(OPCODE, opcode, "other") for opcode in (0x43, 0x47, 0x4B, 0x4F, 0x77)),  # fmadd ..., cryptography
    # Of floating point, comparisons, conversions and moves to integers write an integer register, ...
    *(Format(0xF800007F, 0x53 | kind << 27, "other", RD) for kind in (0b10100, 0b11000, 0b11100)),
    Format(OPCODE, 0x53, "other"),
    *(Format(KIND, 0x57 | kind << 12, "other", RD) for kind in (2, 7)),  # ... and of vectors vsetvl, vcpop, vfirst ...
    Format(OPCODE, 0x57, "other"),
    Format(OPCODE, 0x63, "branch", ZERO, RS1, RS2, B_TYPE),
    Format(OPCODE, 0x67, "jalr", RD, RS1, ZERO, I_TYPE),
    Format(OPCODE, 0x6F, "jal", RD, ZERO, ZERO, J_TYPE),
    Format(WHOLE, 0x00000073, "ecall"),
    Format(WHOLE, 0x00100073, "trap"),
    *(Format(WHOLE, word, "return") for word in (0x10200073, 0x30200073)),
    Format(KIND, 0x73, "other"),
    *(Format(0xC000707F, 0xC0000073 | kind << 12, "trap") for kind in (1, 5)),  # a read-only register: unimp
    Format(OPCODE, 0x73, "other", RD),
)

# 16 bits (ISA manual, "RVC instruction set listings"): three bits name x8 to x15.
C_RD, C_RS2, C_HIGH, C_LOW = Register(7), Register(2), Register(7, 3, 8), Register(2, 3, 8)
C_NUMBER, C_SHIFT = Immediate(6, ((2, 5, 0), (12, 1, 5))), Immediate(0, ((2, 5, 0), (12, 1, 5)))
C_UPPER = Immediate(18, ((2, 5, 12), (12, 1, 17)))
C_WORD, C_DOUBLE = Immediate(0, ((6, 1, 2), (10, 3, 3), (5, 1, 6))), Immediate(0, ((10, 3, 3), (5, 2, 6)))
C_BYTE, C_HALF = Immediate(0, ((6, 1, 0), (5, 1, 1))), Immediate(0, ((5, 1, 1),))
C_FROM_STACK_4, C_FROM_STACK_8 = (
    Immediate(0, ((4, 3, 2), (12, 1, 5), (2, 2, 6))),
    Immediate(0, ((5, 2, 3), (12, 1, 5), (2, 3, 6))),
)
C_ON_STACK_4, C_ON_STACK_8 = Immediate(0, ((9, 4, 2), (7, 2, 6))), Immediate(0, ((10, 3, 3), (7, 3, 6)))
C_JUMP = Immediate(12, ((3, 3, 1), (11, 1, 4), (2, 1, 5), (7, 1, 6), (6, 1, 7), (9, 2, 8), (8, 1, 10), (12, 1, 11)))
C_BRANCH = Immediate(9, ((3, 2, 1), (10, 2, 3), (2, 1, 5), (5, 2, 6), (12, 1, 8)))

COMPRESSED = (
    Format(0xFFFF, 0x0000, "trap"),
    Format(0xE003, 0x0000, "other", C_LOW, SP),  # c.addi4spn
    Format(0xE003, 0x2000, "load", ZERO, C_HIGH, ZERO, C_DOUBLE, 8),
    Format(0xE003, 0x4000, "load", C_LOW, C_HIGH, ZERO, C_WORD, 4),
    Format(0xE003, 0x6000, "load", C_LOW, C_HIGH, ZERO, C_DOUBLE, 8),
    Format(0xFC03, 0x8000, "load", C_LOW, C_HIGH, ZERO, C_BYTE, 1),  # these four: extension Zcb
    Format(0xFC03, 0x8400, "load", C_LOW, C_HIGH, ZERO, C_HALF, 2),
    Format(0xFC03, 0x8800, "store", ZERO, C_HIGH, C_LOW, C_BYTE, 1),
    Format(0xFC03, 0x8C00, "store", ZERO, C_HIGH, C_LOW, C_HALF, 2),
    Format(0xE003, 0xA000, "store other", ZERO, C_HIGH, ZERO, C_DOUBLE, 8),
    Format(0xE003, 0xC000, "store", ZERO, C_HIGH, C_LOW, C_WORD, 4),
    Format(0xE003, 0xE000, "store", ZERO, C_HIGH, C_LOW, C_DOUBLE, 8),
    Format(0xE003, 0x0001, "addi", C_RD, C_RD, ZERO, C_NUMBER),
    Format(0xE003, 0x2001, "addiw", C_RD, C_RD, ZERO, C_NUMBER),
    Format(0xE003, 0x4001, "addi", C_RD, ZERO, ZERO, C_NUMBER),
    Format(0xEF83, 0x6101, "other", SP, SP),  # c.addi16sp
    Format(0xF07F, 0x6001, "other"),  # c.mop
    Format(0xE003, 0x6001, "lui", C_RD, ZERO, ZERO, C_UPPER),
    Format(0xEC03, 0x8001, "srli", C_HIGH, C_HIGH, ZERO, C_SHIFT),
    Format(0xFC63, 0x8C01, "sub", C_HIGH, C_HIGH, C_LOW),
    Format(0xFC63, 0x9C01, "subw", C_HIGH, C_HIGH, C_LOW),
    Format(0xFC63, 0x9C21, "addw", C_HIGH, C_HIGH, C_LOW),
    Format(0xE003, 0x8001, "other", C_HIGH, C_HIGH),
    Format(0xE003, 0xA001, "jal", ZERO, ZERO, ZERO, C_JUMP),
    Format(0xC003, 0xC001, "branch", ZERO, C_HIGH, ZERO, C_BRANCH),
    Format(0xE003, 0x0002, "slli", C_RD, C_RD, ZERO, C_SHIFT),
    Format(0xE003, 0x2002, "load", ZERO, SP, ZERO, C_FROM_STACK_8, 8),
    Format(0xE003, 0x4002, "load", C_RD, SP, ZERO, C_FROM_STACK_4, 4),
    Format(0xE003, 0x6002, "load", C_RD, SP, ZERO, C_FROM_STACK_8, 8),
    Format(0xEFFF, 0x8002, "trap"),  # c.ebreak
    Format(0xF07F, 0x8002, "jalr", ZERO, C_RD),
    Format(0xF07F, 0x9002, "jalr", RA, C_RD),
    Format(0xF003, 0x8002, "add", C_RD, ZERO, C_RS2),
    Format(0xF003, 0x9002, "add", C_RD, C_RD, C_RS2),
    Format(0xE003, 0xA002, "store other", ZERO, SP, ZERO, C_ON_STACK_8, 8),
    Format(0xE003, 0xC002, "store", ZERO, SP, C_RS2, C_ON_STACK_4, 4),
    Format(0xE003, 0xE002, "store", ZERO, SP, C_RS2, C_ON_STACK_8, 8),
)


@lru_cache(1 << 14)
def _operation(word: int, size: int) -> RiscvOperation:
    """Return what an instruction does."""
    formats = (row for row in (COMPRESSED if size == 2 else FORMATS) if word & row.mask == row.pattern)
    return next((row.read(word) for row in formats), RiscvOperation("unknown"))


# --- execution


def _shifted_right(value: Value | None, count: int) -> Value | None:
    number = number_of(value)
    return Value(number.constant % 2**64 >> count) if number is not None else None


RESULTS: dict[str, Callable[[RiscvOperation, Value | None, Value | None, int], Value | None]] = {
    "lui": lambda operation, _left, _right, _address: Value(operation.number),
    "auipc": lambda operation, _left, _right, address: Value(address + operation.number),
    "addi": lambda operation, left, _right, _address: moved(left, operation.number),
    "addiw": lambda operation, left, _right, _address: sign_extended(moved(left, operation.number), 32),
    "slli": lambda operation, left, _right, _address: scaled(left, operation.number),
    "srli": lambda operation, left, _right, _address: _shifted_right(left, operation.number),
    "add": lambda _operation, left, right, _address: add(left, right),
    "sub": lambda _operation, left, right, _address: add(left, negative(right)),
    "addw": lambda _operation, left, right, _address: sign_extended(add(left, right), 32),
    "subw": lambda _operation, left, right, _address: sign_extended(add(left, negative(right)), 32),
    "load": lambda operation, left, _right, _address: (
        loaded(moved(left, operation.number)) if operation.size == 8 else None
    ),
}
FLOWS = {"branch": Flow.BRANCH, "ecall": Flow.SYSTEM_CALL, "trap": Flow.TRAP, "return": Flow.RETURN}
LOADS = ("load", "load atomically")
STORES = ("store", "store other", "exchange")


class RiscvStep(CodeStep):
    """One instruction."""

    abi = Abi(
        bits=64,
        caller_saved=(RA, *range(5, 8), *range(10, 18), *range(28, 32)),  # psABI, "Integer Register Convention"
        arguments=tuple(range(A0, A0 + 8)),
        system_call=(17, *range(A0, A0 + 6)),
        lost_in_system_call=(A0,),
        zero=ZERO,
    )

    def decode(self) -> None:
        """Execute the operation."""
        operation = _operation(self.word, self.size)
        name = operation.name
        left, right = self.get(operation.rs1), self.get(operation.rs2)
        self.reads_thread_pointer = TP in (operation.rs1, operation.rs2)
        if name == "unknown":
            self.forget(tuple(self.registers))
        elif name in LOADS:
            self.load(moved(left, operation.number), operation.size)
        elif name in STORES:
            self.store(moved(left, operation.number), operation.size, right if name == "store" else None)
        elif name in ("jal", "jalr"):
            self._jump(operation, left)
            return
        elif name == "branch":
            self.branch(Flow.BRANCH, operation.number)
        else:
            self.flow = FLOWS.get(name, Flow.NEXT)
        result = RESULTS.get(name)
        self.write(operation.rd, result(operation, left, right, self.address) if result else None)

    def _jump(self, operation: RiscvOperation, left: Value | None) -> None:
        """Go where jal or jalr leads; as far as 2 GiB where there is an auipc before it."""
        links, where = operation.rd in LINKS, moved(left, operation.number)
        flow = Flow.CALL if links else Flow.JUMP
        if operation.name == "jal":
            self.branch(flow, operation.number)
        elif not links and operation.rd == ZERO and operation.rs1 in LINKS and where is None:
            self.flow = Flow.RETURN  # a PLT stub's t1 is for its first entry
        else:
            self.go(flow, where)
        self.write(operation.rd)


# --- what is an instruction


# Where extensions that capstone 5 does not know have theirs (Zba, Zbb, Zicond, Zfa, Zicboz, Zacas, Zimop, Zcb, V...),
# of which the profile RVA23 has most: of these only the destination is of interest, and that is where it always is.
EXTENDED = frozenset({0x07, 0x0F, 0x13, 0x1B, 0x27, 0x2F, 0x33, 0x3B, 0x53, 0x57, 0x73, 0x77})
EXTENDED_COMPRESSED = frozenset({(0, 4), (1, 4)})


class RiscvDisassembler(Disassembler):
    """Capstone's, that does not stop at instructions of extensions that it does not know."""

    def listed(self, raw: bytes, address: int) -> Iterator[tuple[int, int, str, str]]:
        """Yield the instructions from the start on, up to what is none."""
        place = 0
        while place < len(raw):
            for insn in super().listed(raw[place:], address + place):
                yield insn
                place = insn[0] + insn[1] - address
            word = int.from_bytes(raw[place : place + 4], "little")
            size = 2 if word & 3 != 3 else 4
            compressed = (word & 3, _bits(word, 13, 3)) in EXTENDED_COMPRESSED
            if not (compressed if size == 2 else word & OPCODE in EXTENDED) or len(raw) < place + size:
                return
            yield address + place, size, ".insn", f"{size}, {_bits(word, 0, 8 * size):#x}"
            place += size


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

RISCV64 = Machine(
    name="riscv64",
    e_machine="EM_RISCV",
    little_endian=True,
    capstone=(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    step=RiscvStep,
    relocations=Relocations.listed(
        "R_RISCV_",
        "1:32 2:64 3:RELATIVE 4:COPY 5:JUMP_SLOT 7:TLS_DTPMOD64 9:TLS_DTPREL64 11:TLS_TPREL64 12:TLSDESC 58:IRELATIVE",
        absolute={2},  # GOT entries of data and functions, too: there is no GLOB_DAT
        module=7,
        thread_offset={11},
        descriptor=12,
    ),
    tls_below=False,
    signature=bytes.fromhex("731040f1"),  # csrw mhartid, x0
    system_call=293,
    thread_pattern=Pattern(rb"(?=" + rb"|".join(READS_TP) + rb")"),
    registration_pattern=Pattern(rb"[\x13\x93][\x00-\x0f]\x50\x12", b"\x50\x12", (2,)),  # li rd, 293
    calls=calls.riscv,
    boundary=2,
    reader=RiscvDisassembler,
    relative=True,
    initial={TP: THREAD_POINTER},
)
