"""Where a symbol that another object defines is called, without following all the code there is."""

from __future__ import annotations

import numpy as np

from rseq_matrix.elf.code import Reach, Windows, around, everything
from rseq_matrix.elf.flow import Program

STUBS = 20_000  # call targets that are tried for being a PLT stub


def calls_of(program: Program, symbols: frozenset[str], reach: Reach) -> Windows:
    """Return the code around the calls of one of the symbols through the PLT or the GOT."""
    slots = _slots(program, symbols)
    if not slots:
        return Windows([], True)
    if program.machine.calls is None:
        return everything(program)
    found: list[int] = []
    for address, raw in program.code:
        calls = program.machine.calls(np.frombuffer(raw, dtype=np.uint8), address)
        stubs = [target for target in _candidates(program, calls.targets) if _leads_to(program, target, slots)]
        found += calls.sites[np.isin(calls.targets, stubs)].tolist()
        found += calls.word_sites[np.isin(calls.words, list(slots))].tolist()
    return around(program, found, reach)


def _slots(program: Program, symbols: frozenset[str]) -> set[int]:
    """Return the GOT entries of the symbols."""
    memory, table = program.memory, program.image.dynamic_symbols
    indices = {index for index, name in table.named(symbols) if name in symbols and not table.defined[index]}
    if not indices:
        return set()
    got = memory.of_types(*program.machine.relocations.got)
    return {relocation.address for relocation in got if relocation.symbol in indices}


def _candidates(program: Program, targets: object) -> list[int]:
    """Return the call targets that may be PLT stubs: those in the PLT's sections, all where there are none of these."""
    unique = np.unique(targets)  # type: ignore[call-overload]
    ranges = [(s.address, s.address + s.size) for s in program.image.sections if s.name.startswith(".plt")]
    if ranges and program.machine.name != "ppc64le":  # its stubs are in .text (ELFv2 ABI, 4.2.5)
        unique = np.concatenate([unique[(unique >= start) & (unique < end)] for start, end in ranges])
    chosen: list[int] = unique[:STUBS].tolist()
    return chosen


def _leads_to(program: Program, target: int, slots: set[int]) -> bool:
    stub = program.stub(target)
    return stub is not None and stub.slot in slots
