"""Chooses the code worth following: there is too much in most files to follow all of it.

A pattern of bytes finds the sites; only some instructions before and behind each are followed. So a value that was set
further away stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from rseq_matrix.elf.flow import ProgramCode, occurrences
from rseq_matrix.elf.functions import Function
from rseq_matrix.elf.machines.machine import Pattern

CODE = 1 << 18  # bytes of code that are followed where nothing narrows them down
SITES = 4000
LONGEST = 16  # bytes of an instruction
BRANCH = re.compile(r"(c\.)?(j|b|cb|tb|loop|c\w*j)")  # the mnemonics of all machines' branches, and of some others
LAST_NUMBER = re.compile(r"(-?(?:0x[0-9a-f]+|[0-9]+))$")
BYTES = 1 << 22  # of the functions around them: a Go program without symbols is one function

Sites = dict[int, tuple[Function, set[int]]]


class Reach(NamedTuple):
    """How many instructions around a site are followed."""

    before: int
    behind: int


class Windows(NamedTuple):
    """Pieces of functions; `complete` is false where there was more than is followed."""

    pieces: list[Function]
    complete: bool


def windows(program: ProgramCode, pattern: Pattern | None, reach: Reach) -> Windows:
    """Return the code around the matches of a pattern; all functions, up to a limit, without a pattern."""
    return around(program, occurrences(program, pattern), reach) if pattern is not None else everything(program)


def around(program: ProgramCode, sites: Iterable[int], reach: Reach) -> Windows:
    """Return the code around some sites, those of them that are instructions."""
    by_function: Sites = {}
    wanted = list(islice(sites, SITES + 1))
    complete = len(wanted) <= SITES and program.whole and all(program.modes.known(site) for site in wanted)
    loose = Function(0, 0, "")
    for site in sorted(wanted[:SITES]):
        function = program.functions.around(site)
        if not _leads_to(program, function, site):
            function = loose = _around_alone(program, function, site, reach, loose)
        sites_there = by_function.get(function.start, (function, set()))[1] | {site}
        by_function[function.start] = (function, sites_there)
    chosen = _affordable(by_function)
    return Windows(_pieces(program, chosen, reach), complete and len(chosen) == len(by_function))


def _leads_to(program: ProgramCode, function: Function, site: int) -> bool:
    """Return whether something says where the function with a site starts, and that it is of one instruction set."""
    said = function.start != site or program.functions.is_start(site)
    return said and program.modes.at(function.start).kind == program.modes.at(site).kind


def _around_alone(program: ProgramCode, function: Function, site: int, reach: Reach, last: Function) -> Function:
    """Return the code around a site of which nothing says where it starts, together with that around the last one."""
    start = program.modes.before(site, reach.before)
    end = min(function.end, site + LONGEST * (reach.behind + 1))
    if start <= last.end and program.modes.at(last.start).kind == program.modes.at(site).kind:
        start = last.start
    return Function(start, end, function.name)


def _affordable(by_function: Sites) -> Sites:
    """Return the functions whose boundaries are looked for: the short ones first, of code without symbols not all."""
    found: Sites = {}
    size = 0
    for start, (function, sites) in sorted(by_function.items(), key=lambda item: item[1][0].end - item[0]):
        size += function.end - function.start
        if size > BYTES:
            break
        found[start] = (function, sites)
    return dict(sorted(found.items()))


def _pieces(program: ProgramCode, by_function: Sites, reach: Reach) -> list[Function]:
    found: list[Function] = []
    for function, sites in by_function.values():
        addresses, back = _listed(program, function)
        last, own = -1, len(found)
        for index in (index for index, address in enumerate(addresses[:-1]) if address in sites):
            first, end = max(index - reach.before, 0), min(index + reach.behind + 1, len(addresses) - 1)
            if len(found) > own and first <= last:  # they overlap: one piece
                found[-1] = found[-1]._replace(end=addresses[end])
            else:
                found.append(Function(addresses[first], addresses[end], function.name))
                program.modes.learn_like(addresses[first], function.start)
            last = end
        for place, piece in enumerate(found[own:], own):
            code = range(piece.start, piece.end)
            heads = frozenset(target for target, source in back if target in code and source >= piece.end)
            found[place] = piece._replace(heads=heads)
    return found


def _listed(program: ProgramCode, function: Function) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the addresses of a function's instructions and its end, and (target, source) of its backward branches."""
    addresses: list[int] = []
    back: list[tuple[int, int]] = []
    for address, _, mnemonic, operands in program.listing(function):
        addresses.append(address)
        number = LAST_NUMBER.search(operands) if BRANCH.match(mnemonic) else None
        if number:
            target = int(number[1], 0) + (address if program.machine.relative else 0)
            if function.start <= target < address:
                back.append((target, address))
    return [*addresses, function.end], back


def everything(program: ProgramCode) -> Windows:
    """Return all functions up to a limit, each piece of code once."""
    found: list[Function] = []
    size = 0
    for start in program.functions.starts():
        if not program.image.executable(start):
            continue
        function = program.functions.around(start)
        size += function.end - function.start
        if size > CODE:
            return Windows(found, False)
        found.append(function)
    return Windows(found, True)
