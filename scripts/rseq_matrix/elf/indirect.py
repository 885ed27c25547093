"""Indirect functions: STT_GNU_IFUNC symbols, IRELATIVE relocations, and what each resolver touches."""

from __future__ import annotations

import numpy as np

from rseq_matrix.elf.facts import Indirect, IndirectSymbol
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.machines.execution import Flow
from rseq_matrix.elf.touches import Touches

STT_GNU_IFUNC = 10
START = "__libc_start_main"
SETUP_TLS = "__libc_setup_tls"
RESOLVERS = 1000  # of one file that are followed; the largest libc has fewer than 300


def indirect(program: ProgramCode, touches: Touches) -> Indirect:
    """Return the facts. A resolver is any function that such a symbol or relocation names."""
    symbols = _symbols(program)
    irelative = program.machine.relocations.irelative
    by_relocation = {program.memory.value(found.address) for found in program.memory.of_types(irelative)}
    called = {program.entry(address) for address in by_relocation if address is not None}
    addresses = sorted({symbol.address for symbol in symbols} | called)
    resolvers = tuple(touches.of(address) for address in addresses[:RESOLVERS])
    first = _thread_pointer_first(program) if program.image.static and addresses else None
    return Indirect(symbols, program.memory.count(irelative), resolvers, first)


def _thread_pointer_first(program: ProgramCode) -> bool | None:
    """Read the order in the code that starts a static program (glibc csu/libc-start.c, which distributions patch).

    It calls __libc_setup_tls by name, and the resolvers through a table of addresses.
    """
    for start in program.image.defined(START):
        for step in program.steps(program.functions.around(start)):
            if step.flow is not Flow.CALL:
                continue
            if program.destination(step).unknown:
                return False
            if program.callee(step) == SETUP_TLS:
                return True
    return None


def _symbols(program: ProgramCode) -> tuple[IndirectSymbol, ...]:
    found: dict[tuple[str, int], IndirectSymbol] = {}
    dynamic = program.image.dynamic_symbols
    for table in (dynamic, program.image.all_symbols):
        for index in np.flatnonzero((table.types == STT_GNU_IFUNC) & table.defined):
            address = int(table.table["value"][index]) & (-2 if program.machine.thumb else -1)
            name = table.name(int(index))
            found.setdefault((name, address), IndirectSymbol(name, address, table is dynamic))
    return tuple(sorted(found.values(), key=lambda symbol: (symbol.address, symbol.name)))
