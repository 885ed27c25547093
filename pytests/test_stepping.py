"""Progress where every try of a critical section is aborted: under a tracer that single-steps, and in gdb."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compiling import BROKEN, compile_subject
from conftest import rounds
from rseq_matrix.build import Build
from rseq_matrix.ptrace.tracee import Stop
from rseq_matrix.verify import debugger, driven
from rseq_matrix.verify.debugger import Debugging, read_output, step_in_gdb
from rseq_matrix.verify.stepping import Stepping, step
from rseq_matrix.verify.subject import BUILT_IN, Subject, opened
from rseq_matrix.verify.walking import STEP_LIMIT, find_aborts

pytestmark = pytest.mark.ptrace

BUILT_IN_LIMIT = 2000
"""Steps of an operation of a built-in subject, which gives up after 16 aborts."""
TRIES = 16
OPERATIONS = {"split": 1, "atomic": 1, "list": 3}
GDB = pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian, Fedora and Alpine: gdb)")


def steps_of(path: Path, built: Build) -> Stepping:
    with opened(path) as subject:
        return step(subject, built.directory / "verify" / "interrupted")


def debugged(path: Path, built: Build) -> Debugging:
    with opened(path) as subject:
        return step_in_gdb(subject, built.directory / "verify" / "interrupted")


def broken(name: str, directory: Path) -> Path:
    return compile_subject(BROKEN / f"{name}.c", directory)


def named(found: Stepping | Debugging) -> list[str]:
    return [defect.name for defect in found.defects]


# --- the tracer


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_operation_of_a_built_in_subject_ends(name: str, built: Build) -> None:
    found = steps_of(built.directory / "subjects" / f"{name}.so", built)
    assert (found.defects, found.problem) == ((), "")
    assert len(found.operations) == 2 * OPERATIONS[name]
    for stepped in found.operations:
        assert stepped.ended
        assert stepped.steps < BUILT_IN_LIMIT
        fast = stepped.registered and name != "atomic"
        assert (stepped.aborts >= TRIES) if fast else (stepped.aborts == 0)


@pytest.mark.parametrize("turn", rounds(2))
def test_a_livelock_is_named_with_its_section_and_instruction(turn: int, built: Build, tmp_path: Path) -> None:
    found = steps_of(broken("retries_for_ever", tmp_path), built)
    assert named(found) == ["livelock"], turn
    (defect,) = found.defects
    assert "the critical section at +0x" in defect.where
    assert "instruction +0x" in defect.where
    assert f"within {STEP_LIMIT} single steps" in defect.sentence
    first = found.operations[0]
    assert not first.ended
    assert first.aborts > 100
    assert f"was aborted {first.aborts} times" in defect.sentence
    assert found.operations[1].ended  # without a registration there is nothing that aborts


@pytest.mark.parametrize(
    ("name", "defect"), [("not_retried", "not-retried"), ("doubled_after_abort", "doubled-after-abort")]
)
def test_an_effect_that_is_wrong_after_aborts(name: str, defect: str, built: Build, tmp_path: Path) -> None:
    assert named(steps_of(broken(name, tmp_path), built)) == [defect]


LOOP = """
#include "subject.h"
static uint64_t counter[RSM_SUBJECT_COUNTERS];
void rsm_subject_add(unsigned which, uint64_t n)
{
    for (volatile unsigned i = 0; i < (n ? 1000000 : 0); i++)
        ;
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
}
uint64_t rsm_subject_sum(unsigned which) { return counter[which]; }
"""


def test_too_many_steps_without_an_abort_are_no_livelock(built: Build, tmp_path: Path) -> None:
    (tmp_path / "loop.c").write_text(LOOP)
    found = steps_of(compile_subject(tmp_path / "loop.c", tmp_path), built)
    assert named(found) == ["hang"]
    assert "no critical section was aborted" in found.defects[0].sentence


def test_a_busy_machine_is_no_defect(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object) -> Stop:
        raise driven.StarvedError

    with opened(built.directory / "subjects" / "split.so") as subject:
        monkeypatch.setattr(driven.DrivenProcess, "await_stop_of", starve)
        found = step(subject, built.directory / "verify" / "interrupted")
    assert found.defects == ()
    assert found.problem.startswith("this machine is too busy")


def test_an_abort_is_told_from_a_branch(built: Build) -> None:
    with opened(built.directory / "subjects" / "split.so") as subject:
        section = next(section for section in subject.sections if any(i.target for i in section.code))
        addresses = [instruction.address for instruction in section.code]
        branch = next(i for i in section.code if i.target)
        assert branch.target
        through = [*addresses, section.start + section.length]
        left = [*addresses[: addresses.index(branch.address) + 1], branch.target]
        assert find_aborts(subject.sections, through) == {}
        assert find_aborts(subject.sections, left) == {}
        aborted = find_aborts(subject.sections, [addresses[0], section.abort, addresses[0], section.abort])
        assert aborted == {(section, addresses[0]): 2}


# --- gdb


@GDB
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_operation_of_a_built_in_subject_ends_in_gdb(name: str, built: Build) -> None:
    found = debugged(built.directory / "subjects" / f"{name}.so", built)
    assert (found.defects, found.problem, found.unsupported) == ((), "", "")
    assert len(found.operations) == OPERATIONS[name]
    assert found.version.startswith("GNU gdb")
    for one in found.operations:
        assert one.ended
        assert 0 < one.steps < BUILT_IN_LIMIT
        assert (one.aborts >= TRIES) if name != "atomic" else (one.aborts == 0)
        assert one.lines is None or 0 < one.lines <= one.steps


@GDB
def test_the_tracer_and_gdb_count_the_same(built: Build, tmp_path: Path) -> None:
    path = broken("early_commit", tmp_path)
    traced = steps_of(path, built).operations[0]
    (in_gdb,) = debugged(path, built).operations
    assert (in_gdb.steps, in_gdb.aborts) == (traced.steps, traced.aborts)


@GDB
@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("retries_for_ever", "livelock"),
        ("not_retried", "not-retried"),
        ("doubled_after_abort", "doubled-after-abort"),
    ],
)
def test_gdb_finds_what_is_broken(name: str, defect: str, built: Build, tmp_path: Path) -> None:
    found = debugged(broken(name, tmp_path), built)
    assert named(found) == [defect]
    assert found.defects[0].phase == "gdb"


def test_without_gdb(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = debugged(built.directory / "subjects" / "split.so", built)
    assert "apt install gdb" in found.unsupported
    assert found.defects == ()


def program_that(says: str, directory: Path) -> Path:
    path = directory / "gdb"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "unsupported", "problem"),
    [
        ("warning: Could not trace the inferior process.\nwarning: ptrace: Operation not permitted", "Could not", ""),
        ("Function rsm_operation_begins not defined.", "", "Function rsm_operation_begins not defined."),
        ("", "", "it said nothing"),
    ],
)
def test_a_gdb_that_cannot_debug(
    says: str, unsupported: str, problem: str, built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gdb = program_that(says, tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: str(gdb))
    found = debugged(built.directory / "subjects" / "split.so", built)
    assert found.defects == ()
    assert unsupported in found.unsupported
    assert problem in found.problem
    assert bool(found.unsupported) != bool(found.problem)


def test_time_that_is_up_is_no_livelock(built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gdb = tmp_path / "gdb"
    gdb.write_text("#!/bin/sh\necho rsm add 1000\necho rsm step 1000\nsleep 60\n")
    gdb.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(gdb))
    monkeypatch.setattr(debugger, "TIME_LIMIT", 3.0)
    monkeypatch.setattr(debugger, "_version", lambda _: "GNU gdb 0")
    found = debugged(built.directory / "subjects" / "split.so", built)
    assert found.defects == ()
    assert "that gdb made in 3 seconds" in found.problem


def test_what_gdb_says_is_read() -> None:
    said = read_output(
        "rsm add 7ffff7c018f0\n0x00007ffff7c018f0 in rsm_subject_add () from x.so\nrsm step 7ffff7c018f0\n"
        "rsm step 7ffff7c018f4\nrsm ended\n[Inferior 1 (process 4575) exited with code 04]\nrsm lines 12\n"
    )
    assert (said.add, said.ended, said.effect, said.lines) == (0x7FFFF7C018F0, True, 4, 12)
    assert said.steps == [0x7FFFF7C018F0, 0x7FFFF7C018F4]
    assert read_output("rsm add 1\nProgram received signal SIGSEGV, Segmentation fault.\n").died == "SIGSEGV"


def test_a_subject_is_debugged_by_its_environment(built: Build) -> None:
    with opened(built.directory / "subjects" / "atomic.so") as subject:
        assert isinstance(subject, Subject)
        assert f"set environment LD_PRELOAD {subject.path}" in debugger._environment(subject)
