"""`rseq-matrix doctor`: every planted defect of a host is named, and nothing else is; bad input is one sentence."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from conftest import Command, run_command
from doctoring import OFF, PTRACE, RSEQ, SCHEMA, Document, doctor, healthy_facts, named, state, waiting
from moments import comes, is_asleep
from rseq_matrix.doctor.verdict import diagnose
from rseq_matrix.documents.doctor import DoctorFinding, Examination
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import read
from rseq_matrix.report.doctor import show_doctor

# --- a healthy host


@pytest.fixture(scope="module")
def host() -> Document:
    return doctor()


def test_a_host_without_a_defect_is_healthy(host: Document) -> None:
    assert named(host) == set()
    assert host["kernel"]["rseq"] == "present"
    assert host["kernel"]["class"] in ("legacy", "changed-only", "v2")
    assert host["libc"]["size"] >= 20
    assert host["libc"]["tunable"] == {"text": None, "asked": None, "in_force": None}


def test_the_document_is_what_its_dataclasses_say(host: Document) -> None:
    assert plain(read(Examination, host)) == host
    command = doctor("--verbose", "--", "/bin/true")
    assert list(plain(read(Examination, command))) == list(command)
    assert plain(read(Examination, command)) == command


def test_the_package_of_libc_is_named(host: Document) -> None:
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2")
    query = ["dpkg-query", "-S", loader, loader.removeprefix("/usr")]
    if not shutil.which(query[0]) or not subprocess.run(query, capture_output=True, check=False).stdout:
        pytest.skip("no package manager of Debian's knows the dynamic linker")
    assert host["libc"]["package"].startswith("libc6")


def test_more_findings_than_fit_are_counted() -> None:
    finding = DoctorFinding("tunable-off", "warning", "Off", "None", "none")
    document = replace(diagnose(healthy_facts()), findings=(finding,) * 5)
    for verbose, shown in ((False, 3), (True, 5)):
        written = io.StringIO()
        show_doctor(Console(file=written, width=80), document, verbose)
        text = written.getvalue()
        assert text.count("Off.") == shown
        assert ("and 2 more: --verbose" in text) != verbose


@pytest.mark.ptrace
def test_both_threads_are_seen_from_inside_and_outside(host: Document) -> None:
    main, second = host["threads"]
    for thread in (main, second):
        assert thread["owner"] == "glibc"
        assert thread["length"] >= 32
        assert thread["signature"] == 0x53053053
        assert thread["believed"]
        if len(os.sched_getaffinity(0)) > 1:
            assert thread["follows"]
            assert thread["sched_getcpu_follows"]
    assert main["address"] != second["address"]
    assert host["watched"]


def test_the_kernel_is_told_by_experiment(host: Document) -> None:
    kernel = host["kernel"]
    assert kernel["registrations"][0]["length"] == 32
    for found in kernel["registrations"]:
        assert found["answer"] == 0
        assert found["events"]["sleep"] in ("kept", "rewritten")
    if len(os.sched_getaffinity(0)) > 1:
        found = kernel["membarrier"]
        for _ in range(20):  # where others keep the machine busy, sections are aborted by chance, too: it is not known
            if found["aborts"] is not None:
                break
            found = doctor()["kernel"]["membarrier"]
        assert found == {"offered": True, "answer": 0, "aborts": True}


def test_one_screen() -> None:
    done = run_command("doctor", env=os.environ | {"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_verbose_shows_the_experiments() -> None:
    done = run_command("doctor", "--verbose")
    for word in ("32 bytes", "registered; an overwritten CPU number after sleep: ", "__rseq_offset", "restartable seq"):
        assert word in done.stdout


def test_verbose_says_what_was_not_registered(deny: Path) -> None:
    options = {"env": os.environ | {"COLUMNS": "200"}}
    refused = run_command("doctor", "--verbose", wrapper=[str(deny), RSEQ, str(errno.EPERM)], **options)
    assert "registration fails with EPERM; an overwritten CPU number after sleep: not tried" in refused.stdout
    faked = run_command("doctor", "--verbose", wrapper=[str(deny), RSEQ, "0"], **options)
    assert "registration returns success without being executed; an overwritten CPU number" in faked.stdout


def test_verbose_shows_what_the_kernel_answers(command: Command) -> None:
    done = command("doctor", "--verbose", "--json", "-")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    answers = document["kernel"]["answers"]
    assert answers["agrees"], [row for row in answers["rows"] if not row["agrees"]]
    shown = command("doctor", "--verbose").stdout
    assert "what this kernel answers to rseq(2)" in shown
    assert "register behind a filter that answers ENOSYS" in " ".join(shown.split())
    assert "what this kernel answers" not in command("doctor").stdout


@pytest.mark.usefixtures("host")
def test_without_ptrace_it_says_less(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), PTRACE, str(errno.EPERM)])
    assert document["untraced"]
    assert named(document) == set()
    assert [thread["owner"] for thread in document["threads"]] == ["glibc", "glibc"]


# --- defects of a host


def test_tunable_off() -> None:
    document = doctor(environment=OFF)
    assert named(document) == {"tunable-off"}
    assert document["libc"]["tunable"] == {"text": OFF["GLIBC_TUNABLES"], "asked": "0", "in_force": True}
    sentence = document["findings"][0]["sentence"]
    assert "sched_getcpu() gets slower" in sentence
    assert "tcmalloc" in sentence


@pytest.mark.parametrize("text", ["glibc.pthread.rsec=0", "glibc.malloc.check=0", "glibc.pthread.rseq=1"])
def test_a_tunable_without_effect_is_none(text: str) -> None:
    document = doctor(environment={"GLIBC_TUNABLES": text})
    assert named(document) == set()
    assert document["libc"]["size"]


def test_a_tunable_that_is_ignored_is_named() -> None:
    document = doctor(environment={"GLIBC_TUNABLES": "glibc.pthread.rseq=00x"})
    size = document["libc"]["size"]
    assert named(document) == ({"tunable-off"} if size == 0 else set())


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM])
def test_a_filter_that_refuses(deny: Path, answer: int) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, str(answer)])
    assert named(document) == {"filter-refuses"}
    assert errno.errorcode[answer] in document["findings"][0]["sentence"]
    assert document["kernel"]["class"] is None


def test_a_tunable_is_not_blamed_for_what_a_filter_does(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, str(errno.EPERM)], environment=OFF)
    assert document["libc"]["tunable"]["in_force"] is False
    assert named(document) == {"filter-refuses"}


def test_a_filter_that_fakes_success(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, "0"])
    assert named(document) == {"filter-fakes"}
    assert document["libc"]["size"] > 0
    assert [thread["cpu_id"] for thread in document["threads"]] == [-1, -2]  # libc did not try the second thread


@pytest.mark.ptrace
def test_a_preload_that_overwrites(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("overwriting_preload")})
    assert "ids-overwritten" in named(document) or document["kernel"]["class"] == "v2"
    assert document["writes"] == [{"object": "overwriting_preload.so", "count": 1}]
    assert "overwriting_preload.so" in document["findings"][0]["sentence"]


def test_a_dead_registration(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("dead_preload")})
    assert named(document) == {"registration-dead"}
    if len(os.sched_getaffinity(0)) > 1:
        assert document["threads"][0]["follows"] is False


def test_a_preload_that_locks_every_program_in(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("late_filter_preload")})
    assert named(document) == {"threads-will-be-killed"}
    assert "late_filter_preload.so" in document["findings"][0]["sentence"]


# --- bad input


def zombie() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    while state(child) != "Z":
        time.sleep(0.01)
    return child


@pytest.mark.ptrace
def test_bad_processes() -> None:
    dead = zombie()
    cases = {"999999999": "there is no process", str(dead): "a zombie", "-1": "there is no process"}
    if state(2) in "SI" and Path("/proc/2/comm").read_text(encoding="utf-8") == "kthreadd\n":
        cases["2"] = "a thread of the kernel"
    for pid, words in cases.items():
        done = run_command("doctor", "--process", pid)
        assert (done.returncode, done.stdout) == (4, ""), pid
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    os.waitpid(dead, 0)


def test_a_process_that_may_not_be_traced(deny: Path) -> None:
    with waiting(["sleep", "60"], ready=False) as pid:
        done = run_command("doctor", "--process", str(pid), wrapper=[str(deny), PTRACE, str(errno.EPERM)])
        assert done.returncode == 3
        assert "allow ptrace(2)" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.ptrace
def test_a_32_bit_process(tmp_path: Path) -> None:
    program = tmp_path / "waits32"
    assembly = ".globl _start\n_start: movl $29, %eax\n int $0x80\n jmp _start\n"
    flags = ["-m32", "-nostdlib", "-static", "-x", "assembler", "-", "-o", str(program)]
    made = subprocess.run(["cc", *flags], input=assembly, text=True, capture_output=True, check=False)
    if made.returncode:
        pytest.skip("the compiler makes no 32-bit programs (Debian: gcc-multilib)")
    with waiting([str(program)], ready=False) as pid:
        assert comes(lambda: is_asleep(pid, "waits32"))
        done = run_command("doctor", "--process", str(pid))
        assert done.returncode == 4
        assert "32-bit" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--", "nosuchprogram"], 4, "no such program on the PATH"),
        (["--", "/nonexistent/program"], 4, "there is no such file"),
        (["--", "/etc/passwd"], 4, "not an ELF file"),
        (["--run"], 2, "needs a COMMAND"),
        (["--process", "1", "--", "true"], 2, "cannot be combined"),
        (["--process", "me"], 2, "not a valid integer"),
        (["--loads", "/nonexistent.so", "--", "/bin/true"], 4, "/nonexistent.so"),
        (["--json", "/nonexistent/out.json"], 2, "/nonexistent"),
        (["--run", "--time-limit", "nan", "--", "true"], 2, "'--time-limit': nan is not a number of seconds"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], code: int, words: str) -> None:
    done = run_command("doctor", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
