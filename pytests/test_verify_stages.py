"""The phase of verify that takes a subject through the matrix: a defect at one stage turns only that stage red."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compiling import BROKEN, GOOD, compile_subject
from conftest import EVERYWHERE
from rseq_matrix.matrix.targets import Target, system_target
from rseq_matrix.model.stages import STAGES
from rseq_matrix.verify.at_stages import Stages, StagesRequest, work_at_stages
from rseq_matrix.verify.subject import BUILT_IN, opened

pytestmark = pytest.mark.ptrace

ALONE = {"thread.after_main_exit"}
PROTECTED = "registered"
STALE = {"process.vfork_child", "process.clone_vm_child", "process.clone_thread_zeroed"}


@pytest.fixture(scope="module")
def target() -> Target:
    return system_target()


def nothing(done: int, total: int) -> None:
    assert done <= total


def run(path: Path, target: Target, *globs: str, link: str = "dynamic-lazy") -> Stages:
    with opened(path) as subject:
        return work_at_stages(subject, target, StagesRequest(globs, links=(link,)), nothing)


@contextmanager
def built_in(name: str, target: Target) -> Iterator[Stages]:
    with opened(target.build.directory / "subjects" / f"{name}.so", name, BUILT_IN.index(name)) as subject:
        yield work_at_stages(subject, target, StagesRequest(), nothing)


@pytest.mark.libc_a
@pytest.mark.parametrize(
    "name", [BUILT_IN[0], *(pytest.param(name, marks=pytest.mark.repetition) for name in BUILT_IN[1:])]
)
def test_a_built_in_subject_passes_every_cell_of_every_link(name: str, target: Target) -> None:
    with built_in(name, target) as found:
        assert [(verdict.cell.id, verdict.reason) for verdict in found.verdicts if verdict.result != "PASS"] == []
        assert {verdict.cell.stage for verdict in found.verdicts} == set(EVERYWHERE)
        counts = found.counts()
    assert counts["operations"] == len(found.verdicts) * 2000
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    if name == "atomic":
        assert counts["fast"] == 0
        return
    for verdict in found.verdicts:
        assert verdict.trial
        fast = verdict.trial.fast
        assert (fast > 1000) if verdict.observed == PROTECTED else (fast == 0), (verdict.cell.id, verdict.trial)


def test_the_smallest_subject_is_judged(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(GOOD / "smallest.c", tmp_path), target)
    assert {verdict.result for verdict in found.verdicts} == {"PASS"}
    assert found.counts()["fast"] is None
    unrelocated = {v.cell.stage for v in found.verdicts if v.trial and v.trial.relocated is False}
    assert unrelocated == {"ifunc.interposed"}  # the only stage before the preloaded objects are relocated
    spaces = {v.cell.stage for v in found.verdicts if v.trial and v.trial.copies == 2}
    assert {"library.dlmopen_constructor", "audit.la_objclose"} <= spaces


def test_a_process_compares_the_sums_of_all_the_stages_it_has_been_through(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(GOOD / "smallest.c", tmp_path), target, "host/*/*/default/*")
    books = {verdict.cell.stage: verdict.trial.books for verdict in found.verdicts if verdict.trial}
    assert books["preload.fini"] >= 15
    threads = [count for stage, count in books.items() if stage.startswith("thread.") and stage not in ALONE]
    assert sorted(threads) == list(range(1, 9))  # each saw its own and those before it


@pytest.mark.parametrize(("flag", "name"), [("LOSES", "lost"), ("DOUBLES", "doubled"), ("CRASHES", "crash")])
def test_a_defect_at_one_stage_costs_no_other(flag: str, name: str, target: Target, tmp_path: Path) -> None:
    stage = STAGES["thread.key_destructor"].number
    subject = compile_subject(GOOD / "sabotaged.c", tmp_path, f"-D{flag}", f"-DSTAGE={stage}")
    found = run(subject, target)
    assert {(defect.name, defect.sentence.partition(":")[0]) for defect in found.defects} == {
        (name, "thread.key_destructor")
    }
    assert found.problem == ""


def test_an_add_that_does_not_return_is_a_hang(target: Target, tmp_path: Path) -> None:
    stage = STAGES["executable.atexit"].number
    subject = compile_subject(GOOD / "sabotaged.c", tmp_path, "-DHANGS", f"-DSTAGE={stage}")
    found = run(subject, target, "host/*/*/default/executable.*")
    assert {(defect.name, defect.sentence.partition(":")[0]) for defect in found.defects} == {
        ("hang", "executable.atexit")
    }


def test_a_subject_that_works_nowhere_is_not_tried_everywhere(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(GOOD / "sabotaged.c", tmp_path, "-DCRASHES"), target)
    assert [defect.name for defect in found.defects] == ["crash"]
    assert "it fails at executable.main already" in found.skipped


def test_what_an_earlier_stage_added_has_to_stay(target: Target, tmp_path: Path) -> None:
    flags = (f"-DSTAGE={STAGES['executable.atexit'].number}", f"-DFORGETS={STAGES['preload.constructor'].number}")
    found = run(compile_subject(GOOD / "sabotaged.c", tmp_path, *flags), target, "host/*/*/default/*")
    first = found.defects[0]
    assert first.name == "lost"
    assert "preload.constructor, checked here" in first.sentence


def test_trusting_cpu_id_is_a_defect_by_that_fact_alone(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(BROKEN / "trusts_cpu_id.c", tmp_path), target, "host/*/*/default/process.*")
    assert {defect.name for defect in found.defects} == {"unprotected-fast-path"}
    assert {verdict.cell.stage for verdict in found.verdicts if verdict.result == "FAIL"} == STALE
    assert all("in a critical section where the area looks registered and is not" in d.sentence for d in found.defects)
    assert found.counts()["lost"] == 0  # nobody had to see a race


def test_tls_before_relocation_is_named(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(BROKEN / "tls_in_resolver.c", tmp_path), target, "ifunc.*")
    assert {defect.name for defect in found.defects} == {"needs-tls"}
    assert any("__tls_get_addr" in defect.sentence for defect in found.defects)


def test_tls_before_relocation_is_found_where_it_does_not_crash(target: Target, tmp_path: Path) -> None:
    """With initial-exec TLS and a GOT of zeros, it is the thread control block that is written."""
    subject = compile_subject(BROKEN / "tls_in_resolver.c", tmp_path, "-ftls-model=initial-exec")
    found = run(subject, target)
    assert {(defect.name, defect.sentence.partition(":")[0]) for defect in found.defects} == {
        ("needs-tls", "ifunc.interposed")
    }


def test_a_subject_that_cannot_be_loaded_somewhere_is_reported_there(target: Target, tmp_path: Path) -> None:
    found = run(compile_subject(GOOD / "large_tls.c", tmp_path), target, "host/*/*/default/library.*")
    assert {(defect.name, defect.sentence.partition(":")[0]) for defect in found.defects} == {
        ("not-loaded", "library.dlmopen_constructor")
    }
    assert "static TLS block" in found.defects[0].sentence
