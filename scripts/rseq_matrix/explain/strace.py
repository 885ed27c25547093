"""What `strace -e trace=rseq` prints, read into the call that is to be explained and what was registered before it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from rseq_matrix.errors import InputError
from rseq_matrix.explain.causes import NONE, OTHER, SAME, CallFacts
from rseq_matrix.kernels.rules import EBUSY, SUCCESS, AssumedArea
from rseq_matrix.kernels.sequences import plain_name

PID = re.compile(r"^\s*(?:\[pid\s+(\d+)(?:<[^>]*>)?\]|(\d+)(?:<[^>]*>)?(?=\s+[^\s:.]))")
SYSCALL = re.compile(r"(?<![\w.])([a-z_][a-z0-9_]*)\(")
RESUMED = re.compile(r"<\.\.\. ([a-z_0-9]+) resumed>\s*,?\s*")
UNFINISHED = re.compile(r"(?<!\s)\s*<unfinished \.\.\.>\s*$")
ENDED = re.compile(r"(?<!\s)\s*<unfinished \.\.\.>(?=\)\s*=\s*\?\s*$)")
"""What strace puts into the line of a call that its thread's end came between."""
RESULT = re.compile(
    r"\)\s*=\s*(?P<value>\?|0x[0-9a-f]{1,16}|-?\d{1,20})(?![0-9A-Za-z])(?:\s+(?P<errno>E[A-Z0-9]+))?(?:\s+\((?P<words>[^)]*)\))?(?P<rest>.*)$"
)
KILLED = re.compile(r"\+\+\+ killed by (SIG[A-Z0-9+]+)")
ATTACHED = re.compile(r"^strace: Process (\d+) attached")
SIGNAL = re.compile(r"--- (SIGSEGV|SIGSYS) \{([^{}]*)\} ---")
BY_RSEQ = {"SIGSEGV": "si_code=SI_KERNEL", "SIGSYS": "si_syscall=__NR_rseq"}
"""What strace shows of such a signal if it can have come from rseq(2)."""
OLDER = re.compile(r"\bsyscall_(?:334|0x14e)\(((?:[^,()]+, ){3}[^,()]+)(?:, [^,()]+){2}\)")
"""How a strace that does not know rseq(2) by name shows it: with all six registers."""
POINTER = re.compile(r"rseq_cs=(\w+|\{)")
COMMENT = re.compile(r"/\*.*?\*/")
FLAGS = {"RSEQ_FLAG_UNREGISTER": 1, "RSEQ_FLAG_SLICE_EXT_DEFAULT_ON": 2}
UNANSWERED = ("?", "334", "0x14e")
"""What strace shows of a call that a signal ended: nothing, or the number of rseq(2), where a filter kills."""
NAMED = re.compile(r"\w+: ")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STARTS = ("clone", "clone3", "fork", "vfork")
SHOWN = 60
LINE_LIMIT = 1 << 16
ARGUMENTS_LIMIT = 1 << 12
"""What is longer is no line about rseq(2), and would only take time."""
ADDRESSES = (1 << 64) - 1


@dataclass(frozen=True)
class TracedCall:
    """One finished call of rseq(2), as strace shows it."""

    pid: str
    text: str
    address: int | None
    """None where strace shows what is in the area instead."""
    length: int
    flags: int
    signature: int
    answer: str
    """As the model has it; "?" where the call did not return."""
    injected: bool = False
    points: bool | None = None
    """Whether the area's rseq_cs is not NULL, where strace shows it."""


@dataclass
class Thread:
    """What is known of a thread at a moment of the trace."""

    known: bool = False
    """It was seen from its beginning, or an answer told what is registered."""
    area: AssumedArea | None = None


@dataclass
class Trace:
    """What was read."""

    explained: TracedCall
    facts: CallFacts
    calls: list[TracedCall] = field(default_factory=list)


def shown(text: str) -> str:
    """Return the beginning of a line, for a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _pid(line: str) -> str:
    found = PID.match(line)
    return (found[1] or found[2]) if found else ""


def _split(arguments: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in COMMENT.sub("", arguments):
        depth += (letter in "{[(") - (letter in "}])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _number(word: str, what: str, line: str) -> int:
    try:
        number = int(word, 0)
    except ValueError:
        raise InputError(f"the {what} in '{shown(line)}' is no number: '{shown(word)}'") from None
    if not -1 << 63 <= number < 1 << 64:
        raise InputError(f"the {what} in '{shown(line)}' has more than 64 bits: '{shown(word)}'")
    return number


def _address(word: str, line: str) -> int | None:
    if word.startswith("{"):
        return None
    return 0 if word == "NULL" else _number(word, "address", line) & ADDRESSES


def _points(word: str) -> bool | None:
    found = POINTER.search(word)
    return found[1] not in ("NULL", "0") if found else None


def _flags(word: str, line: str) -> int:
    flags = 0
    for part in word.split("|"):
        flags |= FLAGS.get(part) or _number(part, "flags", line)
    return flags


def _answer(found: re.Match[str], line: str) -> str:
    value, name = found["value"], found["errno"]
    if value in UNANSWERED:
        return "?"
    if value in ("0", "0x0"):
        return SUCCESS
    number = int(value, 0)
    if number >= 1 << 63:
        number -= 1 << 64
    by_number = re.match(r"errno (\d+)", found["words"] or "")
    if not name:
        name = errno.errorcode.get(int(by_number[1]) if by_number else -number, "")
    if number >= 0 or not hasattr(errno, name):
        raise InputError(
            f"'{shown(line)}' ends with no answer that rseq(2) can have: 0, or -1 and the name of an errno"
        )
    return plain_name(name)


def _finished(line: str, pid: str) -> TracedCall:
    """Read one whole line of rseq(2)."""
    found = RESULT.search(line)
    start = line.index("rseq(") + len("rseq(")
    if not found or found.start() < start:
        raise InputError(f"'{shown(line)}' has no answer: the line must go on to ' = 0' or ' = -1 EINVAL (…)'")
    if found.start() - start > ARGUMENTS_LIMIT:
        raise InputError(f"'{shown(line)}' has more between its brackets than the arguments of rseq(2)")
    if NAMED.match(line[start:]):
        raise InputError(
            f"'{shown(line)}' names its arguments, as perf trace does: give what strace prints of the call"
        )
    words = _split(line[start : found.start()])
    if len(words) != 4:
        raise InputError(
            f"'{shown(line)}' has {len(words)} arguments, and rseq(2) has 4: address, length, flags, signature"
        )
    return TracedCall(
        pid,
        line.strip(),
        _address(words[0], line),
        _number(words[1], "length", line) & 0xFFFFFFFF,
        _flags(words[2], line) & 0xFFFFFFFF,
        0x53053053 if words[3] == "RSEQ_SIG" else _number(words[3], "signature", line) & 0xFFFFFFFF,
        _answer(found, line),
        "(INJECTED)" in line,
        _points(words[0]),
    )


def _whole(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each thread's lines, those together again that another thread's line came between."""
    begun: dict[str, str] = {}
    for shown_line in lines:
        line = ENDED.sub("", shown_line)
        pid = _pid(line)
        resumed = RESUMED.search(line)
        if KILLED.search(line) and pid in begun:
            yield pid, f"{begun.pop(pid)}) = ?"
        if UNFINISHED.search(line):
            begun[pid] = UNFINISHED.sub("", line)
        elif not resumed:
            yield pid, line
        elif pid in begun:
            yield pid, begun.pop(pid) + line[resumed.end() :]
        elif resumed[1] == "rseq":
            raise InputError(
                f"'{shown(line)}' is the end of a call: the line with its beginning, '<unfinished ...>', is missing"
            )
    for line in begun.values():
        if _syscall(line) == "rseq":
            raise InputError(f"'{shown(line)}' is the beginning of a call: its end is in the line '<... rseq resumed>'")


def _syscall(line: str) -> str:
    found = SYSCALL.search(line)
    return found[1] if found else ""


class Reader:
    """Follows the threads of a trace."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.calls: list[tuple[TracedCall, Thread]] = []
        self._attached: set[str] = set()
        self._last: dict[str, str] = {}
        """The last call of each thread, as long as no signal came since."""
        self._latest = ""
        """The thread whose call was seen last."""

    def _thread(self, pid: str) -> Thread:
        """Return a thread's state. The first thread has no number until there is another."""
        if pid and pid not in self.threads and pid not in self._attached and "" in self.threads:
            self.threads[pid] = self.threads.pop("")
        return self.threads.setdefault(pid, Thread())

    def _started(self, pid: str, line: str, name: str) -> None:
        """Note what a new thread or process begins with."""
        found = RESULT.search(line)
        if not found or not found["value"].isdigit():
            return
        parent = self._thread(pid)
        alone = name == "vfork" or "CLONE_VM" in line
        self.threads[found["value"]] = Thread(True, None) if alone else replace(parent)

    def _ended(self, pid: str, word: str) -> None:
        """Note that a call was the last thing a thread did."""
        for number in range(len(self.calls) - 1, -1, -1):
            seen, state = self.calls[number]
            if seen.pid == pid:
                if seen.answer == "?" or word == "SIGSEGV":
                    self.calls[number] = (replace(seen, answer=word), state)
                return

    def _signalled(self, pid: str, line: str) -> None:
        """Note a signal. What ends a program after it is not what rseq(2) was called with."""
        killed, signal = KILLED.search(line), SIGNAL.search(line)
        if killed and pid not in self._last:  # strace leaves the number away where one thread is left
            pid = "" if pid else self._latest
        word = killed[1] if killed else signal[1] if signal and BY_RSEQ[signal[1]] in signal[2] else ""
        if word and self._last.get(pid) == "rseq":
            self._ended(pid, word)
        if signal:
            self._last.clear()

    def _called(self, seen: TracedCall) -> None:
        thread = self._thread(seen.pid)
        self.calls.append((seen, replace(thread)))
        if seen.injected:
            return
        if seen.answer in (SUCCESS, EBUSY) and not seen.flags & 1:
            area = None if seen.address is None else AssumedArea(seen.address, seen.length, seen.signature)
            self.threads[seen.pid] = Thread(area is not None, area)
        elif seen.answer == SUCCESS:
            self.threads[seen.pid] = Thread(True, None)

    def read(self, lines: Iterable[str]) -> None:
        """Read all lines."""
        for pid, line in _whole(lines):
            name, attached = _syscall(line), ATTACHED.match(line)
            if attached:
                self._attached.add(attached[1])
            if KILLED.search(line) or SIGNAL.search(line):
                self._signalled(pid, line)
            elif name == "rseq":
                self._called(_finished(line, pid))
            elif name in STARTS:
                self._started(pid, line, name)
            elif name in ("execve", "execveat") and (found := RESULT.search(line)) and found["value"] == "0":
                self.threads[pid] = Thread(True, None)
            if name and not SIGNAL.search(line):
                self._last[pid] = name
                self._latest = pid


def is_trace(text: str) -> bool:
    """Return whether a text has what strace prints of rseq(2)."""
    lines = OLDER.sub(r"rseq(\1)", text).splitlines()
    return any(_syscall(line) == "rseq" and (RESULT.search(line) or "<unfinished" in line) for line in lines)


def _facts(seen: TracedCall, thread: Thread) -> CallFacts:
    area = thread.area if thread.known else None
    registered = None
    if thread.known:
        registered = NONE if area is None else SAME if area.address == seen.address else OTHER
    return CallFacts(
        seen.answer,
        address=seen.address,
        length=seen.length,
        flags=seen.flags,
        signature=seen.signature,
        registered=registered,
        area=area,
        readable=seen.address is None,
        points=seen.points,
    )


def read(text: str) -> Trace:
    """Read a trace. The call that is explained is the last that failed; if none did, the last."""
    text = OLDER.sub(r"rseq(\1)", COLOURS.sub("", text))
    reader = Reader()
    reader.read(line[:LINE_LIMIT] for line in text.splitlines() if line.strip())
    if not reader.calls:
        names = [name for line in text.splitlines() if (name := _syscall(line))]
        what = f"is a call of {names[0]}" if names else "is no line of strace"
        raise InputError(
            f"'{shown(text)}' {what}: what is explained is an errno (EINVAL), a line of 'strace -f -e trace=rseq' or "
            "glibc's message"
        )
    failed = [number for number, (seen, _) in enumerate(reader.calls) if seen.answer != SUCCESS]
    chosen = failed[-1] if failed else len(reader.calls) - 1
    seen, thread = reader.calls[chosen]
    if seen.answer == "?":
        raise InputError(
            f"'{shown(seen.text)}' did not return: give also the next line, '+++ killed by …', which says what ended it"
        )
    if seen.answer.startswith("SIG") and seen.answer not in BY_RSEQ:
        raise InputError(f"'{shown(seen.text)}' was ended by {seen.answer}, a signal that does not come from rseq(2)")
    calls = [call for call, _ in reader.calls]
    return Trace(seen, _facts(seen, thread), calls)
