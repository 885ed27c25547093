"""The table of what this kernel answers to rseq(2), each answer beside the one that the model of its rules gives.

`rows()` makes the calls and returns the rows; `answer_table()` is them with the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rseq_matrix.documents.kernel import AnswerRow, AnswerTable, KernelFeatures
from rseq_matrix.errors import MissingError
from rseq_matrix.kernels.features import ATTEMPTS, SIGNATURE, Host
from rseq_matrix.kernels.replay import Player, ReplayedStep
from rseq_matrix.kernels.rules import ALIVE, ORIGINAL_LENGTH, READ_ONLY, UNMAPPED, UNREGISTER, WRITABLE, Call, Features
from rseq_matrix.kernels.sequences import (
    BASES,
    CallStep,
    Prediction,
    becomes,
    behind_filter,
    by_main,
    by_thread,
    call_words,
    predict,
)

LENGTHS = (20, 24, 28, 32, 33, 64)
ALIGNMENTS = (8, 16, 32, 64, 128)
PLACE = BASES[WRITABLE]
WELL_ALIGNED = PLACE + 4096
ELSEWHERE = PLACE + 8192
KERNEL_ADDRESS = 0xFFFF_8000_0000_0000
WRONG_FLAG = 1 << 30
SHARED = "it does not compare threads: both now have one area, whose CPU number is that of either"


@dataclass(frozen=True)
class Experiment:
    """What one row tries: some steps, of which the last is the row's."""

    group: str
    what: str
    steps: tuple[CallStep, ...]
    note: str = ""
    """What the answer does not say."""


def rounded_size(features: Features) -> int:
    """Return the length that glibc 2.41 and later register: the feature size, rounded up to the alignment."""
    size, align = features.feature_size or ORIGINAL_LENGTH, features.align or ORIGINAL_LENGTH
    return max(ORIGINAL_LENGTH, -(-size // align) * align)


def longer_length(features: Features) -> int:
    """Return a length that is not the original one and holds all that the kernel uses."""
    return max(ORIGINAL_LENGTH * 2, rounded_size(features))


def _call(address: int = WELL_ALIGNED, length: int = ORIGINAL_LENGTH, flags: int = 0, sig: int = SIGNATURE) -> Call:
    return Call(address, length, flags, sig)


def _lengths(features: Features) -> list[Experiment]:
    named = {length: f"{length} bytes" for length in LENGTHS}
    if features.feature_size:
        for length, name in (
            (features.feature_size, "the feature size"),
            (rounded_size(features), "the feature size rounded up"),
        ):
            named[length] = f"{named.get(length, f'{length} bytes')}: {name}"
    return [
        Experiment("length", f"register {what}", (by_main(_call(length=length)),))
        for length, what in sorted(named.items())
    ]


def _alignments(features: Features) -> list[Experiment]:
    found = []
    for length in (ORIGINAL_LENGTH, longer_length(features)):
        for align in ALIGNMENTS:
            call = _call(PLACE + align, length)
            found.append(Experiment("alignment", f"register {length} bytes at a multiple of {align}", (by_main(call),)))
    return found


def _registrations() -> list[Experiment]:
    call, first = _call(), by_main(_call())
    again = "register again"
    return [
        Experiment("again", f"{again}, all the same", (first, by_main(call))),
        Experiment("again", f"{again}, at another address", (first, by_main(replace(call, address=ELSEWHERE)))),
        Experiment("again", f"{again}, with another length", (first, by_main(replace(call, length=64)))),
        Experiment("again", f"{again}, with another signature", (first, by_main(replace(call, signature=1)))),
        Experiment(
            "again", "register the area that another thread registered", (by_thread(call), by_main(call)), SHARED
        ),
        Experiment("flags", "register with an unknown flag", (by_main(replace(call, flags=WRONG_FLAG)),)),
        Experiment("flags", "register with the flag 2", (by_main(replace(call, flags=2)),)),
        Experiment("memory", "register NULL", (by_main(replace(call, address=0)),)),
        Experiment("memory", "register where no memory is", (by_main(replace(call, address=BASES[UNMAPPED])),)),
        Experiment("memory", "register read-only memory", (by_main(replace(call, address=BASES[READ_ONLY])),)),
        Experiment("memory", "register an address of the kernel's", (by_main(replace(call, address=KERNEL_ADDRESS)),)),
    ]


def _unregistrations() -> list[Experiment]:
    first, call = by_main(_call()), _call(flags=UNREGISTER)
    un = "unregister"
    return [
        Experiment(un, f"{un}, as it was registered", (first, by_main(call))),
        Experiment(un, f"{un} another address", (first, by_main(replace(call, address=ELSEWHERE)))),
        Experiment(un, f"{un} NULL", (first, by_main(replace(call, address=0)))),
        Experiment(un, f"{un} with another length", (first, by_main(replace(call, length=64)))),
        Experiment(un, f"{un} with another signature", (first, by_main(replace(call, signature=1)))),
        Experiment(un, f"{un} with a further flag", (first, by_main(replace(call, flags=UNREGISTER | WRONG_FLAG)))),
        Experiment(un, f"{un} where nothing is registered", (by_main(call),)),
        Experiment(un, f"{un} twice", (first, by_main(call), by_main(call))),
        Experiment(un, f"{un} what another thread registered", (by_thread(_call()), by_main(call))),
        Experiment(un, f"{un} an area that has become read-only", (first, becomes(READ_ONLY), by_main(call))),
    ]


def _filters() -> list[Experiment]:
    words = {
        "ENOSYS": "register behind a filter that answers ENOSYS",
        "EPERM": "register behind one that answers EPERM",
    }
    words |= {"0": "register behind one that answers success", "SIGSYS": "register behind one that kills"}
    return [Experiment("filter", what, (behind_filter(answer), by_main(_call()))) for answer, what in words.items()]


def experiments(features: Features) -> list[Experiment]:
    """Return what is tried, in the order of the table."""
    return [*_lengths(features), *_alignments(features), *_registrations(), *_unregistrations(), *_filters()]


def _is_spoilt(experiment: Experiment, seen: Sequence[ReplayedStep], want: Sequence[Prediction]) -> bool:
    """Return whether the child may have been interrupted while its area could not be written, which kills it."""
    risky = any(step.name == "protect" for step in experiment.steps)
    return risky and seen[-1].word == "SIGSEGV" and want[-1].word != "SIGSEGV"


def _play(
    player: Player, tried: Sequence[Experiment], wanted: Sequence[Sequence[Prediction]]
) -> list[list[ReplayedStep]]:
    found = player.play([experiment.steps for experiment in tried])
    for number, (experiment, want) in enumerate(zip(tried, wanted, strict=True)):
        for _ in range(ATTEMPTS):
            if not _is_spoilt(experiment, found[number], want):
                break
            found[number] = player.play([experiment.steps])[0]
    return found


def _is_alive(seen: ReplayedStep, want: Prediction) -> bool:
    """Return whether the area shows what the kernel has done, and not only said."""
    alive = ALIVE.get(want.rule.id) if want.rule else None
    return alive is None or seen.cpu_id is None or (seen.cpu_id >= 0) == alive


def _row(experiment: Experiment, seen: Sequence[ReplayedStep], want: Sequence[Prediction]) -> AnswerRow:
    last = want[-1]
    got = [answer.word for answer in seen]
    wanted = [prediction.word for prediction in want]
    call = experiment.steps[-1].call
    return AnswerRow(
        group=experiment.group,
        what=experiment.what,
        before=tuple(step.words() for step in experiment.steps[:-1]),
        call=call_words(call) if call else experiment.steps[-1].words(),
        got=got[-1],
        cpu_id=seen[-1].cpu_id,
        want=wanted[-1],
        rule=last.rule.id if last.rule else None,
        because=f"{last.because}; {experiment.note}" if experiment.note else last.because,
        reference=last.rule.reference if last.rule else "seccomp(2)",
        agrees=got == wanted and _is_alive(seen[-1], last),
    )


def rows(host: Host) -> list[AnswerRow]:
    """Return the table of this kernel. MissingError where it cannot be asked."""
    if not host.can_replay or host.player is None:
        raise MissingError(f"there is no table of the kernel's answers: {host.problem}")
    tried = experiments(host.features)
    wanted = [predict(experiment.steps, host.features) for experiment in tried]
    seen = _play(host.player, tried, wanted)
    return [_row(*one) for one in zip(tried, seen, wanted, strict=True)]


def kernel_features(host: Host) -> KernelFeatures:
    """Return what was found out about the kernel."""
    features = host.features
    return KernelFeatures(
        rseq=host.rseq,
        feature_size=features.feature_size,
        align=features.align,
        flags=features.flags,
        refuses_flags_at_unregistration=features.refuses_flags,
        touches_area_at_registration=features.touches,
        unwritable_area_at_unregistration=features.reset_error,
    )


def answer_table(host: Host) -> AnswerTable:
    """Return the table with the features that it is judged by."""
    found = tuple(rows(host))
    return AnswerTable(kernel_features(host), found, all(row.agrees for row in found))
