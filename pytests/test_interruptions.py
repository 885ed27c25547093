"""The phase of verify that interrupts: every instruction, every kind, and broken subjects caught by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compiling import BROKEN, compile_subject
from conftest import rounds
from moments import children, comes, is_gone
from rseq_matrix.build import Build
from rseq_matrix.elf.facts import SectionInstruction
from rseq_matrix.verify import driven, interruption_plan, one_interruption, trial_process
from rseq_matrix.verify.cases import is_explained
from rseq_matrix.verify.driven import HELPER, OPERATOR, UNREGISTERED_HELPER, UNREGISTERED_OPERATOR
from rseq_matrix.verify.effects import Effect
from rseq_matrix.verify.interruption_plan import choose
from rseq_matrix.verify.interruption_results import Interruptions
from rseq_matrix.verify.interruptions import interrupt
from rseq_matrix.verify.naming import stores
from rseq_matrix.verify.subject import BUILT_IN, opened
from rseq_matrix.verify.trials import InterruptionPoint, InterruptionTrial

pytestmark = pytest.mark.ptrace

ROUNDS = 20
"""How often what a busy machine may hide is looked for."""
KINDS = {"signal", "migration", "preemption", "membarrier"}
TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a migration takes two CPUs")
PTRACE, EPERM = "101", "1"
IN_THE_BACKGROUND = """
import sys
from pathlib import Path
from rseq_matrix.verify.interruptions import interrupt
from rseq_matrix.verify.subject import opened
with opened(Path(sys.argv[1])) as subject:
    while True:
        found = interrupt(subject, Path(sys.argv[2]), lambda done, total: print("going", flush=True))
"""


def nothing(done: int, total: int) -> None:
    assert done <= total


def run(path: Path, built: Build) -> Interruptions:
    with opened(path) as subject:
        return interrupt(subject, built.directory / "verify" / "interrupted", nothing)


def broken(name: str, built: Build, directory: Path) -> Interruptions:
    return run(compile_subject(BROKEN / f"{name}.c", directory), built)


def names(found: Interruptions) -> set[str]:
    return {defect.name for defect in found.defects}


@TWO_CPUS
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_subject_is_right_wherever_it_is_interrupted(name: str, built: Build) -> None:
    found = run(built.directory / "subjects" / f"{name}.so", built)
    assert (found.defects, found.problem, found.given_up, found.without) == ((), "", [], {})
    sections = {"split": 2, "list": 4, "atomic": 0}[name]
    totals = found.totals
    assert (totals.sections, totals.sections_entered, totals.not_reached) == (sections, sections, 0)
    assert totals.section_interruptions == totals.section_instructions * len(KINDS)
    assert all(set(result.tried) == KINDS for result in found.sections)
    assert totals.outside_interruptions > 0
    assert {around.not_reached for around in found.outside} == {0}


BY_NAME = {
    "early_commit": "early-commit",
    "not_retried": "not-retried",
    "doubled_after_abort": "doubled-after-abort",
    "not_reentrant": "not-reentrant",
}


@pytest.mark.parametrize("turn", rounds(2))
@pytest.mark.parametrize("name", BY_NAME)
def test_a_broken_subject_is_caught_by_name(name: str, turn: int, built: Build, tmp_path: Path) -> None:
    assert names(broken(name, built, tmp_path)) == {BY_NAME[name]}, turn


@pytest.mark.parametrize(
    ("operator", "effect", "names", "explained"),
    [
        (OPERATOR, Effect(1, {HELPER: 2}), {"doubled-after-abort"}, True),
        (OPERATOR, Effect(2), {"early-commit"}, True),
        (OPERATOR, Effect(0), {"not-retried"}, True),
        (OPERATOR, Effect(0), {"doubled-after-abort"}, False),
        (OPERATOR, Effect(2, {HELPER: 0}), {"doubled-after-abort"}, False),
        (OPERATOR, Effect(2), set(), False),
        (UNREGISTERED_OPERATOR, Effect(2), {"doubled-after-abort"}, False),
        (OPERATOR, Effect(1, {UNREGISTERED_HELPER: 0}), {"not-retried"}, False),
        (OPERATOR, Effect(1, {HELPER: 1}), {"not-retried"}, False),
    ],
)
def test_an_abort_from_elsewhere_is_explained_by_the_section_that_does_not_bear_it(
    operator: int, effect: Effect, names: set[str], explained: bool
) -> None:
    trial = InterruptionTrial(InterruptionPoint("add", operator, None, 0x1000), "preemption", True, effect)
    assert is_explained(trial, names) == explained


def test_the_store_that_comes_too_early_is_named(built: Build, tmp_path: Path) -> None:
    (defect,) = broken("early_commit", built, tmp_path).defects
    store, _, place = defect.sentence.partition("stores before the section's end")
    assert "`add qword ptr" in store
    assert "`nop" in place
    assert "took effect" in place


def test_a_pop_that_two_threads_share_is_caught(built: Build, tmp_path: Path) -> None:
    found = broken("pop_not_atomic", built, tmp_path)
    assert names(found) == {"not-atomic"}
    assert "pop" in found.defects[0].where


TAG = """
#include "subject.h"
static uint64_t counter[RSM_SUBJECT_COUNTERS];
static struct rsm_subject_node *head;
void rsm_subject_add(unsigned which, uint64_t n) { __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED); }
uint64_t rsm_subject_sum(unsigned which) { return counter[which]; }
void rsm_subject_push(struct rsm_subject_node *node)
{
    node->next = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&head, &node->next, node, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}
struct rsm_subject_node *rsm_subject_pop(void)
{
    struct rsm_subject_node *node = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
    while (node && !__atomic_compare_exchange_n(&head, &node, node->next, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    return node;
}
"""


def test_a_stack_without_a_tag_is_caught(built: Build, tmp_path: Path) -> None:
    """A node that is popped and pushed back in the middle of a pop (the ABA problem)."""
    (tmp_path / "no_tag.c").write_text(TAG)
    found = run(compile_subject(tmp_path / "no_tag.c", tmp_path), built)
    assert names(found) == {"not-atomic"}


CRASH = """
#include "subject.h"
static uint64_t counter[RSM_SUBJECT_COUNTERS];
static int inside;
void rsm_subject_add(unsigned which, uint64_t n)
{
    if (__atomic_exchange_n(&inside, 1, __ATOMIC_ACQUIRE))
        __builtin_trap();
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
    __atomic_store_n(&inside, 0, __ATOMIC_RELEASE);
}
uint64_t rsm_subject_sum(unsigned which) { return counter[which]; }
"""


def test_a_crash_is_said_with_its_signal_and_place(built: Build, tmp_path: Path) -> None:
    (tmp_path / "crash.c").write_text(CRASH)
    found = run(compile_subject(tmp_path / "crash.c", tmp_path), built)
    assert names(found) == {"crash"}
    assert "SIGILL at 0x" in found.defects[0].sentence


@pytest.mark.parametrize(
    ("code", "name"),
    [("(void)w; (void)n; __builtin_trap();", "crash"), ("(void)w; (void)n; for (;;) pause();", "hang")],
)
def test_a_subject_that_does_not_work_at_all(code: str, name: str, built: Build, tmp_path: Path) -> None:
    source = tmp_path / "useless.c"
    source.write_text(
        '#include <unistd.h>\n#include "subject.h"\n'
        f"void rsm_subject_add(unsigned w, uint64_t n) {{ {code} }}\n"
        "uint64_t rsm_subject_sum(unsigned w) { return w; }\n"
    )
    assert names(run(compile_subject(source, tmp_path), built)) == {name}


# --- that an interruption is believed only when it happened


@TWO_CPUS
def test_a_membarrier_that_does_nothing_is_not_counted(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_interruption, "MEMBARRIER_RSEQ", 0)  # MEMBARRIER_CMD_QUERY
    monkeypatch.setattr(trial_process, "REPEATS", 1)
    never: set[int] = set()
    for _ in range(ROUNDS):  # a section may be aborted by a timer tick just then: not at every instruction every time
        found = run(built.directory / "subjects" / "split.so", built)
        code = {instruction.address for result in found.sections for instruction in result.section.code}
        missed = {address for result in found.sections for address in result.not_reached.get("membarrier", ())}
        assert missed
        assert "could not be interrupted by an RSEQ membarrier" in found.problem
        assert found.defects == ()
        never |= missed
        if never == code:
            break
    assert never == code


@TWO_CPUS
def test_a_migration_that_does_not_happen_is_not_counted(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def pin(self: driven.DrivenProcess, role: int, cpu: int) -> None:
        if role in self.threads and not (role == driven.OPERATOR and cpu != self.cpus[0]):
            os.sched_setaffinity(self.threads[role].tid, {cpu})

    monkeypatch.setattr(driven.DrivenProcess, "pin", pin)
    monkeypatch.setattr(trial_process, "REPEATS", 1)
    found = run(built.directory / "subjects" / "split.so", built)
    assert all("migration" not in result.tried for result in found.sections)
    assert "could not be interrupted by a migration" in found.problem


def test_a_signal_that_is_not_delivered_is_not_counted(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def restart(self: driven.DrivenProcess, role: int, number: int = 0) -> None:
        del number
        self.threads[role].pending = 0
        self.threads[role].restart()

    monkeypatch.setattr(driven.DrivenProcess, "restart", restart)
    monkeypatch.setattr(trial_process, "REPEATS", 1)
    monkeypatch.setattr(interruption_plan, "OUTSIDE", ())
    found = run(built.directory / "subjects" / "split.so", built)
    assert all("signal" not in result.tried for result in found.sections)


def test_one_cpu_is_enough_for_some_kinds(built: Build, tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        found = broken("early_commit", built, tmp_path)
    finally:
        os.sched_setaffinity(0, allowed)
    assert names(found) == {"early-commit"}
    assert set(found.without) == {"migration", "membarrier", "membarrier-cpu", "other-cpu"}
    assert {"signal", "preemption"} == {kind for result in found.sections for kind in result.tried}


def test_the_drivers_own_cpus_are_what_they_were(built: Build) -> None:
    before = os.sched_getaffinity(0)
    run(built.directory / "subjects" / "atomic.so", built)
    assert os.sched_getaffinity(0) == before


# --- no process stays behind


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_when_the_driver_ends(number: signal.Signals, built: Build) -> None:
    command = [sys.executable, "-c", IN_THE_BACKGROUND, str(built.directory / "subjects" / "split.so")]
    program = str(built.directory / "verify" / "interrupted")
    with subprocess.Popen([*command, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout
        driver.stdout.readline()
        started = children(driver.pid)
        driver.send_signal(number)
        driver.stdout.read()
        driver.wait(120)
    assert started
    assert comes(lambda: all(map(is_gone, started)))


def test_tracing_denied(deny: Path, built: Build) -> None:
    code = IN_THE_BACKGROUND.replace("while True", "if True")
    command = [str(deny), PTRACE, EPERM, sys.executable, "-c", code]
    arguments = [str(built.directory / "subjects" / "split.so"), str(built.directory / "verify" / "interrupted")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.stderr.splitlines()[-1].startswith("rseq_matrix.errors.MissingError: this kernel or container lets no")


# --- what needs no process


def test_of_many_places_the_last_and_some_of_the_others_are_chosen() -> None:
    assert choose([1, 2, 3], 3) == [1, 2, 3]
    chosen = choose(list(range(1000)), 10)
    assert chosen == [0, 199, 398, 597, 796, 995, 996, 997, 998, 999]


@pytest.mark.parametrize(
    ("code", "writes"),
    [("4c0123", True), ("488b03", False), ("3b7304", False), ("48890e", True), ("90", False), ("7502", False)],
)
def test_stores(code: str, writes: bool) -> None:
    """Instructions of x86-64: add [rbx], r12; mov rax, [rbx]; cmp esi, [rbx + 4]; mov [rsi], rcx; nop; jne."""
    assert stores(SectionInstruction(0x1000, code, "")) is writes


def test_the_document_has_every_count(built: Build) -> None:
    found = run(built.directory / "subjects" / "list.so", built)
    document = found.document()
    assert len(document.sections) == document.totals.sections
    for section in document.sections:
        assert section.operations
        assert all(count == section.instructions for count in section.tried.values())
    around = [(entry.operation, entry.registered) for entry in document.outside]
    assert {("add", True), ("push", True), ("pop", True), ("add", False), ("push", False), ("pop", False)} == set(
        around
    )
    assert found.counts() == {
        "instructions": document.totals.section_instructions + document.totals.outside_instructions
    }
