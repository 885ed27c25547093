"""Keeps what a run has finished, so that an interrupted run can be resumed.

One file a selection, in the cache: a line a process, appended when its cells are judged. It goes when the run is
complete. A line that was cut off, because the driver was killed, is not used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO, Any

from rseq_matrix.cache import cache_directory
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import DamagedError, read
from rseq_matrix.documents.run import CellResult
from rseq_matrix.model.results import RESULTS

Cells = dict[str, CellResult]


class Journal:
    """The journal of one selection of cells. A second run of the same selection at the same time keeps none."""

    def __init__(self, identity: Mapping[str, Any], resume: bool) -> None:
        """Open it. identity: all that two runs must share to stand for one another; resume: keep what is in it."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
        self._path = cache_directory() / "journal" / f"{digest}.jsonl"
        self._file: IO[str] | None = None
        self.finished: Cells = {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8", errors="replace")
        except OSError:
            return  # no cache, no journal: the run itself does not need one
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return
        self._file = file
        if resume:
            file.seek(0)
            self.finished = _read(file)
        self._rewrite()

    def _rewrite(self) -> None:
        """Begin the file anew with what is kept, so that a cut-off line is not continued."""
        if self._file:
            self._file.seek(0)
            self._file.truncate()
        if self.finished:
            self.add(self.finished.values())

    def add(self, cells: Iterable[CellResult]) -> None:
        """Keep the cells of one process."""
        if self._file:
            self._file.write(json.dumps(plain(list(cells))) + "\n")
            self._file.flush()

    def discard(self) -> None:
        """Forget everything: the run is complete."""
        if self._file:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()


def _read(lines: Iterable[str]) -> Cells:
    finished: Cells = {}
    for line in lines:
        if not line.endswith("\n"):
            break
        try:
            cells = [read(CellResult, cell) for cell in json.loads(line)]
            if not all(cell.result in RESULTS for cell in cells):
                break
            finished.update({cell.id: cell for cell in cells})
        except (ValueError, TypeError, RecursionError, DamagedError):
            break
    return finished
