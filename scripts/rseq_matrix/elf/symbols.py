"""The symbol tables of a file: .dynsym as ld.so sees it, and .symtab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rseq_matrix.elf.mapped import MappedFile, string_at

ENTRIES = 65536  # of the version tables
READ_SIZE = 1 << 26


@dataclass
class Symbols:
    """A symbol table as columns, and its strings."""

    table: Any  # structured array: name, value, size, info, other, section
    strings: bytes
    versions: Any = None  # Elf_Versym indices, of .dynsym only
    version_names: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def name(self, index: int) -> str:
        """Return the name, or "" where the table has none for it."""
        return string_at(self.strings, int(self.table["name"][index])) if 0 <= index < len(self.table) else ""

    def version(self, index: int) -> str:
        """Return the version's name, or "" where the symbol has none."""
        if self.versions is None or index >= len(self.versions):
            return ""
        return self.version_names.get(int(self.versions[index]) & 0x7FFF, "")

    @cached_property
    def types(self) -> Any:
        """Return the column of STT_*."""
        return self.table["info"] & 15

    @cached_property
    def bindings(self) -> Any:
        """Return the column of STB_*."""
        return self.table["info"] >> 4

    @cached_property
    def defined(self) -> Any:
        """Return the column of whether the file itself has the symbol."""
        return self.table["section"] != 0

    def named(self, names: frozenset[str]) -> Iterator[tuple[int, str]]:
        """Yield (index, name) of the symbols with these names."""
        wanted = {name.encode() for name in names}
        offsets = {offset for name in wanted for offset in _occurrences(self.strings, name)}
        if not offsets:
            return
        for index in np.flatnonzero(np.isin(self.table["name"], list(offsets))):
            yield int(index), self.name(int(index))


def _occurrences(strings: bytes, name: bytes) -> Iterator[int]:
    """Yield where a whole name, or the tail of a longer one that the linker merged with it, starts."""
    position = strings.find(name + b"\0")
    while position >= 0:
        yield position
        position = strings.find(name + b"\0", position + 1)


def _fields(image: MappedFile) -> list[tuple[str, str]]:
    kinds = {"name": "u4", "info": "u1", "other": "u1", "section": "u2", "value": "u8", "size": "u8"}
    if image.machine.bits == 64:
        return list(kinds.items())
    return [(name, kinds[name].replace("8", "4")) for name in ("name", "value", "size", "info", "other", "section")]


def read_dynamic_symbols(image: MappedFile) -> Symbols:
    """Return the symbols that ld.so sees."""
    entry = 24 if image.machine.bits == 64 else 16
    count = _dynamic_symbol_count(image, entry) if image.tag("DT_SYMTAB") is not None else 0
    table = image.records(image.at_tag("DT_SYMTAB", count * entry, "the dynamic symbol table"), _fields(image))
    found = Symbols(table, image.strings)
    if image.tag("DT_VERSYM") is not None:
        found.versions = image.array(image.at_tag("DT_VERSYM", 2 * count, "the symbol versions"), "u2")
        found.version_names = _version_names(image)
    return found


def _dynamic_symbol_count(image: MappedFile, entry: int) -> int:
    """Return how many there are; the gABI has no tag for it. The section header says it, else the hash tables."""
    for section in image.sections:
        if section.type == "SHT_DYNSYM" and section.address == image.tag("DT_SYMTAB"):
            return section.size // entry
    table = image.tag("DT_HASH")
    if table is not None:
        head = image.read(table + 4, 4)
        return int.from_bytes(head, image.order) if head else 0
    return _count_by_gnu_hash(image)


def _count_by_gnu_hash(image: MappedFile) -> int:
    """Walk DT_GNU_HASH to its last chain (glibc elf/dl-addr.c and dl-lookup.c read it the same way)."""
    table = image.tag("DT_GNU_HASH")
    head = image.read(table, 16) if table is not None else None
    if table is None or head is None:
        return 0
    buckets, first, filters, _ = image.array(head, "u4").tolist()
    at = table + 16 + filters * image.machine.word
    raw = image.read(at, 4 * buckets)
    last = max(image.array(raw, "u4").tolist(), default=0) if raw else 0
    if last < first:
        return int(first)
    segment = image.segment_at(at)
    chains = at + 4 * buckets
    if segment is None or chains >= segment.address + segment.file_size:
        return int(last) + 1
    rest = image.read(chains, min(segment.address + segment.file_size - chains, READ_SIZE)) or b""
    ends = np.flatnonzero(image.array(rest, "u4")[last - first :] & 1)
    return int(last + (ends[0] if len(ends) else 0)) + 1


def _version_names(image: MappedFile) -> dict[int, str]:
    """Read DT_VERNEED and DT_VERDEF: version index to name."""
    found: dict[int, str] = {}
    _walk_needed(image, found)
    address = image.tag("DT_VERDEF")
    for _ in range(min(image.tag("DT_VERDEFNUM") or 0, ENTRIES)):
        raw = image.read(address, 20) if address else None
        if not address or raw is None:
            break
        index = int.from_bytes(raw[4:6], image.order)
        auxiliary, following = image.array(raw[12:20], "u4").tolist()
        name = image.read(address + auxiliary, 4)
        if name:
            found[index & 0x7FFF] = string_at(image.strings, int.from_bytes(name, image.order))
        address = address + following if following else 0
    return found


def _walk_needed(image: MappedFile, found: dict[int, str]) -> None:
    address = image.tag("DT_VERNEED")
    left = ENTRIES
    for _ in range(min(image.tag("DT_VERNEEDNUM") or 0, ENTRIES)):
        raw = image.read(address, 16) if address else None
        if not address or raw is None:
            return
        auxiliary, following = image.array(raw[8:16], "u4").tolist()
        at = address + auxiliary
        for _ in range(int.from_bytes(raw[2:4], image.order)):
            entry = image.read(at, 16)
            left -= 1
            if entry is None or left < 0:
                return
            name, step = image.array(entry[8:16], "u4").tolist()
            found[int.from_bytes(entry[6:8], image.order) & 0x7FFF] = string_at(image.strings, name)
            at += step
        address = address + following if following else 0


def read_all_symbols(image: MappedFile) -> Symbols:
    """Return .symtab; empty in a stripped file."""
    for section in image.sections:
        if section.type == "SHT_SYMTAB" and section.link < len(image.sections):
            strings = image.contents(image.sections[section.link])
            return Symbols(image.records(image.contents(section), _fields(image)), strings)
    return Symbols(image.records(b"", _fields(image)), b"")
