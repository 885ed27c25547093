"""The model reproduces the facts, and each of its rules is needed by a live cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conftest import Document
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.matrix.cells import all_cells
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import BEHIND, DEFAULT, RULES, Conditions, Rule, State, World, expectations, unfold

MODERN = World("dynamic-now", DEFAULT, True, "present", False)
OLD_GLIBC = replace(MODERN, libc_registers=False)


def classes(world: World) -> dict[str, str]:
    return {name: e.name for life in LIVES.values() for name, e in expectations(life(world), world).items()}


def test_a_dynamic_program_is_registered_before_any_code_of_a_library() -> None:
    expected = classes(MODERN)
    early = [name for name, stage in STAGES.items() if stage.carrier in ("audit", "ifunc", "preload", "library")]
    assert {expected[name] for name in early} == {"registered"}


@pytest.mark.parametrize("link", ["static", "static-pie"])
def test_a_static_resolver_is_blind_unless_tls_comes_first(link: str) -> None:
    world = replace(MODERN, link=link)
    assert classes(world)["ifunc.executable"] == "blind"
    assert classes(replace(world, static_thread_pointer_first=True))["ifunc.executable"] == "registered"
    assert classes(world)["executable.preinit_array"] == "registered"


def test_a_libc_that_never_registers_leaves_everything_unregistered() -> None:
    assert set(classes(OLD_GLIBC).values()) == {"unregistered"}


def test_children_that_share_memory_are_stale() -> None:
    expected = classes(MODERN)
    assert expected["process.vfork_child"] == expected["process.clone_vm_child"] == "stale"
    assert expected["process.fork_child"] == "registered"
    assert expected["process.after_unregister"] == expected["process.clone_thread"] == "unregistered"


@pytest.mark.parametrize(
    "change",
    [
        {"environment": Conditions(tunable_off=True)},
        {"kernel_rseq": "ENOSYS"},
        {"kernel_rseq": "EPERM"},
        {"libc_registers": False},
    ],
)
def test_where_nothing_is_registered_the_reason_says_so(change: dict[str, Any]) -> None:
    world = replace(MODERN, **change)
    for life in LIVES.values():
        for expected in expectations(life(world), world).values():
            assert expected.name == "unregistered"
            hindrance = world.hinders(State(images=1))
            assert expected.because == (hindrance and hindrance[0])


def test_every_expectation_has_a_reason_and_a_reference() -> None:
    for link in LINKS:
        world = replace(MODERN, link=link)
        for life in LIVES.values():
            for name, expected in expectations(life(world), world).items():
                assert expected.because, name
                assert expected.reference, name


def test_moments_are_in_order_and_name_their_event() -> None:
    moments = list(unfold(LIVES["life"](MODERN), MODERN))
    assert [moment.order for moment in moments] == sorted(moment.order for moment in moments)
    assert [m.event for m in moments if m.event != "stage"] == ["exec", "thread pointer", "area", "registration"]


AREA = [BEHIND]  # where this libc has it


def predicted(link: str, environment: str, first: bool, rules: dict[str, Rule]) -> dict[str, tuple[str, str, str, str]]:
    world = World(link, ENVIRONMENTS[environment].conditions, True, "present", first, area=AREA[0])
    result = {}
    for life in LIVES.values():
        for moment in unfold(life(world), world, rules):
            for name in moment.stages:
                result[name] = (moment.state.name, moment.state.owner, moment.state.area, moment.state.task)
    return result


def unchanged(state: State, _world: World) -> State:
    return state


OTHER_ENVIRONMENTS = {"own registration", "late filter"}
"""Rules that nothing comes of in this one: test_libc_axis.py."""


@pytest.mark.libc_a
@pytest.mark.parametrize("rule", sorted(set(RULES) - OTHER_ENVIRONMENTS))
def test_without_any_one_rule_a_live_cell_would_fail(rule: str, cells: dict[str, Document]) -> None:
    if not cells["dynamic-now/default/executable.main"]["observed"]["user_registered"]:
        pytest.skip("rseq is not usable on this machine, so no rule can show itself")
    rules = {**RULES, rule: replace(RULES[rule], apply=unchanged)}
    AREA[0] = cells["dynamic-now/default/executable.main"]["observed"]["area"]
    blind = cells["static/default/ifunc.executable"]["observed"]["class"] == "blind"
    differing = 0
    for cell in all_cells("glibc", LINKS, ["default"]):
        observed = cells[f"{cell.link}/default/{cell.stage}"]["observed"]
        changed = predicted(cell.link, "default", not blind, rules)[cell.stage]
        right = predicted(cell.link, "default", not blind, RULES)[cell.stage]
        assert (observed["class"], observed["owner"], observed["area"]) == right[:3]
        differing += changed != right
    assert differing > 0
