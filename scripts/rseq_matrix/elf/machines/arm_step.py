"""What the instructions of arm's two sets do, apart from how they are encoded (Arm Architecture Reference Manual, F5).

The encodings are in arm.py and thumb.py.
"""

from __future__ import annotations

from collections.abc import Iterable

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
)

FRAME, SCRATCH, STACK, LINK, PC = 11, 12, 13, 14, 15
MASK = 0xFFFFFFFF
LSL, LSR = 0, 1


class Op:
    """The operations of data processing, by their numbers in A32; all others give nothing that is followed."""

    AND, EOR, SUB, RSB, ADD, TST, CMP, CMN, ORR, MOV, BIC, MVN = 0, 1, 2, 3, 4, 8, 10, 11, 12, 13, 14, 15
    ORN, OTHER = 16, 17  # in T32 only


def shifted(value: Value | None, kind: int, amount: int) -> Value | None:
    """Return a shifted value; `amount` 0 is no shift to the left, and to the right something else."""
    if kind == LSL and amount == 0:
        return value
    if value is None or not value.known or kind not in (LSL, LSR) or amount == 0:
        return None
    return Value(value.constant << amount if kind == LSL else (value.constant & MASK) >> amount)


def combined(operation: int, left: Value | None, right: Value | None) -> Value | None:
    """Return the result of an operation of data processing."""
    if operation == Op.MOV:
        return right
    if operation in (Op.ADD, Op.SUB):
        return add(left, right if operation == Op.ADD else negative(right))
    if operation == Op.RSB:
        return add(negative(left), right)
    if right is None or not right.known or (operation != Op.MVN and (left is None or not left.known)):
        return None
    one, other = left.constant if left is not None else 0, right.constant
    both, either = {Op.AND: one & other, Op.BIC: one & ~other}, {Op.ORR: one | other, Op.ORN: one | ~other}
    results = {**both, **either, Op.EOR: one ^ other, Op.MVN: ~other}
    return Value(results[operation]) if operation in results else None


class ArmStep(CodeStep):
    """One instruction of either set."""

    abi = Abi(
        bits=32,
        caller_saved=(0, 1, 2, 3, SCRATCH, LINK),  # AAPCS32, 6.1.1
        arguments=tuple(range(4)),
        system_call=(7, *range(6)),
        lost_in_system_call=(0,),
        lost_for_thread_pointer=(0, SCRATCH, LINK),  # RTABI32, 5.3.5: __aeabi_read_tp() keeps all others
    )
    conditional = False  # whether it depends on a condition if it is executed

    def number(self, low: int) -> int:
        """Return the register number in the four bits from `low` on."""
        return self.word >> low & 15

    @property
    def counter(self) -> int:
        """Return what the program counter reads as: where two instructions on would be."""
        return self.address + (4 if self.thumb else 8)

    def get(self, register: int) -> Value | None:
        """Return the value of a register."""
        return Value(self.counter) if register == PC else self.registers.get(register)

    def base(self, register: int) -> Value | None:
        """Return the value of a base register: the program counter is aligned to a word for that."""
        return Value(self.counter & -4) if register == PC else self.registers.get(register)

    def write(self, register: int, value: Value | None = None) -> None:
        """Note what a register holds from now on; the program counter is a jump, in the instruction set that is on."""
        if register == PC:
            self.jump(value, exchange=not self.thumb)
        else:
            super().write(register, value)

    def forget(self, registers: Iterable[int]) -> None:
        """Note that nothing is known of some registers from now on; the program counter does not come into it."""
        super().forget(register for register in registers if register != PC)

    def load_word(self, where: Value | None) -> Value | None:
        """Note the load of a word; return what it gives: of a constant between the instructions, its number."""
        self.load(where, 4)
        number = self.context.constant(where.constant & MASK) if where is not None and where.known else None
        return Value(number) if number is not None else loaded(where)

    # --- flow

    def branch_by(self, flow: Flow, displacement: int, switches: bool = False) -> None:
        """Note a branch relative to the program counter."""
        self.flow = flow
        self.switches = switches
        self.target = ((self.counter & -4 if switches else self.counter) + displacement) & MASK

    def jump(self, value: Value | None, exchange: bool = True, flow: Flow = Flow.JUMP) -> None:
        """Note a jump or call to an address that is computed; bit 0 says the instruction set, if they are exchanged.

        With the address behind it in the link register, a jump is a call (before Armv5 there was no other way).
        """
        if flow is Flow.JUMP and self.registers.get(LINK) == Value(self.end):
            flow = Flow.CALL
        self.go(flow, value)
        if self.target is not None:
            self.switches = exchange and bool(self.target & 1) != self.thumb
            self.target &= ~1

    def jump_to_register(self, register: int, flow: Flow = Flow.JUMP) -> None:
        """bx and blx."""
        if register == LINK and flow is Flow.JUMP:
            self.flow = Flow.RETURN
        else:
            self.jump(self.get(register), flow=flow)

    # --- what both sets have

    def process(self, operation: int, register: int, left: Value | None, right: Value | None) -> None:
        """Do data processing. A difference is as good as a comparison: compilers count its leading zeroes."""
        if operation in (Op.CMP, Op.SUB, Op.RSB, Op.EOR):
            self.compared = (left, right)
        if operation not in range(Op.TST, Op.CMN + 1):
            self.write(register, combined(operation, left, right))

    def insert_upper_half(self, register: int, number: int) -> None:
        """movt."""
        old = number_of(self.get(register))
        self.write(register, Value(old.constant & 0xFFFF | number << 16) if old is not None else None)

    def transfer(self, register: int, base: int, where: Value | None, size: int, load: bool) -> None:
        """Load or store a register. What is loaded into the program counter from the stack is the return address."""
        if not load:
            self.store(where, size, self.get(register))
        elif size != 4:
            self.load(where, size)
            self.forget((register,))
        elif register != PC:
            self.write(register, self.load_word(where))
        elif base == STACK:
            self.flow = Flow.RETURN
        else:
            self.jump(self.load_word(where))

    def transfer_two(self, registers: tuple[int, int], where: Value | None, load: bool) -> None:
        """ldrd, strd."""
        for place, register in enumerate(registers):
            one = moved(where, 4 * place)
            if load:
                self.load(one, 4)
                self.forget((register,))
            else:
                self.store(one, 4, self.get(register))

    def transfer_many(self, base: int, registers: list[int], up: bool, before: bool, load: bool) -> Value | None:
        """ldm, stm, push, pop. Returns the address behind, for the base register."""
        start, size = self.get(base), 4 * len(registers)
        first = 4 * before if up else 4 * (not before) - size
        for place, register in enumerate(registers):
            where = moved(start, first + 4 * place)
            if not load:
                self.store(where, 4, self.get(register))
            elif register == PC and base in (STACK, FRAME):
                self.flow = Flow.RETURN
            else:
                self.write(register, self.load_word(where))
        return moved(start, size if up else -size)

    def exclusive(self, base: int, load: bool, registers: Iterable[int]) -> None:
        """ldrex, strex, swp and their like: only the access is followed."""
        if load:
            self.load(self.get(base), 0)
        else:
            self.store(self.get(base), 0)
        self.forget(registers)

    def coprocessor(self) -> None:
        """Vectors and system registers; both sets have the same encodings for that."""
        if self.word & 0x0FFF0FFF == 0x0E1D0F70 and self.number(12) != PC:  # mrc p15, 0, rt, c13, c0, 3: TPIDRURO
            self.reads_thread_pointer = True
            self.write(self.number(12), THREAD_POINTER)
        elif self.word & 0x0FE00000 == 0x0C400000:  # mcrr, mrrc, vmov of two registers
            self.forget((self.number(12), self.number(16)) if self.field(20, 1) else ())
        elif self.word & 0x0E000000 == 0x0C000000:
            self._vector_transfer()
        elif self.field(4, 1) and self.field(20, 1):  # mrc, vmov
            self.forget((self.number(12),))

    def _vector_transfer(self) -> None:
        """vldr, vstr, vldm, vstm; and what has the same form."""
        base, up, before, moves, load = self.number(16), *(self.field(bit, 1) for bit in (23, 24, 21, 20))
        where = self.base(base)
        size = 0
        if before and not moves:  # one register; of several the first is as far as is looked
            where = moved(where, 4 * self.field(0, 8) * (1 if up else -1))
            size = 4 if self.field(8, 2) == 2 else 8
        if load:
            self.load(where, size)
        elif not (before and moves):  # vstmdb, vpush: below the base
            self.store(where, size)
        if moves:
            self.forget((base,))

    def vector_structure(self) -> None:
        """vld1 to vld4, vst1 to vst4; a register number of 15 leaves the base as it is."""
        base = self.number(16)
        if self.field(21, 1):
            self.load(self.get(base), 0)
        else:
            self.store(self.get(base), 0)
        if self.number(0) != PC:
            self.forget((base,))

    # --- the end

    def finish(self) -> None:
        """Of an instruction that is executed or not, only what is so in both cases is known behind it."""
        super().finish()
        if self.conditional:
            self._maybe()

    def _maybe(self) -> None:
        """Leave what is so whether the instruction is executed or not.

        A jump whose target is not in the instruction stays one, as if it were always taken: what is not known of it
        must not be overlooked. A trap that need not be there is none.
        """
        for number, value in self.written.items():
            if value != self.registers.get(number):
                self.written[number] = None
        if self.flow is Flow.RETURN or (self.flow is Flow.JUMP and self.target is not None):
            self.flow = Flow.BRANCH
        elif self.flow is Flow.TRAP:
            self.flow = Flow.NEXT
