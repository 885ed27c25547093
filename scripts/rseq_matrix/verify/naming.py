"""How sentences name the subject's instructions and critical sections, and kinds of interruption."""

from __future__ import annotations

from functools import cache
from typing import Any

import capstone

from rseq_matrix.elf.facts import Section, SectionInstruction
from rseq_matrix.elf.image import Image
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trials import FAMILY

LONGEST = 15
"""Bytes of an instruction (Intel SDM, volume 2, 2.3.11)."""
KINDS = {
    "signal": "a signal whose handler calls the same function",
    "migration": "a migration",
    "preemption": "a preemption by a thread that calls the same function",
    "membarrier": "an RSEQ membarrier",
    "other-cpu": "a thread on another CPU that calls the same function",
}


@cache
def _disassembler() -> Any:
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return disassembler


def stores(instruction: SectionInstruction) -> bool:
    """Return whether an instruction writes to memory."""
    for insn in _disassembler().disasm(bytes.fromhex(instruction.bytes), instruction.address):
        written = (o for o in insn.operands if o.type == capstone.x86.X86_OP_MEM and o.access & capstone.CS_AC_WRITE)
        return any(written)
    return False


def section_name(section: Section) -> str:
    """Return how reports call a section."""
    return f"the critical section at +{section.start:#x} in {section.function or 'a function without a name'}"


class Instructions:
    """The subject's instructions by address, for sentences."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._text = {i.address: i.text for section in subject.sections for i in section.code}

    def name(self, address: int) -> str:
        """Return "instruction +0x1234 `addq …`"; the text is taken from the file where it is in no section."""
        text = self._text.get(address) or self._read(address)
        return f"instruction +{address:#x}" + (f" `{text}`" if text else "")

    def _read(self, address: int) -> str:
        with Image(str(self.subject.path)) as image:
            code = image.read(address, LONGEST) or b""
        found = next(iter(_disassembler().disasm(code, address, 1)), None)
        return f"{found.mnemonic} {found.op_str}".strip() if found else ""


def kind_in_words(kind: str) -> str:
    """Return a kind of interruption in words."""
    return KINDS[FAMILY.get(kind, kind)]
