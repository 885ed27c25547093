"""An ELF file with its symbols, and what it is: a program or a library, dynamic or static."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from elftools.dwarf.callframe import FDE
from elftools.elf.notes import iter_notes

from rseq_matrix.elf.mapped import DAMAGE, STRING_SIZE, MappedFile, ProgramHeader, damage, string_at
from rseq_matrix.elf.symbols import Symbols, read_all_symbols, read_dynamic_symbols

NOTE_SIZE = 1 << 16
UNWIND_SIZE = 1 << 23


class Image(MappedFile):
    """A file as everything here uses it."""

    # --- symbols

    @cached_property
    def dynamic_symbols(self) -> Symbols:
        """Return the symbols that ld.so sees."""
        return read_dynamic_symbols(self)

    @cached_property
    def all_symbols(self) -> Symbols:
        """Return .symtab; empty in a stripped file."""
        return read_all_symbols(self)

    @cached_property
    def symbol_tables(self) -> tuple[Symbols, ...]:
        """Return the tables that say something: .symtab, .dynsym."""
        return tuple(table for table in (self.all_symbols, self.dynamic_symbols) if len(table))

    def defined(self, *names: str) -> Iterator[int]:
        """Yield the values of the file's own symbols with these names, .symtab's first; one may come twice."""
        for table in self.symbol_tables:
            for index, _ in table.named(frozenset(names)):
                if table.defined[index]:
                    yield int(table.table["value"][index])

    @cached_property
    def tls(self) -> ProgramHeader | None:
        """Return PT_TLS."""
        return next((segment for segment in self.segments if segment.type == "PT_TLS"), None)

    def unwind_entries(self) -> list[int]:
        """Return the start addresses of the functions that .eh_frame describes; [] where it is not there or damaged."""
        section = self.section(".eh_frame")
        if section is None or section.size > UNWIND_SIZE or not self.contents(section):
            return []
        try:
            found = self.elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False).EH_CFI_entries()
            starts = [int(entry["initial_location"]) for entry in found if isinstance(entry, FDE)]
        except DAMAGE:
            return []
        return [start for start in starts if 0 < start < 2**self.machine.bits]

    # --- what it is

    @cached_property
    def interpreter(self) -> str | None:
        """Return PT_INTERP."""
        segment = next((s for s in self.segments if s.type == "PT_INTERP"), None)
        if segment is None:
            return None
        size = min(segment.file_size, STRING_SIZE)
        return string_at(self._slice(segment.offset, size, "the interpreter's name"), 0)

    @property
    def position_independent(self) -> bool:
        """Return ET_DYN."""
        return bool(self.header["e_type"] == "ET_DYN")

    @cached_property
    def kind(self) -> str:
        """Return executable, pie, shared-object, static or static-pie.

        A PIE says so (DF_1_PIE), or, from older linkers, has an interpreter and no DT_SONAME: libc.so.6 has both.
        """
        if not self.position_independent:
            return "executable" if self.interpreter is not None else "static"
        if (self.tag("DT_FLAGS_1") or 0) & 0x08000000:
            return "pie" if self.interpreter is not None else "static-pie"
        if self.interpreter is not None and self.tag("DT_SONAME") is None:
            return "pie"
        return "shared-object"

    @cached_property
    def static(self) -> bool:
        """Return whether no loader relocates it: it does that itself."""
        return self.kind in ("static", "static-pie")

    @cached_property
    def build_id(self) -> str | None:
        """Return the NT_GNU_BUILD_ID note in hexadecimal digits."""
        for segment in self.segments:
            if segment.type != "PT_NOTE" or segment.offset + segment.file_size > len(self.data):
                continue
            with damage(self.path, "notes"):
                for note in iter_notes(self.elf, segment.offset, min(segment.file_size, NOTE_SIZE)):
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])[:128]
        return None
