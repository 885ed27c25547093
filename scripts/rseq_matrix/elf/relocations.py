"""The dynamic relocations of a file, and what its memory holds once ld.so has applied them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rseq_matrix.elf.image import Image
from rseq_matrix.errors import InputError

COUNT = 1 << 24  # relocations; the largest library known has less than a tenth of that


class Relocation(NamedTuple):
    """One relocation. `addend` is the word in place where the machine has no addends in the table."""

    address: int
    type: int
    symbol: int  # index in .dynsym
    addend: int


@dataclass(frozen=True)
class Slot:
    """What a word of memory will hold: an address of the file's own, or a symbol of another's, or neither."""

    address: int | None = None
    symbol: str = ""
    indirect: bool = False  # the address is that of a resolver


class Relocated:
    """A file's memory as ld.so leaves it."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.types = image.machine.relocations

    # --- the tables

    @cached_property
    def table(self) -> Any:
        """Return all entries with a type, sorted by address: columns address, type, symbol, addend."""
        parts = [self._read(*where) for where in self._places()]
        joined = {name: np.concatenate([part[name] for part in parts]) if parts else np.array([]) for name in COLUMNS}
        order = np.argsort(joined["address"], kind="stable")
        return {name: column[order] for name, column in joined.items()}

    def _places(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the contents of each table and whether its entries have addends.

        DT_RELA may cover what DT_JMPREL tells of, too (GNU ld on riscv; glibc elf/dynamic-link.h allows for it).
        """
        image = self.image
        size = min(len(image.data), COUNT * 24)
        found: list[tuple[int, int]] = []
        for start, length, addends in self._listed():
            if not length or any(begin <= start and start + length <= end for begin, end in found):
                continue
            found.append((start, start + length))
            raw = image.read(start, length) if length <= size else None
            if raw is None:
                raise InputError(f"{image.path}: damaged: a relocation table is not in a loaded segment")
            yield raw, addends

    def _listed(self) -> Iterator[tuple[int, int, bool]]:
        """Yield (address, size, has addends): by the dynamic section; a static program without one has sections."""
        tag = self.image.tag
        if self.image.dynamic:
            yield tag("DT_RELA") or 0, tag("DT_RELASZ") or 0, True
            yield tag("DT_REL") or 0, tag("DT_RELSZ") or 0, False
            yield tag("DT_JMPREL") or 0, tag("DT_PLTRELSZ") or 0, tag("DT_PLTREL") == DT_RELA
            return
        for section in self.image.sections:
            if section.allocated and section.type in ("SHT_RELA", "SHT_REL"):
                yield section.address, section.size, section.type == "SHT_RELA"

    def _read(self, raw: bytes, addends: bool) -> dict[str, Any]:
        wide = self.image.machine.bits == 64
        word = "u8" if wide else "u4"
        fields = [("address", word), ("info", word)] + ([("addend", word.replace("u", "i"))] if addends else [])
        rows = self.image.records(raw, fields)
        shift, mask = (32, 0xFFFFFFFF) if wide else (8, 0xFF)
        info = rows["info"].astype(np.uint64)
        columns = {
            "address": rows["address"].astype(np.uint64),
            "type": (info & np.uint64(mask)).astype(np.int64),
            "symbol": (info >> np.uint64(shift)).astype(np.int64),
        }
        columns["addend"] = rows["addend"].astype(np.int64) if addends else self._in_place(columns["address"])
        return columns

    def _in_place(self, addresses: Any) -> Any:
        """Return the words at these addresses, 0 where nothing is loaded."""
        words = [self.image.word(int(address)) or 0 for address in addresses]
        return np.array(words, dtype=np.uint64).astype(np.int64)

    @cached_property
    def packed(self) -> Any:
        """Return the sorted addresses of DT_RELR (gABI, "Relative relocations"): words in place, moved by the base."""
        image, tag = self.image, self.image.tag
        if not tag("DT_RELR") or not tag("DT_RELRSZ"):
            return np.array([], dtype=np.uint64)
        size = tag("DT_RELRSZ") or 0
        raw = image.read(tag("DT_RELR") or 0, size) if size <= len(image.data) else None
        if raw is None:
            raise InputError(f"{image.path}: damaged: the packed relocations are not in a loaded segment")
        word = image.machine.word
        found, at = [], 0
        for entry in image.array(raw, f"u{word}").tolist():
            if not entry & 1:
                found.append(entry)
                at = entry + word
            else:
                bits = entry >> 1
                found += [at + word * place for place in range(word * 8 - 1) if bits >> place & 1]
                at += word * (word * 8 - 1)
            if len(found) > COUNT:
                raise InputError(f"{image.path}: damaged: more than {COUNT} packed relocations are not believed")
        return np.array(sorted(found), dtype=np.uint64)

    def of_types(self, *types: int) -> Iterator[Relocation]:
        """Yield the relocations of some types, by address."""
        for index in np.flatnonzero(np.isin(self.table["type"], types)):
            yield self._row(int(index))

    def count(self, kind: int) -> int:
        """Return how many relocations have a type."""
        return int(np.count_nonzero(self.table["type"] == kind))

    def _row(self, index: int) -> Relocation:
        return Relocation(*(int(self.table[name][index]) for name in COLUMNS))

    def at(self, address: int) -> Relocation | None:
        """Return the relocation of the word at an address; the last one, if there are more, as that one stays."""
        if not 0 <= address < 2**64:
            return None
        index = int(np.searchsorted(self.table["address"], np.uint64(address), side="right")) - 1
        if index >= 0 and int(self.table["address"][index]) == address:
            return self._row(index)
        index = int(np.searchsorted(self.packed, np.uint64(address)))
        if index < len(self.packed) and int(self.packed[index]) == address:
            return Relocation(address, self.types.relative, 0, self.image.word(address) or 0)
        return None

    def symbol(self, relocation: Relocation) -> str:
        """Return the name of a relocation's symbol, "" where it has none."""
        return self.image.dynamic_symbols.name(relocation.symbol) if relocation.symbol else ""

    # --- memory

    def slot(self, address: int) -> Slot | None:
        """Return what the word at an address will hold; None where no word is loaded there."""
        image = self.image
        if image.word(address) is None:
            return None
        relocation = self.at(address)
        if relocation is None:
            return Slot(image.word(address))
        return self._applied(relocation)

    def _applied(self, relocation: Relocation) -> Slot:
        types, mask = self.types, 2**self.image.machine.bits - 1
        if relocation.type in (types.relative, types.irelative):
            return Slot(relocation.addend & mask, indirect=relocation.type == types.irelative)
        if relocation.type not in types.absolute and relocation.type not in types.got:
            return Slot(None, self.symbol(relocation))
        symbols = self.image.dynamic_symbols
        # A GOT entry holds the symbol; in place of the addend there may be a PLT stub's address (System V psABI).
        addend = relocation.addend if relocation.type in types.absolute else 0
        if relocation.symbol == 0:
            return Slot(addend & mask)
        if relocation.symbol >= len(symbols):
            return Slot(None, "")
        name = symbols.name(relocation.symbol)
        if not symbols.defined[relocation.symbol]:
            return Slot(None, name)
        indirect = bool(symbols.types[relocation.symbol] == 10)  # STT_GNU_IFUNC
        return Slot((int(symbols.table["value"][relocation.symbol]) + addend) & mask, name, indirect)

    def value(self, address: int) -> int | None:
        """Return the file's own address, or the number, that the word at an address will hold; else None."""
        slot = self.slot(address)
        return slot.address if slot else None

    def constant(self, address: int) -> int | None:
        """Return the word at an address if it lies in memory that never changes: not writable and not relocated."""
        segment = self.image.segment_at(address)
        if segment is None or segment.writable or self.at(address) is not None:
            return None
        return self.image.word(address)

    def linked(self, address: int) -> int | None:
        """Return the word at an address if it stays as the linker left it, not relocated.

        It does in the GOT, and in RELRO, where a zero may yet be a variable that start-up code has still to set.
        """
        if self.at(address) is not None:
            return None
        got = self.image.section(".got")
        if got is not None and got.address <= address < got.address + got.size:
            return self.image.word(address)
        protected = (s for s in self.image.segments if s.type == "PT_GNU_RELRO")
        if any(s.address <= address < s.address + s.memory_size for s in protected):
            return self.image.word(address) or None
        return self.constant(address)


COLUMNS = ("address", "type", "symbol", "addend")
DT_RELA = 7
