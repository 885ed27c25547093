"""Sequences of calls: what the child is told to do, step by step, and what the model says that it will see."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rseq_matrix.kernels.rules import (
    READ_ONLY,
    RULES,
    SIGSEGV,
    UNMAPPED,
    WRITABLE,
    Answer,
    AssumedArea,
    Call,
    CallMoment,
    Features,
    KernelRule,
    answer,
)

SIZE = 0x10_0000
"""Bytes of each kind of memory that the child has."""
BASES = {WRITABLE: 0x10_0000_0000, READ_ONLY: 0x10_0010_0000, UNMAPPED: 0x10_0020_0000}
"""Where they are: low enough for every machine's address space, and not where programs are loaded."""
PROTECTIONS = {READ_ONLY: 1, WRITABLE: 3}
"""What mprotect(2) calls them: PROT_READ, and that with PROT_WRITE."""
KILLS = -1
"""What csrc/rseq/seccomp.h calls a filter that ends the process."""
SIGSYS = "SIGSYS"


@dataclass(frozen=True)
class CallStep:
    """One thing that the child does."""

    name: str
    """call, thread (a call by a thread of its own), filter, protect, point or move."""
    call: Call | None = None
    value: str = ""
    """The filter's answer, what the writable memory becomes, or the address of the area whose rseq_cs is set."""

    def text(self) -> str:
        """Return it as csrc/explain/calls.c reads it."""
        if self.call is not None:
            call = self.call
            return f"{self.name},{call.address:#x},{call.length},{call.flags & 0xFFFFFFFF:#x},{call.signature:#x}"
        if self.name == "move":
            return "move,0"
        if self.name == "point":
            return f"point,{self.value}"
        number = filter_number(self.value) if self.name == "filter" else PROTECTIONS[self.value]
        return f"{self.name},{number}"

    def words(self) -> str:
        """Return it for a person."""
        if self.call is not None:
            return call_words(self.call) + (" in another thread" if self.name == "thread" else "")
        if self.name == "filter":
            return f"a seccomp filter answers rseq(2) with {answer_words(self.value)}"
        if self.name == "move":
            return "the thread sleeps on every CPU in turn"
        if self.name == "point":
            return f"rseq_cs in the area at {self.value} is set to 0x1"
        return f"the memory becomes {self.value}"


def by_main(call: Call) -> CallStep:
    """Return a call by the child's main thread."""
    return CallStep("call", call)


def by_thread(call: Call) -> CallStep:
    """Return a call by a new thread."""
    return CallStep("thread", call)


def behind_filter(word: str) -> CallStep:
    """Return the installation of a filter that answers this from now on; SIGSYS: it kills."""
    return CallStep("filter", value=word)


def becomes(memory: str) -> CallStep:
    """Return a change of the writable memory."""
    return CallStep("protect", value=memory)


def points(address: int) -> CallStep:
    """Return that the rseq_cs of the area at an address leads nowhere from now on."""
    return CallStep("point", value=hex(address))


def moves() -> CallStep:
    """Return that the thread goes from CPU to CPU, which the kernel writes into its area."""
    return CallStep("move")


def plain_name(name: str) -> str:
    """Return the name by which an errno is seen that has two, as EWOULDBLOCK."""
    return errno.errorcode[getattr(errno, name)]


def filter_number(word: str) -> int:
    """Return a filter's answer as the child is told it."""
    return KILLS if word == SIGSYS else 0 if word == "0" else int(getattr(errno, word))


def answer_words(word: str) -> str:
    """Return an answer for a sentence."""
    return "0 (success)" if word == "0" else word


def flags_words(flags: int) -> str:
    """Return flags as strace names them."""
    names = {1: "RSEQ_FLAG_UNREGISTER", 2: "RSEQ_FLAG_SLICE_EXT_DEFAULT_ON"}
    return names.get(flags, f"{flags & 0xFFFFFFFF:#x}") if flags else "0"


def call_words(call: Call) -> str:
    """Return a call as strace shows it."""
    address = "NULL" if call.address == 0 else f"{call.address:#x}"
    return f"rseq({address}, {call.length}, {flags_words(call.flags)}, {call.signature:#x})"


def memory_at(address: int, protection: str = WRITABLE) -> str:
    """Return what the child has at an address."""
    for memory, base in BASES.items():
        if base <= address < base + SIZE:
            return protection if memory == WRITABLE else memory
    return UNMAPPED


@dataclass(frozen=True)
class Prediction:
    """What the model says of one step."""

    word: str
    rule: KernelRule | None
    """None where no rule of the kernel's decides: a filter, or nothing that the kernel is asked."""
    because: str = ""


class Model:
    """A child, as the model sees it."""

    def __init__(self, features: Features, rules: Mapping[str, KernelRule] = RULES) -> None:
        self._features, self._rules = features, rules
        self._area: AssumedArea | None = None
        self._filter = ""
        self._protection = WRITABLE
        self._pointed: set[int] = set()

    def _ask(self, call: Call, area: AssumedArea | None) -> Answer:
        pointed = call.address in self._pointed
        call = replace(call, memory=memory_at(call.address, self._protection), points=pointed)
        if area is not None:
            area = replace(area, memory=memory_at(area.address, self._protection))
        return answer(CallMoment(call, area, self._features), self._rules)

    def take(self, step: CallStep) -> Prediction:
        """Return the prediction of the next step."""
        if step.name == "filter":
            self._filter = step.value
            return Prediction("0", None, "the filter is installed")
        if step.name == "protect":
            self._protection = step.value
            return Prediction("0", None, f"the memory is {step.value} now")
        if step.name == "point":
            self._pointed.add(int(step.value, 0))
            return Prediction("0", None, "rseq_cs leads nowhere now")
        if step.name == "move":
            lost = self._area is not None and memory_at(self._area.address, self._protection) != WRITABLE
            return Prediction(SIGSEGV if lost else "0", None, "the kernel writes the CPU number into the area")
        if self._filter:
            return Prediction(self._filter, None, "a seccomp filter answers, and the kernel is not asked")
        assert step.call is not None
        got = self._ask(step.call, self._area if step.name == "call" else None)
        if step.name == "call":
            self._area = got.after
        return Prediction(got.word, got.rule, got.because)


def predict(steps: Sequence[CallStep], features: Features, rules: Mapping[str, KernelRule] = RULES) -> list[Prediction]:
    """Return what the model says of a sequence, up to the step that ends the child."""
    model = Model(features, rules)
    found = []
    for step in steps:
        found.append(model.take(step))
        if found[-1].word.startswith("SIG"):
            break
    return found
