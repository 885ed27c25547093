"""What is known of a refused call, and every way to fill in what is not: so the causes are found that it can have.

Each way is a scenario, one call in one state. The model says how it is answered; those with the answer that was seen
are the possible causes, and the plainest scenario of each is what is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rseq_matrix.errors import UsageError
from rseq_matrix.kernels.answers import ELSEWHERE, KERNEL_ADDRESS, PLACE, WELL_ALIGNED, longer_length
from rseq_matrix.kernels.features import SIGNATURE
from rseq_matrix.kernels.rules import (
    ORIGINAL_LENGTH,
    READ_ONLY,
    SUCCESS,
    UNMAPPED,
    UNREGISTER,
    USER_END,
    WRITABLE,
    Answer,
    AssumedArea,
    Call,
    CallMoment,
    Features,
    answer,
)
from rseq_matrix.kernels.sequences import BASES, CallStep, becomes, by_main, points

SAME, OTHER, NONE = "same", "other", "none"
REGISTERED = (SAME, OTHER, NONE)
BLOCK = 1 << 16
"""Addresses are moved by multiples of this: below it, an address in a replay is the one that was given."""
ALIGNMENT_LIMIT = BLOCK // 2


@dataclass(frozen=True)
class CallFacts:
    """What is known. None: it is not."""

    answer: str
    address: int | None = None
    align: int | None = None
    length: int | None = None
    flags: int | None = None
    signature: int | None = None
    registered: str | None = None
    registered_length: int | None = None
    registered_signature: int | None = None
    area: AssumedArea | None = None
    """What exactly is registered, where earlier calls were seen: then `registered` is SAME or OTHER."""
    readable: bool = False
    """Something was read from the area: there is memory."""
    points: bool | None = None
    """The area's rseq_cs was seen, and is not NULL."""

    def check(self) -> None:
        """Raise UsageError for facts that contradict each other."""
        align = self.align
        if align is not None and (align & (align - 1) or not 1 <= align <= ALIGNMENT_LIMIT):
            raise UsageError(f"an alignment is a power of two, at most {ALIGNMENT_LIMIT}, and not {align}")
        if self.address is not None and align is not None and self.address % align:
            raise UsageError(f"the address {self.address:#x} is no multiple of {align}: give one of the two")
        details = self.registered_length is not None or self.registered_signature is not None
        if self.registered == NONE and details:
            raise UsageError("with --registered none nothing has a registered length or signature")
        if self.registered == SAME and self.address == 0:
            raise UsageError("no area can be registered at NULL, so --registered same contradicts --address 0")

    @property
    def says_what_is_registered(self) -> bool:
        """Return whether anything is known of an earlier registration."""
        return (self.registered, self.registered_length, self.registered_signature) != (None, None, None)

    @property
    def is_complete(self) -> bool:
        """Return whether the call and what was registered are known, so that nothing is left to guess."""
        call = (self.address, self.length, self.flags, self.signature)
        return None not in call and (self.registered == NONE or self.area is not None)


@dataclass(frozen=True)
class PossibleCall:
    """A call in a state, and the model's answer."""

    call: Call
    area: AssumedArea | None
    """As it is when the call is made: its memory may have become read-only."""
    answer: Answer
    guesses: int
    """How much of it departs from the plainest case."""

    def steps(self) -> list[CallStep]:
        """Return what the child does to come to it."""
        moved = _move(self.call, self.area)
        if self.area is None:
            return [*self._prepared(moved[0]), by_main(moved[0])]
        area = moved[1]
        first = by_main(Call(area.address, area.length, 0, area.signature))
        damage = [becomes(READ_ONLY)] if self.area.memory != WRITABLE else []
        return [first, *damage, by_main(moved[0])]

    def _prepared(self, call: Call) -> list[CallStep]:
        """Return what the child does to the memory of an area that is not registered yet."""
        if not call.points:
            return []
        return [points(call.address), *([becomes(READ_ONLY)] if call.memory == READ_ONLY else [])]


def _move(call: Call, area: AssumedArea | None) -> tuple[Call, AssumedArea]:
    """Return both in the memory that the child has. What is no address of a program's stays."""
    blocks: dict[tuple[int, str], int] = {}

    def moved(address: int, length: int, memory: str) -> int:
        if _is_outside(address, length):
            return address
        key = (address // BLOCK, memory)
        slot = blocks.setdefault(key, len(blocks) + 1)
        return BASES[memory] + slot * BLOCK + address % BLOCK

    old = area or AssumedArea(0, 0, 0)
    there = replace(old, address=moved(old.address, old.length, WRITABLE))
    same = area is not None and area.address == call.address
    memory = WRITABLE if call.points else call.memory  # it is written before it is protected
    return replace(call, address=there.address if same else moved(call.address, call.length, memory)), there


def _unknown_flag(features: Features) -> int:
    return next(1 << bit for bit in range(30, 0, -1) if not features.flags & 1 << bit)


def _addresses(facts: CallFacts, features: Features) -> list[int]:
    if facts.address is not None:
        return [facts.address]
    if facts.align is not None:
        return [PLACE + facts.align]
    found = [WELL_ALIGNED, PLACE + 8, PLACE + ORIGINAL_LENGTH]
    if facts.readable:  # strace reads an area only where it is aligned
        return [WELL_ALIGNED, PLACE + ORIGINAL_LENGTH]
    return [*(found if features.align != ORIGINAL_LENGTH else found[:2]), 0, KERNEL_ADDRESS]


def _lengths(facts: CallFacts, features: Features) -> list[int]:
    if facts.length is not None:
        return [facts.length]
    short = (features.feature_size or 0) - 1
    return [ORIGINAL_LENGTH, longer_length(features), 20, *([short] if short > ORIGINAL_LENGTH else [])]


def _flags(facts: CallFacts, features: Features) -> list[int]:
    if facts.flags is not None:
        return [facts.flags]
    unknown = _unknown_flag(features)
    return [0, UNREGISTER, unknown, unknown | UNREGISTER]


def _is_outside(address: int, length: int) -> bool:
    """Return whether no program can have memory there."""
    return address == 0 or address + length > USER_END


def _memories(facts: CallFacts, address: int, length: int) -> list[tuple[str, bool]]:
    """Return what may be at an address, and whether an rseq_cs in it is not NULL; the plainest first."""
    if _is_outside(address, length):
        return [(UNMAPPED, False)]
    found = [(WRITABLE, False), (READ_ONLY, False), (UNMAPPED, False), (READ_ONLY, True), (WRITABLE, True)]
    if facts.readable:
        found.remove((UNMAPPED, False))
    return [one for one in found if facts.points is None or one[1] == facts.points]


def _fits(area: AssumedArea, features: Features) -> bool:
    """Return whether the kernel would have registered it."""
    memory = UNMAPPED if _is_outside(area.address, area.length) else WRITABLE
    call = Call(area.address, area.length, 0, area.signature, memory)
    got = answer(CallMoment(call, None, features))
    return got.word == SUCCESS and got.after is not None


def _registered_lengths(facts: CallFacts, call: Call, features: Features) -> list[int]:
    if facts.registered_length is not None:
        return [facts.registered_length]
    return list(dict.fromkeys((max(call.length, ORIGINAL_LENGTH), ORIGINAL_LENGTH, longer_length(features))))


def _registered_signatures(facts: CallFacts, call: Call) -> list[int]:
    given = facts.registered_signature
    return [given] if given is not None else [call.signature, call.signature ^ 1]


def _areas(facts: CallFacts, call: Call, features: Features) -> list[AssumedArea | None]:
    """Return what may be registered, the plainest first."""
    if facts.area is not None:
        return [facts.area]
    lengths, signatures = _registered_lengths(facts, call, features), _registered_signatures(facts, call)
    same = [AssumedArea(call.address, length, signature) for length in lengths for signature in signatures]
    elsewhere = ELSEWHERE if call.address != ELSEWHERE else WELL_ALIGNED
    other = [AssumedArea(elsewhere, lengths[0], signatures[0])]
    described = facts.registered_length is not None or facts.registered_signature is not None
    nothing: list[AssumedArea | None] = [] if described and facts.registered is None else [None]
    likely: list[AssumedArea | None] = (
        [same[0], *nothing, *other, *same[1:]] if call.unregisters else [*nothing, *other, *same]
    )
    by_word: dict[str | None, list[AssumedArea | None]] = {SAME: [*same], OTHER: [*other], NONE: nothing, None: likely}
    chosen = by_word[facts.registered]
    return [area for area in chosen if area is None or _fits(area, features)]


def _damages(call: Call, area: AssumedArea | None) -> list[AssumedArea | None]:
    """Return an area as it was registered, and as it may be when the call comes."""
    if area is None or not call.unregisters or area.address != call.address:
        return [area]
    return [area, replace(area, memory=READ_ONLY)]


def _calls(facts: CallFacts, features: Features) -> Iterator[tuple[int, Call]]:
    signature = SIGNATURE if facts.signature is None else facts.signature
    for far, address in enumerate(_addresses(facts, features)):
        for long, length in enumerate(_lengths(facts, features)):
            for odd, flags in enumerate(_flags(facts, features)):
                memories = [(WRITABLE, False)] if flags & UNREGISTER else _memories(facts, address, length)
                for bad, memory in enumerate(memories):
                    guesses = odd + sum(map(bool, (far, long, bad, memory[1])))
                    yield guesses, Call(address, length, flags, signature, *memory)


def scenarios(facts: CallFacts, features: Features) -> list[PossibleCall]:
    """Return every scenario that the facts allow, the plainest first."""
    found = []
    for departures, call in _calls(facts, features):
        for rank, area in enumerate(_areas(facts, call, features)):
            for damaged, state in enumerate(_damages(call, area)):
                got = answer(CallMoment(call, state, features))
                found.append(PossibleCall(call, state, got, departures + min(rank, 2) + damaged))
    return sorted(found, key=lambda scenario: scenario.guesses)


def causes(facts: CallFacts, features: Features) -> list[PossibleCall]:
    """Return the plainest scenario of each cause that the answer can have."""
    found: dict[str, PossibleCall] = {}
    for scenario in scenarios(facts, features):
        if scenario.answer.word == facts.answer:
            found.setdefault(scenario.answer.rule.id, scenario)
    return list(found.values())


def words(facts: CallFacts, scenario: PossibleCall, features: Features) -> dict[str, object]:
    """Return what a sentence about a scenario names: what was given as it is, an example as one, no made-up address."""
    names = dict(CallMoment(scenario.call, scenario.area, features).words())
    if facts.address is None and scenario.call.address == KERNEL_ADDRESS:
        names["address"] = f"{KERNEL_ADDRESS:#x} (say)"
    elif facts.address is None and scenario.call.address:
        names["address"] = "0x…"
    if facts.area is None:
        names["there"], names["where"] = "0x…", ""
    examples = {"length": facts.length, "signature": facts.signature, "flags": facts.flags, "unknown": facts.flags}
    area = facts.area
    examples["old_length"] = area.length if area else facts.registered_length
    examples["old_signature"] = area.signature if area else facts.registered_signature
    examples["alignment"] = facts.align if facts.address is None else facts.address
    for name, given in examples.items():
        if given is None:
            names[name] = f"{names[name]} (say)"
    return names
