"""The table of the known machines, by e_machine, width and byte order."""

from __future__ import annotations

from rseq_matrix.elf.machines.aarch64 import AARCH64
from rseq_matrix.elf.machines.arm import ARM
from rseq_matrix.elf.machines.machine import Machine
from rseq_matrix.elf.machines.ppc64 import PPC64LE
from rseq_matrix.elf.machines.riscv import RISCV64
from rseq_matrix.elf.machines.s390x import S390X
from rseq_matrix.elf.machines.x86 import I386, X86_64

MACHINES: dict[tuple[str, int, bool], Machine] = {
    (machine.e_machine, machine.bits, machine.little_endian): machine
    for machine in (X86_64, I386, AARCH64, ARM, PPC64LE, RISCV64, S390X)
}
