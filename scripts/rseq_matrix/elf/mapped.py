"""One ELF file, opened with care: headers, dynamic section, and memory as the file describes it.

pyelftools reads what there are few of (headers, notes) and knows the names of things; numpy reads what there are many
of (symbols, relocations). Nothing of the file is believed before it is checked against the file's size and the limits
here, and whatever is wrong becomes one InputError.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from elftools.common.exceptions import DWARFError, ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_D_TAG_COMMON

from rseq_matrix.elf.machines.machine import Machine
from rseq_matrix.elf.machines.table import MACHINES
from rseq_matrix.errors import InputError, UnsuitableError

PROGRAM_HEADERS = 4096  # more is not a program: ld.so itself copies them to its stack
SECTION_HEADERS = 65536
DYNAMIC_ENTRIES = 65536
READ_SIZE = 1 << 26
STRING_SIZE = 4096  # of a name; a C++ name can be long

ET_NAMES = {"ET_REL": "an object file not yet linked", "ET_CORE": "a core dump", "ET_NONE": "an ELF file of no type"}

Opened = TypeVar("Opened", bound="MappedFile")

# What pyelftools raises on a damaged file, whatever it happens to do there.
DAMAGE = (
    *(ELFError, DWARFError, ConstructError),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, RecursionError),
)


def string_at(strings: bytes, offset: int) -> str:
    """Return the string at an offset of a string table, "" where there is none. Undecodable bytes are replaced."""
    if not 0 <= offset < len(strings):
        return ""
    end = strings.find(b"\0", offset, offset + STRING_SIZE)
    return strings[offset : end if end >= 0 else offset + STRING_SIZE].decode("utf-8", "replace")


@contextmanager
def damage(path: str, what: str) -> Iterator[None]:
    """Turn what pyelftools raises on a damaged file into the sentence."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{path}: damaged {what} ({type(error).__name__})") from error


@dataclass(frozen=True)
class ProgramHeader:
    """One program header (gABI, "Program Header"); `type` is its name or number."""

    type: str | int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def executable(self) -> bool:
        """Return PF_X."""
        return bool(self.flags & 1)

    @property
    def writable(self) -> bool:
        """Return PF_W."""
        return bool(self.flags & 2)


@dataclass(frozen=True)
class SectionHeader:
    """One section header (gABI, "Sections"); `type` is its name or number."""

    name: str
    type: str | int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def allocated(self) -> bool:
        """Return SHF_ALLOC."""
        return bool(self.flags & 2)


class MappedFile:
    """An ELF file of one of the known machines. Use as a context manager; everything is read while it is open."""

    def __init__(self, path: str) -> None:
        """Open and check. Raises InputError with the sentence for everything that is not a whole ELF file."""
        self.path = path
        self.data = _mapped(path)
        try:
            if self.data[:4] != b"\x7fELF":
                raise UnsuitableError(f"{path}: not an ELF file")
            with damage(path, "ELF header"):
                self.elf: Any = ELFFile(self.data)
                self.header: Any = self.elf.header
            self.machine = self._known_machine()
            self.segments = self._program_headers()
            self.sections = self._section_headers()
            self._check_kind()
        except BaseException:
            self.close()
            raise

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self.elf = None
        self.data.close()

    def forget(self, offset: int, size: int) -> None:
        """Let the memory of a part of the file go that was read and is not needed soon; it can be read again."""
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError, ValueError):
            self.data.madvise(mmap.MADV_DONTNEED, start, min(offset + size, len(self.data)) - start)

    # --- headers

    def _known_machine(self) -> Machine:
        key = (self.header["e_machine"], self.elf.elfclass, self.elf.little_endian)
        if key not in MACHINES:
            order = "little" if key[2] else "big"
            known = ", ".join(machine.name for machine in MACHINES.values())
            machine = f"{key[0]}, {key[1]}-bit, {order}-endian"
            raise UnsuitableError(f"{self.path}: for {machine}; known machines are {known}")
        return MACHINES[key]

    def _table(self, offset: int, count: int, entry: int, least: int, limit: int, what: str) -> range:
        """Return the offsets of a header table's entries, checked."""
        if count == 0:
            return range(0)
        if count > limit:
            raise InputError(f"{self.path}: damaged: {count} {what}s; more than {limit} are not believed")
        if entry < least:
            raise InputError(f"{self.path}: damaged: a {what} of {entry} bytes; it has {least}")
        if offset + count * entry > len(self.data):
            raise InputError(f"{self.path}: truncated: the {what}s end beyond the end of the file")
        return range(offset, offset + count * entry, entry)

    def _program_headers(self) -> list[ProgramHeader]:
        header = self.header
        with damage(self.path, "program headers"):
            count = self.elf.num_segments()
            least = 56 if self.machine.bits == 64 else 32
            size = header["e_phentsize"]
            table = self._table(header["e_phoff"], count, size, least, PROGRAM_HEADERS, "program header")
            parsed = [struct_parse(self.elf.structs.Elf_Phdr, self.data, offset) for offset in table]
        fields = ("type", "flags", "offset", "vaddr", "filesz", "memsz", "align")
        found = [ProgramHeader(*(p[f"p_{field}"] for field in fields)) for p in parsed]
        for segment in found:
            if segment.type == "PT_LOAD" and segment.offset + segment.file_size > len(self.data):
                raise InputError(f"{self.path}: truncated: a loaded segment ends beyond the end of the file")
            if segment.type in ("PT_LOAD", "PT_TLS") and segment.file_size > segment.memory_size:
                raise InputError(f"{self.path}: damaged: a segment has more bytes in the file than in memory")
        return found

    def _section_headers(self) -> list[SectionHeader]:
        header = self.header
        if not header["e_shoff"]:
            return []
        with damage(self.path, "section headers"):
            count = self.elf.num_sections()
            least = 64 if self.machine.bits == 64 else 40
            size = header["e_shentsize"]
            table = self._table(header["e_shoff"], count, size, least, SECTION_HEADERS, "section header")
            parsed = [struct_parse(self.elf.structs.Elf_Shdr, self.data, offset) for offset in table]
            names_at = self.elf.get_shstrndx()
        names = b""
        if names_at < len(parsed):
            table_of_names = parsed[names_at]
            names = self._slice(table_of_names["sh_offset"], table_of_names["sh_size"], "section names")
        fields = ("type", "flags", "addr", "offset", "size", "link")
        return [SectionHeader(string_at(names, s["sh_name"]), *(s[f"sh_{field}"] for field in fields)) for s in parsed]

    def _check_kind(self) -> None:
        kind = self.header["e_type"]
        if kind not in ("ET_EXEC", "ET_DYN"):
            raise UnsuitableError(
                f"{self.path}: {ET_NAMES.get(kind, f'an ELF file of type {kind}')}, not a program or library"
            )
        if not any(segment.type == "PT_LOAD" for segment in self.segments):
            raise InputError(f"{self.path}: damaged: no segment is loaded")
        if any(s.type == "SHT_NOBITS" and s.flags & 4 and s.size for s in self.sections):  # SHF_EXECINSTR
            raise UnsuitableError(f"{self.path}: only the debug information of another file, not a program or library")

    def section(self, name: str) -> SectionHeader | None:
        """Return the first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def contents(self, section: SectionHeader) -> bytes:
        """Return a section's bytes in the file."""
        if section.type == "SHT_NOBITS":
            return b""
        return self._slice(section.offset, section.size, f"section {section.name}")

    def _slice(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise InputError(f"{self.path}: truncated: {what} beyond the end of the file")
        return bytes(self.data[offset : offset + size])

    # --- memory

    @cached_property
    def loads(self) -> list[ProgramHeader]:
        """Return the PT_LOAD segments."""
        return [segment for segment in self.segments if segment.type == "PT_LOAD"]

    def segment_at(self, address: int) -> ProgramHeader | None:
        """Return the loaded segment that holds an address."""
        for segment in self.loads:
            if segment.address <= address < segment.address + segment.memory_size:
                return segment
        return None

    def executable(self, address: int) -> bool:
        """Return whether an address lies in memory that may be executed."""
        segment = self.segment_at(address)
        return segment is not None and segment.executable

    def read(self, address: int, size: int) -> bytes | None:
        """Return memory before relocation: the file's bytes, then zeroes. None where that is not loaded as a whole."""
        segment = self.segment_at(address)
        start = address - segment.address if segment else 0
        if segment is None or size < 0 or size > READ_SIZE or start + size > segment.memory_size:
            return None
        from_file = self.data[
            segment.offset + start : segment.offset + max(min(start + size, segment.file_size), start)
        ]
        return bytes(from_file) + bytes(size - len(from_file))

    def word(self, address: int) -> int | None:
        """Return an address-sized word of memory before relocation."""
        raw = self.read(address, self.machine.word)
        return None if raw is None else int.from_bytes(raw, self.order)

    @property
    def order(self) -> Any:
        """Return "little" or "big"."""
        return "little" if self.machine.little_endian else "big"

    def array(self, raw: bytes, fields: str) -> Any:
        """Return an array of this file's words: `fields` as numpy names them, without the byte order ("u8", "u4")."""
        mark = "<" if self.machine.little_endian else ">"
        kind = np.dtype(mark + fields)
        return np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], dtype=kind)

    def records(self, raw: bytes, fields: list[tuple[str, str]]) -> Any:
        """Return an array of this file's structures; `fields` are (name, numpy type without the byte order)."""
        mark = "<" if self.machine.little_endian else ">"
        kind = np.dtype([(name, mark + what) for name, what in fields])
        return np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], dtype=kind)

    # --- dynamic section

    @cached_property
    def dynamic(self) -> list[tuple[str | int, int]]:
        """Return the dynamic section's entries before DT_NULL, in order: (tag's name or number, value)."""
        segment = next((s for s in self.segments if s.type == "PT_DYNAMIC"), None)
        if segment is None:
            return []
        size = min(segment.file_size, DYNAMIC_ENTRIES * 2 * self.machine.word)
        words = self.array(self._slice(segment.offset, size, "the dynamic section"), f"u{self.machine.word}").tolist()
        names = {number: name for name, number in ENUM_D_TAG_COMMON.items() if isinstance(number, int)}
        found: list[tuple[str | int, int]] = []
        for tag, value in zip(words[::2], words[1::2], strict=False):
            if tag == 0:
                break
            found.append((names.get(tag, tag), value))
        return found

    def tag(self, name: str) -> int | None:
        """Return the value of the last such dynamic entry (the one that ld.so uses), or None."""
        return dict(self.dynamic).get(name)

    def names(self, tag: str) -> tuple[str, ...]:
        """Return the strings of all dynamic entries with that tag."""
        return tuple(string_at(self.strings, value) for name, value in self.dynamic if name == tag)

    @cached_property
    def strings(self) -> bytes:
        """Return the dynamic string table."""
        return self.at_tag("DT_STRTAB", self.tag("DT_STRSZ") or 0, "the dynamic string table")

    def at_tag(self, tag: str, size: int, what: str) -> bytes:
        """Return the memory that a dynamic entry points to, b"" without one. Raises InputError if it is not loaded."""
        address = self.tag(tag)
        if address is None or not size:
            return b""
        if size > len(self.data):
            raise InputError(f"{self.path}: damaged: {what} is larger than the file")
        found = self.read(address, size)
        if found is None:
            raise InputError(f"{self.path}: damaged: {what} is not in a loaded segment")
        return found


def _mapped(path: str) -> Any:
    """Map a regular file, read-only and private."""
    try:
        # Not blocking: opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise UnsuitableError(f"{path}: not a regular file")
            if about.st_size < 52:  # the smaller of the two ELF headers
                raise _too_short(path)
            return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _too_short(path: str) -> InputError:
    with Path(path).open("rb") as file:
        elf = file.read(4) == b"\x7fELF"
    if elf:
        return InputError(f"{path}: truncated: shorter than an ELF header")
    return UnsuitableError(f"{path}: not an ELF file")
