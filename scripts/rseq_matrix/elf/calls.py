"""Where a symbol that another object defines is called, without following all the code there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from rseq_matrix.elf.code import Reach, Windows, around, everything
from rseq_matrix.elf.flow import ProgramCode, occurrences

STUBS = 20_000  # call targets that are tried for being a PLT stub


def calls_of(program: ProgramCode, symbols: frozenset[str], reach: Reach, own: bool = False) -> Windows:
    """Return the code around the calls of one of the symbols through the PLT or the GOT.

    With `own`, also where the file calls its own function of that name, as a static program does.
    """
    slots = _slots(program, symbols)
    functions = frozenset(map(program.entry, program.image.defined(*symbols))) if own else frozenset()
    if (slots or functions) and program.machine.calls is None:
        return everything(program)
    return around(program, _sites(program, slots, functions), reach)


def thread_windows(program: ProgramCode, reach: Reach) -> Windows:
    """Return the code around whatever gives it the thread pointer: instructions, or calls of a function (arm)."""
    if program.machine.thread_pattern is None:
        return everything(program)
    slots = _slots(program, program.machine.thread_functions)
    calls = _sites(program, slots, program.thread_readers)
    return around(program, chain(occurrences(program, program.machine.thread_pattern), calls), reach)


def _sites(program: ProgramCode, slots: set[int], functions: frozenset[int] = frozenset()) -> Iterator[int]:
    """Yield where a function is called whose address is in one of the GOT entries, or one of the file's own."""
    finder = program.machine.calls
    if finder is None or not (slots or functions):
        return
    for address, raw in program.code:
        calls = finder(np.frombuffer(raw, dtype=np.uint8), address)
        candidates = _candidates(program, calls.targets) if slots else []
        wanted = [target for target in candidates if _leads_to(program, target, slots)]
        chosen = np.flatnonzero(np.isin(calls.targets, [*wanted, *functions]))
        if calls.thumb is not None:
            for index in chosen:
                program.modes.learn(int(calls.sites[index]), bool(calls.thumb[index]))
        yield from calls.sites[chosen].tolist()
        yield from calls.word_sites[np.isin(calls.words, list(slots))].tolist()


def _slots(program: ProgramCode, symbols: frozenset[str]) -> set[int]:
    """Return the GOT entries of the symbols."""
    memory, table = program.memory, program.image.dynamic_symbols
    indices = {index for index, _ in table.named(symbols) if not table.defined[index]}
    if not indices:
        return set()
    got = memory.of_types(*program.machine.relocations.got)
    return {relocation.address for relocation in got if relocation.symbol in indices}


def _candidates(program: ProgramCode, targets: object) -> list[int]:
    """Return the call targets that may be PLT stubs: those in the PLT's sections, all where there are none of these."""
    unique = np.unique(targets)  # type: ignore[call-overload]
    ranges = [(s.address, s.address + s.size) for s in program.image.sections if s.name.startswith(".plt")]
    if ranges and program.machine.name != "ppc64le":  # its stubs are in .text (ELFv2 ABI, 4.2.5)
        unique = np.concatenate([unique[(unique >= start) & (unique < end)] for start, end in ranges])
    chosen: list[int] = unique[:STUBS].tolist()
    return chosen


def _leads_to(program: ProgramCode, target: int, slots: set[int]) -> bool:
    stub = program.stub(target)
    return stub is not None and stub.slot in slots
