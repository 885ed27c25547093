"""struct pthread as libc's debug information describes it, found by build id and read without parsing all of it."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from rseq_matrix.documents.layout import StructPthread
from rseq_matrix.elf.mapped import DAMAGE

DIRECTORY = "usr/lib/debug/.build-id"
STRUCTURE, MEMBERS = "pthread", ("rseq_area", "rseq")
SURE_MEMBER = "robust_head"  # a struct pthread that has it is libc's
CANDIDATES = 32


def _contents(section: Any) -> bytes:
    if section is None:
        return b""
    section.stream.seek(0)
    return bytes(section.stream.read())


def _units(dwarf: Any) -> Iterator[Any]:
    """Yield the units that refer to the structure's name (DW_FORM_strp), without looking into the others."""
    strings, info = _contents(dwarf.debug_str_sec), _contents(dwarf.debug_info_sec)
    names = [struct.pack("<I", found.start()) for found in re.finditer(rb"pthread\0", strings)]  # tails, too
    starts = sorted(found.start() for name in names for found in re.finditer(re.escape(name), info))
    seen = 0
    for unit in dwarf.iter_CUs():
        end = unit.cu_offset + unit["unit_length"] + unit.structs.initial_length_field_size()
        if any(unit.cu_offset <= start < end for start in starts):
            seen += 1
            yield unit
        if seen >= CANDIDATES:
            return


def _name(entry: Any) -> str:
    attribute = entry.attributes.get("DW_AT_name")
    return attribute.value.decode("utf-8", "replace") if attribute and isinstance(attribute.value, bytes) else ""


def _number(entry: Any, name: str) -> int | None:
    attribute = entry.attributes.get(name)
    return attribute.value if attribute and isinstance(attribute.value, int) else None


def _structure(unit: Any) -> tuple[int, dict[str, int]] | None:
    """Return the size and the members of struct pthread in a unit."""
    for entry in unit.iter_DIEs():
        if entry.tag != "DW_TAG_structure_type" or _name(entry) != STRUCTURE:
            continue
        size = _number(entry, "DW_AT_byte_size")
        found = {_name(child): _number(child, "DW_AT_data_member_location") for child in entry.iter_children()}
        members = {name: at for name, at in found.items() if at is not None}
        if size is not None and SURE_MEMBER in members:
            return size, members
    return None


@functools.lru_cache(maxsize=16)
def read_file(path: Path) -> StructPthread | None:
    """Return struct pthread as a file's DWARF has it; None where the file, the DWARF or the structure is not there."""
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if not elf.has_dwarf_info():
                return None
            for unit in _units(elf.get_dwarf_info(follow_links=False)):
                if found := _structure(unit):
                    size, members = found
                    member = next((name for name in MEMBERS if name in members), None)
                    return StructPthread(str(path), size, member, members[member] if member else None)
    except (OSError, *DAMAGE):
        return None
    return None


def find_struct_pthread(build_ids: Sequence[str], roots: Sequence[Path]) -> StructPthread | None:
    """Look in the debug files of these build ids, under each root: the process's own, then this one's."""
    for build_id in build_ids:
        for root in roots:
            path = Path(DIRECTORY, build_id[:2], f"{build_id[2:]}.debug")
            if found := read_file(root / path):
                return replace(found, file=f"/{path}")
    return None
