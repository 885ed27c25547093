"""Explains an answer of rseq(2): its causes, each replayed on the kernel that runs here. The result is a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rseq_matrix.documents.explain import (
    EXPLAIN_SCHEMA,
    Cause,
    CureOfMessage,
    Explanation,
    Explanations,
    KnownArea,
    KnownCall,
    KnownMessage,
    Replay,
)
from rseq_matrix.errors import InputError, UsageError
from rseq_matrix.explain import messages, strace
from rseq_matrix.explain.causes import CallFacts, PossibleCall, causes, scenarios, words
from rseq_matrix.explain.elsewhere import ENOSYS, EPERM, KERNELS, Elsewhere, elsewhere, injected, unknown_answer
from rseq_matrix.kernels.answers import kernel_features
from rseq_matrix.kernels.features import ATTEMPTS, Host
from rseq_matrix.kernels.replay import Player, ReplayedStep
from rseq_matrix.kernels.rules import ALIVE, SIGSEGV, SUCCESS, AssumedArea, Features
from rseq_matrix.kernels.sequences import CallStep, flags_words

# --- replays


def _play(player: Player, steps: Sequence[CallStep], want: str) -> ReplayedStep:
    """Play it; again, where an interruption while the area was spoilt may have killed the child."""
    seen = player.answer(steps)
    for _ in range(ATTEMPTS):
        if seen.word == want or not any(step.name == "protect" for step in steps):
            break
        seen = player.answer(steps)
    return seen


def _replay(host: Host, steps: Sequence[CallStep], want: str, alive: bool | None = None) -> Replay | None:
    """Play it. alive: whether the area must show a CPU number afterwards; None: that does not matter."""
    if host.player is None or not steps:
        return None
    if not host.can_replay and not any(step.name == "filter" for step in steps):
        return None
    seen = _play(host.player, steps, want)
    agrees = seen.word == want and (alive is None or seen.cpu_id is None or (seen.cpu_id >= 0) == alive)
    return Replay(tuple(step.words() for step in steps), seen.word, seen.cpu_id, want, agrees)


# --- causes


def _cause(scenario: PossibleCall, facts: CallFacts, features: Features, host: Host, by: str = "kernel") -> Cause:
    rule = scenario.answer.rule
    return Cause(
        id=rule.id,
        by=by,
        sentence=rule.because.format(**words(facts, scenario, features)),
        look=rule.look,
        cure=rule.cure or None,
        reference=rule.reference,
        replay=_replay(host, scenario.steps(), scenario.answer.word, ALIVE.get(rule.id)),
    )


def _other(cause: Elsewhere, host: Host) -> Cause:
    return Cause(
        id=cause.id,
        by="elsewhere",
        sentence=cause.because,
        look=cause.look,
        cure=cause.cure or None,
        reference=cause.reference,
        replay=_replay(host, cause.steps(), cause.word, cause.alive),
    )


def _foreign(facts: CallFacts, host: Host) -> list[Cause]:
    """Return the causes that it has on other kernels, with what this one answers to the same call."""
    found: dict[str, Cause] = {}
    for name, features in KERNELS.items():
        for scenario in causes(facts, features):
            if scenario.answer.rule.id in found:
                continue
            here = [
                one for one in scenarios(facts, host.features) if (one.call, one.area) == (scenario.call, scenario.area)
            ]
            cause = _cause(scenario, facts, features, host, by=name)
            found[scenario.answer.rule.id] = replace(
                cause,
                replay=_replay(host, here[0].steps(), here[0].answer.word) if here else None,
                sentence=f"not on this kernel, but on others, for example {name}: {cause.sentence}",
            )
    return list(found.values())


def _causes(facts: CallFacts, host: Host, tampered: bool) -> list[Cause]:
    if tampered:
        return [_other(injected(facts.answer), host)]
    kernel = [_cause(scenario, facts, host.features, host) for scenario in causes(facts, host.features)]
    certain = facts.is_complete and bool(kernel) and facts.answer not in (SUCCESS, SIGSEGV)
    others = [] if certain else [_other(cause, host) for cause in elsewhere(facts.answer, facts.flags, host)]
    if facts.answer == EPERM and not facts.flags and not facts.says_what_is_registered:
        return [*others, *kernel]  # a program that registers twice rarely does so with two signatures
    known = kernel or _foreign(facts, host)
    if kernel or others:
        return [*known, *others]
    return [*known, _other(unknown_answer(facts.answer), host)]


# --- documents


def _known_area(area: AssumedArea | None) -> KnownArea | None:
    return None if area is None else KnownArea(area.address, area.length, area.signature)


def known_call(facts: CallFacts) -> KnownCall:
    """Return what is known of the call."""
    return KnownCall(
        answer=facts.answer,
        address=facts.address,
        align=facts.align,
        length=facts.length,
        flags=None if facts.flags is None else flags_words(facts.flags),
        signature=facts.signature,
        registered=facts.registered,
        area=_known_area(facts.area),
    )


def _notes(facts: CallFacts, host: Host, found: Sequence[Cause]) -> list[str]:
    notes = []
    if host.problem:
        notes.append(f"what the kernel itself answers could not be tried: {host.problem}")
    if facts.answer == ENOSYS and host.rseq == "present":
        notes.append("this kernel has rseq(2), so here only a filter or an emulator can answer ENOSYS")
    if any(cause.by.startswith("Linux") for cause in found):
        notes.append("is the line from another machine? Then explain it there: this kernel does not answer so")
    return notes


def _explanation(form: str, text: str, facts: CallFacts | None, host: Host, **rest: Any) -> Explanation:
    """Return an explanation. rest: its message, causes, cures and notes."""
    found = Explanation(
        schema=EXPLAIN_SCHEMA,
        kind="explanation",
        form=form,
        text=text,
        call=known_call(facts) if facts else None,
        message=rest.get("message"),
        causes=tuple(rest.get("causes", ())),
        cures=tuple(rest.get("cures", ())),
        notes=tuple(rest.get("notes", ())),
        kernel=kernel_features(host),
        agrees=None,
    )
    replays = [*(cause.replay for cause in found.causes), *(cure.trial for cure in found.cures)]
    return replace(found, agrees=_agree([replay.agrees for replay in replays if replay]))


def _agree(made: Sequence[bool]) -> bool | None:
    return all(made) if made else None


def together(documents: Sequence[Explanation]) -> Explanation | Explanations:
    """Return one document of several explanations; one alone is what it is."""
    if len(documents) == 1:
        return documents[0]
    made = [document.agrees for document in documents if document.agrees is not None]
    return Explanations(EXPLAIN_SCHEMA, "explanations", tuple(documents), _agree(made))


def explain_facts(
    facts: CallFacts, host: Host, form: str = "errno", text: str = "", tampered: bool = False
) -> Explanation:
    """Explain an answer by what is known of the call."""
    facts.check()
    if not any(scenarios(facts, features) for features in (host.features, *KERNELS.values())):
        raise UsageError(
            "no kernel registers an area as it is given: it has at least 32 bytes of the program's memory, at a "
            "multiple of 32"
        )
    found = _causes(facts, host, tampered)
    return _explanation(form, text, facts, host, causes=found, notes=_notes(facts, host, found))


def explain_trace(text: str, host: Host) -> Explanation:
    """Explain what strace printed."""
    trace = strace.read(text)
    return explain_facts(trace.facts, host, "strace", trace.explained.text, trace.explained.injected)


def explain_message(message: messages.Message, text: str, host: Host) -> Explanation:
    """Explain a message of glibc's or a library's."""
    about = KnownMessage(message.id, message.whose)
    if message.answer:
        document = explain_facts(CallFacts(message.answer, flags=0), host, "message", text)
        return replace(document, message=about, notes=(message.because, *document.notes))
    tried = messages.reproduce(message, host)
    replay = tried.message or _replay(host, message.steps, message.want)
    cause = Cause(
        id=message.id,
        by="elsewhere",
        sentence=message.because,
        look=message.look,
        cure=None,
        reference=message.reference,
        replay=replay,
    )
    cures = [CureOfMessage(cure.do, cure.loses, trial) for cure, trial in zip(message.cures, tried.cures, strict=True)]
    notes = [f"not tried here: {tried.problem}"] if tried.problem else []
    return _explanation("message", text, None, host, message=about, causes=[cause], cures=cures, notes=notes)


def explain_text(text: str, host: Host) -> Explanation:
    """Explain a message or what strace printed, whichever it is."""
    if not text.strip():
        raise InputError("there is nothing to explain: the text is empty")
    message = messages.find(text)
    if message is not None and not strace.is_trace(text):
        return explain_message(message, " ".join(text.split()), host)
    return explain_trace(text, host)
