"""The second opinion: LIEF reads the same file, and what the two readers say differently is listed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lief

from rseq_matrix.elf.facts import FileFacts
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.mapped import DAMAGE

lief.logging.disable()

LARGEST = 1 << 28  # bytes of a file: LIEF reads it into memory as a whole
TOO_LARGE = "too large a file for LIEF, the second opinion"
UNREADABLE = "LIEF, the second opinion, cannot read this file"


def _configuration() -> Any:
    """Leave out what is not compared: reading it takes most of the time."""
    found = lief.ELF.ParserConfig()
    found.parse_relocations = found.parse_symtab_symbols = False
    found.parse_symbol_versions = found.parse_notes = found.parse_overlay = False
    return found


def second_opinion(image: Image, facts: FileFacts) -> FileFacts:
    """Return the facts with the disagreements among their notes."""
    if len(image.data) > LARGEST:
        return replace(facts, notes=(*facts.notes, TOO_LARGE))
    with warnings.catch_warnings():  # what it says of a damaged file is said by us
        warnings.simplefilter("ignore")
        try:
            binary = lief.ELF.parse(image.path, _configuration())
            said = tuple(_disagreements(binary, image, facts)) if binary is not None else (UNREADABLE,)
        except (*DAMAGE, RuntimeError):
            said = (UNREADABLE,)
    return replace(facts, notes=(*facts.notes, *said))


def _disagreements(binary: Any, image: Image, facts: FileFacts) -> Iterator[str]:
    for what, own, theirs in _pairs(binary, image, facts):
        if own != theirs:
            yield f"LIEF, the second opinion, differs: {what} is {own} here and {theirs} there"


def _pairs(binary: Any, image: Image, facts: FileFacts) -> Iterator[tuple[str, Any, Any]]:
    """Yield (what, as read here, as LIEF reads it)."""
    segment = next((s for s in binary.segments if s.type == lief.ELF.Segment.TYPE.TLS), None)
    theirs = segment and (segment.virtual_address, segment.virtual_size, segment.physical_size)
    own = facts.tls.segment
    yield "PT_TLS (address, size, image size)", own and (own.address, own.size, own.image_size), theirs
    yield "the interpreter", facts.interpreter, binary.interpreter if binary.has_interpreter else None
    entries = list(binary.dynamic_entries)
    needed = tuple(str(e.name) for e in entries if isinstance(e, lief.ELF.DynamicEntryLibrary))
    yield "DT_NEEDED", facts.needed, needed
    soname = next((str(e.name) for e in entries if isinstance(e, lief.ELF.DynamicSharedObject)), None)
    yield "DT_SONAME", facts.soname, soname
    yield "the number of dynamic symbols", len(image.dynamic_symbols), len(binary.dynamic_symbols)
