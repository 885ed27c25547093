"""The doctor's judgement without a machine: documents of what no machine at hand can show, and the words for them."""

from __future__ import annotations

import errno
import signal
from typing import Any

import jsonschema
import pytest

from doctoring import OFF, SCHEMA, Document
from rseq_matrix.doctor.helper_programs import HelperOutput, parse
from rseq_matrix.doctor.host_libc import asked_for
from rseq_matrix.doctor.kernel_behaviour import barrier_aborts, kernel_class, length_class, registration_document
from rseq_matrix.doctor.thread import empty_thread
from rseq_matrix.doctor.verdict import diagnose


def spoken(text: str, status: int = 0) -> HelperOutput:
    return HelperOutput(parse("\n".join(f"doctor kernel {line}" for line in text.splitlines())), status)


REGISTERED = "control 22\nanswer 0\ncpu_id 1\n"
ALL_REWRITTEN = REGISTERED + "trying sleep\nsleep rewritten\ntrying signal\nsignal rewritten\n"
ALL_KEPT = REGISTERED + "trying sleep\nsleep kept\ntrying signal\nsignal kept\n"
MOVED = "trying migration\nmigration rewritten\ndone 1"
KILLED_MOVING = "trying migration"
LEGACY = registration_document(32, spoken(ALL_REWRITTEN + MOVED))
CHANGED = registration_document(64, spoken(ALL_KEPT + MOVED))
V2 = registration_document(64, spoken(ALL_KEPT + KILLED_MOVING, -signal.SIGSEGV))
ONE_CPU = registration_document(64, spoken(ALL_KEPT + "done 1"))


def test_the_classes_of_kernels() -> None:
    assert [length_class(found) for found in (LEGACY, CHANGED, V2)] == ["legacy", "changed-only", "v2"]
    assert V2["killed_by"] == "SIGSEGV"
    assert kernel_class([LEGACY, LEGACY]) == "legacy"
    assert kernel_class([CHANGED, CHANGED]) == "changed-only"
    assert kernel_class([LEGACY, V2]) == "v2"
    assert kernel_class([LEGACY, ONE_CPU]) == "v2"
    refused = registration_document(64, spoken("control 22\nanswer 22"))
    assert kernel_class([LEGACY, refused]) == "legacy"
    faked = registration_document(32, spoken("control 0\nanswer 0\ncpu_id -1\ntrying sleep\nsleep kept\nsignal kept"))
    assert kernel_class([faked, faked]) is None


@pytest.mark.parametrize(
    ("hits", "chance", "rounds", "aborts"),
    [(10, 0, 10, True), (10, 3, 10, True), (0, 0, 10, False), (3, 3, 10, None), (0, 0, 0, None), (2, 3, 10, None)],
)
def test_whether_a_barrier_aborts(hits: int, chance: int, rounds: int, aborts: bool | None) -> None:
    said = {"aborted_with": str(hits), "aborted_without": str(chance), "rounds": str(rounds)}
    assert barrier_aborts(HelperOutput({"barrier": said}, 0)) is aborts


def healthy_document(**changes: Any) -> Document:
    thread = empty_thread("main") | {"owner": "glibc", "length": 32, "cpu_id": 1, "cpu_id_start": 1, "believed": True}
    libc = {"size": 20, "tunable": {"text": None, "asked": None, "in_force": None}, "preload": None}
    kernel = {"rseq": "present", "refused_after_start": False, "feature_size": 28, "class": "legacy"}
    kernel["membarrier"] = {"aborts": True}
    base = {"kind": "host", "kernel": kernel, "libc": libc, "process": None, "run": None, "seccomp": None}
    return {**base, "threads": [thread], "writes": [], "libraries": [], **changes}


def findings(document: Document) -> set[str]:
    found = diagnose(document)["findings"]
    for one in found:
        jsonschema.validate(one, SCHEMA["$defs"]["finding"])
    return {one["id"] for one in found}


def test_the_rules_that_this_machine_cannot_show() -> None:
    healthy = healthy_document()
    assert diagnose(healthy)["verdict"]["healthy"]
    thread = healthy["threads"][0]
    kernel = healthy["kernel"]
    assert findings(healthy_document(kernel=kernel | {"class": "changed-only"})) == {"kernel-changed-only"}
    assert findings(healthy_document(kernel=kernel | {"membarrier": {"aborts": False}})) == {
        "membarrier-does-not-abort"
    }
    old = kernel | {"rseq": "ENOSYS", "feature_size": None, "class": None}
    none = thread | {"owner": "none", "believed": False, "cpu_id": -2}
    off = healthy["libc"] | {"size": 0}
    assert findings(healthy_document(kernel=old, libc=off, threads=[none])) == {"kernel-without-rseq"}
    assert findings(healthy_document(threads=[thread | {"follows": False}])) == {"registration-dead"}
    assert findings(healthy_document(threads=[thread | {"owner": "other", "object": "x.so"}])) == {"owner-disagrees"}
    assert findings(healthy_document(threads=[thread | {"cpu_id_start": 7}])) == {"ids-overwritten"}
    assert findings(healthy_document(libc=off, threads=[none])) == {"off-unexplained"}
    assert findings(healthy_document(threads=[thread, none], kind="process", kernel=None)) >= {"threads-differ"}
    unread = {"filters": 1, "rseq": None, "unread": "only root may"}
    assert findings(healthy_document(seccomp=unread, kind="process", kernel=None)) == {"filter-unread"}
    words = {"last_words": ["x.so: cannot allocate memory in static TLS block"], "killed_by": None, "moment": "end"}
    assert findings(healthy_document(run=words, kind="command", kernel=None)) == {"static-tls-full"}


def test_what_is_healthy_is_said_as_it_is() -> None:
    def sentence(**changes: Any) -> str:
        verdict = diagnose(healthy_document(**changes))["verdict"]
        assert verdict["healthy"]
        return str(verdict["sentence"])

    (thread,) = healthy_document()["threads"]
    assert "glibc registers it in every thread, and the CPU numbers" in sentence(threads=[thread | {"follows": True}])
    assert "CPU numbers" not in sentence(threads=[thread | {"follows": None}])
    none = thread | {"owner": "none", "length": None, "believed": None}
    assert "which has none" in sentence(kind="process", kernel=None, libc=None, threads=[none])
    assert "which has none" not in sentence(kind="process", kernel=None)
    off = healthy_document()["libc"] | {"size": 0}
    own = thread | {"owner": "other", "object": "x.so", "believed": False}
    assert "glibc registers" not in sentence(libc=off, threads=[own])
    assert "glibc registers" not in sentence(
        libc=off | {"size": None}, threads=[thread | {"owner": "none", "believed": None}]
    )


def test_names_are_a_list_in_words() -> None:
    def words(count: int) -> str:
        threads = [healthy_document()["threads"][0] | {"name": f"t{i}", "owner": "other"} for i in range(count)]
        found = diagnose(healthy_document(threads=threads, kind="process", kernel=None))["findings"][0]
        return str(found["sentence"].partition(" but in ")[2].partition(" the kernel")[0])

    assert [words(i) for i in (1, 2, 3)] == ["t0", "t0 and t1", "t0, t1 and t2"]
    assert words(5) == "t0, t1, t2 and 2 more"


def test_a_preloaded_library_is_suspected() -> None:
    libc = healthy_document()["libc"] | {"preload": "/lib/strange.so"}
    thread = healthy_document()["threads"][0] | {"follows": False}
    kernel = healthy_document()["kernel"] | {"rseq": "EPERM"}
    for changes in ({"threads": [thread]}, {"kernel": kernel}):
        assert "/lib/strange.so" in diagnose(healthy_document(libc=libc, **changes))["findings"][0]["sentence"]


def test_the_rules_about_libc_and_its_end() -> None:
    healthy = healthy_document()
    unknown = healthy["libc"] | {"size": None}
    assert findings(healthy_document(libc=unknown)) == {"libc-without-rseq"}
    assert diagnose(healthy_document(libc=unknown))["verdict"]["healthy"]
    gone = healthy["threads"][0] | {"owner": "none", "believed": False, "cpu_id": -1}
    assert findings(healthy_document(kind="process", kernel=None, threads=[gone])) == {"registration-gone"}
    refused = healthy["kernel"] | {"rseq": "EPERM", "refused_after_start": True, "class": None}
    assert findings(healthy_document(kernel=refused)) == {"threads-will-be-killed"}
    run = {"killed_by": "SIGABRT", "last_words": ["Fatal glibc error: rseq registration failed"], "moment": "end"}
    assert findings(healthy_document(kind="command", kernel=None, run=run)) == {"threads-killed"}
    assert findings(healthy_document(kind="command", kernel=None, run=run | {"last_words": []})) == {"program-died"}


@pytest.mark.parametrize(
    ("action", "number", "id_", "words"),
    [
        ("errno", errno.EPERM, "threads-will-be-killed", "refuses the call (EPERM)"),
        ("errno", 0, "threads-will-be-fooled", "answers 'success'"),
        ("kill", None, "threads-will-be-killed", "starts will end it: "),
        ("kill-thread", None, "threads-will-be-killed", "starts will be killed at once"),
        ("trap", None, "threads-will-be-killed", "the signal SIGSYS"),
        ("trace", None, "threads-will-be-killed", "no tracer decides"),
        ("notify", None, "filter-unread", "a supervisor"),
    ],
)
def test_what_a_filter_does_to_the_next_thread(action: str, number: int | None, id_: str, words: str) -> None:
    answer = {"action": action, "errno": number}
    seccomp = {"filters": 1, "thread": None, "rseq": answer, "unread": None}
    document = healthy_document(seccomp=seccomp, kind="process", kernel=None)
    assert findings(document) == {id_}
    (found,) = diagnose(document)["findings"]
    assert words in found["sentence"]
    assert ("'Fatal glibc error" in found["sentence"]) == (bool(number) or action == "trace")
    assert "system calls that a program may make" in found["sentence"]
    run: Document = {"moment": "end", "killed_by": None, "last_words": []}
    (found, *_) = diagnose(healthy_document(seccomp=seccomp, kind="command", kernel=None, run=run | {"left": 0}))[
        "findings"
    ]
    assert id_ == "filter-unread" or "had started would" in found["sentence"]


def test_threads_that_differ_are_named_by_kind() -> None:
    thread = healthy_document()["threads"][0]
    alike = [thread | {"name": f"thread {i}", "signature": 0x53053053} for i in range(9)]
    odd = thread | {"name": "odd", "owner": "none", "length": None, "believed": False, "cpu_id": -1}
    other = alike[0] | {"name": "strange", "signature": 0x1}
    found = diagnose(healthy_document(kind="process", kernel=None, threads=[*alike, odd, other]))["findings"]
    (differ,) = [one["sentence"] for one in found if one["id"] == "threads-differ"]
    assert "odd: not registered" in differ
    assert "thread 0, thread 1, thread 2 and 6 more: registered by glibc, 32 bytes;" in differ
    assert "strange: registered by glibc, 32 bytes, signature 0x1" in differ


def test_another_owner_leaves_an_old_number_only_if_there_is_one() -> None:
    thread = healthy_document()["threads"][0] | {"owner": "other", "object": "x.so"}
    for believed in (True, False):
        document = healthy_document(threads=[thread | {"believed": believed}], kind="process", kernel=None)
        assert ("an old CPU number" in diagnose(document)["findings"][0]["sentence"]) == believed


def test_an_unusual_signature_is_told_of() -> None:
    thread = healthy_document()["threads"][0] | {"owner": "other", "believed": False}
    for signature, told in ((0x12345678, True), (0x53053053, False)):
        document = healthy_document(threads=[thread | {"signature": signature}], kind="process", kernel=None)
        assert ("restartable code that was built" in diagnose(document)["findings"][0]["sentence"]) == told


def test_an_at_secure_program_ignores_the_tunable() -> None:
    tunable = {"text": OFF["GLIBC_TUNABLES"], "asked": "0", "in_force": False}
    run = {"secure": True, "last_words": [], "killed_by": None, "moment": "entry"}
    libc = {"size": 20, "tunable": tunable, "preload": None}
    found = diagnose(healthy_document(kind="command", kernel=None, libc=libc, run=run))["findings"]
    assert [one["id"] for one in found] == ["tunable-ignored"]
    assert "set-user-ID" in found[0]["sentence"]
    assert "spelling" not in found[0]["advice"]


def test_the_last_tunable_counts() -> None:
    assert asked_for("glibc.pthread.rseq=0:glibc.pthread.rseq=1") == "1"
    assert asked_for("glibc.malloc.check=1") is None
    assert asked_for(None) is None
