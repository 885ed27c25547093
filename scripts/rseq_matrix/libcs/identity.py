"""What a program or a dynamic linker says of itself: its interpreter, its build id, a symbol that it defines."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection
from elftools.elf.segments import InterpSegment

UNREADABLE = (ELFError, OSError, ValueError, KeyError)
"""What reading a file may raise."""


def interpreter_of(program: Path) -> str:
    """Return the dynamic linker that a program names (PT_INTERP); empty if none. Raises one of UNREADABLE."""
    with program.open("rb") as file:
        segments = ELFFile(file).iter_segments()
        return next((str(segment.get_interp_name()) for segment in segments if isinstance(segment, InterpSegment)), "")


def build_id_of(path: Path) -> str | None:
    """Return the build id of an ELF file (NT_GNU_BUILD_ID); None if it has none. Raises one of UNREADABLE."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".note.gnu.build-id")
        notes = section.iter_notes() if isinstance(section, NoteSection) else ()
        return next((str(note["n_desc"]) for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"), None)


def defines(path: Path, table: str, symbol: str) -> bool:
    """Return whether a symbol table of a file, .dynsym or .symtab, defines a symbol. Raises one of UNREADABLE."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(table)
        if not isinstance(section, SymbolTableSection):
            return False
        return any(found["st_shndx"] != "SHN_UNDEF" for found in section.get_symbol_by_name(symbol) or ())
