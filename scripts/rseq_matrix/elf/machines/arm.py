"""arm, 32-bit little-endian (ELF for the Arm Architecture, AAELF32; Procedure Call Standard, AAPCS32).

Here are the encodings of A32 (Arm Architecture Reference Manual, F4), thumb.py has those of T32. capstone only says
what is an instruction, and how it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import capstone

from rseq_matrix.elf.machines import calls, thumb
from rseq_matrix.elf.machines.arm_step import LINK, MASK, PC, ArmStep, Op, shifted
from rseq_matrix.elf.machines.execution import (
    Encoded,
    Flow,
    ObjectContext,
    Row,
    Value,
    add,
    handler_of,
    negative,
    nothing,
)
from rseq_matrix.elf.machines.machine import Machine, Pattern, Relocations

ALWAYS, UNCONDITIONAL = 14, 15


# --- branches and exceptions


# --- data processing


def _process(i: ArmStep, right: Value | None) -> None:
    operation, register = i.field(21, 4), i.number(12)
    if (operation, register) == (Op.MOV, PC) and not i.field(25, 1) and i.number(0) == LINK:
        i.flow = Flow.RETURN
    else:
        i.process(operation, register, i.get(i.number(16)), right)


def _process_constant(i: ArmStep) -> None:
    """Eight bits, rotated."""
    rotation, number = 2 * i.field(8, 4), i.field(0, 8)
    _process(i, Value((number >> rotation | number << (32 - rotation)) & MASK))


def _shifted_register(i: ArmStep) -> Value | None:
    if i.field(4, 1):  # by a register
        return None
    return shifted(i.get(i.number(0)), i.field(5, 2), i.field(7, 5))


def _move_half(i: ArmStep) -> None:
    """movw, movt."""
    number = i.number(16) << 12 | i.field(0, 12)
    if i.field(22, 1):
        i.insert_upper_half(i.number(12), number)
    else:
        i.write(i.number(12), Value(number))


def _write_two(i: ArmStep) -> None:
    """Multiplications, media, and what else has its result in one of two places, or in both."""
    i.forget((i.number(12), i.number(16)))


# --- memory


def _moving(i: ArmStep, offset: Value | None) -> Value | None:
    """Move the base register, if that is asked for; return where the access is: behind the move or before it."""
    base, before = i.number(16), i.field(24, 1)
    start = i.base(base)
    moved = add(start, offset if i.field(23, 1) else negative(offset))
    if not before or i.field(21, 1):
        i.write(base, moved)
    return moved if before else start


def _transfer(i: ArmStep) -> None:
    """ldr, str, ldrb, strb."""
    offset = _shifted_register(i) if i.field(25, 1) else Value(i.field(0, 12))
    where = _moving(i, offset)
    i.transfer(i.number(12), i.number(16), where, 1 if i.field(22, 1) else 4, load=bool(i.field(20, 1)))


def _other_transfer(i: ArmStep) -> None:
    """ldrh, strh, ldrsb, ldrsh, ldrd, strd."""
    kind, load, register = i.field(5, 2), bool(i.field(20, 1)), i.number(12)
    where = _moving(i, Value(i.number(8) << 4 | i.number(0)) if i.field(22, 1) else i.get(i.number(0)))
    if not load and kind >= 2:
        i.transfer_two((register, register + 1), where, load=kind == 2)
    else:
        i.transfer(register, i.number(16), where, 1 if kind == 2 else 2, load)


def _exclusive(i: ArmStep) -> None:
    """swp, ldrex, strex, lda, stl; those of two registers have a second one behind the first."""
    load = bool(i.field(20, 1) and i.field(23, 1))
    i.exclusive(i.number(16), load, (i.number(12), min(i.number(12) + 1, PC)))


def _many(i: ArmStep) -> None:
    """ldm, stm, push, pop."""
    base, load = i.number(16), bool(i.field(20, 1))
    registers = [register for register in range(16) if i.field(register, 1)]
    moved = i.transfer_many(base, registers, up=bool(i.field(23, 1)), before=bool(i.field(24, 1)), load=load)
    if i.field(21, 1) and not (load and base in registers):
        i.write(base, moved)


WITHOUT_CONDITION: tuple[Row, ...] = (
    (0xFE000000, 0xFA000000, lambda i: i.branch_by(Flow.CALL, 4 * i.signed(0, 24) + 2 * i.field(24, 1), switches=True)),
    (0xFE000000, 0xF2000000, nothing),  # vectors
    (0xFF000000, 0xF1000000, nothing),  # cps, setend
    (0xFF100000, 0xF4000000, ArmStep.vector_structure),
    (0xFC000000, 0xF4000000, nothing),  # pld, dmb, ...
    (0xFC000000, 0xFC000000, ArmStep.coprocessor),
    (0, 0, lambda i: i.forget(i.number(low) for low in (16, 12, 8, 0))),
)
WITH_CONDITION: tuple[Row, ...] = (
    (0x0E000000, 0x0A000000, lambda i: i.branch_by(Flow.CALL if i.field(24, 1) else Flow.JUMP, 4 * i.signed(0, 24))),
    (0x0FFFFFF0, 0x012FFF10, lambda i: i.jump_to_register(i.number(0))),
    (0x0FFFFFF0, 0x012FFF20, lambda i: i.jump_to_register(i.number(0))),  # bxj
    (0x0FFFFFF0, 0x012FFF30, lambda i: i.jump_to_register(i.number(0), Flow.CALL)),
    (0x0F000000, 0x0F000000, lambda i: i.leave(Flow.SYSTEM_CALL)),
    (0x0FF000F0, 0x07F000F0, lambda i: i.leave(Flow.TRAP)),  # udf
    (0x0FF000F0, 0x01200070, lambda i: i.leave(Flow.TRAP)),  # bkpt
    (0x0FB00000, 0x03000000, _move_half),
    (0x0FB00000, 0x03200000, nothing),  # msr, nop, ...
    (0x0F0000F0, 0x00000090, _write_two),  # mul, umull, ...
    (0x0F0000F0, 0x01000090, _exclusive),
    (0x0E000090, 0x00000090, _other_transfer),
    (0x0F900000, 0x01000000, _write_two),  # clz, mrs, smulbb, crc32, ...
    (0x0E000000, 0x00000000, lambda i: _process(i, _shifted_register(i))),
    (0x0E000000, 0x02000000, _process_constant),
    (0x0E000010, 0x06000010, _write_two),  # sxtb, bfi, sdiv, ...
    (0x0C000000, 0x04000000, _transfer),
    (0x0E000000, 0x08000000, _many),
    (0x0C000000, 0x0C000000, ArmStep.coprocessor),
    (0, 0, lambda i: i.forget(i.number(low) for low in (16, 12, 8, 0))),
)


# --- the decoder


class A32Step(ArmStep):
    """One instruction of A32, or of T32 where it is said to be Thumb's."""

    def decode(self) -> None:
        """Find the instruction in the tables of its set."""
        if self.thumb:
            thumb.decode(self)
            return
        condition = self.word >> 28
        self.conditional = condition < ALWAYS
        handler = handler_of(WITHOUT_CONDITION if condition == UNCONDITIONAL else WITH_CONDITION, self.word)
        if handler is not None:
            handler(self)

    def finish(self) -> None:
        """Go on in the block of conditional instructions, whatever became of this one."""
        super().finish()
        if self.thumb:
            thumb.advance(self)


def _data_of(insn: Encoded, read: Callable[[int, int], bytes | None]) -> Iterable[int]:
    """Return the half-words that an instruction takes for data: constants between the code, tables of branches."""
    if "[pc" not in insn.op_str:
        return ()
    if insn.mnemonic.startswith("tb"):
        return thumb.table(insn, read)
    loads = [access for access in A32Step(insn, {}, ObjectContext()).accesses if not access.store]
    places = [(access.address.constant & MASK, access.size) for access in loads if access.address.known]
    return [place for start, size in places for place in range(start, start + size, 2)]


def _any(byte: int) -> bytes:
    """Return the expression for a byte whose upper half is the number of a register, or a condition."""
    return b"[" + re.escape(bytes(byte | upper << 4 for upper in range(PC))) + b"]"


ARM = Machine(
    name="arm",
    e_machine="EM_ARM",
    little_endian=True,
    capstone=(capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM | capstone.CS_MODE_V8),
    step=A32Step,
    relocations=Relocations.listed(
        "R_ARM_",
        "2:ABS32 13:TLS_DESC 17:TLS_DTPMOD32 18:TLS_DTPOFF32 19:TLS_TPOFF32 20:COPY 21:GLOB_DAT 22:JUMP_SLOT "
        "23:RELATIVE 160:IRELATIVE",
        absolute={2},
        module=17,
        thread_offset={19},
        descriptor=13,
    ),
    tls_below=False,
    tcb_size=8,  # two words (AAELF32, "Thread-local storage"); glibc sysdeps/arm/nptl/tls.h, TLS_TCB_SIZE
    signature=bytes.fromhex("f3def5e7"),  # udf #0x5de3
    system_call=398,
    # mrc p15, 0, rN, c13, c0, 3
    thread_pattern=Pattern(b"\x70" + _any(0x0F) + b"\x1d" + _any(0x0E), b"\x1d", (2,), rb"\x1d\xee\x70" + _any(0x0F)),
    # movw rN, #398; in Thumb also mov.w and movs.w
    registration_pattern=Pattern(
        b"\x8e" + _any(0x01) + rb"\x00\xe3",
        b"\x00\xe3",
        (2,),
        rb"(?:[\x4f\x5f]\xf4\xc7[\x70-\x7e]|\x40\xf2\x8e[\x10-\x1e])",
    ),
    calls=calls.arm,
    boundary=2,
    thumb=True,
    data_of=_data_of,
    thread_functions=frozenset({"__aeabi_read_tp"}),
    # mrc p15, 0, r0, c13, c0, 3; bx lr
    thread_function=Pattern(
        rb"\x70\x0f\x1d\xee\x1e\xff\x2f\xe1", b"\x70\x0f\x1d\xee\x1e\xff\x2f\xe1", (0,), rb"\x1d\xee\x70\x0f\x70\x47"
    ),
)
