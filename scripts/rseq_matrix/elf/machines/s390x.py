"""s390x (z/Architecture Principles of Operation, in short PoP; "s390x ELF Application Binary Interface Supplement").

What is followed is read from the bytes of the instructions (PoP, "Instruction Formats"). Of the others only what they
write is needed, and capstone's mnemonic and first operand say that; it has no register accesses for this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import capstone

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.execution import (
    THREAD_POINTER,
    ZERO,
    Abi,
    CodeStep,
    Flow,
    Handler,
    Value,
    add,
    loaded,
    moved,
    number_of,
    scaled,
    sign_extended,
    signed,
    zero_extended,
)
from rseq_matrix.elf.machines.machine import Machine, Pattern, Relocations

RETURN_ADDRESS, STACK = 14, 15
# The thread pointer is in access registers 0 (its high half) and 1. Registers of our own say of a general one that its
# low half, or its high half, is access register 0.
LOW_HALF, HIGH_HALF = 32, 64
MARK = Value(-1)
CANARY = 0x28  # glibc sysdeps/s390/nptl/tls.h, tcbhead_t: stack_guard

# Opcodes are where the format says: in the first byte, in the first two, in the first and half of the second (RI, RIL),
# or in the first and last.
HALF = frozenset({0xA5, 0xA7, 0xC0, 0xC2, 0xC4, 0xC6, 0xC8, 0xCC})
LAST = frozenset({0xE3, 0xE6, 0xE7, 0xEB, 0xEC, 0xED})
SECOND = frozenset({0x01, 0xB2, 0xB3, 0xB9, 0xE5})

EVERY_CONDITION = 15


def _opcode(raw: bytes) -> int:
    if raw[0] in HALF:
        return raw[0] << 4 | raw[1] & 15
    if raw[0] in LAST:
        return raw[0] << 8 | raw[5]
    return raw[0] << 8 | raw[1] if raw[0] in SECOND else raw[0]


class S390Step(CodeStep):
    """One instruction."""

    abi = Abi(
        bits=64,
        caller_saved=(*range(6), RETURN_ADDRESS),
        arguments=tuple(range(2, 7)),
        system_call=(1, *range(2, 8)),  # the number, unless the instruction says it
        lost_in_system_call=(2,),
    )

    # --- fields

    def digit(self, place: int) -> int:
        """Return a hexadecimal digit of the instruction: most name a register."""
        return self.raw[place // 2] >> (0 if place % 2 else 4) & 15

    @property
    def first(self) -> int:
        """Return R1, where it is the third digit; of RRE and RRF it is the seventh."""
        return self.digit(6) if self.raw[0] in (0xB2, 0xB3, 0xB9) else self.digit(2)

    @property
    def second(self) -> int:
        """Return R2, behind R1."""
        return self.digit(7) if self.raw[0] in (0xB2, 0xB3, 0xB9) else self.digit(3)

    @property
    def long(self) -> bool:
        """Return whether the displacement has 20 bits with a sign, not 12: in RXY, RSY and SIY."""
        return self.raw[0] in (0xE3, 0xEB) or (self.raw[0] == 0xED and 0x64 <= self.raw[5] <= 0x67)

    @property
    def immediate(self) -> int:
        """Return I2 of RI and RIL, and of RIE-a to RIE-d: the 16 or 32 signed bits from the third byte on."""
        wide = self.raw[0] in (0xC0, 0xC2, 0xC4, 0xC6)
        return int.from_bytes(self.raw[2 : 6 if wide else 4], "big", signed=True)

    @property
    def relative(self) -> int:
        """Return the address that a relative immediate means."""
        return (self.address + 2 * self.immediate) % 2**64

    def base(self, place: int, long: bool = False) -> Value | None:
        """Return base + displacement, whose fields start at a byte. As a base, register 0 is the number 0."""
        number, displacement = self.digit(2 * place), (self.raw[place] & 15) << 8 | self.raw[place + 1]
        if long:
            displacement |= signed(self.raw[4], 8) << 12
        return self.sum(ZERO if number == 0 else self.get(number), Value(displacement))

    def indexed(self, long: bool = False) -> Value | None:
        """Return base + index + displacement (RX, RXY)."""
        index = self.digit(3)
        return self.sum(self.base(2, long), ZERO if index == 0 else self.get(index))

    def sum(self, one: Value | None, other: Value | None) -> Value | None:
        """Return the sum. A thread pointer that is lost in it is used for something."""
        found = add(one, other)
        if found is None:
            self.reads_thread_pointer |= any(value is not None and value.thread for value in (one, other))
            return None
        return self.within(found)

    def compare(self, one: int, other: int) -> None:
        """Note that it compares two registers."""
        self.compared = (self.get(one), self.get(other))

    def put(self, value: Value | None = None) -> None:
        """Note what R1 holds behind the instruction."""
        self.write(self.first, value)

    def store(self, where: Value | None, size: int, value: Value | None = None) -> None:
        """Note a store. A thread pointer that is stored is used for something."""
        self.reads_thread_pointer |= value is not None and value.thread
        super().store(where, size, value)

    # --- execution

    def decode(self) -> None:
        """Find the instruction in the table."""
        TABLE.get(_opcode(self.raw), _other)(self)

    def finish(self) -> None:
        """Add to what calls do. A thread pointer that leaves the function is used for something.

        That its registers are read says nothing yet: so does every function with a stack protector. A register that is
        written has none of its halves from an access register any more, unless it was just said.
        """
        super().finish()
        flow = self.flow
        if flow is Flow.SYSTEM_CALL and self.raw[1]:
            self.arguments = (Value(self.raw[1]), *self.arguments[1:])
        leaving = (self.get(2),) if flow is Flow.RETURN else self.arguments
        if flow is not Flow.JUMP or self.target is None:
            self.reads_thread_pointer |= any(value is not None and value.thread for value in leaving)
        halves = [number + half for number in self.written for half in (LOW_HALF, HIGH_HALF)]
        for number in halves:
            if number in self.registers:
                self.written.setdefault(number)


# --- branches


def _branch_on_condition(i: S390Step) -> None:
    """bcr: to the address in a register, 0 being none. A return where that is the return address's."""
    mask, register = i.digit(2), i.digit(3)
    if mask and register == RETURN_ADDRESS:
        i.leave(Flow.RETURN if mask == EVERY_CONDITION else Flow.BRANCH)
    elif mask and register:
        i.go(Flow.JUMP, i.get(register))


def _branch_on_condition_to_storage(i: S390Step) -> None:
    """bc: to an address that is computed as that of an operand."""
    if i.digit(2):
        i.go(Flow.JUMP, i.indexed())


def _branch_relative_on_condition(i: S390Step) -> None:
    if i.digit(2):
        i.leave(Flow.JUMP if i.digit(2) == EVERY_CONDITION else Flow.BRANCH, i.relative)


def _call_relative(i: S390Step) -> None:
    """bras, brasl. Where bras sets another register, it jumps over constants that the code finds by that register."""
    i.leave(Flow.CALL if i.first == RETURN_ADDRESS or i.raw[0] == 0xC0 else Flow.JUMP, i.relative)
    i.put(Value(i.end))


def _call_register(i: S390Step) -> None:
    """basr, balr, bassm. Without a second register only the address behind it is formed."""
    if i.second:
        i.go(Flow.CALL, i.get(i.second))
    i.put(Value(i.end))


def _branch_and_set_mode(i: S390Step) -> None:
    i.go(Flow.RETURN if i.second == RETURN_ADDRESS else Flow.JUMP, i.get(i.second))
    i.put()


def _count_and_branch(i: S390Step) -> None:
    """bctr and its like: one less in the register, and a branch unless the second register is 0."""
    i.leave(Flow.BRANCH if i.second else Flow.NEXT)
    i.put()


def _count_and_branch_to(relative: bool) -> Handler:
    def handle(i: S390Step) -> None:
        i.leave(Flow.BRANCH, i.relative if relative else None)
        i.put()

    return handle


def _compare_and_branch_relative(i: S390Step) -> None:
    """cgrj, cgij and their like."""
    i.leave(Flow.BRANCH, i.relative)
    if i.raw[5] in (0x64, 0x65):
        i.compare(i.first, i.second)


# --- registers and constants


def _add_immediate(i: S390Step) -> None:
    """aghi, agfi, aghik from another register. Of ahi, afi and ahik a sum of anything but numbers is not followed."""
    value = i.get(i.second if i.raw[0] == 0xEC else i.first)
    i.put(i.sum(value if i.mnemonic.startswith("ag") else number_of(value), Value(i.immediate)))


def _exclusive_or(i: S390Step) -> None:
    """xgr, xr: of a register with itself it is a zero."""
    i.compare(i.first, i.second)
    i.put(ZERO if i.first == i.second else None)


def _subtract(i: S390Step) -> None:
    """sgr, slgr, with a third register sgrk, slgrk: a difference is as good as a comparison, and not followed."""
    i.compare(*((i.second, i.digit(4)) if i.raw[1] in (0xE9, 0xEB) else (i.first, i.second)))
    i.put()


def _shift_left(i: S390Step) -> None:
    """sllg."""
    source, count = i.digit(3), i.base(2, i.long)
    shift = count.constant & 63 if count is not None and count.known else None
    i.put(scaled(i.get(source), shift) if shift is not None else None)
    if shift == 32 and source + LOW_HALF in i.registers:
        i.written[i.first + HIGH_HALF] = MARK


def _extract_access(i: S390Step) -> None:
    """ear: an access register into a register's low half."""
    i.put()
    if i.second == 0:
        i.written[i.first + LOW_HALF] = MARK
    elif i.second == 1 and i.first + HIGH_HALF in i.registers:
        i.put(THREAD_POINTER)


# --- memory


def _load_word(i: S390Step, where: Value | None) -> Value | None:
    """Note the load of a word; return what it gives."""
    i.load(where, 8)
    return loaded(where)


def _load_multiple(i: S390Step) -> None:
    """lmg, lm, lmh, lmy."""
    i.load(i.base(2, i.long), 0)
    i.forget(_range(i))


def _range(i: S390Step) -> list[int]:
    """Return the registers from R1 to R3, which may lead over the last one."""
    count = (i.digit(3) - i.digit(2)) % 16 + 1
    return [(i.digit(2) + place) % 16 for place in range(count)]


def _store_multiple(size: int) -> Handler:
    def handle(i: S390Step) -> None:
        where = i.base(2, i.long)
        for place, register in enumerate(_range(i)):
            i.store(moved(where, size * place), size, i.get(register))

    return handle


def _store(size: int, general: bool = True) -> Handler:
    """Return the handler of stores by RX and RXY; not `general`: of another register than a general one, or changed."""
    return lambda i: i.store(i.indexed(i.long), size, i.get(i.first) if general else None)


def _store_by_base(size: int, general: bool = True) -> Handler:
    """Return the handler of stores by RS and RSY: stoc and its like, which store or not."""
    return lambda i: i.store(i.base(2, i.long), size, i.get(i.first) if general else None)


def _store_relative(size: int) -> Handler:
    return lambda i: i.store(Value(i.relative), size, i.get(i.first))


def _store_immediate(size: int) -> Handler:
    """mvhhi, mvhi, mvghi: the immediate is behind the address."""
    return lambda i: i.store(i.base(2), size, Value(int.from_bytes(i.raw[4:6], "big", signed=True)))


def _change(size: int) -> Handler:
    """Return the handler of instructions that load and store by RS and RSY: asi, laa, cs and their like."""

    def handle(i: S390Step) -> None:
        i.store(i.base(2, i.long), size)
        i.forget(_written(i))

    return handle


def _copy(i: S390Step) -> None:
    """mvc and most others that work on two operands in memory; those with decimal numbers have two lengths."""
    size = i.raw[1] + 1 if i.raw[0] < 0xF0 else 0
    i.load(i.base(4), size)
    i.store(i.base(2), size)
    i.forget(_written(i))


def _clear_or_combine(i: S390Step) -> None:
    """xc: of memory with itself it stores zeroes."""
    i.load(i.base(4), i.raw[1] + 1)
    i.store(i.base(2), i.raw[1] + 1, ZERO if i.raw[2:4] == i.raw[4:6] else None)


def _compare_with_word(i: S390Step) -> None:
    """cg, clg; cgrl, clgrl."""
    i.compared = (i.get(i.first), _load_word(i, i.indexed(i.long) if i.long else Value(i.relative)))


def _compare(i: S390Step) -> None:
    """clc."""
    i.load(i.base(2), i.raw[1] + 1)
    i.load(i.base(4), i.raw[1] + 1)


# --- whatever is not followed

EVERY = range(16)
CONDITIONS = "(?:[hl]|h?e|l[eh]?|n(?:[hl]|h?e|l[eh]?)|)"
# By mnemonic: an instruction with a general register as its first operand writes none, ...
NO_REGISTER = re.compile(
    r"st\w*|tm\w*|cpya|sar|sfpc|"
    r"c|cr|cg|cgr|cgf|cgfr|cgfi|cgfrl|cgrl|cgh|cghi|cghrl|ch|chi|chy|chrl|cfi|crl|cy|chf|cih|chhr|chlr|"
    r"cl|clr|clg|clgr|clgf|clgfr|clgfi|clgfrl|clgrl|clghrl|clfi|clrl|clhrl|cly|clhf|clih|clhhr|clhlr|clm|clmy|clmh|"
    rf"cl?g?r?t{CONDITIONS}|cl?[gf]?it{CONDITIONS}"  # traps that depend on a comparison
)
# ... only that one, ...
THAT_REGISTER = re.compile(
    r"l|lr|ly|lg|lgr|l[gh]?[bh]r?|lbh|lh[iy]|lgf[ir]?|lgh[ir]|l[gh]?hrl|lgfrl|lgrl|lrl|la|lay|laey?|larl|lf?hh?|"
    r"llg?[ch]r?|llg[ft]r?|llg?hrl|llgfrl|llch|llhh|lli[hl][fhl]|ltg?r?|ltgfr?|l[cnp]g?f?r|lrvg?r?|lrvh|"
    r"lz?rfg?|lzrg|llzrgf|lg?at|lfhat|llg[ft]at|loc\w+|laal?g?|la[nox]g?|"
    r"a|al|ah|ag|ay|aly|ahy|al?r|al?gr|al?g?f[ir]|al?g?f|alg|agh|al?g?rk|al?g?hsik|ag?hik?|alcg?r?|aih|alsihn?|"
    r"s|sl|sh|sg|sy|sly|shy|sl?r|sl?gr|sl?g?f[ir]|sl?g?f|slg|sgh|sl?g?rk|slbg?r?|[as]l?hh[hl]r|"
    r"m[hs]|m[hs]y|mg?h|mg?hi|msg?r|msgfr?|msg?fi|msg|msg?c|msg?rkc|"
    r"[nox]|[nox]y|[nox]g?r|[nox]g|[nox]g?rk|[no]i[hl][fhl]|xi[hl]f|ii[hl][fhl]|s[lr][al]g?k?|rllg?|risb\w+|r[nox]sbg|"
    r"ic|icy|icm[hy]?|cs[gy]?|cvb[gy]?|ear|ipm|efpc|popcnt|lgdr|lcbb|etnd|vlgv\w?|c[lgfdex]{2,3}br\w?"
)
# ... or the one behind it, too; all others may write any.
THAT_PAIR = re.compile(r"m|mr|ml|mlr|mlg|mlgr|mg|mgrk|mfy|d|dr|dl|dlr|dlg|dlgr|dsgf?r?|s[lr]d[al]|cds[gy]?|lpq|flogr")
# Without one it writes none, but for these.
HIDDEN = frozenset({"stfle", "trt", "trtr", "edmk", "plo", "pfpo", "upt", "cfc", "ectg", "csst", "lpd", "lpdg", "ptff"})
HIDDEN |= {"pr", "pc", "ipk", "sckpf", "cmpsc", "iac"}
STORAGE_TO_STORAGE = frozenset({0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xDC, 0xE8})  # none of them hidden either


def _written(i: S390Step) -> Iterable[int]:
    """Return the general registers that an instruction may write."""
    if not i.operands.startswith("%r"):
        return EVERY if i.mnemonic in HIDDEN else ()
    if NO_REGISTER.fullmatch(i.mnemonic):
        return ()
    if THAT_REGISTER.fullmatch(i.mnemonic):
        return (i.first,)
    return (i.first, (i.first + 1) % 16) if THAT_PAIR.fullmatch(i.mnemonic) else EVERY


def _other(i: S390Step) -> None:
    i.forget(_written(i))


def _other_load(by_base: bool) -> Handler:
    """Return the handler of whatever else loads by RX and RXY; or `by_base`: RS, RSY, SI, SIY and SIL."""

    def handle(i: S390Step) -> None:
        i.load(i.base(2, i.long) if by_base else i.indexed(i.long), 0)
        i.forget(_written(i))

    return handle


def _execute_target(i: S390Step) -> None:
    """exrl: runs another instruction. Compilers have one there that works on memory, whose length is not known here."""
    target = i.context.constant(i.relative)
    if target is None or target >> 56 not in STORAGE_TO_STORAGE:
        i.forget(EVERY)


# --- the table

BRANCHES: dict[int, Handler] = {
    **dict.fromkeys((0x06, 0xB946), _count_and_branch),  # bctr bctgr
    0x07: _branch_on_condition,
    **dict.fromkeys((0x47, 0xE347), _branch_on_condition_to_storage),  # bc bic
    **dict.fromkeys((0xA74, 0xC04), _branch_relative_on_condition),
    **dict.fromkeys((0xA75, 0xC05), _call_relative),
    **dict.fromkeys((0x05, 0x0C, 0x0D), _call_register),  # balr bassm basr
    **dict.fromkeys((0x45, 0x4D), lambda i: i.go(Flow.CALL, i.indexed())),  # bal bas
    0x0B: _branch_and_set_mode,
    # bct bctg bxh bxle, brct brxh brxle
    **dict.fromkeys((0x46, 0xE346, 0x86, 0x87, 0xEB44, 0xEB45), _count_and_branch_to(relative=False)),
    **dict.fromkeys((0xA76, 0xA77, 0xCC6, 0x84, 0x85, 0xEC44, 0xEC45), _count_and_branch_to(relative=True)),
    **dict.fromkeys((0xEC64, 0xEC65, 0xEC76, 0xEC77), _compare_and_branch_relative),  # cgrj clgrj crj clrj
    **dict.fromkeys((0xEC7C, 0xEC7D, 0xEC7E, 0xEC7F), _compare_and_branch_relative),  # cgij clgij cij clij
    # cgrb clgrb crb clrb, cgib clgib cib clib: the address of the fourth operand is known only as a return
    **dict.fromkeys((*range(0xECE4, 0xECE6), 0xECF6, 0xECF7, *range(0xECFC, 0xED00)), lambda i: i.leave(Flow.BRANCH)),
    0x0A: lambda i: i.leave(Flow.SYSTEM_CALL),
    **dict.fromkeys((0x01FF, 0xB2FF), lambda i: i.leave(Flow.TRAP)),  # trap2 trap4
}
REGISTERS: dict[int, Handler] = {
    **dict.fromkeys((0xB904, 0xB902), lambda i: i.put(i.get(i.second))),  # lgr ltgr
    # lr ltr lgfr ltgfr: of 32 bits only a number is followed
    **dict.fromkeys((0x18, 0x12, 0xB914, 0xB912), lambda i: i.put(sign_extended(i.get(i.second), 32))),
    0xB916: lambda i: i.put(zero_extended(i.get(i.second), 32)),  # llgfr
    0xC00: lambda i: i.put(Value(i.relative)),  # larl
    **dict.fromkeys((0x41, 0xE371), lambda i: i.put(i.indexed(i.long))),  # la lay
    # lghi lgfi, and lhi: its upper half stays as it was, and whoever wants 32 bits does not look at that; iilf, too
    **dict.fromkeys((0xA79, 0xC01, 0xA78, 0xC09), lambda i: i.put(Value(i.immediate))),
    0xC0F: lambda i: i.put(Value(i.immediate & 0xFFFFFFFF)),  # llilf
    # llihh llihl llilh llill, llihf
    **dict.fromkeys(range(0xA5C, 0xA60), lambda i: i.put(Value((i.immediate & 0xFFFF) << 16 * (15 - i.digit(3))))),
    0xC0E: lambda i: i.put(Value((i.immediate & 0xFFFFFFFF) << 32)),
    **dict.fromkeys((0xA7B, 0xC28, 0xA7A, 0xC29, 0xECD9, 0xECD8), _add_immediate),  # aghi agfi ahi afi aghik ahik
    0xC2A: lambda i: i.put(i.sum(i.get(i.first), Value(i.immediate & 0xFFFFFFFF))),  # algfi
    0xC24: lambda i: i.put(i.sum(i.get(i.first), Value(-(i.immediate & 0xFFFFFFFF)))),  # slgfi
    **dict.fromkeys((0xB908, 0xB90A), lambda i: i.put(i.sum(i.get(i.first), i.get(i.second)))),  # agr algr
    **dict.fromkeys((0xB9E8, 0xB9EA), lambda i: i.put(i.sum(i.get(i.second), i.get(i.digit(4))))),  # agrk algrk
    0x1A: lambda i: i.put(i.sum(number_of(i.get(i.first)), number_of(i.get(i.second)))),  # ar
    **dict.fromkeys((0xB982, 0x17), _exclusive_or),
    **dict.fromkeys((0xB920, 0xB921), lambda i: i.compare(i.first, i.second)),  # cgr clgr
    **dict.fromkeys((0xB909, 0xB90B, 0xB9E9, 0xB9EB), _subtract),
    0xEB0D: _shift_left,
    0xB24F: _extract_access,
}
# Of RX, those without an access to memory or with one that is more than a load are in the tables above and below.
OTHER_LOADS = (*range(0x43, 0x80), *range(0xE302, 0xE400), *range(0xE700, 0xE708), 0xE710, *range(0xED00, 0xEE00))
NO_LOADS = frozenset({0x44, 0x51, 0xE336, 0xE375})  # ex lae pfd laey
OTHER_LOADS_BY_BASE = (0x91, 0x95, 0xBD, 0xBF, 0xEB20, 0xEB21, 0xEB51, 0xEB55, 0xEB80, 0xEB81, 0xEBE0, 0xEBE2, 0xEBF2)
MEMORY: dict[int, Handler] = {
    **dict.fromkeys((code for code in OTHER_LOADS if code not in NO_LOADS), _other_load(by_base=False)),
    **dict.fromkeys(OTHER_LOADS_BY_BASE, _other_load(by_base=True)),  # tm cli clm icm loc ...
    **dict.fromkeys((0xE554, 0xE555, 0xE558, 0xE559, 0xE55C, 0xE55D), _other_load(by_base=True)),  # chhsi ...
    0xC48: lambda i: i.put(_load_word(i, Value(i.relative))),  # lgrl
    **dict.fromkeys((0xE304, 0xE302), lambda i: i.put(_load_word(i, i.indexed(i.long)))),  # lg ltg
    # ag alg
    **dict.fromkeys((0xE308, 0xE30A), lambda i: i.put(i.sum(i.get(i.first), _load_word(i, i.indexed(i.long))))),
    **dict.fromkeys((0x98, 0xEB04, 0xEB96, 0xEB98), _load_multiple),  # lm lmg lmh lmy
    **dict.fromkeys((0x90, 0xEB90), _store_multiple(4)),  # stm stmy
    0xEB24: _store_multiple(8),
    **dict.fromkeys((0x42, 0xE372), _store(1)),  # stc stcy
    **dict.fromkeys((0x40, 0xE370), _store(2)),
    **dict.fromkeys((0x50, 0xE350), _store(4)),
    0xE324: _store(8),
    # std stdy strvg, ste stey stfh strv cvd, strvh sthh, stch, stpq vst, vsteb vsteh vstef vsteg
    **dict.fromkeys((0x60, 0xED67, 0xE32F, 0xE70A, 0xE32E, 0x4E, 0xE326), _store(8, general=False)),
    **dict.fromkeys((0x70, 0xED66, 0xE3CB, 0xE33E, 0xE70B), _store(4, general=False)),
    **dict.fromkeys((0xE33F, 0xE3C7, 0xE709), _store(2, general=False)),
    **dict.fromkeys((0xE3C3, 0xE708), _store(1, general=False)),
    **dict.fromkeys((0xE38E, 0xE70E), _store(16, general=False)),
    0xC47: _store_relative(2),
    0xC4B: _store_relative(8),
    0xC4F: _store_relative(4),
    **dict.fromkeys((0x92, 0xEB52), lambda i: i.store(i.base(2, i.long), 1, Value(i.raw[1]))),  # mvi mviy
    **dict.fromkeys((0x93, 0x94, 0x96, 0x97, 0xEB54, 0xEB56, 0xEB57), _store_by_base(1, general=False)),  # ni oi xi ...
    0xE544: _store_immediate(2),
    0xE54C: _store_immediate(4),
    0xE548: _store_immediate(8),
    **dict.fromkeys((0xBA, 0xEB14, 0xEB6A, 0xEB6E), _change(4)),  # cs csy asi alsi
    **dict.fromkeys((0xEBF8, 0xEBFA, 0xEBF4, 0xEBF6, 0xEBF7), _change(4)),  # laa laal lan lao lax
    **dict.fromkeys((0xEB30, 0xEB7A, 0xEB7E, 0xBB, 0xEB31), _change(8)),  # csg agsi algsi cds cdsy
    **dict.fromkeys((0xEBE8, 0xEBEA, 0xEBE4, 0xEBE6, 0xEBE7), _change(8)),
    0xEB3E: _change(16),  # cdsg
    0xEBF3: _store_by_base(4),  # stoc
    0xEBE3: _store_by_base(8),
    # stocfh stcm stcmy stcmh, stam vstm vstl
    **dict.fromkeys((0xEBE1, 0xBE, 0xEB2D, 0xEB2C, 0x9B, 0xE73E, 0xE73F), _store_by_base(0, general=False)),
    0xD5: _compare,
    **dict.fromkeys((0xE320, 0xE321, 0xC68, 0xC6A), _compare_with_word),
    0xD7: _clear_or_combine,
    **dict.fromkeys((*range(0xD0, 0xD5), 0xD6, *range(0xD8, 0xE0), 0xE8, *range(0xF0, 0xFE)), _copy),
}
TABLE: dict[int, Handler] = {**MEMORY, **REGISTERS, **BRANCHES, 0xC60: _execute_target}  # exrl


S390X = Machine(
    name="s390x",
    e_machine="EM_S390",
    little_endian=False,
    capstone=(capstone.CS_ARCH_SYSZ, capstone.CS_MODE_BIG_ENDIAN),
    step=S390Step,
    relocations=Relocations.listed(
        "R_390_",
        "9:COPY 10:GLOB_DAT 11:JMP_SLOT 12:RELATIVE 22:64 54:TLS_DTPMOD 55:TLS_DTPOFF 56:TLS_TPOFF 61:IRELATIVE",
        absolute={22},
        module=54,
        thread_offset={56},
    ),
    tls_below=True,
    signature=bytes.fromhex("b2ff0fff"),  # trap4 4095
    system_call=383,
    canary=CANARY,
    # ear %rN,%a0: where the thread pointer begins to be put together
    thread_pattern=Pattern(
        b"\xb2\x4f\x00[" + re.escape(bytes(register << 4 for register in range(16))) + b"]", b"\xb2\x4f\x00"
    ),
    registration_pattern=Pattern(rb"\xa7[\x18\x19\x28\x29]\x01\x7f", b"\x01\x7f", (2,)),  # lhi, lghi: 383, to 1 or 2
    calls=calls.s390x,
    boundary=2,
    length=lambda raw: (2, 4, 4, 6)[raw[0] >> 6],  # PoP, "Instruction Formats"
)
