"""The two instruction sets of arm in one file: which code is Thumb's, and what among the code is data.

Mapping symbols say both (AAELF32, "Mapping symbols"), but a stripped file has none. The symbols of functions say the
first, by bit 0 of their values. About the rest nobody says anything before code or a table is met that leads there, or
bytes that are a sought instruction in one of the two sets. Code whose set is not known by then is not read at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rseq_matrix.elf.image import Image
from rseq_matrix.elf.machines.execution import Encoded
from rseq_matrix.elf.machines.machine import Disassembler

READ_AHEAD = 4096  # bytes given to the disassembler at once
STT_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
ARM, THUMB, DATA = "a", "t", "d"
FAR = 1 << 32
HALF, WORD = 2, 4
WIDE = b"\xe8"  # in the second byte: the Thumb instruction is one of a word


class Stretch(NamedTuple):
    """What the memory up to an address is: ARM, THUMB, DATA, or "" where nobody says."""

    kind: str
    end: int


class Modes:
    """Tells the instruction set at an address, and reads the instructions."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.machine = image.machine
        self._learnt: dict[int, bool] = {}
        self._constants: set[int] = set()  # the half-words that code loads, or jumps by: data

    # --- what is where

    @cached_property
    def _marks(self) -> tuple[Any, Any]:
        """Return the addresses of the mapping symbols, sorted, and the letter of each."""
        symbols = self.image.all_symbols
        names = symbols.table["name"].astype(np.int64)
        text = np.frombuffer(symbols.strings + bytes(4), dtype=np.uint8)
        names = np.where(names < len(symbols.strings), names, 0)
        kind, behind = text[names + 1], text[names + 2]
        chosen = np.flatnonzero(
            (text[names] == ord("$"))
            & np.isin(kind, [ord(letter) for letter in (ARM, THUMB, DATA)])
            & np.isin(behind, (0, ord(".")))
            & symbols.defined
        )
        values = symbols.table["value"][chosen].astype(np.int64)
        order = np.argsort(values, kind="stable")
        return values[order], kind[chosen][order]

    @cached_property
    def _functions(self) -> tuple[Any, Any, Any]:
        """Return the functions' addresses, sorted, whether each is Thumb's, and where it ends."""
        parts = []
        for symbols in self.image.symbol_tables:
            chosen = np.flatnonzero(np.isin(symbols.types, STT_FUNCTIONS) & symbols.defined)
            parts.append(np.stack([symbols.table[column][chosen].astype(np.int64) for column in ("value", "size")]))
        values, sizes = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), dtype=np.int64)
        order = np.argsort(values, kind="stable")
        values, sizes = values[order], sizes[order]
        starts = values & -2
        following = np.append(starts[1:], FAR)
        return starts, values & 1, np.where(sizes == 0, following, starts + sizes)

    def at(self, address: int) -> Stretch:
        """Return what is at an address, and up to where that is so."""
        if not 0 <= address < FAR or not self.machine.thumb:
            return Stretch("", FAR)
        marks, kinds = self._marks
        index = int(np.searchsorted(marks, address, side="right")) - 1
        if index >= 0:
            return Stretch(chr(kinds[index]), int(marks[index + 1]) if index + 1 < len(marks) else FAR)
        starts, thumb, ends = self._functions
        index = int(np.searchsorted(starts, address, side="right")) - 1
        if index >= 0 and address < max(int(ends[index]), int(starts[index]) + 1):
            return Stretch(THUMB if thumb[index] else ARM, FAR)
        return Stretch({None: "", False: ARM, True: THUMB}[self._learnt.get(address)], FAR)

    def known(self, address: int) -> bool:
        """Return whether it is known what is at an address; on other machines that is always so."""
        return not self.machine.thumb or self.at(address).kind != ""

    def learn(self, address: int, thumb: bool) -> None:
        """Remember the instruction set that something else than a symbol says of an address; the first one counts."""
        self._learnt.setdefault(address, thumb)

    def is_unused(self, address: int) -> bool:
        """Return whether there is data at an address that no code was met to load."""
        return self.machine.thumb and self.at(address).kind == DATA and address not in self._constants

    def learn_like(self, address: int, other: int) -> None:
        """Remember that an address is of the same instruction set as another."""
        if self.machine.thumb and self.at(other).kind in (ARM, THUMB):
            self.learn(address, self.at(other).kind == THUMB)

    def before(self, site: int, count: int) -> int:
        """Return an instruction at most that many words before a site, where nothing says where its function starts.

        Of Thumb the lengths differ, so that it is one on which two readings agree; the site is one of theirs, too.
        """
        if not self.machine.thumb:
            return site
        start = max(site - WORD * count, self._floor(site))
        kind = self.at(site).kind
        if start >= site or kind not in (ARM, THUMB) or self._marks[0].size:
            return site
        if kind == THUMB:
            agreed = self._boundaries(start, site) & self._boundaries(start + HALF, site)
            start = min(agreed) if site in agreed else site
        self.learn(start, kind == THUMB)
        return start

    def _floor(self, site: int) -> int:
        """Return where the code around a site starts at the earliest: behind a function, and in its section."""
        starts, _, ends = self._functions
        index = int(np.searchsorted(starts, site, side="right")) - 1
        parts = [s.address for s in self.image.sections if s.allocated and s.address <= site < s.address + s.size]
        segment = self.image.segment_at(site)
        parts += [segment.address if segment is not None else site, int(ends[index]) if index >= 0 else 0]
        return max(parts)

    def _boundaries(self, start: int, site: int) -> set[int]:
        listed = self.instructions(start, site + WORD, THUMB)
        return {insn.address for insn in listed if not isinstance(insn, int)}

    # --- instructions

    def instructions(self, start: int, end: int, kind: str = "") -> Iterator[Encoded | int]:
        """Yield the instructions in [start, end), of the set `kind` if that is named; an address where there is none.

        Without mapping symbols a function is of one set: that of its start.
        """
        at = start
        while at < end:
            here = Stretch(kind, end) if kind else self.at(at)
            limit = min(end, here.end)
            if here.kind in (ARM, THUMB):
                yield from self._read(at, limit, here.kind == THUMB)
            elif here.kind == DATA:
                yield from range(at, limit, WORD)
            else:
                return
            at = limit

    def _read(self, start: int, end: int, thumb: bool) -> Iterator[Encoded | int]:
        disassembler, at = self._disassemblers[thumb], start
        while at < end:
            if at in self._constants:
                yield at
                at += HALF
                continue
            raw = self.image.read(at, min(end - at, READ_AHEAD))
            if not raw:
                return
            before = at
            for address, size, mnemonic, operands in disassembler.listed(raw, at):
                if not self._constants.isdisjoint(range(address, address + size, 2)):
                    break
                word = raw[address - before : address - before + size]
                insn = Encoded(address, size, word, mnemonic, operands, thumb)
                if self.machine.data_of is not None:
                    self._constants.update(self.machine.data_of(insn, self.image.read))
                yield insn
                at = address + size
            if at == before:
                yield at
                at += self.gap(at)

    def gap(self, address: int) -> int:
        """Return how many bytes are left out where there is no instruction."""
        here, raw = self.at(address), self.image.read(address, HALF) or b""
        whole = here.kind in (ARM, DATA) or raw[1:] >= WIDE
        return max(min(WORD if whole and address not in self._constants else HALF, here.end - address), 1)

    @cached_property
    def _disassemblers(self) -> tuple[Disassembler, Disassembler]:
        return self.machine.disassembler(), self.machine.disassembler(thumb=True)
