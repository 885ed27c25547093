"""ppc64le (Power ISA 3.1; OpenPOWER "64-Bit ELF V2 ABI Specification", in short ELFv2).

Instructions are executed by the fields of their words: these are few and fixed, while capstone's operands depend on the
alias that it prints, and it cannot tell the written registers here. capstone gives the text and says what is code.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    Word,
    add,
    loaded,
)

STACK, TOC_POINTER, THREAD = 1, 2, 13
CTR, LR = 32, 33  # numbers of our own, behind those of the general registers
SPECIAL = {8: LR, 9: CTR}  # mtspr, mfspr
DEDICATED = frozenset({STACK, TOC_POINTER, THREAD})  # no compiler puts just any result there (ELFv2, "Register Roles")
VOLATILE = (0, *range(3, 13), CTR, LR)  # likewise; r2 is saved around calls that change it
ARGUMENTS = range(3, 9)
TOC = Value(0, word=Word(-1))  # in r2 only: the TOC pointer of the file, whatever that is (Surroundings.toc)
TOC_SAVE = 24  # from the stack pointer: where r2 is saved around calls (ELFv2, "The Stack Frame")
CANARY = -0x7010  # glibc sysdeps/powerpc/nptl/tls.h, tcbhead_t: stack_guard
# hwcap_extn, hwcap, at_platform there: __builtin_cpu_supports() is made for resolvers, and they are set that early.
CPU_FEATURES = range(-0x7070, -0x7058)
ALWAYS = 0x14  # of BO: the branch depends on nothing; 4: it leaves CTR alone
EVERY_TRAP = 31  # of TO: whatever the comparison says
RETURNS = frozenset({18, 82, 146, 274, 306})  # opcode 19: rfid, rfscv, rfebb, hrfid, urfid
BCLR, BCCTR, BCTAR = 16, 528, 560


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


# --- the words of an instruction


class Encoding(NamedTuple):
    """An instruction: its address and word; `prefix` is the word before that, 0 without one."""

    address: int
    word: int
    prefix: int = 0

    @property
    def opcode(self) -> int:
        """Return the primary opcode."""
        return self.word >> 26

    @property
    def xo(self) -> int:
        """Return the extended opcode of most forms with one."""
        return self.word >> 1 & 0x3FF

    @property
    def rt(self) -> int:
        """Return RT, RS, TO or BO."""
        return self.word >> 21 & 31

    @property
    def ra(self) -> int:
        """Return RA."""
        return self.word >> 16 & 31

    @property
    def rb(self) -> int:
        """Return RB or SH."""
        return self.word >> 11 & 31

    @property
    def immediate(self) -> int:
        """Return the signed 16 bits of D-form, 34 with a prefix."""
        if self.prefix:
            return _signed((self.prefix & 0x3FFFF) << 16 | self.word & 0xFFFF, 34)
        return _signed(self.word, 16)

    @property
    def relative(self) -> bool:
        """Return R of a prefix: the address is the instruction's own plus the immediate."""
        return bool(self.prefix & 1 << 20)

    @property
    def end(self) -> int:
        """Return the address behind it."""
        return self.address + (8 if self.prefix else 4)


# --- which instructions access memory


class Memory(NamedTuple):
    """What a load or store does. `size` 0: unknown or more than one register's."""

    size: int
    store: bool = False
    general: bool = True  # its register is a general one, and of a store it has the value as it is
    update: bool = False  # RA gets the address
    name: str = ""


def _all(sizes: dict[int, int], store: bool = False, general: bool = True, update: bool = False) -> dict[int, Memory]:
    return {xo: Memory(size, store, general, update) for xo, size in sizes.items()}


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
    **{(56, low): Memory(16) for low in range(4)},  # lq
    **{(57, low): Memory(size, general=False) for low, size in ((0, 16), (2, 8), (3, 4))},  # lfdp lxsd lxssp
    (58, 0): Memory(8),  # ld
    (58, 1): Memory(8, update=True),
    (58, 2): Memory(4),  # lwa
    **{(61, low): Memory(size, True, False) for low, size in ((0, 16), (2, 8), (3, 4))},  # stfdp stxsd stxssp
    (62, 0): Memory(8, True),  # std
    (62, 1): Memory(8, True, update=True),
    (62, 2): Memory(16, True, False),  # stq
}
DQ_FORMS = {  # by opcode and the low bits that are no displacement
    (61, 1): Memory(16, general=False),  # lxv
    (61, 5): Memory(16, True, False),  # stxv
    (6, 0): Memory(32, general=False),  # lxvp
    (6, 1): Memory(32, True, False),
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
    (0, 41): Memory(4, name="plwa"),
    (0, 57): Memory(8, name="pld"),
    (0, 61): Memory(8, True, name="pstd"),
    (0, 56): Memory(16, name="plq"),
    (0, 60): Memory(16, True, False, name="pstq"),
    **{(0, opcode): Memory(size, False, False) for opcode, size in ((42, 8), (43, 4), (50, 16), (51, 16), (58, 32))},
    **{(0, opcode): Memory(size, True, False) for opcode, size in ((46, 8), (47, 4), (54, 16), (55, 16), (62, 32))},
    (2, 32): Memory(4, name="plwz"),
    (2, 34): Memory(1, name="plbz"),
    (2, 36): Memory(4, True, name="pstw"),
    (2, 38): Memory(1, True, name="pstb"),
    (2, 40): Memory(2, name="plhz"),
    (2, 42): Memory(2, name="plha"),
    (2, 44): Memory(2, True, name="psth"),
    **{(2, opcode): D_FORMS[opcode] for opcode in (48, 50, 52, 54)},
}
PADDI = (2, 14)


def _prefixed(code: Encoding) -> tuple[int, int]:
    return code.prefix >> 24 & 3, code.opcode


def _memory(code: Encoding) -> Memory | None:
    """Return what an instruction does with memory, None if nothing."""
    if code.prefix:
        return PREFIXED.get(_prefixed(code))
    if code.opcode == 31:
        return X_FORMS.get(code.xo)
    quads = code.word & (7 if code.opcode == 61 else 15)
    return D_FORMS.get(code.opcode) or DS_FORMS.get((code.opcode, code.word & 3)) or DQ_FORMS.get((code.opcode, quads))


def _displacement(code: Encoding) -> int:
    if code.prefix or code.opcode in D_FORMS:
        return code.immediate
    whole = (code.opcode, code.word & 3) in DS_FORMS and code.opcode != 56
    return code.immediate & (-4 if whole else -16)


# --- registers


@dataclass
class State:
    """The registers, and the TOC pointer that r2 holds where a function starts."""

    registers: Registers
    toc: int | None

    def get(self, number: int) -> Value | None:
        """Return what a register holds, where known."""
        value = self.registers.get(number)
        if value == TOC:
            return None if self.toc is None else Value(self.toc)
        return value

    def base(self, number: int) -> Value | None:
        """Return what RA stands for where r0 cannot be a base."""
        return self.get(number) if number else Value(0)

    def put(self, number: int, value: Value | None) -> None:
        """Set a register; to None: what it holds is not known."""
        if value is None:
            self.registers.pop(number, None)
        elif number == TOC_POINTER and value.known and value.constant == self.toc:
            self.registers[number] = TOC  # one form only, so that paths that join agree
        else:
            self.registers[number] = value._replace(constant=_signed(value.constant, 64))

    def forget(self, numbers: Iterable[int]) -> None:
        """Note that some registers hold something unknown."""
        for number in numbers:
            self.registers.pop(number, None)


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


def _rotated(code: Encoding, value: int) -> int | None:
    """Return the result of rldicl, rldicr, rldic or rlwinm; None of the others that rotate."""
    kind, count = code.word >> 2 & 7, code.rb | code.word << 4 & 32
    edge = code.word >> 6 & 31 | code.word & 32
    if code.opcode == 21:  # both halves are the word
        value = (value & 0xFFFFFFFF) * (2**32 + 1)
        count, first, last = code.rb, (code.word >> 6 & 31) + 32, (code.word >> 1 & 31) + 32
    elif code.opcode == 30 and kind < 3:
        value &= 2**64 - 1
        first, last = ((edge, 63), (0, edge), (edge, 63 - count))[kind]
    else:
        return None
    return (value << count | value >> (64 - count)) & _mask(first, last) & 2**64 - 1


def _logical(code: Encoding, value: int) -> int:
    """Return the result of ori oris xori xoris andi. andis. (opcodes 24 to 29)."""
    operand = (code.word & 0xFFFF) << (16 if code.opcode & 1 else 0)
    if code.opcode < 26:
        return value | operand
    return value ^ operand if code.opcode < 28 else value & operand


def _from_immediate(code: Encoding, state: State) -> Value | None:
    """Return what RA gets from RS and constants (FROM_RA)."""
    value = state.get(code.rt)
    if value is None:
        return None
    if code.opcode in range(24, 28) and not code.word & 0xFFFF:
        return value
    if not value.known:
        return None
    if code.opcode in range(24, 30):
        return Value(_logical(code, value.constant))
    rotated = _rotated(code, value.constant)
    return None if rotated is None else Value(rotated)


def _from_registers(code: Encoding, state: State) -> Value | None:
    """Return the result of an instruction of opcode 31, if it is one that is followed."""
    source, left, right = state.get(code.rt), state.get(code.ra), state.get(code.rb)
    result = None
    if code.xo == 266:
        result = add(left, right)
    elif code.xo == 40 and left is not None and left.known:
        result = add(right, Value(-left.constant))
    elif code.xo == 444 and code.rt == code.rb:
        result = source
    elif code.xo == 444 and source and right and source.known and right.known:
        result = Value(source.constant | right.constant)
    elif code.xo == 986 and source and source.known:
        result = Value(_signed(source.constant, 32))
    elif code.xo == 339:
        result = state.get(SPECIAL.get(_special(code), -1))
    return result


def _special(code: Encoding) -> int:
    return code.ra | code.rb << 5


def _register_form(code: Encoding, state: State) -> None:
    """Execute an instruction of opcode 31 that is no access to memory."""
    if code.xo == 467 and _special(code) in SPECIAL:
        state.put(SPECIAL[_special(code)], state.get(code.rt))
    elif code.xo in RESULT_IN_RA:
        state.put(code.ra, _from_registers(code, state))
    elif code.xo in RESULT_IN_RT or code.xo & 31 == ISEL:
        state.put(code.rt, _from_registers(code, state))
    elif code.xo not in NO_RESULT:
        state.forget({code.rt, code.ra} - DEDICATED)


def _add_immediate(code: Encoding, state: State) -> None:
    """Execute addi, addis or paddi."""
    base = Value(code.address) if code.relative else state.base(code.ra)
    if (code.opcode, code.rt, code.ra) == (15, TOC_POINTER, 12):
        # The global entry point: r12 is its own address, and the TOC pointer is computed from that (ELFv2).
        base = Value(code.address)
    state.put(code.rt, base and base.plus(code.immediate << (16 if code.opcode == 15 else 0)))


def _other(code: Encoding, state: State) -> None:
    """Execute what is neither an access to memory nor a branch."""
    opcode, word = code.opcode, code.word
    if code.prefix:
        if _prefixed(code) == PADDI:
            _add_immediate(code, state)  # all others without access to memory are for vectors
    elif opcode in (14, 15):
        _add_immediate(code, state)
    elif opcode in FROM_RA:
        state.put(code.ra, _from_immediate(code, state))
    elif opcode == 31:
        _register_form(code, state)
    elif opcode == 19 and word >> 1 & 31 == 2:  # addpcis
        high = word & 0xFFC1 | code.ra << 1
        state.put(code.rt, Value(code.end + (_signed(high, 16) << 16)))
    elif opcode in (7, 8, 12, 13) or (opcode == 4 and word & 63 in MULTIPLY_ADD):  # mulli subfic addic addic.
        state.put(code.rt, None)
    elif (opcode == 4 and word & 0x7FF in FROM_VECTOR) or (opcode == 60 and word >> 2 & 0x1FF == EXPONENT):
        state.forget({code.rt} - DEDICATED)


# --- memory


def _address(code: Encoding, state: State) -> Value | None:
    if code.relative:
        return Value(code.address + code.immediate)
    if code.opcode == 31 and not code.prefix:
        alone = code.xo in (597, 725)  # lswi, stswi: RB is a number
        return state.base(code.ra) if alone else add(state.base(code.ra), state.get(code.rb))
    return add(state.base(code.ra), Value(_displacement(code)))


def _access(code: Encoding, memory: Memory, state: State, where: Value | None) -> tuple[Access, ...]:
    """Execute a load or store. Returns the access if its address is known."""
    stored = state.get(code.rt) if memory.store and memory.general and memory.size else None
    if memory.general and not memory.store:
        _load(code, memory, state, where)
    if memory.update:
        state.put(code.ra, where)
    if where is None or _is_cpu_feature(where):
        return ()
    return (Access(where, memory.store, memory.size, stored),)


def _is_cpu_feature(where: Value | None) -> bool:
    return where is not None and where.thread and where.word is None and where.constant in CPU_FEATURES


def _load(code: Encoding, memory: Memory, state: State, where: Value | None) -> None:
    if (code.opcode, code.rt, code.ra) == (58, TOC_POINTER, STACK) and _displacement(code) == TOC_SAVE:
        state.registers.setdefault(TOC_POINTER, TOC)  # behind a call
        return
    if memory.size in (0, 16):  # more than one register
        state.forget(set(range(code.rt, code.rt + 2) if memory.size else range(32)) - DEDICATED)
        return
    other = code.opcode == 31 and code.xo in NOT_AS_IT_IS
    state.put(code.rt, loaded(where) if memory.size == 8 and not other else None)


# --- where it goes


class Going(NamedTuple):
    """Where an instruction goes on; as in Step."""

    flow: Flow = Flow.NEXT
    target: int | None = None
    through: Value | None = None


def _going(code: Encoding, state: State) -> Going:
    if code.prefix:
        return Going()
    if code.opcode in (16, 18):
        return _branch(code)
    if code.opcode == 17:
        return Going(Flow.SYSTEM_CALL)
    if code.opcode == 19:
        return _branch_to_register(code, state)
    trap = code.opcode in (2, 3) or (code.opcode == 31 and code.xo in (4, 68))
    if code.opcode == 0 or (trap and code.rt == EVERY_TRAP):
        return Going(Flow.TRAP)
    return Going()


def _branch(code: Encoding) -> Going:
    """Return where b, bc and their kind go."""
    displacement = _signed(code.word & 0x03FFFFFC, 26) if code.opcode == 18 else _signed(code.word & 0xFFFC, 16)
    target = (displacement + (0 if code.word & 2 else code.address)) % 2**64
    if code.word & 1:
        return Going() if target == code.end else Going(Flow.CALL, target)  # to the next one: it reads its address
    always = code.opcode == 18 or code.rt & ALWAYS == ALWAYS
    return Going(Flow.JUMP if always else Flow.BRANCH, target)


def _branch_to_register(code: Encoding, state: State) -> Going:
    """Return where an instruction of opcode 19 goes."""
    if code.xo in RETURNS:
        return Going(Flow.RETURN)
    if code.xo not in (BCLR, BCCTR, BCTAR):
        return Going()
    through = state.get(CTR) if code.xo == BCCTR else None
    if code.word & 1:
        return Going(Flow.CALL, None, state.get(LR) if code.xo == BCLR else through)
    if code.rt & ALWAYS != ALWAYS:
        return Going(Flow.BRANCH, None, through)
    return Going(Flow.RETURN) if code.xo == BCLR else Going(Flow.JUMP, None, through)


def _leave(code: Encoding, flow: Flow, state: State) -> None:
    """Note what a branch, call or system call does to the registers."""
    if flow in (Flow.CALL, Flow.SYSTEM_CALL):
        state.forget(VOLATILE)
        return
    conditional = code.opcode == 16 or (code.opcode == 19 and code.xo in (BCLR, BCTAR))
    if conditional and not code.rt & 4:
        state.forget((CTR,))
    if code.opcode in (16, 18) and code.word & 1:
        state.put(LR, Value(code.end))


# --- one instruction


def _reads_thread_pointer(code: Encoding, memory: Memory | None) -> bool:
    if code.relative:
        return False
    if code.opcode == 31 and not code.prefix:
        if code.xo == 444:
            return code.rb == THREAD
        return (memory is not None or code.xo in (266, 40)) and THREAD in (code.ra, code.rb)
    adds = _prefixed(code) == PADDI if code.prefix else code.opcode in (14, 15)
    return (memory is not None or adds) and code.ra == THREAD


def _text(insn: Any, code: Encoding) -> str:
    """Return the text; capstone has none for prefixed instructions nor scv, and misreads bcl 20, 31."""
    if code.prefix:
        memory = PREFIXED.get(_prefixed(code))
        name = "paddi" if _prefixed(code) == PADDI else memory.name if memory else ""
        base = "pc" if code.relative else f"r{code.ra}"
        if name:
            return f"{name} r{code.rt}, {code.immediate:#x}({base})"
    elif code.opcode == 17 and code.word & 1:
        return "scv 0"
    elif code.opcode == 16 and code.word & 0x03FF0001 == 0x029F0001:
        return f"bcl 20, 31, {_branch(code).target or code.end:#x}"
    if insn.mnemonic == NAMELESS:
        return ".long " + ", ".join(f"{word:#010x}" for word in (code.prefix, code.word) if word)
    return f"{insn.mnemonic} {insn.op_str}".strip()


def _execute(insn: Any, registers: Registers, surroundings: Surroundings) -> Step:
    raw = bytes(insn.bytes)
    words = [int.from_bytes(raw[place : place + 4], "little") for place in range(0, len(raw), 4)]
    code = Encoding(insn.address, words[-1], words[0] if len(words) > 1 else 0)
    state = State(registers, surroundings.toc)
    flow, target, through = _going(code, state)
    memory = _memory(code)
    where = _address(code, state) if memory is not None else None
    arguments: tuple[Value | None, ...] = ()
    if flow in (Flow.CALL, Flow.SYSTEM_CALL):
        first = (0,) if flow is Flow.SYSTEM_CALL else ()
        arguments = tuple(state.get(number) for number in (*first, *ARGUMENTS))
    accesses: tuple[Access, ...] = ()
    if flow is not Flow.NEXT or code.opcode in (16, 18):
        _leave(code, flow, state)
    elif memory is not None:
        accesses = _access(code, memory, state, where)
    else:
        _other(code, state)
    reads = _reads_thread_pointer(code, memory) and not _is_cpu_feature(where)
    text = _text(insn, code)
    return Step(insn.address, len(raw), raw, text, flow, target, through, accesses, reads, arguments)


# --- the machine


NAMELESS = ".byte"  # capstone's mnemonic for what it does not know
VECTORS = frozenset({4, 6, 59, 60, 63})  # opcodes of instructions for vectors and floating point only


def _unknown_size(buffer: Any, size: int, offset: int, _: Any) -> int:
    """Return the size of an instruction that capstone 5 does not know, 0 if there is none.

    Among them are scv, lq, what is new for vectors, and all prefixed ones, whose second word looks like another one.
    """
    raw = buffer[offset : min(offset + 8, size)]
    code = Encoding(0, int.from_bytes(raw[:4], "little"))
    if len(raw) < 4:
        return 0
    if code.opcode == 1:
        return 8 if len(raw) == 8 else 0
    leaves = (code.opcode == 17 and code.word & 3 == 1) or (code.opcode == 19 and code.xo in {*RETURNS, BCTAR})
    return 4 if leaves or code.opcode in VECTORS or _memory(code) is not None else 0


@dataclass(frozen=True)
class PowerPC(Machine):
    """A machine whose disassembler knows more than capstone's."""

    def disassembler(self, detail: bool = True) -> Any:
        """Return a capstone disassembler for which what it does not know is data of that size."""
        made = super().disassembler(detail)
        made.skipdata_setup = (NAMELESS, _unknown_size, None)
        made.skipdata = True
        return made


# Words with RA = r13 (addi, addis, loads, stores, opcode 31), maybe behind a prefix, or RB = r13 (opcode 31); not the
# load of the canary. A match must not hide another one that overlaps with it, so that it is empty.
ON_THREAD_POINTER = rb"[\x0d\x2d\x4d\x6d\x8d\xad\xcd\xed][\x18-\x1b\x38-\x3f\x7c-\xeb\xf4-\xfb]"
THREAD_PATTERN = (
    rb"(?=..(?:" + ON_THREAD_POINTER + rb"(?<!\xf0\x8f.[\xe8-\xeb])"
    rb"|[\x00-\x03][\x04\x06].." + ON_THREAD_POINTER + rb")|.[\x68-\x6f].[\x7c-\x7f])"
)

PPC64LE = PowerPC(
    name="ppc64le",
    e_machine="EM_PPC64",
    bits=64,
    little_endian=True,
    capstone=(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN),
    decoder=_execute,
    relocations=Relocations(
        names={
            19: "R_PPC64_COPY",
            20: "R_PPC64_GLOB_DAT",
            21: "R_PPC64_JMP_SLOT",
            22: "R_PPC64_RELATIVE",
            38: "R_PPC64_ADDR64",
            43: "R_PPC64_UADDR64",
            68: "R_PPC64_DTPMOD64",
            73: "R_PPC64_TPREL64",
            78: "R_PPC64_DTPREL64",
            248: "R_PPC64_IRELATIVE",
        },
        relative=22,
        irelative=248,
        absolute=frozenset({38, 43}),
        got=frozenset({20, 21}),
        module=68,
        thread_offset=frozenset({73}),
        descriptor=None,
        copy=19,
    ),
    tls_below=False,
    tcb_size=0,
    tls_bias=0x7000,  # ELFv2, "Thread-Local Storage ABI"; the TCB lies before the blocks
    tls_alignment=32,  # glibc nptl/descr.h: TCB_ALIGNMENT where pthreaddef.h has none
    signature=bytes.fromhex("0b00e50f"),
    signature_code=bytes.fromhex("0b00e50f"),  # twui r5, 11
    system_call=387,
    canary=lambda address: address.word is None and address.constant == CANARY,
    thread_pattern=Pattern(THREAD_PATTERN),
    registration_pattern=Pattern(rb"\x83\x01[\x00\x60]\x38", b"\x83\x01"),  # li r0, 387; li r3, 387
    calls=calls.ppc64,
    step=4,
    initial={TOC_POINTER: TOC, THREAD: THREAD_POINTER},
)
