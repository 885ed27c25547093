"""x86-64 and i386 (System V psABI, AMD64 and i386 supplements)."""

from __future__ import annotations

from typing import Any

import capstone
from capstone import x86

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

WRITE = capstone.CS_AC_WRITE
RETURN_ADDRESS = -1  # a register of our own: where the last call returns to, for i386's position-independent code

FAMILIES = {
    "a": ("al", "ah", "ax", "eax", "rax"),
    "b": ("bl", "bh", "bx", "ebx", "rbx"),
    "c": ("cl", "ch", "cx", "ecx", "rcx"),
    "d": ("dl", "dh", "dx", "edx", "rdx"),
    "si": ("sil", "si", "esi", "rsi"),
    "di": ("dil", "di", "edi", "rdi"),
    "bp": ("bpl", "bp", "ebp", "rbp"),
    "sp": ("spl", "sp", "esp", "rsp"),
    **{f"r{n}": (f"r{n}b", f"r{n}w", f"r{n}d", f"r{n}") for n in range(8, 16)},
}
WHOLE = {
    getattr(x86, f"X86_REG_{name.upper()}"): getattr(x86, f"X86_REG_{names[-1].upper()}")
    for names in FAMILIES.values()
    for name in names
}
CALLER_SAVED = [WHOLE[getattr(x86, f"X86_REG_R{name}")] for name in ("AX", "CX", "DX", "SI", "DI", *"89", "10", "11")]
CALLER_SAVED_32 = [x86.X86_REG_RAX, x86.X86_REG_RCX, x86.X86_REG_RDX]
ARGUMENTS = [getattr(x86, f"X86_REG_{name}") for name in ("RDI", "RSI", "RDX", "RCX", "R8", "R9")]
SYSTEM_CALL = [getattr(x86, f"X86_REG_{name}") for name in ("RAX", "RDI", "RSI", "RDX", "R10", "R8", "R9")]
SYSTEM_CALL_32 = [getattr(x86, f"X86_REG_R{name}") for name in ("AX", "BX", "CX", "DX", "SI", "DI", "BP")]
FLOWS = {
    **dict.fromkeys(("syscall", "sysenter"), Flow.SYSTEM_CALL),
    **dict.fromkeys(("ret", "retf", "retfq", "iret", "iretd", "iretq", "sysret", "sysexit"), Flow.RETURN),
    **dict.fromkeys(("jmp", "ljmp"), Flow.JUMP),
    **dict.fromkeys(("ud2", "ud1", "ud0", "hlt", "int3", "int1"), Flow.TRAP),
}
BRANCHES = ("j", "loop", "xbegin")
NO_ACCESS = {"lea", "nop", "endbr64", "endbr32"}
# An opcode with a ModR/M byte that names memory: what a segment prefix can stand before. The patterns below leave out
# the stack protector's canary, which nearly every function reads.
MEMORY_OPERAND = (
    rb"(?:\x0f.|[\x00-\x03\x08-\x0b\x10-\x13\x18-\x1b\x20-\x23\x28-\x2b\x30-\x33\x38-\x3b"
    rb"\x63\x69\x6b\x80-\x8b\x8f\xc0\xc1\xc6\xc7\xd0-\xd3\xd8-\xdf\xf6\xf7\xfe\xff])[\x00-\xbf]"
)
KERNEL_ENTRY = 0x10  # i386: the TCB's pointer to the vDSO's system call entry (glibc i386/nptl/tls.h, sysinfo)


def _address(insn: Any, memory: Any, registers: Registers) -> Value | None:
    if memory.base in (x86.X86_REG_RIP, x86.X86_REG_EIP):
        return Value(insn.address + insn.size + memory.disp)
    value: Value | None = Value(memory.disp)
    if memory.segment in (x86.X86_REG_FS, x86.X86_REG_GS):
        value = add(value, THREAD_POINTER)
    if memory.base:
        value = add(value, registers.get(WHOLE.get(memory.base, 0)))
    if memory.index:
        index = registers.get(WHOLE.get(memory.index, 0))
        if memory.scale != 1:
            index = Value(index.constant * memory.scale) if index is not None and index.known else None
        value = add(value, index)
    return value


def _operand(insn: Any, operand: Any, registers: Registers) -> Value | None:
    """Return the value of a source operand."""
    if operand.type == x86.X86_OP_IMM:
        return Value(operand.imm)
    if operand.type == x86.X86_OP_REG:
        return registers.get(WHOLE.get(operand.reg, 0))
    where = _address(insn, operand.mem, registers)
    if where == THREAD_POINTER:  # %fs:0 holds the thread pointer (psABI, "thread control block")
        return THREAD_POINTER
    return loaded(where) if operand.size in (4, 8) else None


def _result(insn: Any, registers: Registers) -> Value | None:
    """Return what the first operand, a register, holds after the instruction, if that is followed."""
    operands = insn.operands
    name = insn.mnemonic
    if len(operands) != 2:
        return None
    target, source = operands
    if name in ("mov", "movabs", "movsxd"):
        return _operand(insn, source, registers)
    if name == "lea":
        return _address(insn, source.mem, registers)
    if name in ("add", "sub"):
        left, right = _operand(insn, target, registers), _operand(insn, source, registers)
        if name == "sub":
            right = Value(-right.constant) if right is not None and right.known else None
        return add(left, right)
    if name == "xor" and target.reg == source.reg and source.type == x86.X86_OP_REG:
        return Value(0)
    return None


def _accesses(insn: Any, registers: Registers) -> tuple[Access, ...]:
    if insn.mnemonic in NO_ACCESS:
        return ()
    found = []
    for position, operand in enumerate(insn.operands):
        if operand.type != x86.X86_OP_MEM:
            continue
        where = _address(insn, operand.mem, registers)
        if where is None:
            continue
        # Of movups and the like capstone says that they read what they store to.
        store = bool(operand.access & WRITE) or (position == 0 and insn.mnemonic.startswith(("mov", "vmov")))
        stored = None
        if store and insn.mnemonic == "mov" and position == 0:
            stored = _operand(insn, insn.operands[1], registers)
        found.append(Access(where, store, operand.size, stored))
    return tuple(found)


def _flow(insn: Any) -> Flow:
    name = insn.mnemonic.split()[-1]
    if name in ("call", "lcall"):
        memory = insn.operands[0].mem if insn.operands[0].type == x86.X86_OP_MEM else None
        entry = memory and memory.segment == x86.X86_REG_GS and memory.disp == KERNEL_ENTRY
        return Flow.SYSTEM_CALL if entry else Flow.CALL
    if name == "int":
        return Flow.SYSTEM_CALL if insn.operands[0].imm == 0x80 else Flow.TRAP
    if name in FLOWS:
        return FLOWS[name]
    return Flow.BRANCH if name.startswith(BRANCHES) else Flow.NEXT


def _base_of_got(insn: Any, registers: Registers, surroundings: Surroundings) -> Value | None:
    """i386: `add $_GLOBAL_OFFSET_TABLE_, %reg` behind a call that returned its own return address in the register."""
    after = registers.get(RETURN_ADDRESS)
    if insn.mnemonic == "add" and after is not None and surroundings.got is not None:
        source = insn.operands[1]
        if source.type == x86.X86_OP_IMM and (after.constant + source.imm) % 2**32 == surroundings.got:
            return Value(surroundings.got)
    return None


def _update(insn: Any, registers: Registers, wide: int, surroundings: Surroundings) -> None:
    result = None
    operands = insn.operands
    target = operands[0].reg if operands and operands[0].type == x86.X86_OP_REG else 0
    if target:
        result = _base_of_got(insn, registers, surroundings) or _result(insn, registers)
        if result is not None and operands[0].size != wide and not (result.known and operands[0].size == 4):
            result = None
    for register in insn.regs_access()[1]:
        registers.pop(WHOLE.get(register, 0), None)
    if result is not None:
        registers[WHOLE.get(target, 0)] = result


def _execute(insn: Any, registers: Registers, surroundings: Surroundings, wide: int) -> Step:
    flow = _flow(insn)
    target, through = None, None
    arguments: tuple[Value | None, ...] = ()
    if flow in (Flow.CALL, Flow.JUMP, Flow.BRANCH) and insn.operands:
        operand = insn.operands[-1]
        if operand.type == x86.X86_OP_IMM:
            target = operand.imm % 2**64
        else:
            through = _operand(insn, operand, registers)
    if flow is Flow.SYSTEM_CALL:
        arguments = tuple(registers.get(r) for r in (SYSTEM_CALL if wide == 8 else SYSTEM_CALL_32))
    elif flow in (Flow.CALL, Flow.JUMP) and wide == 8:
        arguments = tuple(registers.get(r) for r in ARGUMENTS)
    accesses = _accesses(insn, registers)
    compared = tuple(_operand(insn, o, registers) for o in insn.operands) if insn.mnemonic == "cmp" else ()
    if flow is Flow.CALL:
        lost = CALLER_SAVED if wide == 8 else CALLER_SAVED_32
        if through is not None and through.word is not None and surroundings.descriptor(through.word.address):
            lost = [x86.X86_REG_RAX]  # Oliva, "Speeding Up Thread-Local Storage Access": it keeps all others
        for register in lost:
            registers.pop(register, None)
        registers[RETURN_ADDRESS] = Value(insn.address + insn.size)
    elif flow is Flow.SYSTEM_CALL:
        registers.pop(x86.X86_REG_RAX, None)
    else:
        _update(insn, registers, wide, surroundings)
    text = f"{insn.mnemonic} {insn.op_str}".strip()
    segment = "fs:" if wide == 8 else "gs:"
    return Step(
        insn.address,
        insn.size,
        bytes(insn.bytes),
        text,
        flow,
        target,
        through,
        accesses,
        reads_thread_pointer=segment in text,
        arguments=arguments,
        compared=compared,
    )


def _execute_64(insn: Any, registers: Registers, surroundings: Surroundings) -> Step:
    return _execute(insn, registers, surroundings, 8)


def _execute_32(insn: Any, registers: Registers, surroundings: Surroundings) -> Step:
    return _execute(insn, registers, surroundings, 4)


X86_64 = Machine(
    name="x86-64",
    e_machine="EM_X86_64",
    bits=64,
    little_endian=True,
    capstone=(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    decoder=_execute_64,
    relocations=Relocations(
        names={
            1: "R_X86_64_64",
            5: "R_X86_64_COPY",
            6: "R_X86_64_GLOB_DAT",
            7: "R_X86_64_JUMP_SLOT",
            8: "R_X86_64_RELATIVE",
            16: "R_X86_64_DTPMOD64",
            17: "R_X86_64_DTPOFF64",
            18: "R_X86_64_TPOFF64",
            36: "R_X86_64_TLSDESC",
            37: "R_X86_64_IRELATIVE",
        },
        relative=8,
        irelative=37,
        absolute=frozenset({1}),
        got=frozenset({6, 7}),
        module=16,
        thread_offset=frozenset({18}),
        descriptor=36,
        copy=5,
    ),
    tls_below=True,
    tcb_size=0,
    tls_bias=0,
    tls_alignment=64,  # glibc sysdeps/x86/nptl/pthreaddef.h
    signature=bytes.fromhex("53300553"),
    signature_code=bytes.fromhex("0fb93d53300553"),  # ud1 with the signature as displacement
    system_call=334,
    canary=lambda address: address.word is None and address.constant == 0x28,
    thread_pattern=Pattern(
        rb"[\x66\xf0\xf2\xf3]{0,3}\x64[\x66\xf0\xf2\xf3]?[\x40-\x4f]?" + MEMORY_OPERAND + rb"(?!\x25\x28\0\0\0)"
    ),
    registration_pattern=Pattern(rb"(?:[\xb8\xbf]|\x48\xc7[\xc0\xc7])\x4e\x01\x00\x00", b"\x4e\x01\x00\x00", (3, 1)),
    calls=calls.x86_64,
)

I386 = Machine(
    name="i386",
    e_machine="EM_386",
    bits=32,
    little_endian=True,
    capstone=(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
    decoder=_execute_32,
    relocations=Relocations(
        names={
            1: "R_386_32",
            5: "R_386_COPY",
            6: "R_386_GLOB_DAT",
            7: "R_386_JMP_SLOT",
            8: "R_386_RELATIVE",
            14: "R_386_TLS_TPOFF",
            35: "R_386_TLS_DTPMOD32",
            36: "R_386_TLS_DTPOFF32",
            37: "R_386_TLS_TPOFF32",
            41: "R_386_TLS_DESC",
            42: "R_386_IRELATIVE",
        },
        relative=8,
        irelative=42,
        absolute=frozenset({1}),
        got=frozenset({6, 7}),
        module=35,
        thread_offset=frozenset({14, 37}),
        descriptor=41,
        copy=5,
    ),
    tls_below=True,
    tcb_size=0,
    tls_bias=0,
    tls_alignment=64,
    signature=bytes.fromhex("53300553"),
    signature_code=bytes.fromhex("0fb93d53300553"),
    system_call=386,
    canary=lambda address: address.word is None and address.constant == 0x14,
    thread_pattern=Pattern(
        rb"[\x66\xf0\xf2\xf3]{0,3}\x65[\x66\xf0\xf2\xf3]?(?:[\xa0-\xa3](?!\x14\0\0\0)|"
        + MEMORY_OPERAND
        + rb"(?!(?<=[\x05\x0d\x15\x1d\x25\x2d\x35\x3d])\x14\0\0\0))"
    ),
    registration_pattern=Pattern(rb"\xb8\x82\x01\x00\x00", b"\xb8\x82\x01\x00\x00"),
    calls=calls.i386,
    stub_base=x86.X86_REG_RBX,
)
