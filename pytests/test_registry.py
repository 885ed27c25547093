"""The registry is the one list of stages: it holds what the design demands, and everything else follows it."""

from __future__ import annotations

import json
import re

import pytest

from conftest import ROOT, Command
from rseq_matrix.matrix.cells import SCENARIOS, scenario_stages
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES

DEMANDED = """
audit: constructor ifunc_resolver la_version la_objsearch la_objopen la_activity la_symbind la_pltenter la_pltexit
audit: la_preinit la_objclose destructor
ifunc: executable library preload dlopen interposed
preload: init constructor malloc interposed_function destructor fini
library: constructor dlopen_constructor dlmopen_constructor dlclose_destructor
executable: preinit_array constructor main atexit on_exit quick_exit destructor
thread: start recycled_stack cleanup_handler cancelled tls_destructor key_destructor key_destructor_last_round
thread: detached after_main_exit
signal: main alternate_stack constructor ifunc_resolver thread key_destructor critical_section
process: fork_child atfork_child vfork_child clone_vm_child clone_thread exec after_unregister coroutine
"""
STATIC_TOO = ("executable", "thread", "process")


def demanded() -> set[str]:
    lines = (line.split(": ") for line in DEMANDED.strip().splitlines())
    return {f"{carrier}.{hook}" for carrier, hooks in lines for hook in hooks.split()}


def test_every_demanded_stage_exists() -> None:
    assert demanded() <= set(STAGES)


@pytest.mark.parametrize("link", LINKS)
def test_every_stage_has_one_expectation_in_every_link_that_it_exists_in(link: str) -> None:
    expected = [stage for scenario in LIVES for stage in scenario_stages(scenario, link)]
    assert sorted(expected) == sorted(name for name, stage in STAGES.items() if link in stage.links)


def test_scenarios_and_lives_have_the_same_names() -> None:
    assert list(SCENARIOS) == list(LIVES)


def test_links_of_the_carriers() -> None:
    for stage in STAGES.values():
        if stage.carrier in STATIC_TOO:
            assert stage.links == tuple(LINKS), stage.name
        if stage.carrier in ("audit", "preload", "library"):
            assert stage.links == ("dynamic-lazy", "dynamic-now"), stage.name


@pytest.mark.parametrize("link", LINKS)
def test_the_timeline_keeps_the_order_of_the_phases(link: str) -> None:
    phases = [
        "loading", "relocation", "early initialization", "initialization", "main", "exit", "termination",
    ]  # fmt: skip
    for scenario in LIVES:
        expected = scenario_stages(scenario, link)
        in_order = sorted(expected, key=lambda name: expected[name].order)
        places = [phases.index(expected[name].phase) for name in in_order]
        assert places == sorted(places), (scenario, in_order)


def test_no_source_file_names_a_stage_that_the_registry_does_not_have() -> None:
    """A stage is fired in exactly one file."""
    fired: dict[str, set[str]] = {}
    for folder in ("csrc", "preload", "auditlib", "ifunc"):
        for path in (ROOT / folder).rglob("*.c"):
            for carrier, hook in re.findall(r"RSM_PROBE\w*\((\w+), (\w+)", path.read_text()):
                fired.setdefault(f"{carrier}.{hook}", set()).add(path.name)
    assert set(fired) == set(STAGES)
    assert {name: files for name, files in fired.items() if len(files) != 1} == {}


def test_stages_lists_them_all(command: Command) -> None:
    rows = json.loads(command("stages", "--json", "-").stdout)["stages"]
    assert [row["stage"] for row in rows] == list(STAGES)
    text = command("stages").stdout
    for stage in STAGES.values():
        assert stage.hook in text
