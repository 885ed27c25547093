"""T32, arm's instruction set Thumb (Arm Architecture Reference Manual, F3): what the encodings mean."""

from __future__ import annotations

from collections.abc import Callable

from rseq_matrix.elf.machines.arm_step import LINK, MASK, PC, STACK, ArmStep, Op, shifted
from rseq_matrix.elf.machines.execution import (
    Encoded,
    Flow,
    Handler,
    Row,
    Value,
    add,
    handler_of,
    moved,
    negative,
    nothing,
    signed,
)

BLOCK = -1  # a register of our own: the state of an `it` block (ITSTATE); there is none outside of one
ALWAYS = 14
ENTRIES = 2048  # of a table of branches

# The operations of data processing by their numbers here, and by those in 16 bits. The others only write.
OPERATIONS = {0: Op.AND, 1: Op.BIC, 2: Op.ORR, 3: Op.ORN, 4: Op.EOR, 8: Op.ADD, 13: Op.SUB, 14: Op.RSB}
WITHOUT_FIRST = {2: Op.MOV, 3: Op.MVN}  # where the first register is 15
WITHOUT_RESULT = (0, 4, 8, 13)  # tst, teq, cmn, cmp: where the result's register is 15
SHORT_OPERATIONS = {0: Op.AND, 1: Op.EOR, 8: Op.TST, 10: Op.CMP, 11: Op.TST, 12: Op.ORR, 14: Op.BIC, 15: Op.MVN}


# --- 16 bits


def _add_third(i: ArmStep) -> None:
    """add, sub: a third register or three bits."""
    right = Value(i.field(6, 3)) if i.field(10, 1) else i.get(i.field(6, 3))
    i.process(Op.SUB if i.field(9, 1) else Op.ADD, i.field(0, 3), i.get(i.field(3, 3)), right)


def _immediate(i: ArmStep) -> None:
    """mov, cmp, add, sub: eight bits."""
    operation, register = i.field(11, 2), i.field(8, 3)
    i.process((Op.MOV, Op.CMP, Op.ADD, Op.SUB)[operation], register, i.get(register), Value(i.field(0, 8)))


def _short_process(i: ArmStep) -> None:
    operation, register = i.field(6, 4), i.field(0, 3)
    i.process(SHORT_OPERATIONS.get(operation, Op.OTHER), register, i.get(register), i.get(i.field(3, 3)))


def _add_any(i: ArmStep) -> None:
    """add, cmp: any two registers."""
    register = i.field(7, 1) << 3 | i.field(0, 3)
    i.process(Op.CMP if i.field(8, 1) else Op.ADD, register, i.get(register), i.get(i.number(3)))


def _move_any(i: ArmStep) -> None:
    register = i.field(7, 1) << 3 | i.field(0, 3)
    if (register, i.number(3)) == (PC, LINK):
        i.flow = Flow.RETURN
    else:
        i.write(register, i.get(i.number(3)))


def _at_register(i: ArmStep) -> None:
    """Str, strh, strb, ldrsb, ldr, ldrh, ldrb, ldrsh, by this number."""
    operation, base = i.field(9, 3), i.field(3, 3)
    where = add(i.get(base), i.get(i.field(6, 3)))
    i.transfer(i.field(0, 3), base, where, (4, 2, 1, 1, 4, 2, 1, 2)[operation], load=operation > 2)


def _at_offset(size: int) -> Handler:
    def handle(i: ArmStep) -> None:
        base = i.field(3, 3)
        i.transfer(i.field(0, 3), base, moved(i.get(base), size * i.field(6, 5)), size, load=bool(i.field(11, 1)))

    return handle


def _form_address(i: ArmStep) -> None:
    base = i.get(STACK) if i.field(11, 1) else i.base(PC)
    i.write(i.field(8, 3), moved(base, 4 * i.field(0, 8)))


def _listed(mask: int) -> list[int]:
    return [register for register in range(16) if mask >> register & 1]


def _push(i: ArmStep) -> None:
    registers = _listed(i.field(0, 8) | i.field(8, 1) << LINK)
    i.write(STACK, i.transfer_many(STACK, registers, up=False, before=True, load=False))


def _pop(i: ArmStep) -> None:
    registers = _listed(i.field(0, 8) | i.field(8, 1) << PC)
    i.write(STACK, i.transfer_many(STACK, registers, up=True, before=False, load=True))


def _many_upwards(i: ArmStep) -> None:
    base, registers, load = i.field(8, 3), _listed(i.field(0, 8)), bool(i.field(11, 1))
    behind = i.transfer_many(base, registers, up=True, before=False, load=load)
    if not (load and base in registers):
        i.write(base, behind)


SHORT: tuple[Row, ...] = (
    (0xF800, 0x1800, _add_third),
    (0xE000, 0x0000, lambda i: i.write(i.field(0, 3), shifted(i.get(i.field(3, 3)), i.field(11, 2), i.field(6, 5)))),
    (0xE000, 0x2000, _immediate),
    (0xFC00, 0x4000, _short_process),
    (0xFE00, 0x4400, _add_any),
    (0xFF00, 0x4600, _move_any),
    (0xFF00, 0x4700, lambda i: i.jump_to_register(i.number(3), Flow.CALL if i.field(7, 1) else Flow.JUMP)),
    (0xF800, 0x4800, lambda i: i.transfer(i.field(8, 3), PC, moved(i.base(PC), 4 * i.field(0, 8)), 4, load=True)),
    (0xF000, 0x5000, _at_register),
    (0xF000, 0x6000, _at_offset(4)),
    (0xF000, 0x7000, _at_offset(1)),
    (0xF000, 0x8000, _at_offset(2)),
    (
        0xF000,
        0x9000,
        lambda i: i.transfer(
            i.field(8, 3), STACK, moved(i.get(STACK), 4 * i.field(0, 8)), 4, load=bool(i.field(11, 1))
        ),
    ),  # Not a return: none of these registers is the program counter
    (0xF000, 0xA000, _form_address),
    (0xFF00, 0xB000, lambda i: i.write(STACK, moved(i.get(STACK), 4 * i.field(0, 7) * (-1 if i.field(7, 1) else 1)))),
    (0xF500, 0xB100, lambda i: i.branch_by(Flow.BRANCH, i.field(9, 1) << 6 | i.field(3, 5) << 1)),
    (0xFF00, 0xB200, lambda i: i.write(i.field(0, 3))),  # sxth, uxtb, ...
    (0xFE00, 0xB400, _push),
    (0xFFC0, 0xBA80, lambda i: i.leave(Flow.TRAP)),  # hlt
    (0xFF00, 0xBA00, lambda i: i.write(i.field(0, 3))),  # rev
    (0xFE00, 0xBC00, _pop),
    (0xFF00, 0xBE00, lambda i: i.leave(Flow.TRAP)),  # bkpt
    (0xF000, 0xB000, nothing),  # it, nop, cps, setend
    (0xF000, 0xC000, _many_upwards),
    (0xFF00, 0xDE00, lambda i: i.leave(Flow.TRAP)),  # udf
    (0xFF00, 0xDF00, lambda i: i.leave(Flow.SYSTEM_CALL)),
    (0xF000, 0xD000, lambda i: i.branch_by(Flow.BRANCH, 2 * i.signed(0, 8))),
    (0xF800, 0xE000, lambda i: i.branch_by(Flow.JUMP, 2 * i.signed(0, 11))),
)


# --- 32 bits: the first half-word is the upper one


def _displacement(i: ArmStep) -> int:
    """Return the displacement of bl, blx, b.w: 25 bits, two of which are stored otherwise."""
    sign = i.field(26, 1)
    bits = sign << 24 | (i.field(13, 1) ^ sign ^ 1) << 23 | (i.field(11, 1) ^ sign ^ 1) << 22
    return signed(bits | i.field(16, 10) << 12 | i.field(0, 11) << 1, 25)


def _branch_far_on_condition(i: ArmStep) -> None:
    bits = (
        i.field(26, 1) << 20 | i.field(11, 1) << 19 | i.field(13, 1) << 18 | i.field(16, 6) << 12 | i.field(0, 11) << 1
    )
    i.branch_by(Flow.BRANCH, signed(bits, 21))


def _constant(i: ArmStep) -> int:
    """Return a constant as data processing has it: a pattern of one byte, or one that is rotated."""
    kind, byte = i.field(26, 1) << 3 | i.field(12, 3), i.field(0, 8)
    if kind < 4:
        return (byte, byte << 16 | byte, byte << 24 | byte << 8, byte * 0x01010101)[kind]
    rotation, number = kind << 1 | byte >> 7, byte | 0x80
    return (number >> rotation | number << (32 - rotation)) & MASK


def _process(i: ArmStep, right: Value | None) -> None:
    operation, first, register = i.field(21, 4), i.number(16), i.number(8)
    if register == PC and operation in WITHOUT_RESULT:
        i.process(Op.CMP if OPERATIONS[operation] == Op.SUB else Op.TST, register, i.get(first), right)
    elif first == PC and operation in WITHOUT_FIRST:
        i.process(WITHOUT_FIRST[operation], register, None, right)
    else:
        i.process(OPERATIONS.get(operation, Op.OTHER), register, i.get(first), right)


def _process_register(i: ArmStep) -> None:
    amount = i.field(12, 3) << 2 | i.field(6, 2)
    _process(i, shifted(i.get(i.number(0)), i.field(4, 2), amount))


def _twelve_bits(i: ArmStep) -> int:
    return i.field(26, 1) << 11 | i.field(12, 3) << 8 | i.field(0, 8)


def _add_plain(i: ArmStep) -> None:
    """Addw, subw, adr."""
    right = Value(_twelve_bits(i))
    i.write(i.number(8), add(i.base(i.number(16)), negative(right) if i.field(23, 1) else right))


def _move_half(i: ArmStep) -> None:
    """movw, movt."""
    number = i.number(16) << 12 | _twelve_bits(i)
    if i.field(23, 1):
        i.insert_upper_half(i.number(8), number)
    else:
        i.write(i.number(8), Value(number))


def _many(i: ArmStep) -> None:
    base, registers, load = i.number(16), _listed(i.field(0, 16)), bool(i.field(20, 1))
    up = bool(i.field(23, 1))
    behind = i.transfer_many(base, registers, up=up, before=not up, load=load)
    if i.field(21, 1) and not (load and base in registers):
        i.write(base, behind)


def _two(i: ArmStep) -> None:
    """ldrd, strd."""
    base, offset = i.number(16), 4 * i.field(0, 8) * (1 if i.field(23, 1) else -1)
    start = i.base(base)
    there = moved(start, offset)
    if i.field(21, 1):
        i.write(base, there)
    i.transfer_two((i.number(12), i.number(8)), there if i.field(24, 1) else start, load=bool(i.field(20, 1)))


def _transfer(i: ArmStep) -> None:
    """One register; its size, kind and direction are in the same fields in all forms."""
    register, base, load = i.number(12), i.number(16), bool(i.field(20, 1))
    size = 1 << i.field(21, 2)
    where = i.base(base)
    if base == PC:
        where = moved(where, i.field(0, 12) * (1 if i.field(23, 1) else -1))
    elif i.field(23, 1):
        where = moved(where, i.field(0, 12))
    elif i.field(11, 1):
        where = _moving(i, base, where)
    else:
        where = add(where, shifted(i.get(i.number(0)), 0, i.field(4, 2)))
    if not (register == PC and size < 4):  # pld, pli: only hints
        i.transfer(register, base, where, size, load)


def _moving(i: ArmStep, base: int, start: Value | None) -> Value | None:
    """Move the base, if that is asked for; return where the access is: behind the move or before it."""
    there = moved(start, i.field(0, 8) * (1 if i.field(9, 1) else -1))
    if i.field(8, 1):
        i.write(base, there)
    return there if i.field(10, 1) else start


def _anything(i: ArmStep) -> None:
    i.forget(i.number(low) for low in (16, 12, 8, 0))


LONG: tuple[Row, ...] = (
    (0xFFF0F000, 0xF7F0A000, lambda i: i.leave(Flow.TRAP)),  # udf
    (0xFFE0D000, 0xF3E08000, lambda i: i.forget((i.number(8),))),  # mrs
    (0xFFF0D000, 0xF3D08000, lambda i: i.leave(Flow.RETURN)),
    (0xFB80D000, 0xF3808000, nothing),  # msr, hints, barriers
    (0xF800D000, 0xF000D000, lambda i: i.branch_by(Flow.CALL, _displacement(i))),
    (0xF800D000, 0xF000C000, lambda i: i.branch_by(Flow.CALL, _displacement(i), switches=True)),
    (0xF800D000, 0xF0009000, lambda i: i.branch_by(Flow.JUMP, _displacement(i))),
    (0xF800D000, 0xF0008000, _branch_far_on_condition),
    (0xFA008000, 0xF0000000, lambda i: _process(i, Value(_constant(i)))),
    (0xFB408000, 0xF2000000, _add_plain),
    (0xFB708000, 0xF2400000, _move_half),
    (0xFA008000, 0xF2000000, lambda i: i.forget((i.number(8),))),  # bfi, ubfx, ssat, ...
    (0xFFE00000, 0xEAC00000, lambda i: i.forget((i.number(8),))),  # pkhbt
    (0xFE000000, 0xEA000000, _process_register),
    (0xFFF0FFE0, 0xE8D0F000, lambda i: i.jump(None)),
    (0xFFC00000, 0xE8000000, _anything),  # srsdb, rfedb
    (0xFFC00000, 0xE9800000, _anything),  # srsia, rfeia
    (0xFE400000, 0xE8000000, _many),
    (
        0xFF600000,
        0xE8400000,
        lambda i: i.exclusive(i.number(16), bool(i.field(20, 1)), (i.number(12), i.number(8), i.number(0))),
    ),
    (0xFE400000, 0xE8400000, _two),
    (0xEF000000, 0xEF000000, nothing),  # vectors
    (0xFF100000, 0xF9000000, ArmStep.vector_structure),
    (0xEC000000, 0xEC000000, ArmStep.coprocessor),
    (0xFE000000, 0xF8000000, _transfer),
    (0xFF000000, 0xFA000000, lambda i: i.forget((i.number(8),))),
    (0xFF000000, 0xFB000000, lambda i: i.forget((i.number(8), i.number(12)) if i.field(23, 1) else (i.number(8),))),
    (0, 0, _anything),
)


def decode(i: ArmStep) -> None:
    """Find an instruction in the tables; whether it is executed may depend on a condition of an `it` before it."""
    state = i.registers.get(BLOCK)
    i.conditional = state is not None and state.constant >> 4 != ALWAYS
    if i.size == 4:
        i.word = i.word >> 16 | (i.word & 0xFFFF) << 16  # its first half-word is the upper one
    handler = handler_of(LONG if i.size == 4 else SHORT, i.word)
    if handler is not None:
        handler(i)


def advance(i: ArmStep) -> None:
    """Note that an instruction of the block is done, or that one opens a block."""
    state = i.registers.get(BLOCK)
    if i.size == 2 and i.word & 0xFF00 == 0xBF00 and i.word & 15:
        i.written[BLOCK] = Value(i.word & 0xFF)
    elif state is not None:
        more = state.constant & 7
        i.written[BLOCK] = Value(state.constant & 0xE0 | state.constant << 1 & 0x1F) if more else None


def table(insn: Encoded, read: Callable[[int, int], bytes | None]) -> range:
    """Return the bytes of a tbb or tbh's table: it ends at the latest where the nearest of its branches leads."""
    size = 2 if insn.mnemonic.startswith("tbh") else 1
    start = insn.address + insn.size
    end = start + ENTRIES * size
    for place in range(start, start + ENTRIES * size, size):
        raw = read(place, size)
        if place >= end or raw is None:
            break
        end = min(end, start + 2 * int.from_bytes(raw, "little"))
    return range(start, end + end % 2, 2)
