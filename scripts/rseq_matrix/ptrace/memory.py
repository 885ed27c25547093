"""The memory of a process whose threads are stopped, its mappings and its auxiliary vector, through /proc."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rseq_matrix.errors import InputError

AT_NULL, AT_PHDR, AT_PHNUM, AT_BASE, AT_ENTRY, AT_RSEQ_ALIGN = 0, 3, 5, 7, 9, 28
STRING_SIZE = 4096
READ_SIZE = 1 << 20


class UnreadableError(InputError):
    """Memory that a pointer in the process leads to and that is not there."""


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/…/maps: [start, end), the file's offset, what tells files apart, the name."""

    start: int
    end: int
    offset: int
    file: tuple[str, int]
    name: str

    @property
    def base_name(self) -> str:
        """Return the file's name without directories, or what the kernel calls the mapping."""
        return self.name.removesuffix(" (deleted)").rpartition("/")[2]


class ProcessMemory:
    """The memory of the process that a task belongs to. Everything raises InputError where it cannot be read."""

    def __init__(self, pid: int, tid: int) -> None:
        """Open; `tid` is a living thread: a main thread that ended before its process has no memory of its own."""
        self.pid = pid
        self.directory = Path(f"/proc/{pid}/task/{tid}")
        try:
            self.descriptor = os.open(self.directory / "mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"the memory of process {pid} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        """Release the memory."""
        os.close(self.descriptor)

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes. Raises UnreadableError."""
        found = b""
        if 0 <= address < 1 << 63 and 0 <= size <= READ_SIZE:
            try:
                found = os.pread(self.descriptor, size, address)
            except OSError:
                found = b""
        if len(found) != size:
            raise UnreadableError(f"process {self.pid} has no {size} bytes of memory at {address:#x}")
        return found

    def words(self, address: int, form: str) -> tuple[int, ...]:
        """Return integers in the form that struct.unpack() takes, without the byte order ("Q", "iI")."""
        return struct.unpack("<" + form, self.read(address, struct.calcsize("<" + form)))

    def word(self, address: int, form: str = "Q") -> int:
        """Return one integer."""
        return self.words(address, form)[0]

    def string(self, address: int) -> str:
        """Return a string that ends with NUL; undecodable bytes are replaced."""
        found = b""
        while b"\0" not in found and len(found) < STRING_SIZE:
            start = address + len(found)
            found += self.read(start, 256 - start % 256)  # not beyond the page
        return found.partition(b"\0")[0].decode("utf-8", "replace")

    @cached_property
    def mappings(self) -> list[Mapping]:
        """Return the mappings, by address (proc_pid_maps(5))."""
        found = []
        for line in (self.directory / "maps").read_text(errors="replace").splitlines():
            span, _, offset, device, inode, *name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            found.append(Mapping(start, end, int(offset, 16), (device, int(inode)), name[0] if name else ""))
        return found

    def mapping_at(self, address: int) -> Mapping | None:
        """Return the mapping that holds an address."""
        return next((mapping for mapping in self.mappings if mapping.start <= address < mapping.end), None)

    @cached_property
    def auxiliary(self) -> dict[int, int]:
        """Return the auxiliary vector as the kernel gave it (getauxval(3)); {} where it is not to be had."""
        raw = (self.directory / "auxv").read_bytes()
        pairs = struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16])
        return {kind: value for kind, value in pairs if kind != AT_NULL}

    @cached_property
    def program(self) -> str:
        """Return the path of the program's file; one that was deleted is marked as the kernel marks it."""
        try:
            return str((self.directory / "exe").readlink())
        except OSError:
            return f"process {self.pid}"
