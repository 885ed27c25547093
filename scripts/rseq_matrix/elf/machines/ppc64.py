"""ppc64le (Power ISA 3.1; OpenPOWER "64-Bit ELF V2 ABI Specification", in short ELFv2).

Instructions are executed by the fields of their words: these are few and fixed, while capstone's operands depend on the
alias that it prints. capstone gives the text and says what is code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import capstone

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.execution import (
    THREAD_POINTER,
    ZERO,
    Abi,
    CodeStep,
    Encoded,
    Flow,
    ObjectContext,
    Registers,
    Value,
    Word,
    add,
    loaded,
    moved,
    negative,
    sign_extended,
    signed,
)
from rseq_matrix.elf.machines.machine import Disassembler, Machine, Pattern, Relocations

STACK, TOC_POINTER, THREAD = 1, 2, 13
CTR, LR = 32, 33  # numbers of our own, behind those of the general registers
SPECIAL = {8: LR, 9: CTR}  # mtspr, mfspr
DEDICATED = frozenset({STACK, TOC_POINTER, THREAD})  # no compiler puts just any result there (ELFv2, "Register Roles")
VOLATILE = (0, *range(3, 13), CTR, LR)  # likewise; r2 is saved around calls that change it
TOC = Value(0, word=Word(-1))  # in r2 only: the TOC pointer of the file, whatever that is (ObjectContext.toc)
TOC_SAVE = 24  # from the stack pointer: where r2 is saved around calls (ELFv2, "The Stack Frame")
CANARY = -0x7010  # glibc sysdeps/powerpc/nptl/tls.h, tcbhead_t: stack_guard
# hwcap_extn, hwcap, at_platform there: __builtin_cpu_supports() is made for resolvers, and they are set that early.
CPU_FEATURES = range(-0x7070, -0x7058)
ALWAYS = 0x14  # of BO: the branch depends on nothing; 4: it leaves CTR alone
EVERY_TRAP = 31  # of TO: whatever the comparison says
RETURNS = frozenset({18, 82, 146, 274, 306})  # opcode 19: rfid, rfscv, rfebb, hrfid, urfid
BCLR, BCCTR, BCTAR = 16, 528, 560


# --- which instructions access memory


class MemoryForm(NamedTuple):
    """What a load or store does. `size` 0: unknown or more than one register's."""

    size: int
    store: bool = False
    general: bool = True  # its register is a general one, and of a store it has the value as it is
    update: bool = False  # RA gets the address
    name: str = ""


def _all(
    sizes: dict[int, int], store: bool = False, general: bool = True, update: bool = False
) -> dict[int, MemoryForm]:
    return {xo: MemoryForm(size, store, general, update) for xo, size in sizes.items()}


D_FORMS = {  # lwz lbz stw stb lhz lha sth, each with its update form behind it; lmw stmw; lfs lfd stfs stfd as well
    **_all({32: 4, 34: 1, 40: 2, 42: 2, 46: 0}),
    **_all({33: 4, 35: 1, 41: 2, 43: 2}, update=True),
    **_all({36: 4, 38: 1, 44: 2, 47: 0}, store=True),
    **_all({37: 4, 39: 1, 45: 2}, store=True, update=True),
    **_all({48: 4, 50: 8}, general=False),
    **_all({49: 4, 51: 8}, general=False, update=True),
    **_all({52: 4, 54: 8}, store=True, general=False),
    **_all({53: 4, 55: 8}, store=True, general=False, update=True),
}
DS_FORMS = {  # by opcode and the two lowest bits
    **{(56, low): MemoryForm(16) for low in range(4)},  # lq
    **{(57, low): MemoryForm(size, general=False) for low, size in ((0, 16), (2, 8), (3, 4))},  # lfdp lxsd lxssp
    (58, 0): MemoryForm(8),  # ld
    (58, 1): MemoryForm(8, update=True),
    (58, 2): MemoryForm(4),  # lwa
    **{(61, low): MemoryForm(size, True, False) for low, size in ((0, 16), (2, 8), (3, 4))},  # stfdp stxsd stxssp
    (62, 0): MemoryForm(8, True),  # std
    (62, 1): MemoryForm(8, True, update=True),
    (62, 2): MemoryForm(16, True, False),  # stq
}
DQ_FORMS = {  # by opcode and the low bits that are no displacement
    (61, 1): MemoryForm(16, general=False),  # lxv
    (61, 5): MemoryForm(16, True, False),  # stxv
    (6, 0): MemoryForm(32, general=False),  # lxvp
    (6, 1): MemoryForm(32, True, False),
}
X_FORMS = {
    # ldx lwzx lbzx lhzx lhax lwax, with reservation: lwarx ldarx lbarx lharx lqarx, reversed: lwbrx lhbrx ldbrx,
    # lswi lswx
    **_all({21: 8, 23: 4, 87: 1, 279: 2, 343: 2, 341: 4}),
    **_all({20: 4, 84: 8, 52: 1, 116: 2, 276: 16, 534: 4, 790: 2, 532: 8, 597: 0, 533: 0}),
    **_all({53: 8, 55: 4, 119: 1, 311: 2, 375: 2, 373: 4}, update=True),
    # stdx stwx stbx sthx, conditional: stwcx. stdcx. stbcx. sthcx., atomic: lwat ldat stwat stdat; the rest is no value
    **_all({149: 8, 151: 4, 215: 1, 407: 2, 150: 4, 214: 8, 694: 1, 726: 2}, store=True),
    **_all({181: 8, 183: 4, 247: 1, 439: 2}, store=True, update=True),
    **_all({582: 4, 614: 8}),
    **_all({710: 4, 742: 8, 662: 4, 918: 2, 660: 8, 182: 16, 725: 0, 661: 0, 1014: 0}, store=True, general=False),
    # lfsx lfdx lfiwax lfiwzx lfdpx, lvx lvxl lvebx lvehx lvewx
    **_all({535: 4, 599: 8, 855: 4, 887: 4, 791: 16, 103: 16, 359: 16, 7: 1, 39: 2, 71: 4}, general=False),
    **_all({567: 4, 631: 8}, general=False, update=True),
    # lxvd2x lxvw4x lxvh8x lxvb16x lxvx lxvpx, one element: lxsdx lxvdsx lxvwsx lxsiwzx lxsiwax lxsspx lxsibzx lxsihzx
    **_all({844: 16, 780: 16, 812: 16, 876: 16, 268: 16, 300: 16, 333: 32}, general=False),
    **_all({588: 8, 332: 8, 364: 4, 12: 4, 76: 4, 524: 4, 781: 1, 813: 2}, general=False),
    **_all({13: 1, 45: 2, 77: 4, 109: 8, 269: 0, 301: 0}, general=False),  # lxvrbx.. lxvl lxvll
    **_all({663: 4, 727: 8, 983: 4, 919: 16, 231: 16, 487: 16, 135: 1, 167: 2, 199: 4}, store=True, general=False),
    **_all({695: 4, 759: 8}, store=True, general=False, update=True),
    **_all({972: 16, 908: 16, 940: 16, 1004: 16, 396: 16, 461: 32}, store=True, general=False),
    **_all({716: 8, 140: 4, 652: 4, 909: 1, 941: 2, 141: 1, 173: 2, 205: 4, 237: 8}, store=True, general=False),
    **_all({397: 0, 429: 0}, store=True, general=False),
}
NOT_AS_IT_IS = frozenset({84, 532, 614})  # ldarx ldbrx ldat: what these load may have changed, or is turned around
PREFIXED = {  # by type and opcode (ISA, "Instruction Prefix Formats"): 0 is 8LS, 2 is MLS
    (0, 41): MemoryForm(4, name="plwa"),
    (0, 57): MemoryForm(8, name="pld"),
    (0, 61): MemoryForm(8, True, name="pstd"),
    (0, 56): MemoryForm(16, name="plq"),
    (0, 60): MemoryForm(16, True, False, name="pstq"),
    **{
        (0, opcode): MemoryForm(size, False, False) for opcode, size in ((42, 8), (43, 4), (50, 16), (51, 16), (58, 32))
    },
    **{(0, opcode): MemoryForm(size, True, False) for opcode, size in ((46, 8), (47, 4), (54, 16), (55, 16), (62, 32))},
    (2, 32): MemoryForm(4, name="plwz"),
    (2, 34): MemoryForm(1, name="plbz"),
    (2, 36): MemoryForm(4, True, name="pstw"),
    (2, 38): MemoryForm(1, True, name="pstb"),
    (2, 40): MemoryForm(2, name="plhz"),
    (2, 42): MemoryForm(2, name="plha"),
    (2, 44): MemoryForm(2, True, name="psth"),
    **{(2, opcode): D_FORMS[opcode] for opcode in (48, 50, 52, 54)},
}
PADDI = (2, 14)


# --- an instruction


class PpcStep(CodeStep):
    """One instruction; `word` is its last word, `prefix` the one before that, 0 without one."""

    abi = Abi(
        bits=64,
        caller_saved=VOLATILE,
        arguments=tuple(range(3, 9)),
        system_call=(0, *range(3, 9)),
        lost_in_system_call=VOLATILE,
    )

    def __init__(self, insn: Encoded, registers: Registers, context: ObjectContext) -> None:
        """Read the fields that most forms have, and execute the instruction."""
        self.prefix = int.from_bytes(insn.bytes[:4], "little") if insn.size == 8 else 0
        word = int.from_bytes(insn.bytes[-4:], "little")
        self.opcode, self.xo = word >> 26, word >> 1 & 0x3FF
        self.rt, self.ra, self.rb = word >> 21 & 31, word >> 16 & 31, word >> 11 & 31  # RS, TO, BO; SH
        super().__init__(insn, registers, context)

    @property
    def immediate(self) -> int:
        """Return the signed 16 bits of D-form, 34 with a prefix."""
        if self.prefix:
            return signed((self.prefix & 0x3FFFF) << 16 | self.word & 0xFFFF, 34)
        return signed(self.word, 16)

    @property
    def relative(self) -> bool:
        """Return R of a prefix: the address is the instruction's own plus the immediate."""
        return bool(self.prefix & 1 << 20)

    @property
    def prefixed(self) -> tuple[int, int]:
        """Return the type of the prefix and the opcode, by which instructions with one are told."""
        return self.prefix >> 24 & 3, self.opcode

    @property
    def memory(self) -> MemoryForm | None:
        """Return what the instruction does with memory, None if nothing."""
        if self.prefix:
            return PREFIXED.get(self.prefixed)
        opcode, word = self.opcode, self.word
        if opcode == 31:
            return X_FORMS.get(self.xo)
        quads = word & (7 if opcode == 61 else 15)
        return D_FORMS.get(opcode) or DS_FORMS.get((opcode, word & 3)) or DQ_FORMS.get((opcode, quads))

    @property
    def displacement(self) -> int:
        """Return the displacement of a load or store of D, DS or DQ form."""
        if self.prefix or self.opcode in D_FORMS:
            return self.immediate
        whole = (self.opcode, self.word & 3) in DS_FORMS and self.opcode != 56
        return self.immediate & (-4 if whole else -16)

    @property
    def text(self) -> str:
        """Return the text; capstone has none for prefixed instructions nor scv, and misreads bcl 20, 31."""
        if self.prefix:
            memory = self.memory
            name = "paddi" if self.prefixed == PADDI else memory.name if memory else ""
            base = "pc" if self.relative else f"r{self.ra}"
            if name:
                return f"{name} r{self.rt}, {self.immediate:#x}({base})"
        elif self.opcode == 17 and self.word & 1:
            return "scv 0"
        elif self.opcode == 16 and self.word & 0x03FF0001 == 0x029F0001:
            return f"bcl 20, 31, {self.address + signed(self.word & 0xFFFC, 16):#x}"
        if self.mnemonic == NAMELESS:
            return ".long " + ", ".join(f"{word:#010x}" for word in (self.prefix, self.word) if word)
        return super().text

    # --- registers

    def get(self, register: int) -> Value | None:
        """Return what a register holds, where known."""
        value = self.registers.get(register)
        if value == TOC:
            return None if self.context.toc is None else Value(self.context.toc)
        return value

    def base(self, register: int) -> Value | None:
        """Return what RA stands for where r0 cannot be a base."""
        return self.get(register) if register else ZERO

    def write(self, register: int, value: Value | None = None) -> None:
        """Note what a register holds behind the instruction; the TOC pointer in one form, so that paths agree."""
        is_toc = register == TOC_POINTER and value is not None and value.known and value.constant == self.context.toc
        super().write(register, TOC if is_toc else value)

    # --- execution

    def decode(self) -> None:
        """Go where it goes; else access memory, or compute."""
        if self.prefix:
            self.word >>= 32
        elif _going(self):
            return
        memory = self.memory
        where = _address(self) if memory is not None else None
        self.reads_thread_pointer = _reads_thread_pointer(self, memory) and not _is_cpu_feature(where)
        if memory is not None:
            _access(self, memory, where)
        else:
            _other(self)


# --- results


# Extended opcodes of opcode 31. The result is in RA: and andc or orc xor nor nand eqv, shifts, extswsli, exts*, counts,
# cmpb bpermd prty*, mfvsrd mfvsrwz mfvsrld, brh brw brd.
RESULT_IN_RA = frozenset(
    {28, 60, 444, 412, 316, 124, 476, 284}
    | {24, 27, 536, 539, 792, 794, 824, 826, 827, 890, 891}
    | {954, 922, 986, 26, 58, 538, 570, 122, 378, 506, 508, 252, 154, 186, 51, 115, 307, 219, 155, 187}
)
# It is in RT: add addc adde addze addme subf subfc subfe subfze subfme neg, mul*, div*, mod*, mfspr mftb mfcr setb
# darn.
RESULT_IN_RT = frozenset(
    {266, 10, 138, 202, 234, 40, 8, 136, 200, 232, 104}
    | {235, 233, 75, 11, 73, 9, 491, 459, 489, 457, 427, 395, 425, 393, 777, 267, 779, 265}
    | {339, 371, 19, 128, 755}
)
# There is none: cmp cmpl cmprb cmpeqb tw td mtspr mtcrf, cache and barriers, mtvsr*, lvsl lvsr.
NO_RESULT = frozenset(
    {0, 32, 192, 224, 4, 68, 467, 144, 22, 54, 86, 246, 278, 982, 598, 854, 30, 179, 211, 243, 403, 435, 6, 38}
)
ISEL = 15  # the lowest five bits of its extended opcode
# Of opcode 4: maddhd maddhdu maddld by six bits; vextu*lx vextu*rx, vclzlsbb.., vextract*m, vcntmb* by eleven.
MULTIPLY_ADD = frozenset({48, 49, 51})
FROM_VECTOR = frozenset({1549, 1613, 1677, 1805, 1869, 1933, 1538, 1602})
EXPONENT = 347  # of opcode 60: xsxexpdp xsxsigdp
FROM_RA = frozenset(range(20, 31))  # rlwimi rlwinm rlwnm, ori oris xori xoris andi. andis., rld*: the result is in RA


def _mask(first: int, last: int) -> int:
    """Return ones from bit `first` to bit `last`, counted from the highest, around the end if need be (MASK, ISA)."""
    one, other = (1 << (64 - first)) - 1, (1 << (63 - last)) - 1
    return one & ~other if first <= last else (one | ~other) & 2**64 - 1


def _rotated(i: PpcStep, value: int) -> int | None:
    """Return the result of rldicl, rldicr, rldic or rlwinm; None of the others that rotate."""
    kind, count = i.word >> 2 & 7, i.rb | i.word << 4 & 32
    edge = i.word >> 6 & 31 | i.word & 32
    if i.opcode == 21:  # both halves are the word
        value = (value & 0xFFFFFFFF) * (2**32 + 1)
        count, first, last = i.rb, (i.word >> 6 & 31) + 32, (i.word >> 1 & 31) + 32
    elif i.opcode == 30 and kind < 3:
        value &= 2**64 - 1
        first, last = ((edge, 63), (0, edge), (edge, 63 - count))[kind]
    else:
        return None
    return (value << count | value >> (64 - count)) & _mask(first, last) & 2**64 - 1


def _logical(i: PpcStep, value: int) -> int:
    """Return the result of ori oris xori xoris andi. andis. (opcodes 24 to 29)."""
    operand = (i.word & 0xFFFF) << (16 if i.opcode & 1 else 0)
    if i.opcode < 26:
        return value | operand
    return value ^ operand if i.opcode < 28 else value & operand


def _from_immediate(i: PpcStep) -> Value | None:
    """Return what RA gets from RS and constants (FROM_RA)."""
    value = i.get(i.rt)
    if value is None:
        return None
    if i.opcode in range(24, 28) and not i.word & 0xFFFF:
        return value
    if not value.known:
        return None
    if i.opcode in range(24, 30):
        return Value(_logical(i, value.constant))
    rotated = _rotated(i, value.constant)
    return None if rotated is None else Value(rotated)


def _from_registers(i: PpcStep) -> Value | None:
    """Return the result of an instruction of opcode 31, if it is one that is followed."""
    source, left, right = i.get(i.rt), i.get(i.ra), i.get(i.rb)
    if i.xo in (266, 40):
        return add(right, left if i.xo == 266 else negative(left))
    if i.xo == 444 and i.rt == i.rb:
        return source
    if i.xo == 444 and source and right and source.known and right.known:
        return Value(source.constant | right.constant)
    if i.xo == 986:
        return sign_extended(source, 32)
    return i.get(SPECIAL.get(_special(i), -1)) if i.xo == 339 else None


def _special(i: PpcStep) -> int:
    return i.ra | i.rb << 5


def _register_form(i: PpcStep) -> None:
    """Execute an instruction of opcode 31 that is no access to memory."""
    if i.xo == 467 and _special(i) in SPECIAL:
        i.write(SPECIAL[_special(i)], i.get(i.rt))
    elif i.xo in RESULT_IN_RA:
        i.write(i.ra, _from_registers(i))
    elif i.xo in RESULT_IN_RT or i.xo & 31 == ISEL:
        i.write(i.rt, _from_registers(i))
    elif i.xo not in NO_RESULT:
        i.forget({i.rt, i.ra} - DEDICATED)


def _add_immediate(i: PpcStep) -> None:
    """Execute addi, addis or paddi."""
    base = Value(i.address) if i.relative else i.base(i.ra)
    if (i.opcode, i.rt, i.ra) == (15, TOC_POINTER, 12):
        # The global entry point: r12 is its own address, and the TOC pointer is computed from that (ELFv2).
        base = Value(i.address)
    i.write(i.rt, base and base.plus(i.immediate << (16 if i.opcode == 15 else 0)))


def _other(i: PpcStep) -> None:
    """Execute what is neither an access to memory nor a branch."""
    opcode, word = i.opcode, i.word
    if i.prefix:
        if i.prefixed == PADDI:
            _add_immediate(i)  # all others without access to memory are for vectors
    elif opcode in (14, 15):
        _add_immediate(i)
    elif opcode in FROM_RA:
        i.write(i.ra, _from_immediate(i))
    elif opcode == 31:
        _register_form(i)
    elif opcode == 19 and word >> 1 & 31 == 2:  # addpcis
        high = word & 0xFFC1 | i.ra << 1
        i.write(i.rt, Value(i.end + (signed(high, 16) << 16)))
    elif opcode in (7, 8, 12, 13) or (opcode == 4 and word & 63 in MULTIPLY_ADD):  # mulli subfic addic addic.
        i.write(i.rt, None)
    elif (opcode == 4 and word & 0x7FF in FROM_VECTOR) or (opcode == 60 and word >> 2 & 0x1FF == EXPONENT):
        i.forget({i.rt} - DEDICATED)


# --- memory


def _address(i: PpcStep) -> Value | None:
    if i.relative:
        return Value(i.address + i.immediate)
    if i.opcode == 31 and not i.prefix:
        alone = i.xo in (597, 725)  # lswi, stswi: RB is a number
        return i.base(i.ra) if alone else add(i.base(i.ra), i.get(i.rb))
    return moved(i.base(i.ra), i.displacement)


def _access(i: PpcStep, memory: MemoryForm, where: Value | None) -> None:
    """Execute a load or store. That of a CPU feature is not noted."""
    noted = None if _is_cpu_feature(where) else where
    if memory.store:
        i.store(noted, memory.size, i.get(i.rt) if memory.general and memory.size else None)
    else:
        i.load(noted, memory.size)
        if memory.general:
            _load(i, memory, where)
    if memory.update:
        i.write(i.ra, where)


def _is_cpu_feature(where: Value | None) -> bool:
    return where is not None and where.thread and where.word is None and where.constant in CPU_FEATURES


def _load(i: PpcStep, memory: MemoryForm, where: Value | None) -> None:
    if (i.opcode, i.rt, i.ra) == (58, TOC_POINTER, STACK) and i.displacement == TOC_SAVE:
        i.written[TOC_POINTER] = i.registers.get(TOC_POINTER, TOC)  # behind a call
        return
    if memory.size in (0, 16):  # more than one register
        i.forget(set(range(i.rt, i.rt + 2) if memory.size else range(32)) - DEDICATED)
        return
    other = i.opcode == 31 and i.xo in NOT_AS_IT_IS
    i.write(i.rt, loaded(where) if memory.size == 8 and not other else None)


def _reads_thread_pointer(i: PpcStep, memory: MemoryForm | None) -> bool:
    if i.relative:
        return False
    if i.opcode == 31 and not i.prefix:
        if i.xo == 444:
            return i.rb == THREAD
        return (memory is not None or i.xo in (266, 40)) and THREAD in (i.ra, i.rb)
    adds = i.prefixed == PADDI if i.prefix else i.opcode in (14, 15)
    return (memory is not None or adds) and i.ra == THREAD


# --- where it goes


def _going(i: PpcStep) -> bool:
    """Execute a branch, call, system call or trap; return whether it was one."""
    if i.opcode in (16, 18):
        _branch(i)
    elif i.opcode == 17:
        i.flow = Flow.SYSTEM_CALL
    elif i.opcode == 19:
        _branch_to_register(i)
    else:
        trap = i.opcode in (2, 3) or (i.opcode == 31 and i.xo in (4, 68))
        if i.opcode == 0 or (trap and i.rt == EVERY_TRAP):
            i.flow = Flow.TRAP
    return i.flow is not Flow.NEXT or i.opcode in (16, 18)


def _branch(i: PpcStep) -> None:
    """Execute b, bc and their kind."""
    displacement = signed(i.word & 0x03FFFFFC, 26) if i.opcode == 18 else signed(i.word & 0xFFFC, 16)
    displacement -= i.address if i.word & 2 else 0
    if not i.word & 1:
        always = i.opcode == 18 or i.rt & ALWAYS == ALWAYS
        i.branch(Flow.JUMP if always else Flow.BRANCH, displacement)
    elif displacement != i.size:  # to the next one: it reads its address
        i.branch(Flow.CALL, displacement)
    if i.flow is not Flow.CALL:
        _count(i, i.opcode == 16)
        if i.word & 1:
            i.write(LR, Value(i.end))


def _count(i: PpcStep, counts: bool) -> None:
    if counts and not i.rt & 4:
        i.forget((CTR,))


def _branch_to_register(i: PpcStep) -> None:
    """Execute an instruction of opcode 19 that is a branch."""
    if i.xo in RETURNS:
        i.flow = Flow.RETURN
    elif i.xo in (BCLR, BCCTR, BCTAR):
        through = i.get(CTR) if i.xo == BCCTR else None
        if i.word & 1:
            i.go(Flow.CALL, i.get(LR) if i.xo == BCLR else through)
            return
        if i.rt & ALWAYS != ALWAYS:
            i.go(Flow.BRANCH, through)
        elif i.xo == BCLR:
            i.flow = Flow.RETURN
        else:
            i.go(Flow.JUMP, through)
        _count(i, i.xo in (BCLR, BCTAR))


# --- the machine


NAMELESS = ".byte"  # capstone's mnemonic for what it does not know
VECTORS = frozenset({4, 6, 59, 60, 63})  # opcodes of instructions for vectors and floating point only


def _unknown_size(buffer: Any, size: int, offset: int, _: Any) -> int:
    """Return the size of an instruction that capstone 5 does not know, 0 if there is none.

    Among them are scv, lq, what is new for vectors, and all prefixed ones, whose second word looks like another one.
    """
    raw = bytes(buffer[offset : min(offset + 8, size)])
    if len(raw) < 4:
        return 0
    if raw[3] >> 2 == 1:
        return 8 if len(raw) == 8 else 0
    i = PpcStep(Encoded(0, 4, raw[:4], NAMELESS, ""), {}, ObjectContext())
    leaves = (i.opcode == 17 and i.word & 3 == 1) or (i.opcode == 19 and i.xo in {*RETURNS, BCTAR})
    return 4 if leaves or i.opcode in VECTORS or i.memory is not None else 0


class PpcDisassembler(Disassembler):
    """Capstone's, for which what it does not know is data of that size."""

    def __init__(self, architecture: int, mode: int) -> None:
        super().__init__(architecture, mode)
        self.capstone.skipdata_setup = (NAMELESS, _unknown_size, None)
        self.capstone.skipdata = True


# Words with RA = r13 (addi, addis, loads, stores, opcode 31), maybe behind a prefix, or RB = r13 (opcode 31); not the
# load of the canary. A match must not hide another one that overlaps with it, so that it is empty.
ON_THREAD_POINTER = rb"[\x0d\x2d\x4d\x6d\x8d\xad\xcd\xed][\x18-\x1b\x38-\x3f\x7c-\xeb\xf4-\xfb]"
THREAD_PATTERN = (
    rb"(?=..(?:" + ON_THREAD_POINTER + rb"(?<!\xf0\x8f.[\xe8-\xeb])"
    rb"|[\x00-\x03][\x04\x06].." + ON_THREAD_POINTER + rb")|.[\x68-\x6f].[\x7c-\x7f])"
)

PPC64LE = Machine(
    name="ppc64le",
    e_machine="EM_PPC64",
    little_endian=True,
    capstone=(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN),
    step=PpcStep,
    relocations=Relocations.listed(
        "R_PPC64_",
        "19:COPY 20:GLOB_DAT 21:JMP_SLOT 22:RELATIVE 38:ADDR64 43:UADDR64 68:DTPMOD64 73:TPREL64 78:DTPREL64 "
        "248:IRELATIVE",
        absolute={38, 43},
        module=68,
        thread_offset={73},
    ),
    tls_below=False,
    tls_bias=0x7000,  # ELFv2, "Thread-Local Storage ABI"; the TCB lies before the blocks
    signature=bytes.fromhex("0b00e50f"),  # twui r5, 11
    system_call=387,
    canary=CANARY,
    thread_pattern=Pattern(THREAD_PATTERN),
    registration_pattern=Pattern(rb"\x83\x01[\x00\x60]\x38", b"\x83\x01"),  # li r0, 387; li r3, 387
    calls=calls.ppc64,
    boundary=4,
    reader=PpcDisassembler,
    initial={TOC_POINTER: TOC, THREAD: THREAD_POINTER},
)
