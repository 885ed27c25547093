"""The model of the kernel's rules of rseq(2) against the kernel: each rule, the table, and sequences at random."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from conftest import Command
from rseq_matrix.documents.kernel import AnswerTable
from rseq_matrix.documents.plain import to_json
from rseq_matrix.documents.reading import read
from rseq_matrix.errors import MissingError
from rseq_matrix.explain.elsewhere import KERNELS
from rseq_matrix.kernels import answers
from rseq_matrix.kernels import features as kernel_features
from rseq_matrix.kernels.answers import ELSEWHERE, KERNEL_ADDRESS, PLACE, WELL_ALIGNED, answer_table, rows
from rseq_matrix.kernels.features import SIGNATURE, Host, call_at, here
from rseq_matrix.kernels.replay import Player, ReplayedStep
from rseq_matrix.kernels.rules import (
    KERNEL_HALF,
    READ_ONLY,
    RULES,
    UNMAPPED,
    UNREGISTER,
    USER_END,
    WRITABLE,
    Call,
    Features,
    KernelRule,
)
from rseq_matrix.kernels.sequences import BASES, CallStep, becomes, by_main, by_thread, points, predict
from rseq_matrix.report.explain import show_kernel_table

OLD, NEW, LARGE = KERNELS["Linux 4.18"], KERNELS["Linux 7.0"], Features(40, 64, 2, True, "writes", "SIGSEGV")
MIDDLE = KERNELS["Linux 6.18"]


def call(address: int = WELL_ALIGNED, length: int = 32, flags: int = 0, signature: int = SIGNATURE) -> CallStep:
    return by_main(Call(address, length, flags, signature))


FIRST = call()
PROVOKED: Mapping[str, tuple[str, Features, tuple[CallStep, ...]]] = {
    "unregister-flags": ("EINVAL", MIDDLE, (FIRST, call(flags=UNREGISTER | 4))),
    "unregister-nothing": ("EINVAL", MIDDLE, (call(flags=UNREGISTER),)),
    "unregister-address": ("EINVAL", MIDDLE, (FIRST, call(ELSEWHERE, flags=UNREGISTER))),
    "unregister-length": ("EINVAL", MIDDLE, (FIRST, call(length=33, flags=UNREGISTER))),
    "unregister-signature": ("EPERM", MIDDLE, (FIRST, call(flags=UNREGISTER, signature=7))),
    "unregister-memory-refused": ("EFAULT", MIDDLE, (FIRST, becomes(READ_ONLY), call(flags=UNREGISTER))),
    "unregister-memory-fatal": ("SIGSEGV", NEW, (FIRST, becomes(READ_ONLY), call(flags=UNREGISTER))),
    "unregistered": ("0", MIDDLE, (FIRST, call(flags=UNREGISTER))),
    "register-flags": ("EINVAL", MIDDLE, (call(flags=4),)),
    "registered-address": ("EINVAL", MIDDLE, (FIRST, call(ELSEWHERE))),
    "registered-length": ("EINVAL", MIDDLE, (FIRST, call(length=64))),
    "registered-signature": ("EPERM", MIDDLE, (FIRST, call(signature=7))),
    "registered-twice": ("EBUSY", MIDDLE, (FIRST, FIRST)),
    "length-short": ("EINVAL", MIDDLE, (call(length=28),)),
    "length-not-original": ("EINVAL", OLD, (call(length=64),)),
    "length-feature-size": ("EINVAL", LARGE, (call(length=39),)),
    "alignment-original": ("EINVAL", MIDDLE, (call(PLACE + 16),)),
    "alignment-extended": ("EINVAL", NEW, (call(PLACE + 32, 33),)),
    "address-kernel": ("EFAULT", MIDDLE, (call(KERNEL_ADDRESS),)),
    "null-ignored": ("0", OLD, (call(0),)),
    "null": ("EFAULT", MIDDLE, (call(0),)),
    "unmapped-refused": ("EFAULT", MIDDLE, (call(BASES[UNMAPPED]),)),
    "unmapped-fatal": ("SIGSEGV", OLD, (call(BASES[UNMAPPED]),)),
    "read-only-refused": ("EFAULT", NEW, (call(BASES[READ_ONLY]),)),
    "read-only-pointer": ("EFAULT", MIDDLE, (points(WELL_ALIGNED), becomes(READ_ONLY), FIRST)),
    "pointer-fatal": ("SIGSEGV", OLD, (points(WELL_ALIGNED), FIRST)),
    "read-only-fatal": ("SIGSEGV", MIDDLE, (call(BASES[READ_ONLY]),)),
    "registered": ("0", MIDDLE, (FIRST,)),
}
"""For every rule a kernel and a sequence in whose last step it applies."""


UN = UNREGISTER
SEVERAL_WRONGS: Mapping[str, tuple[Features, tuple[CallStep, ...]]] = {
    "unregister-flags": (MIDDLE, (call(length=64, flags=UN | 4, signature=7),)),
    "unregister-nothing": (MIDDLE, (call(ELSEWHERE, 64, UN, 7),)),
    "unregister-address": (MIDDLE, (FIRST, call(ELSEWHERE, 64, UN, 7))),
    "unregister-length": (MIDDLE, (FIRST, call(length=64, flags=UN, signature=7))),
    "unregister-signature": (MIDDLE, (FIRST, becomes(READ_ONLY), call(flags=UN, signature=7))),
    "register-flags": (MIDDLE, (FIRST, call(ELSEWHERE + 8, 20, 4, 7))),
    "registered-address": (MIDDLE, (FIRST, call(ELSEWHERE + 8, 20, 0, 7))),
    "registered-length": (MIDDLE, (FIRST, call(length=20, signature=7))),
    "length-short": (OLD, (call(KERNEL_ADDRESS + 8, 20),)),
    "length-not-original": (OLD, (call(KERNEL_ADDRESS + 8, 64),)),
    "length-feature-size": (LARGE, (call(KERNEL_ADDRESS + 8, 39),)),
    "alignment-original": (MIDDLE, (call(KERNEL_ADDRESS + 8),)),
    "alignment-extended": (MIDDLE, (call(KERNEL_ADDRESS + 8, 64),)),
}
"""Calls with all that can be wrong from one check of the kernel's on: that check decides."""


@pytest.fixture(scope="module")
def host() -> Host:
    found = here()
    if not found.can_replay:
        pytest.skip(found.problem)
    return found


@pytest.fixture(scope="module")
def player(host: Host) -> Player:
    assert host.player is not None
    return host.player


def words(seen: Sequence[ReplayedStep]) -> list[str]:
    return [answer.word for answer in seen]


# --- the rules, one by one


def test_every_rule_has_a_sequence_that_provokes_it() -> None:
    assert PROVOKED.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_applies_where_it_should_and_is_missed_where_it_is_not(name: str) -> None:
    answer, features, steps = PROVOKED[name]
    last = predict(steps, features)[-1]
    assert (last.word, last.rule and last.rule.id) == (answer, name)
    assert "{" not in last.because
    without = {other: rule for other, rule in RULES.items() if other != name}
    try:
        found = predict(steps, features, without)[-1]
    except (StopIteration, AssertionError):
        return  # nothing is left that could answer
    assert (found.word, found.rule) != (last.word, last.rule)


@pytest.mark.parametrize(("length", "answer"), [(32, "0"), (64, "EFAULT")])
def test_memory_ends_where_the_model_says(length: int, answer: str, host: Host, tmp_path: Path) -> None:
    """An area of 32 bytes at the very end of a program's memory is registered; one that reaches beyond is not."""
    if host.features.end != USER_END:
        pytest.skip("this kernel looks at the sign of the address only")
    rule = predict([call(USER_END - 32, length)], host.features)[-1].rule
    assert (rule is not None and rule.id == "address-kernel") == (answer == "EFAULT")
    program = tmp_path / "end"
    source = tmp_path / "end.c"
    source.write_text(
        "#include <sys/mman.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n#include <stdlib.h>\n"
        f"int main(int c, char **v) {{ void *page = (void *){USER_END - 4096:#x};\n"
        "  if (mmap(page, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page) return 99;\n"
        "  return c > 1 && syscall(334, (char *)page + 4096 - 32, atoi(v[1]), 0, 7) ? 14 : 0; }\n"
    )
    subprocess.run(["cc", "-o", program, source], check=True)
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    done = subprocess.run([program, str(length)], env=environment, check=False)
    if done.returncode == 99:
        pytest.skip("memory ends elsewhere here")
    assert done.returncode == {"0": 0, "EFAULT": 14}[answer]


@pytest.mark.parametrize("name", SEVERAL_WRONGS)
def test_of_several_wrongs_the_first_check_decides(name: str) -> None:
    features, steps = SEVERAL_WRONGS[name]
    rule = predict(steps, features)[-1].rule
    assert rule is not None
    assert rule.id == name


def test_this_kernel_checks_in_the_order_of_the_model(host: Host, player: Player) -> None:
    """Every combination of what can be wrong, where nothing and where an area is registered."""
    addresses = (WELL_ALIGNED, ELSEWHERE, PLACE + 8, 0, KERNEL_ADDRESS, BASES[UNMAPPED])
    wrongs = itertools.product(addresses, (32, 20, 64), (0, 4, UN, UN | 4, UN | 1 << 31), (SIGNATURE, 7))
    calls = [call(*values) for values in wrongs]
    sequences = [[step] for step in calls] + [[FIRST, step] for step in calls]
    want = [[prediction.word for prediction in predict(steps, host.features)] for steps in sequences]
    assert [words(seen) for seen in player.play(sequences)] == want


@pytest.mark.parametrize("name", RULES)
def test_this_kernel_answers_as_the_rule_says(name: str, host: Host, player: Player) -> None:
    """Where the features of this kernel lead to another rule, that one is tried."""
    _, _, steps = PROVOKED[name]
    want = [prediction.word for prediction in predict(steps, host.features)]
    for _ in range(5):  # an interruption while the area is spoilt kills the child earlier
        seen = words(player.play([steps])[0])
        if seen == want:
            break
    assert seen == want


def test_the_rules_of_this_kernel_are_struck_by_name(host: Host) -> None:
    struck = {last.rule.id for _, _, steps in PROVOKED.values() if (last := predict(steps, host.features)[-1]).rule}
    assert {"registered", "registered-twice", "registered-signature", "alignment-original", "null"} & struck
    assert len(struck) >= 18


def test_each_answer_that_explain_promises_has_a_rule() -> None:
    assert {rule.answer for rule in RULES.values()} == {"0", "EINVAL", "EBUSY", "EPERM", "EFAULT", "SIGSEGV"}


# --- at random

FLAGS = st.sampled_from([0, UNREGISTER, 2, 3, 4, 1 << 31, UNREGISTER | 1 << 30]) | st.integers(0, (1 << 32) - 1)
LENGTHS = st.sampled_from([20, 24, 28, 31, 32, 33, 40, 64, 4096, (1 << 32) - 1]) | st.integers(0, (1 << 32) - 1)
SIGNATURES = st.sampled_from([0, 7, SIGNATURE + 1])
MAIN = st.sampled_from([ELSEWHERE, PLACE + 8, PLACE + 32, PLACE + 64, 0, KERNEL_ADDRESS, (1 << 47) - 4096])
BAD = st.sampled_from([BASES[UNMAPPED] + 4096, BASES[READ_ONLY] + 4096])
OWN = st.sampled_from([PLACE + 16384, PLACE + 16384 + 8])
"""For other threads: they shall not share an area, which newer kernels punish."""
RIGHT = Call(WELL_ALIGNED, 32, 0, SIGNATURE)
CHANGES = [
    st.builds(lambda value, name=name: {name: value}, values)
    for name, values in (("address", MAIN), ("length", LENGTHS), ("flags", FLAGS), ("signature", SIGNATURES))
]
"""What is wrong with a call: mostly one thing, or it would be refused for that, and nothing be learnt of the rest."""
NEARLY = st.builds(
    lambda flags, change: by_main(replace(RIGHT, **{"flags": flags, **change})),
    st.sampled_from([0, UNREGISTER]),
    st.one_of(st.just({}), *CHANGES),
)
ANY = st.builds(lambda *a: by_main(Call(*a)), MAIN | BAD, LENGTHS, FLAGS, SIGNATURES)
OTHER = st.builds(lambda *a: by_thread(Call(*a)), OWN, LENGTHS, FLAGS, SIGNATURES)
SPOILT = st.builds(lambda address: by_main(replace(RIGHT, address=address)), BAD)
STEPS = st.lists(st.one_of(NEARLY, NEARLY, NEARLY, ANY, OTHER, SPOILT), min_size=1, max_size=8)
SEQUENCES = STEPS | STEPS.map(lambda steps: [by_main(RIGHT), *steps])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences=st.lists(SEQUENCES, min_size=5, max_size=30))
def test_the_model_agrees_with_the_kernel_at_random(
    sequences: list[list[CallStep]], host: Host, player: Player
) -> None:
    want = [[prediction.word for prediction in predict(steps, host.features)] for steps in sequences]
    assert [words(seen) for seen in player.play(sequences)] == want


@pytest.mark.parametrize(
    "change",
    [
        lambda found: replace(found, align=1024),
        lambda found: replace(found, feature_size=4096),
        lambda found: replace(found, flags=0xFFFFFFFE),
        lambda found: replace(found, refuses_flags=False),
    ],
)
def test_a_wrong_feature_is_found(change: Callable[[Features], Features], host: Host, player: Player) -> None:
    wrong = change(host.features)
    steps = [
        [call(PLACE + 64, 64)],
        [call(length=64)],
        [call(flags=1 << 30)],
        [FIRST, call(flags=UNREGISTER | 1 << 30)],
    ]
    want = [[prediction.word for prediction in predict(sequence, wrong)] for sequence in steps]
    assert [words(seen) for seen in player.play(steps)] != want


# --- the table


def test_the_table_agrees_with_this_kernel(host: Host) -> None:
    document = answer_table(host)
    assert [row.what for row in document.rows if not row.agrees] == []
    assert document.agrees
    assert read(AnswerTable, json.loads(to_json(document))) == document
    assert len({row.what for row in document.rows}) == len(document.rows)


def test_the_table_has_what_it_promises(host: Host) -> None:
    found = rows(host)
    lengths = [row.what for row in found if row.group == "length"]
    for length in (20, 24, 28, 32, 33, 64, host.features.feature_size or 32):
        assert any(what.split(":")[0] == f"register {length} bytes" for what in lengths), length
    what = {row.what for row in found}
    assert {f"register 32 bytes at a multiple of {align}" for align in (8, 16, 32, 64, 128)} <= what
    again = {f"register again, {how}" for how in ("all the same", "at another address", "with another signature")}
    flags = {"register with an unknown flag", "unregister with a further flag"}
    assert {"unregister another address", "unregister with another signature", *again, *flags} <= what
    answers = {row.got for row in found}
    assert {"0", "EINVAL", "EBUSY", "EPERM", "EFAULT", "ENOSYS", "SIGSYS"} <= answers
    assert all(row.because and row.reference for row in found)


def test_the_lengths_of_a_newer_kernel_are_in_its_table() -> None:
    what = [experiment.what for experiment in answers.experiments(NEW)]
    assert "register 33 bytes: the feature size" in what
    assert "register 64 bytes: the feature size rounded up" in what


class Lying(Player):
    """Stands for a kernel with another rule: it takes what is misaligned, or says yes and does nothing."""

    def __init__(self, real: Player, word: str, lie: ReplayedStep) -> None:
        self._real, self._word, self._lie = real, word, lie

    def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
        found = self._real.play(sequences)
        return [[*seen[:-1], self._lie if seen[-1].word == self._word else seen[-1]] for seen in found]


@pytest.mark.parametrize(
    ("word", "lie", "what"),
    [
        ("EINVAL", ReplayedStep("0", 1), "register 32 bytes at a multiple of 8"),
        ("0", ReplayedStep("0", -1), "register 33 bytes"),
        ("EPERM", ReplayedStep("EINVAL"), "register again, with another signature"),
    ],
)
def test_a_kernel_with_other_rules_is_marked(
    word: str, lie: ReplayedStep, what: str, host: Host, player: Player
) -> None:
    document = answer_table(replace(host, player=Lying(player, word, lie)))
    wrong = {row.what for row in document.rows if not row.agrees}
    assert what in wrong
    assert not document.agrees
    out = io.StringIO()
    show_kernel_table(Console(file=out, width=120), document)
    assert "! (want" in out.getvalue()
    assert "does not answer as the model of its rules says" in out.getvalue()


class Early(Player):
    """Stands for a kernel that refuses the first of several calls, and answers the last as the model says."""

    def __init__(self, real: Player) -> None:
        self._real = real

    def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
        return [[ReplayedStep("EFAULT"), *seen[1:]] if len(seen) > 1 else seen for seen in self._real.play(sequences)]


def test_a_row_agrees_only_if_what_came_before_does(host: Host, player: Player) -> None:
    found = {row.what: row.agrees for row in rows(replace(host, player=Early(player)))}
    assert not found["unregister another address"]
    assert found["register 32 bytes at a multiple of 32"]


class Interrupted(Player):
    """Stands for an interruption while an area is spoilt, at the first attempt: it kills the child."""

    def __init__(self, real: Player) -> None:
        self._real, self.killed = real, 0

    def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
        found = self._real.play(sequences)
        for number, steps in enumerate(sequences):
            if not self.killed and any(step.name == "protect" for step in steps):
                self.killed, found[number] = 1, [ReplayedStep("SIGSEGV")]
        return found


def test_a_spoilt_row_is_tried_again(host: Host, player: Player) -> None:
    interrupted = Interrupted(player)
    assert answer_table(replace(host, player=interrupted)).agrees
    assert interrupted.killed


def test_the_table_is_readable(host: Host) -> None:
    out = io.StringIO()
    show_kernel_table(Console(file=out, width=100), answer_table(host))
    shown = out.getvalue()
    assert "rseq present" in shown
    assert "register again, all the same" in shown
    assert "! (want" not in shown


def test_there_is_no_table_where_the_kernel_cannot_be_asked(host: Host) -> None:
    with pytest.raises(MissingError, match="answered with ENOSYS"):
        rows(replace(host, rseq="ENOSYS", problem="rseq(2) is answered with ENOSYS here"))


# --- the child


def test_a_child_is_unregistered_although_libc_registers(player: Player, host: Host) -> None:
    """Without the tunable the child takes away what libc registered."""
    bare = Player(player._path, {})
    assert words(bare.play([[FIRST, FIRST]])[0]) == ["0", "EBUSY"]
    assert here().features == host.features


def test_a_child_that_another_library_registers_is_refused(player: Player, tmp_path: Path) -> None:
    source = tmp_path / "owner.c"
    source.write_text(
        "#include <unistd.h>\n#include <sys/syscall.h>\n"
        "static char area[64] __attribute__((aligned(64)));\n"
        "__attribute__((constructor)) static void own(void) { syscall(334, area, 32, 0, 0x1234567); }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "owner.so", source], check=True)
    environment = {"LD_PRELOAD": str(tmp_path / "owner.so"), "GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    with pytest.raises(MissingError, match="no child could be made in which rseq is not registered"):
        Player(player._path, environment).play([[FIRST]])


def test_many_sequences_are_answered_in_their_order(player: Player) -> None:
    sequences = [[call(length=length)] for length in range(64)] + [[call(BASES[READ_ONLY])], [FIRST]]
    found = [words(seen)[-1] for seen in player.play(sequences)]
    assert found[:32] == ["EINVAL"] * 32
    assert found[32] == found[-1] == "0"


def test_features_are_what_trying_shows(host: Host, player: Player) -> None:
    """A kernel that takes a flag, and one that kills where this one refuses, are told apart by their answers alone."""
    wanted = call_at(WRITABLE, 1 << 5)

    class Other(Player):
        def __init__(self) -> None:
            pass

        def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
            found = player.play(sequences)
            return [[*seen[:-1], self._changed(steps, seen[-1])] for steps, seen in zip(sequences, found, strict=True)]

        def _changed(self, steps: Sequence[CallStep], seen: ReplayedStep) -> ReplayedStep:
            if steps[-1].call == wanted:
                return ReplayedStep("0", 1)
            return ReplayedStep("SIGSEGV") if seen.word == "EFAULT" else seen

    found = kernel_features.find_features(Other())
    assert found.flags == host.features.flags | 1 << 5
    assert (found.touches, found.reset_error, found.end) == ("leaves", "SIGSEGV", KERNEL_HALF)


def test_a_rule_is_one_sentence_with_its_source() -> None:
    def fine(rule: KernelRule) -> bool:
        return ". " not in rule.because and not rule.because.endswith(".") and "kernel/rseq.c" in rule.reference

    assert [rule.id for rule in RULES.values() if not fine(rule)] == []
    assert [rule.id for rule in RULES.values() if not rule.look] == []


def test_help_names_the_command(command: Command) -> None:
    assert "explain" in command("--help").stdout
