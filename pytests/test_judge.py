"""The judgement, on records made by hand: each kind of defect gives its own verdict."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from rseq_matrix.matrix.cells import Cell
from rseq_matrix.matrix.judgement import Identity, Judged, judge, out_of_order
from rseq_matrix.matrix.log import Oracle, Record, Tally
from rseq_matrix.matrix.tracer import Run
from rseq_matrix.model.timeline import Expectation

STAGE = "executable.main"
CELL = Cell("glibc-2.36", "dynamic-now", "default", STAGE, "life")
LIBC = Identity("2.36", "ab" * 20)
EXPECTED = Expectation(
    "registered", "glibc", "main", "it was registered", "rseq(2)", 5, None, None, "behind", "main", "fast"
)
RECORD = Record(
    stage=STAGE, complete=True, sequence=1, pid=10, tid=10, relocated=True, section=None, thread_pointer=0x1000,
    rseq_size=20, rseq_offset=64, rseq_flags=0, area_address=0x1040, cpu_id=1, cpu_id_start=1, getcpu=1, sched_getcpu=1,
    query_size=32, query_errno=1, kernel_registered=True, oracle=Oracle(0x1040, 32, 0x53053053), oracle_errno=0,
    path="fast", attempted=8, aborts=0, build_id="ab" * 20, libc_version="2.36", reached="main",
)  # fmt: skip
UNREGISTERED = replace(RECORD, kernel_registered=False, query_size=0, query_errno=22, oracle=Oracle(0, 0, 0))


def a_run(record: Record | None = RECORD, **changes: Any) -> Run:
    run = Run(
        stages=(STAGE, "executable.atexit"), outcome="ended", wait_status=0, error=0, traced=True, trace_error=0,
        strays=0, pid=10, seconds=0.1, output="", complaints="",
        records={STAGE: record} if record else {}, tallies={STAGE: Tally(1, 8, 8)},
    )  # fmt: skip
    return replace(run, **changes)


def verdict(run: Run | None, expected: Expectation = EXPECTED, obstacle: str = "") -> Judged:
    return judge(CELL, expected, run, {STAGE: 5}, LIBC, obstacle)


def test_what_is_as_expected_passes() -> None:
    judged = verdict(a_run())
    assert (judged.result, judged.reason, judged.name, judged.owner) == ("PASS", "", "registered", "glibc")


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (a_run(None), "no record"),
        (a_run(replace(RECORD, complete=False)), "not complete"),
        (a_run(None, wait_status=int(signal.SIGSEGV)), "SIGSEGV"),
        (a_run(None, outcome="time limit"), "still running"),
        (a_run(None, complaints="ERROR: ld.so: object './x.so' cannot be preloaded: ignored."), "ignored"),
        (a_run(stages=(STAGE,), output="hello"), "printed"),
        (a_run(stages=(STAGE,), strays=1), "stray"),
        (a_run(tallies={STAGE: Tally(2, 8, 8)}), "fired 2 times"),
        (a_run(replace(RECORD, oracle=Oracle(0, 0, 0))), "oracle"),
        (a_run(replace(RECORD, oracle=None)), "the tracer did not see"),
        (a_run(wait_status=int(signal.SIGKILL)), "killed by SIGKILL (last stage reached: executable.main)"),
        (a_run(replace(RECORD, oracle=Oracle(0x2000, 32, 0))), "oracle"),
        (a_run(replace(RECORD, libc_version="2.41")), "another libc"),
        (a_run(replace(RECORD, build_id="cd" * 20)), "build id"),
        (a_run(replace(RECORD, reached="start")), "phase: the main program had reached start, want main"),
        (a_run(replace(RECORD, oracle=Oracle(0x1040, 32, 0))), "signature"),
        (a_run(replace(RECORD, oracle=None, oracle_errno=3)), "ESRCH"),
        (a_run(replace(RECORD, tid=11)), "task"),
        (a_run(replace(RECORD, pid=12, tid=12)), "task"),
        (a_run(replace(RECORD, kernel_registered=None, oracle=None)), "tells nothing"),
    ],
)
def test_what_was_not_observed_is_an_error(run: Run, word: str) -> None:
    judged = verdict(run)
    assert judged.result == "ERROR"
    assert word in judged.reason


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (a_run(UNREGISTERED), "class: got stale, want registered (because it was registered, see rseq(2))"),
        (a_run(replace(UNREGISTERED, cpu_id=-1)), "class: got unregistered"),
        (a_run(replace(RECORD, cpu_id=-2)), "class: got hidden"),
        (a_run(replace(RECORD, thread_pointer=0)), "class: got blind"),
        (a_run(replace(RECORD, cpu_id=0)), "class: got dead"),
        (a_run(replace(RECORD, path="fallback")), "subject path: got fallback, want fast"),
        (a_run(tallies={STAGE: Tally(1, 8, 7)}), "lost adds"),
        (a_run(tallies={STAGE: Tally(1, 8, 9)}), "doubled adds"),
        (a_run(tallies={STAGE: Tally(1, 8, 8), "executable.atexit": Tally(1, 8, 7)}), "the sum at executable.atexit"),
    ],
)
def test_what_differs_is_a_failure(run: Run, word: str) -> None:
    judged = verdict(run)
    assert judged.result == "FAIL"
    assert word in judged.reason


def test_an_obstacle_is_an_error_with_its_reason() -> None:
    judged = verdict(None, obstacle="life could not be built: cc -o life")
    assert (judged.result, judged.reason) == ("ERROR", "life could not be built: cc -o life")


def test_fast_path_in_a_stale_cell_fails() -> None:
    stale = replace(EXPECTED, name="stale", owner="none", path="fallback")
    judged = verdict(a_run(UNREGISTERED), stale)
    assert judged.result == "FAIL"
    assert "subject path: got fast, want fallback" in judged.reason


def test_the_tracer_stands_in_where_the_query_tells_nothing() -> None:
    judged = verdict(a_run(replace(RECORD, kernel_registered=None, query_size=0, query_errno=1)))
    assert judged.result == "PASS"


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [("abcd", ""), ("abdc", "d"), ("dabc", "d"), ("bcda", "a"), ("aabb", ""), ("ba", "b")],
)
def test_out_of_order_names_the_fewest(seen: str, wrong: str) -> None:
    records = {f"{letter}{index}": RECORD for index, letter in enumerate(seen)}
    order = {name: ord(name[0]) for name in records}
    found = out_of_order(records, order)
    assert len(found) == len(wrong)
    if len(seen) > 2:
        assert {name[0] for name in found} == set(wrong)
