"""The doctor's judgement without a machine: documents of what no machine at hand can show, and the words for them."""

from __future__ import annotations

import errno
import signal
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from doctoring import KERNEL, LIBC, OFF, SCHEMA, THREAD, healthy_facts
from rseq_matrix.doctor.helper_programs import HelperOutput, parse
from rseq_matrix.doctor.host_libc import asked_for
from rseq_matrix.doctor.kernel_behaviour import barrier_aborts, kernel_class, length_behaviour
from rseq_matrix.doctor.verdict import diagnose
from rseq_matrix.documents.doctor import (
    COMMAND,
    END,
    ENTRY,
    PROCESS,
    DoctorFinding,
    Examined,
    FilterAnswer,
    MembarrierBehaviour,
    ProgramRun,
    SeccompFilters,
    TunableSetting,
)
from rseq_matrix.documents.plain import plain


def spoken(text: str, status: int = 0) -> HelperOutput:
    return HelperOutput(parse("\n".join(f"doctor kernel {line}" for line in text.splitlines())), status)


REGISTERED = "control 22\nanswer 0\ncpu_id 1\n"
ALL_REWRITTEN = REGISTERED + "trying sleep\nsleep rewritten\ntrying signal\nsignal rewritten\n"
ALL_KEPT = REGISTERED + "trying sleep\nsleep kept\ntrying signal\nsignal kept\n"
MOVED = "trying migration\nmigration rewritten\ndone 1"
KILLED_MOVING = "trying migration"
LEGACY = length_behaviour(32, spoken(ALL_REWRITTEN + MOVED))
CHANGED = length_behaviour(64, spoken(ALL_KEPT + MOVED))
V2 = length_behaviour(64, spoken(ALL_KEPT + KILLED_MOVING, -signal.SIGSEGV))
ONE_CPU = length_behaviour(64, spoken(ALL_KEPT + "done 1"))


def test_the_classes_of_kernels() -> None:
    assert [found.class_ for found in (LEGACY, CHANGED, V2)] == ["legacy", "changed-only", "v2"]
    assert V2.killed_by == "SIGSEGV"
    assert kernel_class([LEGACY, LEGACY]) == "legacy"
    assert kernel_class([CHANGED, CHANGED]) == "changed-only"
    assert kernel_class([LEGACY, V2]) == "v2"
    assert kernel_class([LEGACY, ONE_CPU]) == "v2"
    refused = length_behaviour(64, spoken("control 22\nanswer 22"))
    assert kernel_class([LEGACY, refused]) == "legacy"
    faked = length_behaviour(32, spoken("control 0\nanswer 0\ncpu_id -1\ntrying sleep\nsleep kept\nsignal kept"))
    assert kernel_class([faked, faked]) is None


@pytest.mark.parametrize(
    ("hits", "chance", "rounds", "aborts"),
    [(10, 0, 10, True), (10, 3, 10, True), (0, 0, 10, False), (3, 3, 10, None), (0, 0, 0, None), (2, 3, 10, None)],
)
def test_whether_a_barrier_aborts(hits: int, chance: int, rounds: int, aborts: bool | None) -> None:
    said = {"aborted_with": str(hits), "aborted_without": str(chance), "rounds": str(rounds)}
    assert barrier_aborts(HelperOutput({"barrier": said}, 0)) is aborts


def process_facts(**changes: Any) -> Examined:
    return healthy_facts(kind=PROCESS, kernel=None, **changes)


def run_facts(run: ProgramRun, **changes: Any) -> Examined:
    return healthy_facts(kind=COMMAND, kernel=None, run=run, **changes)


def found_in(facts: Examined) -> tuple[DoctorFinding, ...]:
    """Return the findings; the whole document follows the schema."""
    document = diagnose(facts)
    jsonschema.validate(plain(document), SCHEMA)
    return document.findings


def findings(facts: Examined) -> set[str]:
    return {found.id for found in found_in(facts)}


OTHERS = replace(THREAD, owner="other", object="x.so")
ENDED = ProgramRun(program="/bin/program", moment=END)


def test_the_rules_that_this_machine_cannot_show() -> None:
    assert diagnose(healthy_facts()).verdict.healthy
    assert findings(healthy_facts(kernel=replace(KERNEL, class_="changed-only"))) == {"kernel-changed-only"}
    silent = MembarrierBehaviour(offered=True, answer=0, aborts=False)
    assert findings(healthy_facts(kernel=replace(KERNEL, membarrier=silent))) == {"membarrier-does-not-abort"}
    old = replace(KERNEL, rseq="ENOSYS", feature_size=None, class_=None)
    none = replace(THREAD, owner="none", believed=False, cpu_id=-2)
    off = replace(LIBC, size=0)
    assert findings(healthy_facts(kernel=old, libc=off, threads=(none,))) == {"kernel-without-rseq"}
    assert findings(healthy_facts(threads=(replace(THREAD, follows=False),))) == {"registration-dead"}
    assert findings(healthy_facts(threads=(OTHERS,))) == {"owner-disagrees"}
    assert findings(healthy_facts(threads=(replace(THREAD, cpu_id_start=7),))) == {"ids-overwritten"}
    assert findings(healthy_facts(libc=off, threads=(none,))) == {"off-unexplained"}
    assert findings(process_facts(threads=(THREAD, none))) >= {"threads-differ"}
    assert findings(process_facts(seccomp=SeccompFilters(1, unread="only root may"))) == {"filter-unread"}
    full = replace(ENDED, last_words=("x.so: cannot allocate memory in static TLS block",))
    assert findings(run_facts(full)) == {"static-tls-full"}


def test_what_is_healthy_is_said_as_it_is() -> None:
    def sentence(facts: Examined) -> str:
        verdict = diagnose(facts).verdict
        assert verdict.healthy
        return verdict.sentence

    assert "glibc registers every thread, and the CPU numbers" in sentence(
        healthy_facts(threads=(replace(THREAD, follows=True),))
    )
    assert "CPU numbers" not in sentence(healthy_facts(threads=(replace(THREAD, follows=None),)))
    none = replace(THREAD, owner="none", length=None, believed=None)
    assert "which does not use it" in sentence(process_facts(libc=None, threads=(none,)))
    assert "which does not use it" not in sentence(process_facts())
    own = replace(OTHERS, believed=False)
    assert "glibc registers" not in sentence(healthy_facts(libc=replace(LIBC, size=0), threads=(own,)))
    unknown = replace(THREAD, owner="none", believed=None)
    assert "glibc registers" not in sentence(healthy_facts(libc=replace(LIBC, size=None), threads=(unknown,)))


def test_names_are_a_list_in_words() -> None:
    def words(count: int) -> str:
        threads = tuple(replace(THREAD, name=f"t{i}", owner="other") for i in range(count))
        found = found_in(process_facts(threads=threads))[0]
        return found.sentence.partition(" but in ")[2].partition(" the kernel")[0]

    assert [words(i) for i in (1, 2, 3)] == ["t0", "t0 and t1", "t0, t1 and t2"]
    assert words(5) == "t0, t1, t2 and 2 more"


def test_a_preloaded_library_is_suspected() -> None:
    libc = replace(LIBC, preload="/lib/strange.so")
    dead = (replace(THREAD, follows=False),)
    for changes in ({"threads": dead}, {"kernel": replace(KERNEL, rseq="EPERM")}):
        assert "/lib/strange.so" in found_in(healthy_facts(libc=libc, **changes))[0].sentence


def test_the_rules_about_libc_and_its_end() -> None:
    unknown = replace(LIBC, size=None)
    assert findings(healthy_facts(libc=unknown)) == {"libc-without-rseq"}
    assert diagnose(healthy_facts(libc=unknown)).verdict.healthy
    gone = replace(THREAD, owner="none", believed=False, cpu_id=-1)
    assert findings(process_facts(threads=(gone,))) == {"registration-gone"}
    refused = replace(KERNEL, rseq="EPERM", refused_after_start=True, class_=None)
    assert findings(healthy_facts(kernel=refused)) == {"threads-will-be-killed"}
    run = replace(ENDED, killed_by="SIGABRT", last_words=("Fatal glibc error: rseq registration failed",))
    assert findings(run_facts(run)) == {"threads-killed"}
    assert findings(run_facts(replace(run, last_words=()))) == {"program-died"}


@pytest.mark.parametrize(
    ("action", "number", "id_", "words"),
    [
        ("errno", errno.EPERM, "threads-will-be-killed", "refuses the call (EPERM)"),
        ("errno", 0, "threads-will-be-fooled", "answers 'success'"),
        ("kill", None, "threads-will-be-killed", "creates will terminate it: "),
        ("kill-thread", None, "threads-will-be-killed", "creates will be killed at once"),
        ("trap", None, "threads-will-be-killed", "the signal SIGSYS"),
        ("trace", None, "threads-will-be-killed", "no tracer handles it"),
        ("notify", None, "filter-unread", "a supervisor"),
    ],
)
def test_what_a_filter_does_to_the_next_thread(action: str, number: int | None, id_: str, words: str) -> None:
    seccomp = SeccompFilters(1, rseq=FilterAnswer(action, number))
    (found,) = found_in(process_facts(seccomp=seccomp))
    assert found.id == id_
    assert words in found.sentence
    assert ("'Fatal glibc error" in found.sentence) == (bool(number) or action == "trace")
    assert "system calls that a program may make" in found.sentence
    (found, *_) = found_in(run_facts(ENDED, seccomp=seccomp))
    assert id_ == "filter-unread" or "had created would" in found.sentence


def test_threads_that_differ_are_named_by_kind() -> None:
    alike = [replace(THREAD, name=f"thread {i}", signature=0x53053053) for i in range(9)]
    odd = replace(THREAD, name="odd", owner="none", length=None, believed=False, cpu_id=-1)
    other = replace(alike[0], name="strange", signature=0x1)
    found = found_in(process_facts(threads=(*alike, odd, other)))
    (differ,) = [one.sentence for one in found if one.id == "threads-differ"]
    assert "odd: not registered" in differ
    assert "thread 0, thread 1, thread 2 and 6 more: registered by glibc, 32 bytes;" in differ
    assert "strange: registered by glibc, 32 bytes, signature 0x1" in differ


def test_another_owner_leaves_an_old_number_only_if_there_is_one() -> None:
    for believed in (True, False):
        facts = process_facts(threads=(replace(OTHERS, believed=believed),))
        assert ("an old CPU number" in found_in(facts)[0].sentence) == believed


def test_an_unusual_signature_is_told_of() -> None:
    thread = replace(THREAD, owner="other", believed=False)
    for signature, told in ((0x12345678, True), (0x53053053, False)):
        facts = process_facts(threads=(replace(thread, signature=signature),))
        assert ("critical sections built for" in found_in(facts)[0].sentence) == told


def test_an_at_secure_program_ignores_the_tunable() -> None:
    libc = replace(LIBC, tunable=TunableSetting(OFF["GLIBC_TUNABLES"], "0", in_force=False))
    run = ProgramRun(program="/bin/program", moment=ENTRY, secure=True)
    (found,) = found_in(run_facts(run, libc=libc))
    assert found.id == "tunable-ignored"
    assert "set-user-ID" in found.sentence
    assert "spelling" not in found.advice


def test_the_last_tunable_counts() -> None:
    assert asked_for("glibc.pthread.rseq=0:glibc.pthread.rseq=1") == "1"
    assert asked_for("glibc.malloc.check=1") is None
    assert asked_for(None) is None
