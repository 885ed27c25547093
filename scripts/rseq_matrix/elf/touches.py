"""What code touches: PLT, GOT, TLS, stack protector; the calls within the file included."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from rseq_matrix.elf.facts import Code, Touch
from rseq_matrix.elf.flow import Destination, ProgramCode
from rseq_matrix.elf.functions import Function
from rseq_matrix.elf.machines.execution import Access, CodeStep, Flow
from rseq_matrix.elf.relocations import Relocation

FUNCTIONS = 64  # followed from one starting point
INSTRUCTIONS = 20_000
NAMELESS = "a function"
TLS_GET_ADDR = frozenset({"__tls_get_addr", "___tls_get_addr", "__tls_get_addr_opt", "__tls_get_offset"})
# Called only once the stack has been found smashed: not on a path that returns.
STACK_SMASHED = frozenset({"__stack_chk_fail", "__stack_chk_fail_local", "__chk_fail"})
CANARY_VARIABLE = "__stack_chk_guard"


@dataclass
class _Walked:
    """One function: what it touches itself, the file's functions that it calls, whether all of it is known."""

    touches: list[Touch] = field(default_factory=list)
    calls: dict[int, bool] = field(default_factory=dict)  # and whether every path makes that call
    whole: bool = True
    instructions: int = 0
    walked: range = range(0)  # where its registers were followed from its start to its end


class Touches:
    """Finds what code touches. One for a file: what was found for a function is kept."""

    def __init__(self, program: ProgramCode) -> None:
        self.program = program
        self._known: dict[int, _Walked] = {}

    def of(self, address: int) -> Code:
        """Return what the function at an address touches, and those of the file's own that it calls."""
        waiting, seen, instructions = [(address, True)], {address}, 0
        covered: list[range] = []
        touches: list[Touch] = []
        complete = True
        while waiting:
            here, always = waiting.pop(0)
            if any(here in walked for walked in covered):
                continue  # back into a function that was followed from its start
            found = self._one(here)
            touches += [touch if always else replace(touch, always=False) for touch in found.touches]
            instructions += found.instructions
            complete = complete and found.whole
            covered.append(found.walked)
            for call, call_always in found.calls.items():
                if call not in seen:
                    seen.add(call)
                    waiting.append((call, always and call_always))
            if len(seen) > FUNCTIONS or instructions > INSTRUCTIONS:
                complete = False
                break
        return Code(address, self.program.functions.name(address), tuple(touches), complete)

    def _one(self, address: int) -> _Walked:
        if address not in self._known:
            self._known[address] = self._read(address)
        return self._known[address]

    def _read(self, address: int) -> _Walked:
        program = self.program
        around = program.functions.around(address)
        certain = around.start == address and bool(around.name)
        function = Function(address, around.end, around.name)
        whole = program.readable(address)
        steps = program.steps(function, certain, INSTRUCTIONS) if whole else []
        checked = {slot for step in steps for slot in self._checked(step)}
        found = _Walked(whole=whole and len(steps) < INSTRUCTIONS, instructions=len(steps))
        if certain:
            found.walked = range(address, around.end)
        always = True
        for step in steps:
            found.touches += [replace(touch, always=always) for touch in self._touched(step, checked)]
            if step.flow in (Flow.CALL, Flow.JUMP, Flow.BRANCH):
                self._follow(step, function, found, always)
            always = always and step.flow not in (Flow.JUMP, Flow.BRANCH, Flow.RETURN)
        return found

    def _follow(self, step: CodeStep, function: Function, found: _Walked, always: bool) -> None:
        """Note what a call, jump or branch uses and where it leads."""
        destination = self.program.destination(step)
        if self.program.name(destination) in STACK_SMASHED:
            return
        found.touches += [replace(touch, always=always) for touch in self._called(step, destination)]
        inside = step.target is not None and function.start <= step.target < function.end
        if destination.unknown and step.flow is not Flow.BRANCH:
            found.whole = False
        elif destination.address is not None and destination.slot is None and not inside:
            found.calls.setdefault(destination.address, always and step.flow is not Flow.BRANCH)

    def _called(self, step: CodeStep, destination: Destination) -> Iterator[Touch]:
        """Yield what a call or jump itself uses."""
        name = self.program.name(destination)
        if name in TLS_GET_ADDR or self._is_descriptor(destination.slot):
            yield Touch("tls-get-addr", step.address, step.text, name or self._descriptor_of(destination.slot))
        elif name in self.program.machine.thread_functions:
            yield Touch("tls", step.address, step.text, "the thread pointer")
        elif destination.stub:
            yield Touch("plt-call", step.address, step.text, name or NAMELESS, relocation=self._type(destination.slot))
        elif destination.slot is not None and self._type(destination.slot):
            yield Touch("got-load", step.address, step.text, name or NAMELESS, relocation=self._type(destination.slot))

    def _is_descriptor(self, slot: int | None) -> bool:
        relocation = self.program.memory.at(slot) if slot is not None else None
        return relocation is not None and relocation.type == self.program.machine.relocations.descriptor

    def _descriptor_of(self, slot: int | None) -> str:
        relocation = self.program.memory.at(slot) if slot is not None else None
        return (self.program.memory.symbol(relocation) if relocation else "") or "a TLS descriptor"

    def _type(self, slot: int | None) -> str:
        """Return the name of the relocation of a word, "" where it needs none."""
        relocation = self.program.memory.at(slot) if slot is not None else None
        return self._name_of(relocation.type) if relocation is not None else ""

    def _name_of(self, kind: int) -> str:
        return self.program.machine.relocations.names.get(kind, str(kind))

    def _checked(self, step: CodeStep) -> Iterator[int]:
        """Yield the words that a comparison compares with what relocation makes of them.

        Reading such a word is no use of it: it asks whether it is relocated already.
        """
        for one, other in (step.compared, step.compared[::-1]) if len(step.compared) == 2 else ():
            word = one.word if one is not None and not one.thread and not one.constant else None
            if word is None or word.depth != 1 or other is None or not other.known:
                continue
            if self.program.memory.value(word.address) == self.program.resolve(other):
                yield word.address

    def _touched(self, step: CodeStep, checked: Collection[int]) -> Iterator[Touch]:
        """Yield what an instruction's accesses to memory use, but for words that are only checked."""
        yielded = False
        for access in step.accesses:
            found = self._accessed(step, access, checked)
            if found:
                yielded = True
                yield found
        if step.reads_thread_pointer and not yielded:
            yield Touch("tls", step.address, step.text, "the thread pointer")

    def _accessed(self, step: CodeStep, access: Access, checked: Collection[int]) -> Touch | None:
        program, where = self.program, access.address
        if where.thread:
            if program.machine.is_canary(where):
                return Touch("stack-protector", step.address, step.text, "the canary at the thread pointer")
            return Touch("tls", step.address, step.text, self._thread_local(access))
        slot = program.slot_of(access)
        if slot in checked:
            return None
        relocation = program.memory.at(slot) if slot is not None and step.flow is Flow.NEXT else None
        if relocation is None or relocation.type == program.machine.relocations.descriptor:
            return None  # of a descriptor, its call is what counts
        return self._loaded(step, relocation)

    def _loaded(self, step: CodeStep, relocation: Relocation) -> Touch:
        """Return the touch of a load of a word that needs relocation."""
        name = self.program.memory.symbol(relocation)
        if name == CANARY_VARIABLE:
            return Touch("stack-protector", step.address, step.text, name, canary_variable=True)
        if relocation.type in self.program.machine.relocations.thread_offset:
            name = name or "the offset of an own thread-local variable"
        what = name or "a word that needs relocation"
        return Touch("got-load", step.address, step.text, what, relocation=self._name_of(relocation.type))

    def _thread_local(self, access: Access) -> str:
        word = access.address.word
        relocation = self.program.memory.at(word.address) if word is not None and word.depth == 1 else None
        if relocation is not None:
            return self.program.memory.symbol(relocation) or "an own thread-local variable"
        return f"thread pointer {access.address.constant:+#x}"


def only(touches: Iterable[Touch], *kinds: str) -> tuple[Touch, ...]:
    """Return the touches of some kinds."""
    return tuple(touch for touch in touches if touch.kind in kinds)
