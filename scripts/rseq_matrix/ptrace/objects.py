"""The loaded objects of a process, found as a debugger finds them (SVR4 r_debug), and read from its memory alone.

Files on disk may have been replaced since; what is mapped is what the process runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.memory import AT_BASE, AT_PHDR, AT_PHNUM, ProcessMemory, UnreadableError

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR, PT_TLS = 1, 2, 3, 4, 6, 7
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_SONAME, DT_DEBUG, DT_GNU_HASH = 4, 5, 6, 14, 21, 0x6FFFFEF5
NT_GNU_BUILD_ID = 3
ET_EXEC = 2
OBJECTS = 65536  # a link map that is longer is damaged, or a circle
HEADERS = 4096
SYMBOL_SIZE = 24


@dataclass(frozen=True)
class MappedSegment:
    """A program header, in the object's own addresses (gABI, "Program Header")."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    size: int
    alignment: int


def segments_at(memory: ProcessMemory, address: int, count: int) -> tuple[MappedSegment, ...]:
    """Return the program headers that lie at an address."""
    found = []
    for at in range(address, address + 56 * min(count, HEADERS), 56):
        kind, flags, offset, start, _, file_size, size, alignment = memory.words(at, "IIQQQQQQ")
        found.append(MappedSegment(kind, flags, offset, start, file_size, size, alignment))
    return tuple(found)


def image_segments(memory: ProcessMemory, start: int) -> tuple[MappedSegment, ...]:
    """Return the program headers of the ELF image that begins at an address; () where none does."""
    try:
        header = memory.read(start, 64)
        if header[:5] != b"\x7fELF\x02":
            return ()
        offset, count = int.from_bytes(header[32:40], "little"), int.from_bytes(header[56:58], "little")
        return segments_at(memory, start + offset, count)
    except UnreadableError:
        return ()


@dataclass(frozen=True)
class Object:
    """A loaded object: its load bias, its link map (0 where it has none) and its program headers (() if unreadable)."""

    memory: ProcessMemory
    path: str
    bias: int
    link_map: int
    segments: tuple[MappedSegment, ...]
    namespace: int = 0

    def segment(self, kind: int) -> MappedSegment | None:
        """Return the first program header of a type."""
        return next((segment for segment in self.segments if segment.type == kind), None)

    @property
    def tls(self) -> MappedSegment | None:
        """Return PT_TLS; an empty one is none, as for ld.so (glibc elf/dl-load.c)."""
        found = self.segment(PT_TLS)
        return found if found and found.size else None

    @cached_property
    def name(self) -> str:
        """Return the file's name without directories; the soname where there is no path."""
        return self.path.removesuffix(" (deleted)").rpartition("/")[2] or self.soname or "?"

    @cached_property
    def dynamic(self) -> dict[int, int]:
        """Return the dynamic section as it is in memory, by tag."""
        segment = self.segment(PT_DYNAMIC)
        found: dict[int, int] = {}
        if segment is None:
            return found
        for at in range(self.bias + segment.address, self.bias + segment.address + min(segment.size, 1 << 16), 16):
            tag, value = self.memory.words(at, "QQ")
            if tag == 0:
                break
            found[tag] = value
        return found

    def _table(self, tag: int) -> int | None:
        """Return a table's address. glibc has made it absolute (elf/get-dynamic-info.h), other loaders have not."""
        value = self.dynamic.get(tag)
        return None if value is None else value + (self.bias if value < self.bias else 0)

    @cached_property
    def soname(self) -> str:
        """Return DT_SONAME, or ""."""
        strings, name = self._table(DT_STRTAB), self.dynamic.get(DT_SONAME)
        return "" if strings is None or name is None else self.memory.string(strings + name)

    def symbol(self, name: str) -> int | None:
        """Return the address of a dynamic symbol that the object defines, None where it defines none."""
        symbols, strings = self._table(DT_SYMTAB), self._table(DT_STRTAB)
        if symbols is None or strings is None:
            return None
        for index in self._candidates(name):
            at, _, _, section, value, _ = self.memory.words(symbols + SYMBOL_SIZE * index, "IBBHQQ")
            if section and self.memory.string(strings + at) == name:
                return self.bias + value
        return None

    def _candidates(self, name: str) -> Iterator[int]:
        if (table := self._table(DT_GNU_HASH)) is not None:
            yield from self._gnu_chain(table, name.encode())
        elif (table := self._table(DT_HASH)) is not None:
            yield from self._chain(table, name.encode())

    def _gnu_chain(self, table: int, name: bytes) -> Iterator[int]:
        """Yield the indices that DT_GNU_HASH has for a name."""
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        buckets, first, bloom, _ = self.memory.words(table, "IIII")
        chain = table + 16 + 8 * bloom
        index = self.memory.word(chain + 4 * (value % buckets), "I") if buckets else 0
        while index >= first and index:
            found = self.memory.word(chain + 4 * (buckets + index - first), "I")
            if found | 1 == value | 1:
                yield index
            if found & 1:
                return
            index += 1

    def _chain(self, table: int, name: bytes) -> Iterator[int]:
        """Yield the indices that DT_HASH has for a name (gABI, "Hash Table")."""
        value = 0
        for byte in name:
            value = (value << 4) + byte
            value = (value ^ (value >> 24 & 0xF0)) & 0x0FFFFFFF
        buckets, length = self.memory.words(table, "II")
        index = self.memory.word(table + 8 + 4 * (value % buckets), "I") if buckets else 0
        for _ in range(length):
            if not index:
                return
            yield index
            index = self.memory.word(table + 8 + 4 * (buckets + index), "I")

    @cached_property
    def build_id(self) -> str:
        """Return the build id in hexadecimal, or ""."""
        for segment in self.segments:
            if segment.type != PT_NOTE or segment.size > 1 << 16:
                continue
            at, end = self.bias + segment.address, self.bias + segment.address + segment.size
            while at + 12 <= end:
                name, size, kind = self.memory.words(at, "III")
                at += 12 + (name + 3) // 4 * 4
                if kind == NT_GNU_BUILD_ID and name == 4 and size <= 64:
                    return self.memory.read(at, size).hex()
                at += (size + 3) // 4 * 4
        return ""

    def holds(self, address: int) -> bool:
        """Return whether an address lies in one of the loaded segments."""
        spans = [(self.bias + s.address, s.size) for s in self.segments if s.type == PT_LOAD]
        return any(start <= address < start + size for start, size in spans)


def _bias(memory: ProcessMemory, segments: tuple[MappedSegment, ...], at: int) -> int:
    """Return the load bias of the object whose program headers lie at `at`; 0 for one that may not be moved."""
    header = next((segment for segment in segments if segment.type == PT_PHDR), None)
    if header is not None:
        return at - header.address
    first = next((segment for segment in segments if segment.type == PT_LOAD), None)
    home = memory.mapping_at(at)
    if first is None or home is None or memory.read(home.start, 18)[16] == ET_EXEC:
        return 0
    return home.start - home.offset - (first.address - first.offset)


def kernel_loaded(memory: ProcessMemory) -> Object:
    """Return the object that the kernel gave control to by name: the program, or ld.so where that was run itself."""
    at, count = memory.auxiliary.get(AT_PHDR), memory.auxiliary.get(AT_PHNUM, 0)
    if at is None:
        raise InputError(f"process {memory.pid} has no auxiliary vector: it is not a program of this kernel")
    segments = segments_at(memory, at, count)
    return Object(memory, memory.program, _bias(memory, segments, at), 0, segments)


def _segments_of(memory: ProcessMemory, dynamic: int, bias: int) -> tuple[MappedSegment, ...]:
    """Return the program headers of the object whose dynamic section is given: at the start of the file it lies in."""
    home = memory.mapping_at(dynamic)
    if home is None:
        return ()
    starts = [m.start for m in memory.mappings if m.file == home.file and m.offset == 0 and m.start <= dynamic]
    for start in [*starts[::-1], home.start, bias]:
        segments = image_segments(memory, start)
        if any(s.type == PT_DYNAMIC and bias + s.address == dynamic for s in segments):
            return segments
    return ()


def _link_maps(memory: ProcessMemory, head: int, namespace: int) -> Iterator[Object]:
    """Yield the objects of one namespace (<link.h>, struct link_map), in the order in which they were loaded."""
    for _ in range(OBJECTS):
        if not head:
            return
        bias, name, dynamic, following = memory.words(head, "QQQQ")
        home = memory.mapping_at(dynamic)
        path = memory.string(name) or (home.name if home else "")
        yield Object(memory, path, bias, head, _segments_of(memory, dynamic, bias), namespace)
        head = following


def _debug(memory: ProcessMemory, program: Object) -> int:
    """Return the address of ld.so's struct r_debug, 0 in a program without one."""
    found = program.dynamic.get(DT_DEBUG) or program.symbol("_r_debug")
    base = memory.auxiliary.get(AT_BASE, 0)
    if not found and base:
        found = Object(memory, "", base, 0, image_segments(memory, base)).symbol("_r_debug")
    return found or 0


def loaded_objects(memory: ProcessMemory) -> list[Object]:
    """Return all loaded objects, the program first; in a static program the program alone."""
    program = kernel_loaded(memory)
    debug, namespace = _debug(memory, program), 0
    found: list[Object] = []
    while debug:
        version, head = memory.words(debug, "i4xQ")
        found += _link_maps(memory, head, namespace)
        # struct r_debug_extended (glibc 2.35, bug 15971): the next namespace behind the five members of version 1
        debug = memory.word(debug + 40) if version >= 2 else 0
        namespace += 1
    return found or [program]


def is_static(memory: ProcessMemory, objects: Sequence[Object]) -> bool:
    """Return whether the program has its libc in itself. A static PIE has a link map all the same (glibc, DT_DEBUG)."""
    loaded = kernel_loaded(memory)
    return objects[0].bias == loaded.bias and loaded.segment(PT_INTERP) is None
