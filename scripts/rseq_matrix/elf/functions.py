"""Where the functions of a file are, and what they are called."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rseq_matrix.elf.image import Image

STT_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
SDATA4_RELATIVE = 0x3B  # DW_EH_PE_datarel | DW_EH_PE_sdata4 (LSB, "Exception Frames")
UDATA4 = 0x03
LONGEST = 1 << 20  # bytes; a longer function is not followed to its end


class Function(NamedTuple):
    """A function's code, or a piece of it: [start, end), and its name or ""."""

    start: int
    end: int
    name: str
    heads: frozenset[int] = frozenset()  # where the rest of the function, behind a piece, branches back to


class Functions:
    """The functions of a file: by its symbols, and, where it is stripped, by its unwind table."""

    def __init__(self, image: Image) -> None:
        self.image = image

    @cached_property
    def _named(self) -> tuple[Any, Any, list[tuple[int, int]]]:
        """Return start addresses (sorted), sizes, and (table, index) of the symbols."""
        starts, sizes, where = [], [], []
        for number, symbols in enumerate(self.image.symbol_tables):
            chosen = np.flatnonzero(np.isin(symbols.types, STT_FUNCTIONS) & symbols.defined)
            starts.append(self._code(symbols.table["value"][chosen].astype(np.uint64)))
            sizes.append(symbols.table["size"][chosen].astype(np.uint64))
            where += [(number, int(index)) for index in chosen]
        if not where:
            return np.array([], dtype=np.uint64), np.array([], dtype=np.uint64), []
        start, size = np.concatenate(starts), np.concatenate(sizes)
        order = np.argsort(start, kind="stable")
        return start[order], size[order], [where[index] for index in order]

    def _code(self, values: Any) -> Any:
        return values & np.uint64(2**64 - 2) if self.image.machine.thumb else values

    @cached_property
    def _unwind_starts(self) -> Any:
        """Return the start addresses of the unwind tables: .eh_frame_hdr, or .eh_frame where that has no index."""
        image = self.image
        if image.static and not any(s.type == "PT_GNU_EH_FRAME" for s in image.segments):
            return np.unique(np.array(image.unwind_entries(), dtype=np.uint64))
        segment = next((s for s in image.segments if s.type == "PT_GNU_EH_FRAME"), None)
        none = np.array([], dtype=np.uint64)
        head = image.read(segment.address, 12) if segment else None
        if segment is None or head is None or head[0] != 1 or head[2] != UDATA4 or head[3] != SDATA4_RELATIVE:
            return none
        count = int.from_bytes(head[8:12], image.order)
        raw = image.read(segment.address + 12, min(8 * count, max(segment.memory_size - 12, 0)))
        if not raw:
            return none
        starts = image.array(raw, "i4")[::2].astype(np.int64) + segment.address
        return np.unique(starts[starts > 0].astype(np.uint64))

    @cached_property
    def _boundaries(self) -> Any:
        """Return all addresses where a function starts, sorted."""
        return np.unique(np.concatenate([self._named[0], self._unwind_starts]))

    def starts(self) -> list[int]:
        """Return all addresses where a function starts."""
        found: list[int] = self._boundaries.tolist()
        return found

    def is_start(self, address: int) -> bool:
        """Return whether a function starts at an address."""
        if not 0 <= address < 2**64:
            return False
        index = int(np.searchsorted(self._boundaries, np.uint64(address)))
        return index < len(self._boundaries) and int(self._boundaries[index]) == address

    def name(self, address: int) -> str:
        """Return the name of the function that holds an address, "" where no symbol says so."""
        starts, sizes, where = self._named
        if not where or not 0 <= address < 2**64:
            return ""
        index = int(np.searchsorted(starts, np.uint64(address), side="right")) - 1
        best = ""
        floor = int(starts[index]) if index >= 0 else 0
        # Aliases share an address: the first global name is as good as any; a size of 0 reaches to the next symbol.
        while index >= 0 and int(starts[index]) == floor:
            if address == floor or int(sizes[index]) == 0 or address < floor + int(sizes[index]):
                table, place = where[index]
                best = self.image.symbol_tables[table].name(place) or best
            index -= 1
        return best

    def around(self, address: int) -> Function:
        """Return the function that holds an address; from that address on where nothing says where it starts."""
        index = int(np.searchsorted(self._boundaries, np.uint64(address), side="right")) - 1
        segment = self.image.segment_at(address)
        if segment is None:
            return Function(address, address, "")
        start = int(self._boundaries[index]) if index >= 0 else address
        if start < segment.address or address - start > LONGEST:
            start = address
        following = int(self._boundaries[index + 1]) if index + 1 < len(self._boundaries) else 2**64
        end = min(following, segment.address + segment.file_size, start + LONGEST)
        sized = self._end_by_size(start)
        if sized <= start:
            return Function(start, end, self.name(address))
        if address >= sized:  # code that no symbol claims: an abort handler in a section of its own, a PLT
            return Function(sized, max(end, sized), self.name(address))
        return Function(start, min(end, sized), self.name(address))

    def _end_by_size(self, start: int) -> int:
        """Return the end of the largest symbol that starts at an address, 0 where none has a size."""
        starts, sizes, _ = self._named
        first = int(np.searchsorted(starts, np.uint64(start)))
        last = int(np.searchsorted(starts, np.uint64(start), side="right"))
        return start + int(sizes[first:last].max()) if last > first and sizes[first:last].max() else 0

    def place(self, address: int) -> str:
        """Return a name for a place in the code: its function, or its address."""
        return self.name(address) or f"{address:#x}"
