"""Stress and history: good subjects pass, broken ones are caught by name, and the tester is known to see a loss."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiling import BROKEN, compile_subject
from conftest import rounds
from moments import comes
from rseq_matrix.build import Build
from rseq_matrix.verify.history import History, history
from rseq_matrix.verify.stress import Stress, stress
from rseq_matrix.verify.stress_modes import DEFAULT, HALF_NEEDS, MODES, TUNABLE_OFF, Mode
from rseq_matrix.verify.subject import BUILT_IN, Subject, opened

REPEAT = rounds(3)
TRIES = 10
"""For what is seen by chance, and not promised to be seen every time."""
SHORT = 0.3
"""Seconds a mode."""
FLAGS = ("-ffreestanding", "-fvisibility=hidden", "-ldl")

Compiled = Callable[[str], Path]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Return a function that compiles a broken subject, by name, or C code."""
    room = tmp_path_factory.mktemp("subjects")

    @functools.cache
    def go(source: str) -> Path:
        path = BROKEN / f"{source}.c"
        if "\n" in source:
            path = room / f"written{len(list(room.iterdir()))}.c"
            path.write_text(HEAD + source)
        return compile_subject(path, room, *FLAGS)

    return go


HEAD = """
#include "subject.h"
#define EXPORT __attribute__((visibility("default")))
"""
ATOMIC_SUM = "EXPORT uint64_t rsm_subject_sum(unsigned c) { return __atomic_load_n(&counter[c], __ATOMIC_RELAXED); }\n"


def _adding(body: str) -> str:
    """Return a subject with one atomic counter for each, whose add does what is said."""
    data = "static uint64_t counter[RSM_SUBJECT_COUNTERS];\nstatic uint64_t calls;\n"
    return f"{data}{ATOMIC_SUM}EXPORT void rsm_subject_add(unsigned c, uint64_t n)\n{{\n    {body}\n}}\n"


LOSES_ONE_IN_TEN_THOUSAND = _adding(
    "if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 10000) __atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED);"
)
DOUBLES_ONE_IN_TEN_THOUSAND = _adding(
    "n += __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 10000 == 0;"
    "\n    __atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED);"
)
CRASHES = _adding(
    "if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == 100000) __builtin_trap();"
    "\n    __atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED);"
)
HANGS = _adding(
    'if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == 100000) for (;;) __asm__ volatile("pause");'
    "\n    __atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED);"
)
ELSEWHERE = """
#include <sys/mman.h>
#include <unistd.h>
static uint64_t *counter;
__attribute__((constructor)) static void map(void)
{
    counter = mmap(0, 4096, PROT_READ | PROT_WRITE, KIND | MAP_ANONYMOUS, -1, 0);
}
EXPORT uint64_t rsm_subject_sum(unsigned c) { return counter[c]; }
EXPORT void rsm_subject_add(unsigned c, uint64_t n)
{
    uint64_t *first = &counter[300], *calls = &counter[301];
    if (!*first)
        *first = (uint64_t)getpid();
    if (!LOSES || *first == (uint64_t)getpid() || ++*calls % 100)
        __atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED);
}
"""
"""The first process that adds does it right; if LOSES, its children lose one in a hundred."""
SAYS_FAST = "EXPORT int rsm_subject_path(void) { return RSM_SUBJECT_FAST; }\n" + _adding(
    "__atomic_fetch_add(&counter[c], n, __ATOMIC_RELAXED); (void)calls;"
)
IN_A_SECTION_OF_NO_USE = """
#include "arch.h"
#include "record.h"
static uint64_t counter[RSM_CPU_MAX][RSM_SUBJECT_COUNTERS];
EXPORT void rsm_subject_add(unsigned c, uint64_t n)
{
    uint32_t cpu = 0;
    rsm_syscall(RSM_SYS_GETCPU, (long)&cpu, 0, 0, 0, 0, 0);
    struct rsm_rseq_area nobodys = {cpu, cpu, 0, 0, 0};
    rsm_section_add(&nobodys, cpu, &counter[cpu][c], n);
}
EXPORT uint64_t rsm_subject_sum(unsigned c)
{
    uint64_t sum = 0;
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += counter[cpu][c];
    return sum;
}
"""


def _elsewhere(kind: str, loses: bool) -> str:
    return ELSEWHERE.replace("KIND", kind).replace("LOSES", str(int(loses)))


@contextmanager
def _subject(path: Path) -> Iterator[Subject]:
    with opened(path) as subject:
        yield subject


def _stress(built: Build, path: Path, seconds: float = SHORT) -> Stress:
    with _subject(path) as subject:
        modes = len(MODES) if HALF_NEEDS in subject.exports else len(MODES) - 1
        return stress(subject, built.directory / "verify" / "stress", modes * seconds, lambda _: None)


def _history(built: Build, path: Path, seconds: float = SHORT) -> History:
    with _subject(path) as subject:
        return history(subject, built.directory / "verify" / "history", seconds)


def _names(result: Stress | History) -> set[str]:
    return {defect.name for defect in result.defects}


def _built_in(built: Build, name: str) -> Path:
    return built.directory / "subjects" / f"{name}.so"


# --- good subjects


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_subjects_lose_nothing(built: Build, name: str) -> None:
    found = _stress(built, _built_in(built, name), 1.0)
    assert not found.defects
    assert not found.problem
    counts = found.counts()
    assert counts["operations"]
    assert (counts["lost"], counts["doubled"]) == (0, 0)
    if name != "atomic":
        assert counts["fast"]
        assert counts["fallback"]


def test_history_of_the_built_in_list_is_that_of_stacks(built: Build) -> None:
    found = _history(built, _built_in(built, "list"), 1.0)
    assert not found.defects
    assert not found.problem
    document = found.document()
    assert document.overlapping
    assert document.rounds
    assert document.histories > document.rounds
    assert "linearizability" in document.checked


def test_a_subject_without_stacks_has_no_history(built: Build) -> None:
    found = _history(built, _built_in(built, "split"))
    assert "no stacks" in found.unsupported
    assert not found.defects
    assert not found.problem


# --- broken subjects, by name


@pytest.mark.parametrize("_time", REPEAT)
@pytest.mark.parametrize("name", ["not_atomic", "fallback_not_atomic"])
def test_lost_adds_are_seen_and_named(built: Build, compiled: Compiled, name: str, _time: int) -> None:
    assert _names(_stress(built, compiled(name))) == {name.replace("_", "-")}


@pytest.mark.parametrize("_time", REPEAT)
def test_trust_in_a_vfork_child_loses(built: Build, compiled: Compiled, _time: int) -> None:
    found = _stress(built, compiled("trusts_vfork"), 1.0)
    assert _names(found) == {"lost"}
    assert [mode.name for mode in found.modes if mode.adds_lost] == [DEFAULT]


@pytest.mark.parametrize("_time", REPEAT)
def test_pop_that_is_not_atomic(built: Build, compiled: Compiled, _time: int) -> None:
    assert "doubled" in _names(_stress(built, compiled("pop_not_atomic")))
    assert _names(_history(built, compiled("pop_not_atomic"))) & {"lost", "doubled"}


@pytest.mark.parametrize("_time", REPEAT)
def test_stack_that_is_not_last_in_first_out(built: Build, compiled: Compiled, _time: int) -> None:
    found = _history(built, compiled("stack_not_lifo"))
    assert _names(found) == {"not-linearizable"}
    assert "the shared stack" in found.defects[0].sentence
    assert not _stress(built, compiled("stack_not_lifo")).defects  # which counts, and cannot see the order


TWO_IN_TURNS = (BROKEN / "stack_not_lifo.c").read_text()
ONE_STACK = TWO_IN_TURNS.replace("% 2]", "% 1]")
"""A good one: the same code without its defect."""
WITHOUT_A_TAG = ONE_STACK.replace("(old >> TAG_SHIFT) + 1", "(old >> TAG_SHIFT) + 0")
UNTOLD_STACK = ONE_STACK.replace("rsm_subject_stack", "stack")
CRASHING_POP = ONE_STACK.replace(
    "= pop_from(&head[0]);", "= pop_from(&head[0]);\n    if (turn > 500) __builtin_trap();"
)


def test_a_pop_that_mistakes_an_old_head_for_a_new_one(built: Build, compiled: Compiled) -> None:
    """The ABA problem: it needs a pop that is interrupted while others pop and push the same node."""
    tries = (_names(_stress(built, compiled(WITHOUT_A_TAG), 0.6)) for _ in range(TRIES))
    assert any(names & {"lost", "doubled"} for names in tries)


def test_history_of_a_good_stack(built: Build, compiled: Compiled) -> None:
    found = _history(built, compiled(ONE_STACK))
    assert not found.defects
    assert not found.problem


def test_history_of_a_subject_that_does_not_tell_its_stacks(built: Build, compiled: Compiled) -> None:
    found = _history(built, compiled(UNTOLD_STACK))
    assert not found.defects
    assert not found.problem
    assert "conservation of nodes alone" in found.document().checked


def test_crash_in_a_round(built: Build, compiled: Compiled) -> None:
    found = _history(built, compiled(CRASHING_POP))
    assert _names(found) == {"crash"}
    assert "SIGILL in round" in found.defects[0].sentence


# --- the harness can see


@pytest.mark.parametrize(
    ("source", "name", "count"),
    [(LOSES_ONE_IN_TEN_THOUSAND, "not-atomic", "lost"), (DOUBLES_ONE_IN_TEN_THOUSAND, "doubled", "doubled")],
    ids=["loses", "doubles"],
)
def test_one_in_ten_thousand_is_seen_exactly(
    built: Build, compiled: Compiled, source: str, name: str, count: str
) -> None:
    found = _stress(built, compiled(source))
    assert _names(found) == {name}
    for mode in found.modes:
        if not mode.unsupported:
            wrong = mode.adds_lost if count == "lost" else mode.adds_doubled
            calls = mode.count("adds") + mode.count("own_attempted")
            assert wrong == calls // 10000


def test_crash_is_told_with_its_signal_and_its_thread(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled(CRASHES))
    assert _names(found) == {"crash"}
    sentence = found.defects[0].sentence
    assert "SIGILL" in sentence
    assert " at its instruction 0x" in sentence
    assert "the process" not in sentence


def test_hang_is_told_and_ended(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled(HANGS))
    assert _names(found) == {"hang"}
    assert "still at work" in found.defects[0].sentence
    assert found.modes[1].unsupported  # it would hang there, too
    assert not _left_over(compiled(HANGS))


def test_a_lock_is_a_hang(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled("not_reentrant"))
    assert _names(found) == {"hang"}
    assert "in a signal handler" in found.defects[0].sentence


# --- fork children


def test_fork_children_share_what_lies_in_data_and_bss(built: Build) -> None:
    for mode in _stress(built, _built_in(built, "split")).modes:
        assert mode.report is None or mode.report.fork_data == "shared"


@pytest.mark.parametrize("loses", [False, True])
def test_fork_children_of_a_subject_with_data_elsewhere_are_judged_alone(
    built: Build, compiled: Compiled, loses: bool
) -> None:
    found = _stress(built, compiled(_elsewhere("MAP_PRIVATE", loses)))
    report = found.modes[0].report
    assert report
    assert report.fork_data == "own"
    assert "did not show" in report.fork_data_reason
    assert report.own_attempted
    assert bool(report.own_lost) == loses
    assert _names(found) == ({"not-atomic"} if loses else set())


def test_a_subject_that_shares_its_data_itself(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled(_elsewhere("MAP_SHARED", loses=False)))
    assert not found.defects
    assert found.modes[0].report
    assert found.modes[0].report.fork_data == "shared"


# --- facts that need no race


def test_fast_path_without_an_area_by_the_subjects_own_words(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled(SAYS_FAST))
    assert _names(found) == {"unprotected-fast-path"}
    assert "vfork child" in found.defects[0].sentence


def test_commit_in_a_section_of_a_thread_without_an_area(built: Build, compiled: Compiled) -> None:
    found = _stress(built, compiled(IN_A_SECTION_OF_NO_USE))
    assert "unprotected-fast-path" in _names(found)
    assert "fallback-not-atomic" not in _names(found)
    sentences = [defect.sentence for defect in found.defects if defect.name == "unprotected-fast-path"]
    assert "in the section at 0x" in sentences[0]


# --- what the harness promises


def test_every_mode_is_run_or_says_why_not(built: Build) -> None:
    modes = {mode.name: mode for mode in _stress(built, _built_in(built, "atomic")).modes}
    assert tuple(modes) == MODES
    assert modes[DEFAULT].report
    assert modes[TUNABLE_OFF].report
    assert modes[TUNABLE_OFF].count("registered") == 0
    assert HALF_NEEDS in modes[MODES[2]].unsupported


def test_half_of_the_threads_are_registered_by_the_subject(built: Build) -> None:
    mode = _stress(built, _built_in(built, "split")).modes[2]
    assert mode.report is not None
    workers = [writer for writer in mode.report.writers if writer.kind == "registered thread"]
    assert {writer.registered for writer in workers} == {0, 1}
    assert mode.count("enrolled")


def test_what_was_not_done_is_said(built: Build) -> None:
    report = _stress(built, _built_in(built, "atomic")).modes[0].report
    assert report
    assert not Mode(DEFAULT, report).incomplete
    for name, said in (("signals", "signal"), ("vfork_children", "vfork"), ("migrations", "CPU")):
        none: dict[str, Any] = {name: 0}
        assert said in Mode(DEFAULT, replace(report, **none)).incomplete
    refused = Mode(MODES[2], replace(report, enrolled=0, enroll_error=1)).incomplete
    assert "EPERM" in refused


def test_one_cpu_alone_is_said(built: Build) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        found = _stress(built, _built_in(built, "atomic"))
    finally:
        os.sched_setaffinity(0, allowed)
    assert not found.defects
    assert "only one CPU" in found.problem


INTERRUPTED = """
import sys
from pathlib import Path
from rseq_matrix.verify.stress import stress
from rseq_matrix.verify.subject import opened
with opened(Path(sys.argv[1])) as subject:
    stress(subject, Path(sys.argv[2]), 60, lambda part: print(part, flush=True))
"""


def _left_over(path: Path) -> list[str]:
    """Return the processes that have the subject preloaded."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(path) in environ.read_bytes():
                found.append(environ.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_when_the_driver_is_interrupted(built: Build, compiled: Compiled, number: int) -> None:
    path = compiled("not_atomic")
    command = [sys.executable, "-c", INTERRUPTED, str(path), str(built.directory / "verify" / "stress")]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert driver.stdout
    while float(driver.stdout.readline()) < 0.01:
        pass
    assert _left_over(path)
    driver.send_signal(number)
    driver.stdout.close()
    driver.wait(120)
    assert comes(lambda: not _left_over(path))


INTERRUPTED_WAIT = """
import subprocess
from rseq_matrix.verify import supervised
class Popen(subprocess.Popen):
    def wait(self, timeout=None):
        if timeout is not None:  # as a Ctrl-C behind the first instruction of its loop leaves it
            self._waitpid_lock.acquire()
            raise KeyboardInterrupt
        return super().wait()
supervised.subprocess.Popen = Popen
try:
    supervised.run(["sleep", "300"], {"PATH": "/usr/bin:/bin"}, 60, lambda seconds: None)
except KeyboardInterrupt:
    print("ended")
"""


def test_an_interrupt_that_leaves_the_lock_of_a_process_held_hangs_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WAIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "ended\n", done.stderr
