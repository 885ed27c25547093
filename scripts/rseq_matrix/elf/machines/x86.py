"""x86-64 and i386 (System V psABI, AMD64 and i386 supplements)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import capstone
from capstone import x86

from rseq_matrix.elf.machines import calls
from rseq_matrix.elf.machines.execution import (
    THREAD_POINTER,
    ZERO,
    Abi,
    CodeStep,
    Flow,
    ObjectContext,
    Registers,
    Value,
    add,
    loaded,
    negative,
    sign_extended,
    zero_extended,
)
from rseq_matrix.elf.machines.machine import Disassembler, Machine, Pattern, Relocations

WRITE = capstone.CS_AC_WRITE
RETURN_ADDRESS = -1  # a register of our own: where the last call returns to, for i386's position-independent code

FAMILIES = (
    *(f"{n}l {n}h {n}x e{n}x r{n}x" for n in "abcd"),
    *(f"{n}l {n} e{n} r{n}" for n in ("si", "di", "bp", "sp")),
    *(f"r{n}b r{n}w r{n}d r{n}" for n in range(8, 16)),
)


def _numbers(names: str) -> tuple[int, ...]:
    """Return the numbers of some registers."""
    return tuple(getattr(x86, f"X86_REG_{name.upper()}") for name in names.split())


WHOLE = {number: _numbers(family)[-1] for family in FAMILIES for number in _numbers(family)}
KNOWN = 1 << 14  # instructions whose operands are kept
HIGH_BYTES = _numbers("ah bh ch dh")
FLOWS = {
    **dict.fromkeys(("syscall", "sysenter"), Flow.SYSTEM_CALL),
    **dict.fromkeys(("ret", "retf", "retfq", "iret", "iretd", "iretq", "sysret", "sysexit"), Flow.RETURN),
    **dict.fromkeys(("jmp", "ljmp"), Flow.JUMP),
    **dict.fromkeys(("ud2", "ud1", "ud0", "hlt", "int3", "int1"), Flow.TRAP),
}
RESULTS = frozenset({"mov", "movabs", "movsxd", "lea", "add", "sub", "xor"})  # of these the result may be followed
BRANCHES = ("j", "loop", "xbegin")
NO_ACCESS = {"lea", "nop", "endbr64", "endbr32"}
# What capstone does not know to be written: memory as the first operand of these, ...
STORES = (
    *(
        "mov",
        "vmov",
        "cmpxchg",
        "rol",
        "ror",
        "rcl",
        "rcr",
        "fst",
        "fist",
        "fnst",
        "stmxcsr",
        "vstmxcsr",
        "ins",
        "wrss",
    ),
    *("pextr", "vpextr", "extractps", "vextract", "vcvtps2ph", "vscatter", "vpscatter"),
)
# ... and registers, besides the first operand.
WRITTEN_BY_BRANCH = {"loop": _numbers("rcx"), "xbeg": _numbers("rax")}
IGNORED_INDEX = (0, x86.X86_REG_EIZ, x86.X86_REG_RIZ)
WRITTEN_TOO = {
    "cmpxchg": _numbers("rax"),
    "xlatb": _numbers("rax"),
    "rdpkru": _numbers("rax rdx"),
    "enter": _numbers("rbp"),
    "rdsspd": (),
    "rdsspq": (),
}
# An opcode with a ModR/M byte that names memory: what a segment prefix can stand before. The patterns below leave out
# the stack protector's canary, which nearly every function reads.
MEMORY_OPERAND = (
    rb"(?:\x0f.|[\x00-\x03\x08-\x0b\x10-\x13\x18-\x1b\x20-\x23\x28-\x2b\x30-\x33\x38-\x3b"
    rb"\x63\x69\x6b\x80-\x8b\x8f\xc0\xc1\xc6\xc7\xd0-\xd3\xd8-\xdf\xf6\xf7\xfe\xff])[\x00-\xbf]"
)
KERNEL_ENTRY = 0x10  # i386: the TCB's pointer to the vDSO's system call entry (glibc i386/nptl/tls.h, sysinfo)


class Operand(NamedTuple):
    """An operand as capstone tells it. `number` is an immediate, or a displacement; registers are whole ones."""

    kind: int  # X86_OP_*
    size: int
    written: bool
    number: int = 0
    register: int = 0
    high_byte: bool = False
    base: int = 0
    scaled: int = 0
    scale: int = 1
    segment: int = 0


class X86Encoded(NamedTuple):
    """As Encoded, with its operands and the registers that it overwrites."""

    address: int
    size: int
    bytes: bytes
    mnemonic: str
    op_str: str
    thumb: bool
    parts: tuple[Operand, ...]
    overwritten: tuple[int, ...]


Details = tuple[tuple[Operand, ...], tuple[int, ...]]


class X86Step(CodeStep):
    """One instruction, by the operands that capstone tells."""

    abi = Abi(
        bits=64,
        caller_saved=_numbers("rax rcx rdx rsi rdi r8 r9 r10 r11"),
        arguments=_numbers("rdi rsi rdx rcx r8 r9"),
        system_call=_numbers("rax rdi rsi rdx r10 r8 r9"),
        lost_in_system_call=_numbers("rax rcx r11"),  # the instruction has its return address and flags in two
        lost_for_descriptor=_numbers("rax"),  # Oliva, "Speeding Up Thread-Local Storage Access": it keeps all others
    )
    segment: ClassVar[str] = "fs:"  # before the thread pointer's memory

    def __init__(self, insn: X86Encoded, registers: Registers, context: ObjectContext) -> None:
        """Execute an instruction on the registers, which stay as they are."""
        self.parts, self.overwritten = insn[6:]
        self.name: str = insn.mnemonic.split()[-1]  # behind lock, rep, notrack, bnd
        super().__init__(insn[:6], registers, context)
        self.insn = insn

    @staticmethod
    def is_padding(insn: X86Encoded) -> bool:
        """Return whether an instruction does nothing: nop, xchg of a register with itself, lea of its value."""
        name, parts = insn.mnemonic.split()[-1], insn.parts
        if name == "lea":
            return not parts[1].number and parts[1].base == parts[0].register and parts[1].scaled in IGNORED_INDEX
        return name == "nop" or (name == "xchg" and insn.op_str.split(", ")[0] == insn.op_str.split(", ")[-1])

    # --- operands

    def place(self, part: Operand) -> Value | None:
        """Return the address of an operand in memory."""
        if part.base in (x86.X86_REG_RIP, x86.X86_REG_EIP):
            return Value(self.end + part.number)
        value: Value | None = Value(part.number)
        if part.segment in (x86.X86_REG_FS, x86.X86_REG_GS):
            value = add(value, THREAD_POINTER)
        if part.base:
            value = add(value, self.registers.get(part.base))
        if part.scaled:
            index = self.registers.get(part.scaled)
            if part.scale != 1:
                index = Value(index.constant * part.scale) if index is not None and index.known else None
            value = add(value, index)
        return value

    def value(self, part: Operand) -> Value | None:
        """Return the value of a source operand. Of less than a whole register or word only a number is followed."""
        whole = 8 * part.size == self.abi.bits
        if part.kind == x86.X86_OP_IMM:
            return Value(part.number)
        if part.kind == x86.X86_OP_REG:
            value = self.registers.get(part.register)
            return value if whole else None if part.high_byte else zero_extended(value, 8 * part.size)
        where = self.place(part)
        if not whole:
            return None
        # %fs:0 holds the thread pointer (psABI, "thread control block")
        return THREAD_POINTER if where == THREAD_POINTER else loaded(where)

    # --- execution

    def decode(self) -> None:
        """Access memory, and go or compute."""
        self.reads_thread_pointer = self.segment in self.operands
        self.flow = self._flow()
        if self.name not in NO_ACCESS:
            self._access()
        if self.name == "cmp":
            self.compared = tuple(self.value(part) for part in self.parts)
        if self.flow in (Flow.CALL, Flow.JUMP, Flow.BRANCH) and self.parts:
            self.go(self.flow, self.value(self.parts[-1]))
        if self.flow not in (Flow.CALL, Flow.SYSTEM_CALL):
            self._compute()

    def _flow(self) -> Flow:
        name = self.name
        if name in ("call", "lcall"):
            entry = self.parts[0].segment == x86.X86_REG_GS and self.parts[0].number == KERNEL_ENTRY
            return Flow.SYSTEM_CALL if entry else Flow.CALL
        if name == "int":
            return Flow.SYSTEM_CALL if self.parts[0].number == 0x80 else Flow.TRAP
        return FLOWS.get(name) or (Flow.BRANCH if name.startswith(BRANCHES) else Flow.NEXT)

    def _access(self) -> None:
        for position, part in enumerate(self.parts):
            if part.kind == x86.X86_OP_MEM:
                where = self.place(part)
                if part.written or (position == 0 and self.name.startswith(STORES)):
                    moves = self.name == "mov" and position == 0
                    self.store(where, part.size, self.value(self.parts[1]) if moves else None)
                else:
                    self.load(where, part.size)

    def _compute(self) -> None:
        self.forget(self.overwritten)
        self.forget(WRITTEN_TOO.get(self.name, ()))
        target = self.parts[0].register if self.parts else 0
        if target and len(self.parts) == 2 and self.name in RESULTS and self.parts[0].size >= 4:
            result = self._result(*self.parts)
            whole = 8 * self.parts[0].size == self.abi.bits
            self.write(target, result if whole else zero_extended(result, 32))
        elif target and self.name in WRITTEN_TOO:
            self.write(target)

    def _result(self, target: Operand, source: Operand) -> Value | None:
        """Return what the first operand holds behind an instruction of RESULTS, if that is followed."""
        if self.name == "lea":
            return self.place(source)
        right = self.value(source)
        if self.name == "movsxd":
            return sign_extended(right, 32)
        if self.name in ("add", "sub"):
            total = add(self.value(target), right if self.name == "add" else negative(right))
            return self._base_of_got(source) or total
        if self.name == "xor":
            return ZERO if target.register == source.register else None
        return right

    def _base_of_got(self, source: Operand) -> Value | None:
        """i386: `add $_GLOBAL_OFFSET_TABLE_, %reg` behind a call that returned its return address in the register."""
        after, got = self.registers.get(RETURN_ADDRESS), self.context.got
        if self.name != "add" or after is None or got is None or source.kind != x86.X86_OP_IMM:
            return None
        return Value(got) if (after.constant + source.number) % 2**32 == got else None


class I386Step(X86Step):
    """One instruction; arguments are on the stack, which is not followed."""

    abi = Abi(
        bits=32,
        caller_saved=_numbers("rax rcx rdx"),
        arguments=(),
        system_call=_numbers("rax rbx rcx rdx rsi rdi rbp"),
        lost_in_system_call=_numbers("rax"),
        lost_for_descriptor=_numbers("rax"),
    )
    segment = "gs:"

    def call(self) -> None:
        """Note what a call does; it may return its return address."""
        super().call()
        self.write(RETURN_ADDRESS, Value(self.end))


class DetailDisassembler(Disassembler):
    """Capstone's, which tells the operands. That takes long, and is done once for instructions of the same bytes."""

    def __init__(self, architecture: int, mode: int) -> None:
        super().__init__(architecture, mode)
        self._detailed: Any = capstone.Cs(architecture, mode)
        self._detailed.detail = True
        self._known: dict[bytes, Details] = {}

    def instructions(self, raw: bytes, address: int) -> Iterator[X86Encoded]:
        """Yield the instructions with their operands."""
        for at, size, mnemonic, operands in self.listed(raw, address):
            code = raw[at - address : at - address + size]
            if operands.startswith("0x") and "," not in operands:  # maybe a branch's target, which depends on the place
                target = Operand(x86.X86_OP_IMM, 0, False, int(operands, 16))
                details: Details = (target,), WRITTEN_BY_BRANCH.get(mnemonic[:4], ())
            else:
                details = self._known.get(code) or self._details(code)
            yield X86Encoded(at, size, code, mnemonic, operands, False, *details)

    def _details(self, code: bytes) -> Details:
        insn = next(self._detailed.disasm(code, 0))
        written = tuple(WHOLE[register] for register in insn.regs_access()[1] if register in WHOLE)
        if len(self._known) > KNOWN:
            self._known.clear()
        self._known[code] = found = tuple(_operand(part) for part in insn.operands), written
        return found


def _operand(part: Any) -> Operand:
    if part.type == x86.X86_OP_IMM:
        return Operand(part.type, part.size, False, part.imm)
    if part.type == x86.X86_OP_REG:
        whole = WHOLE.get(part.reg, 0)
        return Operand(part.type, part.size, False, 0, whole, part.reg in HIGH_BYTES)
    memory = part.mem
    base, index = (WHOLE.get(register, register) for register in (memory.base, memory.index))
    written = bool(part.access & WRITE)
    return Operand(
        part.type, part.size, written, memory.disp, base=base, scaled=index, scale=memory.scale, segment=memory.segment
    )


X86_64 = Machine(
    name="x86-64",
    e_machine="EM_X86_64",
    little_endian=True,
    capstone=(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    step=X86Step,
    relocations=Relocations.listed(
        "R_X86_64_",
        "1:64 5:COPY 6:GLOB_DAT 7:JUMP_SLOT 8:RELATIVE 16:DTPMOD64 17:DTPOFF64 18:TPOFF64 36:TLSDESC 37:IRELATIVE",
        absolute={1},
        module=16,
        thread_offset={18},
        descriptor=36,
    ),
    tls_below=True,
    tls_alignment=64,  # glibc sysdeps/x86/nptl/pthreaddef.h
    signature=bytes.fromhex("53300553"),
    signature_opening=bytes.fromhex("0fb93d"),  # ud1 with the signature as displacement
    system_call=334,
    canary=0x28,
    thread_pattern=Pattern(
        rb"[\x66\xf0\xf2\xf3]{0,3}\x64[\x66\xf0\xf2\xf3]?[\x40-\x4f]?" + MEMORY_OPERAND + rb"(?!\x25\x28\0\0\0)"
    ),
    registration_pattern=Pattern(rb"(?:[\xb8\xbf]|\x48\xc7[\xc0\xc7])\x4e\x01\x00\x00", b"\x4e\x01\x00\x00", (3, 1)),
    calls=calls.x86_64,
    reader=DetailDisassembler,
)

I386 = Machine(
    name="i386",
    e_machine="EM_386",
    little_endian=True,
    capstone=(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
    step=I386Step,
    relocations=Relocations.listed(
        "R_386_",
        "1:32 5:COPY 6:GLOB_DAT 7:JMP_SLOT 8:RELATIVE 14:TLS_TPOFF 35:TLS_DTPMOD32 36:TLS_DTPOFF32 37:TLS_TPOFF32 "
        "41:TLS_DESC 42:IRELATIVE",
        absolute={1},
        module=35,
        thread_offset={14, 37},
        descriptor=41,
    ),
    tls_below=True,
    tls_alignment=64,
    signature=bytes.fromhex("53300553"),
    signature_opening=bytes.fromhex("0fb93d"),
    system_call=386,
    canary=0x14,
    thread_pattern=Pattern(
        rb"[\x66\xf0\xf2\xf3]{0,3}\x65[\x66\xf0\xf2\xf3]?(?:[\xa0-\xa3](?!\x14\0\0\0)|"
        + MEMORY_OPERAND
        + rb"(?!(?<=[\x05\x0d\x15\x1d\x25\x2d\x35\x3d])\x14\0\0\0))"
    ),
    registration_pattern=Pattern(rb"\xb8\x82\x01\x00\x00", b"\xb8\x82\x01\x00\x00"),
    calls=calls.i386,
    reader=DetailDisassembler,
    stub_base=x86.X86_REG_RBX,
)
