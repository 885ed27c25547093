"""One inspection, from the paths that a person names to the JSON document: find, read side by side, judge, count."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rseq_matrix.documents.inspect import INSPECT_SCHEMA, SEVERITIES
from rseq_matrix.documents.plain import Json
from rseq_matrix.elf.read import read
from rseq_matrix.errors import InputError, UnsuitableError
from rseq_matrix.lint import answers, judge
from rseq_matrix.lint.surplus import DEFAULT, Surplus
from rseq_matrix.signals import undisturbed

READ, UNREADABLE, SKIPPED = "files", "unreadable", "skipped"
LARGE = 1 << 26  # bytes of a file
STARTING = 0.01  # seconds: Python 3.10 forks a worker only where the others are busy
AHEAD = 64  # files that are handed to the workers before they are done with others
PROGRAMS = (b"\x02\0", b"\x03\0", b"\0\x02", b"\0\x03")  # e_type: ET_EXEC, ET_DYN, in either byte order


@dataclass(frozen=True)
class InspectedFile:
    """A file to read. `named`: a person named it, so that it has to be of use; else it was found in a directory."""

    path: str
    named: bool


@dataclass(frozen=True)
class FileOutcome:
    """The result for one file: its entry in the document, or why there is none. `kind` is the document's list."""

    target: InspectedFile
    kind: str
    document: Json


def inspect_file(path: str, surplus: Surplus = DEFAULT) -> Json:
    """Return a file's entry in the document. Raises InputError."""
    facts = read(path)
    findings = judge(facts, surplus)
    return {
        **asdict(facts),
        "findings": [asdict(finding) for finding in findings],
        "answers": answers(facts, findings),
    }


# --- finding


def find(paths: Iterable[str]) -> list[InspectedFile]:
    """Return the files that these paths mean, each once; of a directory its programs and libraries, links not followed.

    What cannot be looked at is among them: reading it will say why.
    """
    found: dict[tuple[int, int] | str, InspectedFile] = {}
    for path in paths:
        members = _in_directory(path) if Path(path).is_dir() else [InspectedFile(path, True)]
        for target in members:
            found.setdefault(_identity(target.path), target)
    return list(found.values())


def _identity(path: str) -> tuple[int, int] | str:
    try:
        about = Path(path).stat()
    except OSError:
        return path
    return about.st_dev, about.st_ino


def _in_directory(directory: str) -> list[InspectedFile]:
    found = []
    for root, directories, names in os.walk(directory):
        directories.sort()
        found += [
            InspectedFile(str(Path(root, name)), False) for name in sorted(names) if _is_program(Path(root, name))
        ]
    return found


def _is_program(path: Path) -> bool:
    """Return whether a file in a directory is a program or library by its first bytes, or cannot be looked at."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(18)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # reading it will say why
    return head[:4] == b"\x7fELF" and (len(head) < 18 or head[16:18] in PROGRAMS)


# --- reading


def attempt(target: InspectedFile, surplus: Surplus) -> FileOutcome:
    """Read one file."""
    try:
        return FileOutcome(target, READ, inspect_file(target.path, surplus))
    except InputError as error:
        return refused(target, error)
    except MemoryError:
        return refused(target, InputError(f"{target.path}: there is not enough memory to read it"))


def refused(target: InspectedFile, error: InputError) -> FileOutcome:
    """Return what is said of a file that cannot be read, or that is not of the kind that is looked for."""
    kind = SKIPPED if isinstance(error, UnsuitableError) and not target.named else UNREADABLE
    return FileOutcome(target, kind, {"path": target.path, "reason": str(error).removeprefix(f"{target.path}: ")})


def _end_with_parent() -> None:
    """End a worker when its parent is killed: it would wait for work for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that are forked at once, before there is a thread, and ended whatever happens."""
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork"), initializer=_end_with_parent)
    try:
        with undisturbed():  # they are deaf to Ctrl-C: this process ends them
            for _ in range(count):
                pool.submit(time.sleep, STARTING)
        yield pool
    except BaseException:
        with undisturbed():
            for process in list((pool._processes or {}).values()):  # it has no public way to end them
                process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


Reader = Callable[[InspectedFile, Surplus], FileOutcome]


def outcomes(
    targets: Sequence[InspectedFile], surplus: Surplus = DEFAULT, jobs: int = 1, reader: Reader = attempt
) -> Iterator[FileOutcome]:
    """Read the files, several side by side, and yield each as it is done."""
    if jobs == 1 or len(targets) == 1:
        for target in targets:
            yield reader(target, surplus)
        return
    left = dict.fromkeys(targets)
    with _workers(min(jobs, len(targets))) as pool:
        for outcome in _results(pool, targets, surplus, reader):
            del left[outcome.target]
            yield outcome
    for target in left:  # a worker died: which file it died of is found by reading the rest one by one
        with _workers(1) as pool:
            died = InputError(f"{target.path}: the process that read it died; please report this file")
            yield next(iter(_results(pool, [target], surplus, reader)), refused(target, died))


class _Queue:
    """The files that wait, the largest first; of the very large ones, one at a time is read, for the sake of memory."""

    def __init__(self, targets: Iterable[InspectedFile]) -> None:
        sizes = {target: _size(target) for target in targets}
        ordered = sorted(sizes, key=lambda target: sizes[target], reverse=True)
        self.large = deque(target for target in ordered if sizes[target] > LARGE)
        self.rest = deque(target for target in ordered if sizes[target] <= LARGE)

    def next(self, large_is_read: bool) -> tuple[InspectedFile, bool] | None:
        """Take the next file, and say whether it is a very large one; None: nothing may be read now."""
        if self.large and not large_is_read:
            return self.large.popleft(), True
        return (self.rest.popleft(), False) if self.rest else None


def _size(target: InspectedFile) -> int:
    try:
        return Path(target.path).stat().st_size
    except OSError:
        return 0


def _results(
    pool: ProcessPoolExecutor, targets: Iterable[InspectedFile], surplus: Surplus, reader: Reader
) -> Iterator[FileOutcome]:
    """Yield what comes back; less than was asked for where a worker dies."""
    queue = _Queue(targets)
    read: dict[Future[FileOutcome], bool] = {}
    try:
        while True:
            while len(read) < AHEAD and (taken := queue.next(any(read.values()))):
                read[pool.submit(reader, taken[0], surplus)] = taken[1]
            if not read:
                return
            for future in wait(read, return_when=FIRST_COMPLETED).done:
                del read[future]
                yield future.result()
    except BrokenProcessPool:
        return


# --- the document


def inspection_document(found: Iterable[FileOutcome], complete: bool = True) -> Json:
    """Put the document together (schema/inspect-1.json), its lists sorted by path."""
    lists: dict[str, list[Json]] = {READ: [], UNREADABLE: [], SKIPPED: []}
    for outcome in sorted(found, key=lambda outcome: outcome.target.path):
        lists[outcome.kind].append(outcome.document)
    severities = Counter(finding["severity"] for file in lists[READ] for finding in file["findings"])
    return {
        "schema": INSPECT_SCHEMA,
        "complete": complete,
        **lists,
        "summary": {
            **{kind: len(members) for kind, members in lists.items()},
            "findings": {severity: severities.get(severity, 0) for severity in SEVERITIES},
        },
    }
