"""The tester is tested: each planted defect turns exactly the right cells red, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import EVERYWHERE, Document, Sabotage, not_passed
from rseq_matrix.model import lives, timeline
from rseq_matrix.model.stages import STAGES
from rseq_matrix.model.timeline import RULES

LINK = ("host/*/dynamic-lazy/default/*",)
VICTIM = "executable.constructor"  # the stages before and behind it in its process must stay green
HANG = 3.0
"""Seconds after which a stage counts as hanging: all the others of its process have had their time by then."""
FOLLOWING = list(STAGES)[STAGES[VICTIM].number + 1]


def errors(*stages: str) -> dict[str, str]:
    return {f"dynamic-lazy/{stage}": "ERROR" for stage in stages}


def life(result: str) -> dict[str, str]:
    stages = lives.LIVES["life"](timeline.World("dynamic-lazy", timeline.DEFAULT, True, "present", False))
    world = timeline.World("dynamic-lazy", timeline.DEFAULT, True, "present", False)
    return {f"dynamic-lazy/{stage}": result for stage in timeline.expectations(stages, world)}


def reason(document: Document, stage: str) -> str:
    return str(next(cell["reason"] for cell in document["cells"] if cell["stage"] == stage))


def test_without_a_defect_the_build_for_defects_is_green(sabotaged: Sabotage) -> None:
    assert not_passed(sabotaged((), {})) == {}


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("silent", ["no record", "the process ended normally"]),
        ("short", ["the record is not complete"]),
        ("crash", ["the record is not complete", "killed by SIGSEGV", f"last stage reached: {VICTIM}"]),
        ("early-exit", ["the record is not complete", f"last stage reached: {VICTIM}"]),
        ("garbage", ["printed", "garbage"]),
        ("stray-child", ["left 1 stray process behind"]),
        ("killed", ["killed by SIGKILL", f"last stage reached: {VICTIM}"]),
        pytest.param("no-stop", ["the tracer did not see the record"], marks=pytest.mark.ptrace),
        ("twice", ["the stage fired 2 times, want once"]),
        pytest.param(
            "oracle", ["oracle: the process says registered=False, the tracer True"], marks=pytest.mark.ptrace
        ),
    ],
)
def test_a_defect_costs_its_own_cell(defect: str, words: list[str], sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: defect})
    assert not_passed(document) == errors(VICTIM)
    for word in words:
        assert word in reason(document, VICTIM)


def test_a_record_survives_the_process_being_killed_in_the_next_instruction(sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: "killed"})
    (cell,) = (cell for cell in document["cells"] if cell["stage"] == VICTIM)
    assert cell["result"] == "ERROR"
    assert cell["observed"]["class"] == cell["expected"]["class"]
    assert cell["subject"]["attempted"] == cell["subject"]["committed"] == 8


def test_a_hanging_stage_costs_its_own_cell(sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: "hang"}, time_limit=HANG)
    assert not_passed(document) == errors(VICTIM)
    assert "still running after" in reason(document, VICTIM)


@pytest.mark.parametrize("traced", [True, False])
def test_a_hang_behind_the_main_threads_end_is_ended(traced: bool, sabotaged: Sabotage) -> None:
    """The main thread is a zombie by then, and its process is not dead."""
    stage = "thread.after_main_exit"
    document = sabotaged((f"host/*/dynamic-lazy/default/{stage}",), {stage: "hang"}, time_limit=HANG, traced=traced)
    assert not_passed(document) == errors(stage)
    assert "still running after" in reason(document, stage)


def test_a_probe_with_the_wrong_stage_id_costs_both_cells(sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: "wrong-stage"})
    assert not_passed(document) == errors(VICTIM, FOLLOWING)
    assert "no record" in reason(document, VICTIM)
    assert "fired 2 times" in reason(document, FOLLOWING)


@pytest.mark.parametrize(("defect", "word"), [("lose-add", "lost adds"), ("double-add", "doubled adds")])
def test_one_wrong_add_turns_its_scenario_red(defect: str, word: str, sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: defect})
    assert not_passed(document) == life("FAIL")
    assert word in reason(document, VICTIM)
    assert f"the sum at {VICTIM} is" in reason(document, "executable.main")


@pytest.mark.parametrize("stage", ["process.vfork_child", "process.clone_vm_child", "process.clone_thread_zeroed"])
def test_a_subject_that_is_fast_in_a_stale_cell_fails_there(stage: str, sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {stage: "trust-user"})
    assert not_passed(document) == {f"dynamic-lazy/{stage}": "FAIL"}
    assert "subject path: got fast, want fallback (because the cell is stale)" in reason(document, stage)


def test_a_subject_that_is_never_fast_fails(sabotaged: Sabotage) -> None:
    document = sabotaged(LINK, {VICTIM: "fallback"})
    assert not_passed(document) == {f"dynamic-lazy/{VICTIM}": "FAIL"}


def test_an_order_that_the_model_does_not_have_is_an_error(sabotaged: Sabotage) -> None:
    """LD_BIND_NOW makes lazily bound resolvers run before the constructors: a real change of order."""
    document = sabotaged(LINK, {}, extra_environment={"LD_BIND_NOW": "1"})
    red = not_passed(document)
    assert {"dynamic-lazy/ifunc.library", "dynamic-lazy/ifunc.preload", "dynamic-lazy/audit.la_symbind"} <= set(red)
    assert "order: the stage came out of its phase" in reason(document, "ifunc.library")
    assert "order: the stage came out of its phase" in reason(document, "audit.la_symbind")
    # The dynamic linker calls the PLT hooks for nothing that LD_BIND_NOW bound.
    assert (
        set(red)
        == errors("ifunc.library", "ifunc.preload", "audit.la_symbind", "audit.la_pltenter", "audit.la_pltexit").keys()
    )
    assert set(red.values()) == {"ERROR"}


def test_a_model_that_is_wrong_in_one_event_fails_in_its_cells(
    sabotaged: Sabotage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if clone(CLONE_VM) kept the registration."""
    wrong = replace(RULES["shared-memory clone"], apply=RULES["fork"].apply)
    monkeypatch.setitem(timeline.RULES, "shared-memory clone", wrong)
    document = sabotaged(LINK, {})
    assert not_passed(document) == {
        "dynamic-lazy/process.vfork_child": "FAIL",
        "dynamic-lazy/process.clone_vm_child": "FAIL",
    }
    assert "class: got stale, want registered (because clone(CLONE_VM)" in reason(document, "process.vfork_child")


def test_an_audit_library_that_the_dynamic_linker_ignores_is_not_taken_for_success(sabotaged: Sabotage) -> None:
    document = sabotaged(("host/*/dynamic-lazy/default/audit.*",), {}, extra_environment={"LD_AUDIT": "./nothing.so"})
    assert set(not_passed(document).values()) == {"ERROR"}
    assert len(not_passed(document)) == len([stage for stage in STAGES.values() if stage.carrier == "audit"])
    assert "ignored" in reason(document, "audit.constructor")


BY_CARRIER = {
    carrier: [stage.name for stage in EVERYWHERE.values() if stage.carrier == carrier]
    for carrier in dict.fromkeys(stage.carrier for stage in EVERYWHERE.values())
}


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(name, marks=[pytest.mark.repetition] if number % 3 else [])
        for names in BY_CARRIER.values()
        for number, name in enumerate(names)
    ],
)
def test_a_crash_in_any_stage_costs_only_that_stage(stage: str, sabotaged: Sabotage) -> None:
    """All others of its process stay green."""
    assert not_passed(sabotaged(LINK, {stage: "crash"})) == errors(stage)
