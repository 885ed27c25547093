"""`rseq-matrix explain`: every cause provoked for real, real lines of strace, messages, bad input, planted defects."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from conftest import ROOT, Command, Document
from rseq_matrix.build import Build
from rseq_matrix.documents.explain import EXPLAIN_SCHEMA, Explanation, Explanations
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import read
from rseq_matrix.errors import InputError
from rseq_matrix.explain import explanation, messages, strace
from rseq_matrix.explain.causes import CallFacts, causes, scenarios
from rseq_matrix.explain.elsewhere import KERNELS
from rseq_matrix.kernels.features import Host, here
from rseq_matrix.kernels.replay import Player, ReplayedStep, plain_environment
from rseq_matrix.kernels.rules import LEAVES, READ_ONLY, READS, RULES, UNMAPPED, WRITABLE, AssumedArea, Features
from rseq_matrix.kernels.sequences import BASES, SIZE, CallStep, becomes, behind_filter, moves, predict
from rseq_matrix.report.explain import show_explanation
from test_kernel_rules import PROVOKED

SCHEMA = json.loads((ROOT / "scripts/rseq_matrix/schema/explain-1.json").read_text())
RSEQ, ENOSYS = 334, 38
FATAL = "Fatal glibc error: rseq registration failed"
ERRNOS = ("EINVAL", "EBUSY", "EPERM", "EFAULT", "ENOSYS")


@pytest.fixture(scope="module")
def host() -> Host:
    found = here()
    if not found.can_replay:
        pytest.skip(found.problem)
    return found


def explain_facts(facts: CallFacts, host: Host) -> Document:
    document: Document = plain(explanation.explain_facts(facts, host))
    return document


def explain_text(text: str, host: Host) -> Document:
    document: Document = plain(explanation.explain_text(text, host))
    return document


def together(documents: Sequence[Document]) -> Document:
    document: Document = plain(explanation.together([read(Explanation, one) for one in documents]))
    return document


def typed(document: Document) -> Explanation | Explanations:
    return read(Explanation, document) if document["kind"] == "explanation" else read(Explanations, document)


def checked(document: Document) -> Document:
    jsonschema.validate(document, SCHEMA)
    assert json.loads(json.dumps(document)) == document
    return document


def ids(document: Document) -> list[str]:
    return [cause["id"] for cause in document["causes"]]


def shown(document: Document, width: int = 100) -> str:
    out = io.StringIO()
    show_explanation(Console(file=out, width=width), typed(document))
    return " ".join(out.getvalue().split())


# --- every cause


@pytest.mark.parametrize("word", [*ERRNOS, "0", "SIGSEGV", "SIGSYS"])
def test_every_cause_of_an_answer_is_replayed_for_real(word: str, host: Host) -> None:
    document = checked(explain_facts(CallFacts(word), host))
    assert document["agrees"] is True
    for cause in document["causes"]:
        if cause["replay"]:
            assert cause["replay"]["got"] == word
        else:
            assert cause["id"] in {"kernel-without-rseq", "emulator"}
    kernel = {rule for rule, (answer, _, _) in PROVOKED.items() if answer == word}
    reachable = {last.rule.id for _, _, steps in PROVOKED.values() if (last := predict(steps, host.features)[-1]).rule}
    assert kernel & reachable <= {*ids(document)}


def test_no_rule_is_without_an_explanation() -> None:
    """Of some kernel: each rule is a cause of its answer, found from the bare errno."""
    kernels = [*KERNELS.values(), Features(40, 64, 2, True, "writes", "SIGSEGV")]
    for name, rule in RULES.items():
        found = {one.answer.rule.id for features in kernels for one in causes(CallFacts(rule.answer), features)}
        assert name in found, name


CALLS: dict[str, tuple[CallFacts, str]] = {
    "misaligned": (CallFacts("EINVAL", align=16, length=32, flags=0, registered="none"), "alignment-original"),
    "misaligned extended": (CallFacts("EINVAL", align=8, length=64, flags=0, registered="none"), "alignment-extended"),
    "short": (CallFacts("EINVAL", align=64, length=20, flags=0, registered="none"), "length-short"),
    "flag": (CallFacts("EINVAL", align=64, length=32, flags=1 << 20, registered="none"), "register-flags"),
    "other": (
        CallFacts("EINVAL", address=0x7F0000001000, length=32, flags=0, registered="other"),
        "registered-address",
    ),
    "other length": (
        CallFacts("EINVAL", length=64, flags=0, registered="same", registered_length=32),
        "registered-length",
    ),
    "un flags": (CallFacts("EINVAL", length=32, flags=5, registered="same"), "unregister-flags"),
    "un nothing": (CallFacts("EINVAL", length=32, flags=1, registered="none"), "unregister-nothing"),
    "un other": (CallFacts("EINVAL", length=32, flags=1, registered="other"), "unregister-address"),
    "un length": (
        CallFacts("EINVAL", length=32, flags=1, registered="same", registered_length=64),
        "unregister-length",
    ),
    "un signature": (
        CallFacts("EPERM", flags=1, signature=7, registered="same", registered_signature=8),
        "unregister-signature",
    ),
    "signature": (
        CallFacts("EPERM", flags=0, signature=7, registered="same", registered_signature=8),
        "registered-signature",
    ),
    "twice": (CallFacts("EBUSY", length=32, flags=0), "registered-twice"),
    "null": (CallFacts("EFAULT", address=0, length=32, flags=0), "null"),
    "kernel half": (CallFacts("EFAULT", address=0xFFFFFFFFFFFFF000, length=32, flags=0), "address-kernel"),
    "unmapped": (CallFacts("EFAULT", address=0x7F0000001000, length=32, flags=0), "unmapped-refused"),
    "protected": (
        CallFacts("EFAULT", address=0x7F0000001000, length=32, flags=1, registered="same"),
        "unregister-memory-refused",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_first_cause_is_the_one_that_the_facts_say(name: str, host: Host) -> None:
    facts, rule = CALLS[name]
    document = checked(explain_facts(facts, host))
    if rule not in {one.answer.rule.id for one in scenarios(facts, host.features)}:
        pytest.skip("this kernel has another rule there")
    assert ids(document)[0] == rule
    assert document["agrees"] is True


def test_with_all_facts_there_is_one_cause(host: Host) -> None:
    area = AssumedArea(0x7F0000002000, 32, 0x53053053)
    known = CallFacts("EINVAL", 0x7F0000001000, None, 32, 0, 0x53053053, "other", area=area)
    document = checked(explain_facts(known, host))
    assert ids(document) == ["registered-address"]
    assert "(it lies at 0x7f0000002000)" in document["causes"][0]["sentence"]
    assert "can have" not in shown(document)
    denied = replace(known, answer="EPERM", address=area.address, registered="same", signature=7)
    assert ids(explain_facts(denied, host)) == ["registered-signature"]


def test_of_several_causes_each_says_what_to_look_at(host: Host) -> None:
    document = explain_facts(CallFacts("EINVAL", align=16, length=32, flags=0), host)
    assert ids(document) == ["alignment-original", "registered-address"]
    text = shown(document)
    assert "1. The address 0x… is a multiple of 16 only, and an area of 32 bytes must lie at a multiple of 32." in text
    assert text.count("look at: ") == text.count("checked: replayed in a child, the answer was EINVAL") == 2


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (CallFacts("EINVAL"), ["registered-address", "length-short", "alignment-original"]),
        (CallFacts("EINVAL", flags=1), ["unregister-nothing"]),
        (CallFacts("EINVAL", length=64), ["registered-address"]),
        (CallFacts("EPERM"), ["filter", "registered-signature"]),
        (CallFacts("EPERM", flags=0, registered="same"), ["registered-signature", "filter"]),
        (CallFacts("EPERM", flags=1), ["unregister-signature", "filter"]),
    ],
)
def test_what_is_likely_comes_before_what_is_rare(facts: CallFacts, first: list[str], host: Host) -> None:
    assert ids(explain_facts(facts, host))[: len(first)] == first


@pytest.mark.parametrize("rseq_cs", ["0x1234", "{version=0, flags=0, start_ip=0x1}"])
def test_a_pointer_in_read_only_memory_is_read_from_the_line(rseq_cs: str, host: Host) -> None:
    if host.features.touches != READS:
        pytest.skip("this kernel has another rule there")
    line = f"rseq({{cpu_id_start=0, cpu_id=0, rseq_cs={rseq_cs}, flags=0}}, 32, 0, 1) = -1 EFAULT (Bad address)"
    document = checked(explain_text(line, host))
    assert ids(document) == ["read-only-pointer"]
    assert document["causes"][0]["replay"]["got"] == "EFAULT"
    document = explain_text(line.replace(rseq_cs, "NULL"), host)
    assert "read-only-pointer" not in ids(document)


@pytest.mark.parametrize("word", ["EBUSY", "EPERM"])
def test_nobody_is_registered_at_null(word: str, host: Host) -> None:
    document = explain_facts(CallFacts(word, address=0, length=32, flags=0), host)
    assert ids(document) == ["filter"]
    assert document["agrees"] is True


def test_another_kernel_s_rule_stands_beside_a_filter(host: Host) -> None:
    if host.features.touches == LEAVES:
        pytest.skip("it is this kernel's rule")
    document = checked(explain_facts(CallFacts("0", address=0, length=32, flags=0), host))
    assert ids(document) == ["null-ignored", "filter-success"]
    assert document["causes"][0]["by"].startswith("Linux")


def test_a_fake_unregistration_leaves_the_area_registered(host: Host) -> None:
    document = checked(explain_facts(CallFacts("0", flags=1), host))
    assert ids(document) == ["unregistered", "filter-success"]
    assert document["causes"][1]["replay"]["cpu_id"] >= 0
    assert "still registered" in document["causes"][1]["sentence"]
    assert document["agrees"] is True


def test_a_made_up_value_is_called_an_example(host: Host) -> None:
    sentences = [cause["sentence"] for cause in explain_facts(CallFacts("EINVAL"), host)["causes"]]
    sentences += [cause["sentence"] for cause in explain_facts(CallFacts("EFAULT"), host)["causes"]]
    assert any("a length of 20 (say) is too short" in sentence for sentence in sentences)
    assert any("the area at 0xffff800000000000 (say) with" in sentence for sentence in sentences)
    assert not any(f"{BASES[WRITABLE]:#x}"[:6] in sentence for sentence in sentences)


def test_the_original_address_is_named_and_its_low_part_replayed(host: Host) -> None:
    document = explain_facts(CallFacts("EINVAL", address=0x7FFF12345678, length=32, flags=0, registered="none"), host)
    (cause,) = document["causes"]
    assert "0x7fff12345678 is a multiple of 8 only" in cause["sentence"]
    assert "5678, 32, 0," in cause["replay"]["steps"][-1]


def test_an_answer_of_another_kernel_is_said_to_be_one(host: Host) -> None:
    if host.features.feature_size is None:
        pytest.skip("this kernel takes 32 bytes only")
    length = 4096
    document = checked(explain_facts(CallFacts("EINVAL", align=4096, length=length, flags=0, registered="none"), host))
    assert ids(document) == ["length-not-original", "filter"]
    assert document["causes"][0]["sentence"].startswith("not on this kernel, but on others")
    assert document["causes"][0]["replay"]["got"] == "0"
    assert document["agrees"] is True
    assert any("another machine" in note for note in document["notes"])


@pytest.mark.parametrize("line", ["EWOULDBLOCK", "rseq(0x40, 32, 0, 1) = -1 EWOULDBLOCK (Would block)"])
def test_an_errno_with_two_names_is_one(line: str, command: Command) -> None:
    done = command("explain", line, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["call"]["answer"] == "EAGAIN"


def test_an_errno_that_no_kernel_answers_is_a_filter_s(host: Host) -> None:
    document = checked(explain_facts(CallFacts("EACCES"), host))
    assert ids(document) == ["filter"]
    assert "the kernel itself never answers EACCES to such a call" in document["causes"][0]["sentence"]
    assert document["causes"][0]["replay"]["got"] == "EACCES"


def test_a_fake_success_shows_in_the_area(host: Host) -> None:
    document = explain_facts(CallFacts("0", length=32, flags=0), host)
    replays = {cause["id"]: cause["replay"] for cause in document["causes"]}
    assert replays["registered"]["cpu_id"] >= 0
    assert replays["filter-success"]["cpu_id"] == -1


# --- the command


def test_the_command_of_the_issue(command: Command) -> None:
    done = command("explain", "EINVAL", "--length", "32", "--align", "16")
    assert done.returncode == 0, done.stderr
    assert "The address 0x… is a multiple of 16 only" in done.stdout
    assert "checked: replayed in a child, the answer was EINVAL" in done.stdout


def test_a_line_in_quotation_marks(command: Command, tmp_path: Path) -> None:
    line = "[pid 4711] rseq(0x7f2ad536afe4, 0x20, 0, 0x53053053) = -1 EINVAL (Invalid argument)"
    path = tmp_path / "out.json"
    done = command("explain", line, "--json", str(path))
    assert done.returncode == 0, done.stderr
    document = checked(json.loads(path.read_text()))
    assert document["form"] == "strace"
    assert ids(document)[0] == "alignment-original"
    assert "is a multiple of 4 only" in " ".join(done.stdout.split())


def test_lines_of_standard_input(command: Command) -> None:
    lines = (
        "rseq(0x7f87f0621060, 0x20, 0, 0x53053053) = 0\n"
        "rseq(0x55e011693080, 0x20, 0, 0x53053053) = -1 EINVAL (Invalid argument)\n"
    )
    done = command("explain", "-", "--json", "-", input=lines)
    assert done.returncode == 0, done.stderr
    document = checked(json.loads(done.stdout))
    assert ids(document) == ["registered-address"]
    assert document["call"]["area"]["address"] == 0x7F87F0621060


@pytest.mark.parametrize("word", ["EINVAL", " einval\n", "22", "-22"])
def test_an_errno_by_name_and_number(word: str, command: Command) -> None:
    arguments = ["--", word] if word.startswith("-") else [word]
    done = command("explain", "--json", "-", *arguments)
    assert json.loads(done.stdout)["call"]["answer"] == "EINVAL", done.stderr


def test_numbers_may_have_their_names(command: Command) -> None:
    flags = ("--flags", "RSEQ_FLAG_UNREGISTER|0x4", "--signature", "RSEQ_SIG", "--address", "NULL")
    call = json.loads(command("explain", "EINVAL", *flags, "--json", "-").stdout)["call"]
    assert (call["flags"], call["signature"], call["address"]) == ("0x5", 0x53053053, 0)


def test_several_errnos_are_explained_in_turn(command: Command, tmp_path: Path) -> None:
    """As if each were given alone, the options with it."""
    path = tmp_path / "out.json"
    done = command("explain", "EINVAL", "1", "--length", "64", "--json", str(path))
    assert done.returncode == 0, done.stderr
    document = checked(json.loads(path.read_text()))
    assert [one["call"]["answer"] for one in document["explanations"]] == ["EINVAL", "EPERM"]
    assert document["agrees"] is True
    for word, one in zip(("EINVAL", "EPERM"), document["explanations"], strict=True):
        alone = json.loads(command("explain", word, "--length", "64", "--json", "-").stdout)
        assert (ids(one), one["call"]) == (ids(alone), alone["call"])
        assert command("explain", word, "--length", "64").stdout in done.stdout


def test_of_several_one_that_contradicts_is_enough(host: Host) -> None:
    assert host.player is not None
    lying = replace(host, player=Lying(host.player, ReplayedStep("EBUSY")))
    documents = [explain_facts(CallFacts("EBUSY"), lying), explain_facts(CallFacts("EFAULT"), lying)]
    document = checked(together(documents))
    assert [one["agrees"] for one in documents] == [True, False]
    assert document["agrees"] is False
    assert shown(document).count("CONTRADICTED") == len(documents[1]["causes"])


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("word", [*ERRNOS, "0"])
def test_what_is_shown_fits_and_has_no_markup_of_its_own(word: str, width: int, host: Host) -> None:
    out = io.StringIO()
    show_explanation(Console(file=out, width=width), typed(explain_facts(CallFacts(word), host)))
    assert all(len(line) <= width for line in out.getvalue().splitlines())
    assert "None" not in out.getvalue()
    assert "{" not in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "say what to explain"),
        (["EFOO"], 2, "'EFOO' is not the name of an errno"),
        (["EINVAL", "EFOO"], 2, "'EFOO' is not the name of an errno"),
        (["EINVAL", "hello"], 4, "'EINVAL hello' is not a line of strace"),
        (["Error", "in", "rseq"], 4, "'Error in rseq' is not a line of strace"),
        (["EINVAL", "EPERM", "--registered-length", "-1"], 2, "--registered-length must be a number of 32 bits"),
        (["\u00b2"], 4, "is not a line of strace"),
        (["9" * 5000], 4, "is not a line of strace"),
        (["4711"], 4, "is not a line of strace"),
        (["EINVAL", "--length", "many"], 2, "'many' is not a number"),
        (["EINVAL", "--length", "-1"], 2, "--length must be a number of 32 bits"),
        (["EINVAL", "--length", "0x100000000"], 2, "--length must be a number of 32 bits"),
        (["EINVAL", "--align", "24"], 2, "an alignment is a power of two"),
        (["EINVAL", "--align", "0"], 2, "an alignment is a power of two"),
        (["EINVAL", "--align", "32", "--address", "0x1010"], 2, "is not a multiple of 32"),
        (["EINVAL", "--registered", "none", "--registered-length", "32"], 2, "--registered none nothing has"),
        (["EINVAL", "--registered", "same", "--address", "0"], 2, "no area can be registered at NULL"),
        (["EINVAL", "--registered-length", "20"], 2, "no kernel registers an area as it is given"),
        (["EINVAL", "--registered", "same", "--align", "8"], 2, "no kernel registers an area as it is given"),
        (["EINVAL", "--registered", "maybe"], 2, "maybe"),
        (["rseq(0x10, 32, 0, 1) = 0", "--length", "32"], 2, "--length describes the call of an ERRNO"),
        ([FATAL, "--align", "32"], 2, "--align describes the call of an ERRNO"),
        (["EINVAL", "--json", "/nonexistent/out.json"], 2, "does not exist"),
        (["hello world"], 4, "'hello world' is not a line of strace"),
        ([""], 4, "there is nothing to explain"),
        (['openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3'], 4, "is a call of openat"),
        (["prseq(0x10, 32, 0, 1) = 0"], 4, "is a call of prseq"),
        (["rseq(0x10, 32, 0) = 0"], 4, "has 3 arguments"),
        (["0.0 ( 0.1 ms): a/7 rseq(rseq: 0x10, rseq_len: 32, sig: 1) = -1 EINVAL (x)"], 4, "as perf trace does"),
        (["rseq(0x10, 32, 0, 1, 2) = 0"], 4, "has 5 arguments"),
        (["rseq(zebra, 32, 0, 1) = 0"], 4, "the address in"),
        (["rseq(0x10, long, 0, 1) = 0"], 4, "the length in"),
        (["rseq(0x10, 32, RSEQ_FLAG_MOON, 1) = 0"], 4, "the flags in"),
        (["rseq(0x10, 32, 0, 1)"], 4, "has no answer"),
        (["rseq(0x10, 32, 0, 1) = -1 EFOO (what)"], 4, "ends with no answer that rseq(2) can have"),
        (["rseq(0x10, 32, 0, 1) = 7"], 4, "ends with no answer that rseq(2) can have"),
        (["rseq(0x10, 32, 0, 1) = ?"], 4, "did not return: give also the next line"),
        (["rseq(0x10, 32, 0, 1) = ?\n+++ killed by SIGKILL +++"], 4, "was ended by SIGKILL, a signal that does not"),
        (["rseq(0x10, 32, 0, 1) = " + "9" * 5000], 4, "has no answer"),
        (["rseq(0x1" + "0" * 16 + ", 32, 0, 1) = 0"], 4, "has more than 64 bits"),
        (["rseq(0x10, " + "9" * 30 + ", 0, 1) = 0"], 4, "has more than 64 bits"),
        (["rseq(0x10, 32, 0, 1 <unfinished ...>"], 4, "is the beginning of a call"),
        (["<... rseq resumed>) = 0"], 4, "is the end of a call"),
        (["rseq(" + "{" * 9000], 4, "has no answer"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], code: int, words: str, command: Command) -> None:
    done = command("explain", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert words in line
    assert len(line) < 300


@pytest.mark.parametrize("text", ["", "\n\n", "\0\xff", "strace: Process 7 attached\n", "+++ exited with 0 +++\n"])
def test_standard_input_without_a_call_is_one_sentence(text: str, command: Command) -> None:
    done = command("explain", "-", input=text)
    assert done.returncode == 4
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_closed_standard_input_is_one_sentence() -> None:
    program = "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
    arguments = ["rseq_matrix", "explain", "-"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr == "rseq-matrix: standard input is closed: there is nothing to read\n"


@pytest.mark.parametrize(
    "text",
    [
        "[pid  " + " " * 1_000_000,
        "rseq(1, 2, 3, 4)" + " " * 1_000_000 + "= x",
        "rseq(" + "/*" * 500_000 + ") = 0",
        "type=1326 sig=31 " * 100_000,
        "CHECK " * 200_000,
        "--- SIGSEGV {" * 100_000,
    ],
)
def test_a_huge_line_ends(text: str, host: Host) -> None:
    begun = time.process_time()
    with pytest.raises(InputError):
        explain_text(text, host)
    assert time.process_time() - begun < 60  # with an expression that tries all ways it would be hours


# --- what stands before the kernel, and what is missing


def test_behind_a_filter_the_explanation_says_that_it_is_not_checked(command: Command, deny: Path) -> None:
    done = command("explain", "EINVAL", "--length", "32", "--align", "16", wrapper=[deny, str(RSEQ), str(ENOSYS)])
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "is a multiple of 16 only" in text
    assert "note: what the kernel itself answers could not be tried: rseq(2) is answered with ENOSYS here" in text
    assert "checked: replayed" not in text


def test_behind_a_filter_another_filter_is_replayed(command: Command, deny: Path) -> None:
    done = command("explain", "EPERM", "--json", "-", wrapper=[deny, str(RSEQ), str(ENOSYS)])
    assert done.returncode == 0, done.stderr
    replays = {cause["id"]: cause["replay"] for cause in json.loads(done.stdout)["causes"]}
    assert replays["filter"]["got"] == "EPERM"
    assert replays["registered-signature"] is None


def test_behind_a_filter_the_message_is_explained_and_not_tried(command: Command, deny: Path) -> None:
    done = command("explain", FATAL, "--json", "-", wrapper=[deny, str(RSEQ), str(ENOSYS)])
    assert done.returncode == 0, done.stderr
    document = checked(json.loads(done.stdout))
    assert document["agrees"] is None
    assert document["notes"] == [
        "not tried here: rseq(2) is answered with ENOSYS here, so no thread can be refused one"
    ]


def test_without_a_compiler_it_is_explained_and_then_said(command: Command, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("CC", None)
    done = command("explain", "EINVAL", "--length", "32", "--align", "16", env=environment)
    assert done.returncode == 3
    assert "is a multiple of 16 only" in done.stdout
    assert "the explanation was not checked: no C compiler" in done.stderr


# --- planted defects: a kernel that does not do what the model says


class Lying(Player):
    """Stands for a kernel whose answers are others."""

    def __init__(self, real: Player, lie: ReplayedStep) -> None:
        self._real, self._lie = real, lie

    def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
        return [[*seen[:-1], self._lie] for seen in self._real.play(sequences)]


@pytest.mark.parametrize(
    ("word", "lie"),
    [
        ("EINVAL", ReplayedStep("0", 1)),
        ("EFAULT", ReplayedStep("SIGSEGV")),
        ("0", ReplayedStep("0", -1)),
        ("EBUSY", ReplayedStep("EPERM")),
    ],
)
def test_a_replay_that_contradicts_is_said(word: str, lie: ReplayedStep, host: Host) -> None:
    assert host.player is not None
    document = checked(explain_facts(CallFacts(word), replace(host, player=Lying(host.player, lie))))
    assert document["agrees"] is False
    text = shown(document)
    assert "CONTRADICTED: replayed in a child" in text
    assert "do not trust the sentence above" in text


def test_a_wrong_model_ends_the_command_with_1() -> None:
    """With the rules of a kernel that this is not, the command must notice."""
    program = (
        "import sys, dataclasses\n"
        "from rseq_matrix.kernels import features\n"
        "find = features.find_features\n"
        "features.find_features = lambda player: dataclasses.replace(find(player), align=4096)\n"
        "from rseq_matrix import cli\n"
        "sys.argv = ['rseq-matrix', 'explain', 'EINVAL', '--length', '64', '--align', '2048', '--registered', 'none']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CONTRADICTED" in done.stdout


def test_a_spoilt_area_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption at the wrong moment kills the child before the call; once is no contradiction."""
    assert host.player is not None
    real = host.player.answer
    killed: list[bool] = []

    def interrupted(steps: Sequence[CallStep]) -> ReplayedStep:
        if any(step.name == "protect" for step in steps) and not killed:
            killed.append(True)
            return ReplayedStep("SIGSEGV")
        return real(steps)

    monkeypatch.setattr(host.player, "answer", interrupted)
    facts = CallFacts("EFAULT", flags=1, registered="same")
    if host.features.reset_error == "EFAULT":
        assert explain_facts(facts, host)["agrees"] is True
        assert killed


# --- messages


@pytest.mark.parametrize(
    "text",
    [
        FATAL,
        "Fatal glibc error: rseq registration failed\nAborted (core dumped)",
        "rseq registration failed",
        "myprogram: Fatal glibc error: rseq registration failed",
        "Fatal glibc error: rseq\n registration failed",
        'writev(2, [{iov_base="Fatal glibc error: rseq registration failed\\n", iov_len=44}], 1) = 44',
        "after rseq(2): Fatal glibc error: rseq registration failed",
    ],
)
def test_glibc_s_message_gets_its_cause_and_cures(text: str, host: Host) -> None:
    document = checked(explain_text(text, host))
    assert ids(document) == ["glibc-registration-failed"]
    assert "seccomp filter" in document["causes"][0]["sentence"]
    dos = [cure["do"] for cure in document["cures"]]
    assert "allow rseq(2)" in dos[0]
    assert "before the program is started" in dos[1]
    assert "GLIBC_TUNABLES=glibc.pthread.rseq=0" in dos[2]
    assert all(cure["loses"] for cure in document["cures"])


def test_a_trace_that_holds_the_message_is_explained_as_a_trace(host: Host) -> None:
    """It says more: which call was refused, and what was registered."""
    lines = [REGISTERS, 'writev(2, [{iov_base="Fatal glibc error: rseq registration failed\\n"}], 1) = 44']
    refused = "rseq(0x7f0000009000, 0x20, 0, 0x53053053) = -1 EPERM (Operation not permitted)"
    document = checked(explain_text("\n".join([*lines, refused]), host))
    assert (document["form"], ids(document)) == ("strace", ["filter"])


def test_glibc_s_message_is_seen_and_each_cure_works(host: Host) -> None:
    document = explain_text(FATAL, host)
    if document["notes"]:
        pytest.skip(document["notes"][0])
    replay = document["causes"][0]["replay"]
    assert replay["got"] == FATAL
    assert [cure["trial"]["got"] for cure in document["cures"]] == [
        "main 1 thread 1",
        "main 0 thread 0",
        "main 0 thread 0",
    ]
    assert document["agrees"] is True
    assert "it ended with 'Fatal glibc error: rseq registration failed'" in shown(document)


def test_a_glibc_that_does_not_end_the_program_contradicts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the program behaves as if the filter were not there."""
    real = messages._run

    def harmless(path: Path, trial: messages.ProgramTrial) -> str:
        return real(path, replace(trial, arguments=(messages.NEVER,)))

    if explain_text(FATAL, host)["notes"]:
        pytest.skip("the message cannot be produced here")
    monkeypatch.setattr(messages, "_run", harmless)
    document = checked(explain_text(FATAL, host))
    assert document["agrees"] is False
    assert "CONTRADICTED" in shown(document)
    assert "where it should have ended with" in shown(document)


@pytest.mark.parametrize("variable", ["glibc.pthread.rseq=0", "glibc.pthread.rseq=1"])
def test_the_caller_s_tunables_do_not_matter(variable: str, command: Command) -> None:
    plain = command("explain", FATAL, "--json", "-")
    done = command("explain", FATAL, "--json", "-", env={**os.environ, "GLIBC_TUNABLES": variable})
    assert done.returncode == plain.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize(
    ("text", "name", "answer"),
    [
        ("glibc fatal error: rseq already registered for this thread", "glibc-2020-busy", "EBUSY"),
        ("glibc fatal error: rseq parameter is an invalid address", "glibc-2020-address", "EFAULT"),
        ("glibc fatal error: rseq parameters are invalid", "glibc-2020-invalid", "EINVAL"),
    ],
)
def test_messages_of_the_development_of_2020(text: str, name: str, answer: str, host: Host) -> None:
    document = checked(explain_text(text, host))
    assert document["message"]["id"] == name
    assert document["call"]["answer"] == answer
    assert document["agrees"] is True
    assert "never released" in document["notes"][0]


@pytest.mark.parametrize(
    "text",
    [
        'type=SECCOMP msg=audit(1700000000.123:99): pid=7 comm="a" sig=31 arch=c000003e syscall=334 compat=0 ip=0x7f',
        '[1.2] audit: type=1326 audit(1.2:9): pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=334 code=0x80000000',
    ],
)
def test_a_line_of_the_kernel_s_log_is_a_filter_s_end(text: str, host: Host) -> None:
    document = checked(explain_text(text, host))
    assert ids(document) == ["filter-kills"]
    assert document["message"]["id"] == "kernel-log"
    assert document["agrees"] is True
    with pytest.raises(InputError, match="what is explained is an errno"):
        explain_text(text.replace("syscall=334", "syscall=435"), host)


@pytest.mark.parametrize(
    ("text", "name", "got"),
    [
        ("percpu.cc:152] CHECK in InitFastPerCpu: InitThreadPerCpu()", "tcmalloc-thread", "EPERM"),
        (
            "app: rseq.c:171: rseq_register_current_thread: Assertion `rseq_current_cpu_raw() >= 0' failed.",
            "librseq-cpu-id",
            "0",
        ),
    ],
)
def test_messages_of_libraries(text: str, name: str, got: str, host: Host) -> None:
    document = checked(explain_text(text, host))
    assert ids(document) == [name]
    replay = document["causes"][0]["replay"]
    assert replay["got"] == got
    assert document["agrees"] is True
    assert document["cures"]
    shown(document)


# --- lines of strace, as they are printed


def traced(built: Build, steps: Sequence[CallStep], path: Path, *options: str) -> str:
    """Return what strace printed of the child that plays a sequence."""
    memory = [hex(number) for number in (BASES[WRITABLE], BASES[READ_ONLY], BASES[UNMAPPED], SIZE)]
    program = built.directory / "explain/calls"
    environment = plain_environment(GLIBC_TUNABLES="glibc.pthread.rseq=0")
    subprocess.run(
        ["strace", "-f", *options, "-o", path, program, *memory],
        input=" ".join(step.text() for step in steps) + "\n",
        env=environment,
        text=True,
        check=True,
        capture_output=True,
    )
    return path.read_text()


LIVE = [name for name, (_, _, steps) in PROVOKED.items() if not any(step.name == "protect" for step in steps)]
"""Without those whose area is spoilt: a stop for strace is an interruption, and kills them."""


@pytest.mark.strace
@pytest.mark.ptrace
@pytest.mark.parametrize("name", LIVE)
def test_a_real_trace_of_each_cause(name: str, host: Host, built: Build, tmp_path: Path) -> None:
    _, _, steps = PROVOKED[name]
    want = predict(steps, host.features)[-1]
    assert want.rule is not None
    text = traced(built, steps, tmp_path / "trace", "-e", "trace=rseq")
    document = checked(explain_text(text, host))
    assert document["form"] == "strace"
    if want.word == "0":
        return
    assert document["call"]["answer"] == want.word, text
    assert want.rule.id in ids(document), text
    assert ids(document)[0] == want.rule.id or len(ids(document)) > 1
    assert document["agrees"] is True


@pytest.mark.strace
@pytest.mark.ptrace
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-t",),
        ("-tt",),
        ("-ttt", "-T"),
        ("-r", "-n"),
        ("-i",),
        ("-X", "raw"),
        ("-X", "verbose"),
        ("-y", "-v", "-s", "9999"),
        ("-a", "80"),
    ],
)
def test_strace_s_options_change_nothing(options: tuple[str, ...], host: Host, built: Build, tmp_path: Path) -> None:
    _, _, steps = PROVOKED["registered-twice"]
    text = traced(built, steps, tmp_path / "trace", "-e", "trace=rseq", *options)
    trace = strace.read(text)
    assert trace.facts.answer == "EBUSY"
    assert trace.facts.address == steps[-1].call.address if steps[-1].call else None
    assert (trace.facts.length, trace.facts.flags, trace.facts.signature) == (32, 0, 0x53053053)
    assert ids(explain_text(text, host)) == ["registered-twice"]


@pytest.mark.strace
@pytest.mark.ptrace
def test_an_injected_answer_is_strace_s(host: Host, built: Build, tmp_path: Path) -> None:
    _, _, steps = PROVOKED["registered"]
    text = traced(built, steps, tmp_path / "trace", "-e", "trace=rseq", "-e", "inject=rseq:error=ENOSYS")
    document = checked(explain_text(text, host))
    assert ids(document) == ["injected"]
    assert "strace itself answered ENOSYS" in document["causes"][0]["sentence"]


@pytest.mark.strace
@pytest.mark.ptrace
def test_threads_that_interrupt_each_other_are_told_apart(host: Host, tmp_path: Path) -> None:
    """A program with many threads, each registered by libc, of which one then registers again."""
    source = tmp_path / "threads.c"
    source.write_text(
        "#include <pthread.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
        "static char area[64] __attribute__((aligned(64)));\n"
        "static void *run(void *n) { usleep(1000); if (n) syscall(334, area, 32, 0, 0x53053053); return 0; }\n"
        "int main(void) { pthread_t t[8];\n"
        "  for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, run, (void *)(i / 7));\n"
        "  for (int i = 0; i < 8; i++) pthread_join(t[i], 0); return 0; }\n"
    )
    program = tmp_path / "threads"
    subprocess.run(["cc", "-O1", "-pthread", "-o", program, source], check=True)
    path = tmp_path / "trace"
    subprocess.run(["strace", "-f", "-o", path, program], check=True, capture_output=True, env=plain_environment())
    trace = strace.read(path.read_text())
    if trace.explained.answer != "EINVAL":
        pytest.skip("this libc registers no areas")
    assert len(trace.calls) == 10
    document = checked(explain_text(path.read_text(), host))
    assert ids(document) == ["registered-address"]
    assert document["call"]["registered"] == "other"


@pytest.mark.strace
@pytest.mark.ptrace
def test_an_area_that_is_lost_is_read_from_its_trace(host: Host, built: Build, tmp_path: Path) -> None:
    steps = [*PROVOKED["registered"][2], becomes(READ_ONLY), moves()]
    text = traced(built, steps, tmp_path / "trace", "-e", "trace=rseq")
    document = checked(explain_text(text, host))
    assert document["call"]["answer"] == "SIGSEGV", text
    assert "area-lost" in ids(document)
    assert document["agrees"] is True


@pytest.mark.strace
@pytest.mark.ptrace
def test_a_filter_that_kills_is_read_from_its_trace(host: Host, built: Build, tmp_path: Path) -> None:
    steps = [behind_filter("SIGSYS"), *PROVOKED["registered"][2]]
    text = traced(built, steps, tmp_path / "trace", "-e", "trace=rseq")
    document = checked(explain_text(text, host))
    assert document["call"]["answer"] == "SIGSYS", text
    assert ids(document) == ["filter-kills"]
    assert document["agrees"] is True


# --- lines of strace, by hand


def test_the_struct_that_newer_straces_show(host: Host) -> None:
    line = (
        "rseq({cpu_id_start=0, cpu_id=RSEQ_CPU_ID_UNINITIALIZED, rseq_cs=NULL, flags=0, node_id=0, mm_cid=0, "
        "slice_ctrl={request=0, granted=0, __reserved=0}}, 32, 0, 0x53053053) = -1 EINVAL (Invalid argument)"
    )
    document = checked(explain_text(line, host))
    assert document["call"]["address"] is None
    assert "alignment-original" not in ids(document)
    assert "registered-address" in ids(document)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("RSEQ_FLAG_UNREGISTER", 1),
        ("0x1 /* RSEQ_FLAG_UNREGISTER */", 1),
        ("RSEQ_FLAG_UNREGISTER|0x4", 5),
        ("RSEQ_FLAG_SLICE_EXT_DEFAULT_ON", 2),
        ("0x40 /* RSEQ_FLAG_??? */", 0x40),
        ("-1", 0xFFFFFFFF),
        ("0", 0),
    ],
)
def test_flags_as_straces_show_them(text: str, value: int) -> None:
    assert strace.read(f"rseq(NULL, 32, {text}, 0x53053053) = -1 EINVAL (Invalid argument)").facts.flags == value


REGISTERS = "rseq(0x7f0000001000, 0x20, 0, 0x53053053) = 0"
AGAIN = "rseq(0x7f0000001000, 0x20, 0, 0x53053053) = -1 EBUSY (Device or resource busy)"
REMOVES = "rseq(0x7f0000001000, 0x20, 0x1, 0x53053053) = 0"
WRONG = "rseq(0x7f0000002000, 0x20, 0, 0x53053053) = -1 EINVAL (Invalid argument)"


@pytest.mark.parametrize(
    ("lines", "registered"),
    [
        ([WRONG], None),
        ([REGISTERS, WRONG], "other"),
        ([AGAIN, WRONG], "other"),
        ([REGISTERS, REMOVES, WRONG], "none"),
        ([REGISTERS, 'execve("/bin/true", ["true"], 0x1 /* 3 vars */) = 0', WRONG], "none"),
        ([REGISTERS, 'execve("/bin/t", ["t"], 0x1) = -1 ENOENT (No such file or directory)', WRONG], "other"),
        ([f"[pid 7] {REGISTERS}", f"[pid 8] {WRONG}"], None),
        ([f"[pid 7] {REGISTERS}", f"[pid 7] {WRONG}"], "other"),
        ([f"7 {REGISTERS}", f"8     {WRONG}"], None),
        ([f"[pid 7<a b>] {REGISTERS}", f"[pid 8<a b>] {WRONG}"], None),
        ([f"7<a> {REGISTERS}", f"8<a> {WRONG}"], None),
        ([f"7 1.000 {REGISTERS}", f"7     {WRONG}"], "other"),
        ([REGISTERS, "strace: Process 8 attached", f"[pid 8] {WRONG}"], None),
        ([REGISTERS, "strace: Process 8 attached", f"[pid 7] {WRONG}"], "other"),
        ([REGISTERS, "fork() = 8", f"[pid 8] {WRONG}"], "other"),
        ([REGISTERS, "vfork() = 8", f"[pid 8] {WRONG}"], "none"),
        ([REGISTERS, "clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK) = 8", f"[pid 8] {WRONG}"], "none"),
        ([REGISTERS, "clone(child_stack=NULL, flags=SIGCHLD) = 8", f"[pid 8] {WRONG}"], "other"),
        ([REGISTERS + " (INJECTED)", WRONG], None),
    ],
)
def test_what_earlier_lines_say_of_the_registration(lines: list[str], registered: str | None) -> None:
    assert strace.read("\n".join(lines)).facts.registered == registered


def test_the_last_call_that_failed_is_explained() -> None:
    trace = strace.read("\n".join([REGISTERS, AGAIN, WRONG, REMOVES]))
    assert trace.explained.text == WRONG
    assert strace.read("\n".join([REGISTERS, REMOVES])).explained.text == REMOVES


def test_a_call_in_two_pieces_is_put_together() -> None:
    text = (
        "[pid 7] rseq(0x7f0000001000, 0x20, 0, 0x53053053 <unfinished ...>\n"
        '[pid 8] write(1, "x", 1) = 1\n'
        "[pid 7] <... rseq resumed>)             = -1 EBUSY (Device or resource busy)\n"
    )
    trace = strace.read(text)
    assert (trace.explained.pid, trace.facts.answer) == ("7", "EBUSY")


UNANSWERED = "rseq(0x7f0000001000, 0x20, 0, 0x53053053"
ANY_FAULT = "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---"
BY_KERNEL = "--- SIGSEGV {si_signo=SIGSEGV, si_code=SI_KERNEL, si_addr=NULL} ---"
TRAPPED = "--- SIGSYS {si_signo=SIGSYS, si_code=SYS_SECCOMP, si_call_addr=0x7f, si_syscall=__NR_rseq} ---"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ([f"{UNANSWERED}) = ?", "+++ killed by SIGSYS (core dumped) +++"], "SIGSYS"),
        ([f"[pid 7] {UNANSWERED} <unfinished ...>) = ?", "[pid 7] +++ killed by SIGSYS +++"], "SIGSYS"),
        ([f"[pid 7] {UNANSWERED} <unfinished ...>", "[pid 7] +++ killed by SIGSYS +++"], "SIGSYS"),
        ([f"7 {UNANSWERED}) = ?", "8 read(0,  <unfinished ...>) = ?", "7 +++ killed by SIGSYS +++"], "SIGSYS"),
        ([f"[pid 7] {UNANSWERED}) = 334", "[pid 8] +++ killed by SIGSYS +++", "+++ killed by SIGSYS +++"], "SIGSYS"),
        ([f"{UNANSWERED}) = 0x14e", TRAPPED, "+++ exited with 1 +++"], "SIGSYS"),
        ([REGISTERS, BY_KERNEL, "+++ killed by SIGSEGV +++"], "SIGSEGV"),
        ([REGISTERS, ANY_FAULT, "+++ killed by SIGSEGV +++"], "0"),
        ([f"7 {REGISTERS}", f"8 {REGISTERS}", f"8 {ANY_FAULT}", "7 +++ killed by SIGSEGV +++"], "0"),
    ],
)
def test_whose_end_a_signal_is(lines: list[str], answer: str) -> None:
    assert strace.read("\n".join(lines)).facts.answer == answer


@pytest.mark.parametrize(
    "line",
    [
        "rseq(0x1004, 0x20, 0x1, 0x53053053) = -1 EINVAL (Invalid argument)",
        "rseq(0x1004, 0x20, 0x1, 0x53053053) = -22",
        "rseq(0x1004, 0x20, 0x1, 0x53053053) = 0xffffffffffffffea",
        "syscall_334(0x1004, 0x20, 0x1, 0x53053053, 0x7f01, 0) = -1 EINVAL (Invalid argument)",
        "syscall_0x14e(0x1004, 0x20, 0x1|0x1, 0x53053053, 0x7f01, 0) = -1 (errno 22)",
    ],
)
def test_a_call_and_its_answer_as_straces_show_them(line: str) -> None:
    facts = strace.read(line).facts
    assert (facts.address, facts.length, facts.flags, facts.signature) == (0x1004, 32, 1, 0x53053053)
    assert facts.answer == "EINVAL"


def test_text_that_others_chose_is_made_harmless(host: Host) -> None:
    line = "\x1b[31mrseq(0x7f0000001004, 0x20, 0, 0x53053053) = -1 EINVAL (Invalid argument)"
    assert "\x1b" not in shown(explain_text(line, host))


def test_garbage_never_escapes() -> None:
    pieces = [
        "rseq(",
        ")",
        " = ",
        "-1",
        "EINVAL",
        ",",
        "0x20",
        "{",
        "}",
        "<unfinished ...>",
        "<... rseq resumed>",
        "|",
        "[pid",
    ]
    for number in range(3000):
        state, text = number * 2654435761 % (1 << 32), ""
        for _ in range(9):
            state = (state * 1103515245 + 12345) % (1 << 31)
            text += pieces[(state >> 8) % len(pieces)]
        with contextlib.suppress(InputError):
            strace.read(text)


def test_schema_names_every_key(host: Host) -> None:
    documents: list[dict[str, Any]] = [explain_facts(CallFacts("EINVAL"), host), explain_text(FATAL, host)]
    for document in documents:
        assert document.keys() == SCHEMA["$defs"]["explanation"]["properties"].keys()
    assert together(documents).keys() == SCHEMA["$defs"]["explanations"]["properties"].keys()
    for name in ("explanation", "explanations"):
        assert SCHEMA["$defs"][name]["properties"]["schema"]["const"] == EXPLAIN_SCHEMA
