"""`rseq-matrix simulate`: designs agree with the model that `run` is judged by, with their sources, and with life."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from conftest import EVERYWHERE, HELPERS, ROOT, Command, Document
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import read
from rseq_matrix.documents.simulate import REGISTERING, DesignComparison, DesignList, Life
from rseq_matrix.libcs.store import store_directory
from rseq_matrix.matrix.cells import scenario_stages
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import BEFORE, BEHIND, DEFAULT, NOWHERE, RULES, State, World, expectations
from rseq_matrix.report import simulate_picture
from rseq_matrix.report.simulate import show_comparison, show_designs, show_life
from rseq_matrix.simulation import documents as made
from rseq_matrix.simulation import landmarks
from rseq_matrix.simulation.designs import DESIGNS, LIBRARY, Design, design_of
from rseq_matrix.simulation.documents import ENVIRONMENTS, KERNELS, SIMULATED, Setting
from rseq_matrix.simulation.walk import Timeline, timeline

SCHEMA = json.loads((ROOT / "scripts/rseq_matrix/schema/simulate-1.json").read_text())
PLAIN = Setting("default", "present", None)
LIBCS = {
    "none": (False, False, NOWHERE, True),
    "area-2.35": (True, False, BEHIND, False),
    "extensible-2.41": (True, False, BEFORE, False),
    "extensible-2.44": (True, True, BEFORE, False),
}
"""Designs that exist as a libc: whether it registers, whether a static program's thread pointer comes first, where the
area lies, whether any audit library makes binding lazy."""
SYMBOLS = ("handled-2019", "abi-2020")


def life_document(design: Design, link: str, setting: Setting) -> Document:
    document: Document = plain(made.life_document(design, link, setting))
    return document


def comparison_document(designs: Sequence[Design], links: Sequence[str], setting: Setting) -> Document:
    document: Document = plain(made.comparison_document(designs, links, setting))
    return document


def designs_document() -> Document:
    document: Document = plain(made.designs_document())
    return document


def life_svg(document: Document) -> str:
    return simulate_picture.life_svg(read(Life, document))


def comparison_svg(document: Document) -> str:
    return simulate_picture.comparison_svg(read(DesignComparison, document))


def walked(name: str, link: str = "dynamic-now", setting: Setting = PLAIN) -> Timeline:
    return setting.walk(DESIGNS[name], link)


def classes(name: str, link: str = "dynamic-now", setting: Setting = PLAIN) -> dict[str, str]:
    return {stage: seen.state.name for stage, seen in walked(name, link, setting).stages.items()}


def outcomes(name: str, link: str = "dynamic-now") -> dict[str, str]:
    return {stage: seen.registering.word for stage, seen in walked(name, link).stages.items()}


# --- the designs that exist agree with the model


def disagreements(design: Design, world: World, link: str, environment: str, kernel: str) -> list[str]:
    """Return the stages of which a design's life says anything else than the model that `run` is judged by."""
    found = []
    for scenario in SIMULATED:
        life = LIVES[scenario]
        if not scenario_stages(scenario, link):
            continue
        simulated = timeline(design, design.world(link, ENVIRONMENTS[environment], kernel), [scenario]).stages
        expected = expectations(life(world), world)
        assert simulated.keys() == expected.keys()
        for stage, seen in simulated.items():
            state, want = seen.state, expected[stage]
            got = replace(
                want,
                name=state.name,
                owner=state.owner,
                task=state.task,
                because=state.because,
                reference=state.reference,
                relocated=seen.relocated,
                section=seen.section,
                area=state.area,
            )
            found += [stage] if got != want else []
    return found


@pytest.mark.parametrize("name", LIBCS)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_design_that_exists_is_the_model_of_its_libc(name: str, link: str, environment: str, kernel: str) -> None:
    registers, first, area, lazily = LIBCS[name]
    world = World(link, ENVIRONMENTS[environment], registers, kernel, first, area, audit_binds_lazily=lazily)
    assert disagreements(DESIGNS[name], world, link, environment, kernel) == []


def test_a_design_that_registers_elsewhere_disagrees_with_the_model() -> None:
    late = replace(DESIGNS["area-2.35"], rules_after={landmarks.MAIN: ("registration",)})
    world = World("dynamic-now", DEFAULT, True, "present", False)
    found = disagreements(late, world, "dynamic-now", "default", "present")
    assert "preload.constructor" in found
    assert "executable.main" not in found


def test_one_of_the_designs_is_what_was_observed_on_this_machine(cells: dict[str, Document]) -> None:
    if not cells["dynamic-now/default/executable.main"]["observed"]["user_registered"]:
        pytest.skip("rseq is not usable on this machine, so no design can show itself")
    right = []
    for name, design in DESIGNS.items():
        wrong = [
            key
            for key, cell in cells.items()
            for link, environment, stage in [key.split("/")]
            if classes(name, link, Setting(environment, "present", cell["scenario"]))[stage]
            != cell["observed"]["class"]
        ]
        right += [] if wrong else [design.name]
    assert right
    assert not {"none", *SYMBOLS} & {*right}


# --- what is said of every design


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("link", LINKS)
def test_every_stage_falls_once_behind_the_event_of_its_phase(name: str, link: str) -> None:
    life = walked(name, link)
    stages = [seen.name for event in life.events for seen in event.stages]
    assert sorted(stages) == sorted(stage for stage in EVERYWHERE if link in STAGES[stage].links)
    main = [event for event in life.events if not event.root]
    for event in main:
        for seen in event.stages:
            places = {landmarks.place(seen.name, life.world, bound) for bound in ("now", "lazy")}
            places |= {name for place in places for name in life.design.rules_by_event(life.world).get(place, ())}
            assert event.name in places
    order = [name for name in landmarks.order(life.world) if name in {event.name for event in main}]
    assert [event.name for event in main if event.name in order] == order


@pytest.mark.parametrize(("link", "event"), [("dynamic-now", landmarks.RELOCATION), ("dynamic-lazy", landmarks.MAIN)])
def test_a_binding_falls_where_the_call_is_bound(link: str, event: str) -> None:
    for name in DESIGNS:
        found = {seen.name: row.name for row in walked(name, link).events for seen in row.stages}
        assert found["ifunc.library"] == found["ifunc.preload"] == event
        assert found["ifunc.executable"] == landmarks.RELOCATION


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_event_and_class_has_a_reason_and_a_reference(name: str, link: str, kernel: str) -> None:
    document = life_document(DESIGNS[name], link, Setting("default", kernel, None))
    for event in document["events"]:
        for said in (event, event["explained"], *event["stages"]):
            assert said["because"], event["event"]
            assert said["reference"], event["event"]
    for fact in DESIGNS[name].facts.values():
        assert fact.text
        assert fact.reference


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("link", LINKS)
def test_merged_lives_are_the_single_ones(name: str, link: str) -> None:
    merged = walked(name, link)
    events = {(event.root, event.name): event for event in merged.events}
    for scenario in PLAIN.scenarios(link):
        single = walked(name, link, replace(PLAIN, scenario=scenario))
        for event in single.events:
            assert event.state == events[event.root, event.name].state
        for stage, seen in single.stages.items():
            assert seen == merged.stages[stage]


def identity(state: State, _world: World) -> State:
    return state


def told(document: Document) -> list[Any]:
    """Return what a life says of facts, without the words."""
    return [
        (event["event"], event["class"], [(s["class"], s["own_registration"]["outcome"]) for s in event["stages"]])
        for event in document["events"]
    ]


RULES_OF = [(name, rule) for name in DESIGNS if name != "none" for rule in DESIGNS[name].rules]
"""A libc that registers nothing has nothing to lose by a rule."""


@pytest.mark.parametrize(("name", "rule"), RULES_OF)
def test_without_any_one_rule_of_a_design_its_life_is_another(name: str, rule: str) -> None:
    design = DESIGNS[name]
    without = replace(design, rules={**design.rules, rule: replace(design.rules[rule], apply=identity)})
    differs = [
        told(life_document(design, link, PLAIN)) != told(life_document(without, link, PLAIN))
        for link in ("dynamic-now", "static")
    ]
    assert any(differs)


# --- what the designs are


def test_where_the_area_moved_is_one_thing_in_all_places() -> None:
    commits = re.compile(r"\b[0-9a-f]{12}\b")
    said = set(commits.findall(RULES["area"].reference))
    assert said == set(commits.findall(DESIGNS["extensible-2.41"].facts["area"].reference))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", SYMBOLS)
def test_a_thread_local_area_is_told_in_its_own_words(name: str, link: str) -> None:
    document = life_document(DESIGNS[name], link, PLAIN)
    area = next(event for event in document["events"] if event["event"] == "area")
    assert "__rseq_abi" in area["because"]
    assert "struct pthread" not in area["reference"]
    text = drawn(document, 120)
    assert "__rseq_offset" not in text
    if link == "dynamic-now":
        assert "a library that names __rseq_abi finds nothing in its GOT" in text
        assert "a library that names __rseq_offset finds nothing in its GOT" in drawn(
            life_document(DESIGNS["area-2.35"], link, PLAIN), 120
        )


@pytest.mark.parametrize("link", LINKS)
def test_what_2_31_does_not_have_is_not_said_of_it(link: str) -> None:
    """The design of 2.31 to 2.34; __libc_early_init() came with 2.32."""
    document = life_document(DESIGNS["none"], link, PLAIN)
    early = next(event for event in document["events"] if event["event"] == landmarks.EARLY_INITIALIZATION)
    assert "2.32 and later" in early["because"]


def test_2019_registers_after_the_constructors_of_libraries() -> None:
    seen = classes("handled-2019")
    assert seen["preload.constructor"] == seen["executable.preinit_array"] == seen["preload.malloc"] == "unregistered"
    assert seen["executable.constructor"] == seen["executable.main"] == seen["thread.start"] == "registered"
    assert classes("handled-2019", "static")["executable.preinit_array"] == "registered"


def test_2020_registers_before_any_constructor() -> None:
    seen = classes("abi-2020")
    assert seen["executable.preinit_array"] == seen["library.constructor"] == "registered"


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_resolver_is_misled_by_a_thread_local_area(name: str) -> None:
    seen = classes(name)
    for stage in ("ifunc.executable", "ifunc.interposed", "ifunc.library", "signal.ifunc_resolver", "ifunc.after_exec"):
        assert seen[stage] == "stale"
    assert seen["ifunc.dlopen"] == "registered"
    assert classes(name, "static")["ifunc.executable"] == "blind"


@pytest.mark.parametrize("name", SYMBOLS)
def test_another_namespace_has_another_area(name: str) -> None:
    seen = classes(name)
    assert seen["audit.ifunc_resolver"] == "stale"
    assert seen["audit.la_version"] == seen["audit.la_objsearch"] == "unregistered"
    assert seen["audit.la_preinit"] == seen["library.dlmopen_constructor"] == "hidden"
    assert classes("area-2.35")["library.dlmopen_constructor"] == "registered"


def test_who_unregisters_a_thread() -> None:
    def at_exit(name: str) -> bool:
        return next(event.state.kernel for event in walked(name).events if event.name == landmarks.THREAD_EXIT)

    assert {name: at_exit(name) for name in DESIGNS if name != "none"} == {
        "handled-2019": False,
        "abi-2020": True,
        "area-2.35": True,
        "extensible-2.41": True,
        "extensible-2.44": True,
    }


def test_2_44_is_2_41_with_static_resolvers_registered() -> None:
    document = comparison_document([DESIGNS["extensible-2.41"], DESIGNS["extensible-2.44"]], list(LINKS), PLAIN)
    resolvers = {"ifunc.executable", "ifunc.after_exec", "signal.ifunc_resolver"}
    assert {(cell["stage"], cell["link"]) for cell in document["differences"]} == {
        (stage, link) for stage in resolvers for link in ("static", "static-pie")
    }
    assert document["changes"] == [{"from": "blind", "to": "registered", "cells": 6}]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_a_design_with_a_tunable_is_switched_off_by_it(environment: str) -> None:
    setting = Setting(environment, "present", None)
    registered = {name for name in DESIGNS if "registered" in classes(name, setting=setting).values()}
    assert registered == ({*SYMBOLS} if environment == "tunable-off" else {*DESIGNS} - {"none"})


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", DESIGNS)
def test_only_2020_ends_a_process_whose_registration_fails(name: str, kernel: str) -> None:
    document = life_document(DESIGNS[name], "dynamic-now", Setting("default", kernel, None))
    assert bool(document["fatal"]) == (name == "abi-2020" and kernel == "EINVAL")
    reached = [seen["stage"] for event in document["events"] for seen in event["stages"]]
    assert sorted([*reached, *document["unreached"]]) == sorted(EVERYWHERE)
    if document["fatal"]:
        assert "executable.main" in document["unreached"]
        assert "ifunc.executable" in reached
    elif kernel not in ("present", "success"):
        assert "registered" not in classes(name, setting=Setting("default", kernel, None)).values()


# --- a library that registers by itself


def test_what_becomes_of_a_librarys_own_registration() -> None:
    none, handled, abi, area = (outcomes(name) for name in ("none", "handled-2019", "abi-2020", "area-2.35"))
    assert set(none.values()) == {"works"}
    assert (handled["audit.la_version"], handled["ifunc.executable"]) == ("takes it", "works")
    assert (handled["preload.constructor"], handled["audit.la_preinit"]) == ("reserved", "refused")
    assert (abi["audit.la_version"], abi["ifunc.executable"]) == ("fatal", "fatal")
    assert (abi["preload.constructor"], abi["library.dlmopen_constructor"]) == ("not needed", "refused")
    assert (area["audit.la_version"], area["process.after_unregister"]) == ("not needed", "works")
    assert outcomes("area-2.35", "static")["ifunc.executable"] == "takes it"
    assert outcomes("abi-2020", "static")["ifunc.executable"] == "fatal"
    assert outcomes("none", "static")["ifunc.executable"] == "works"


def test_each_outcome_is_reached_by_some_design() -> None:
    found = {word for name in DESIGNS for link in LINKS for word in outcomes(name, link).values()}
    found |= {
        seen.registering.word
        for seen in walked("area-2.35", setting=Setting("default", "ENOSYS", None)).stages.values()
    }
    assert found == {*REGISTERING}


def test_a_library_that_registers_nothing_harms_nobody() -> None:
    design = DESIGNS["abi-2020"]
    harmless = replace(design.all_rules()[LIBRARY], apply=identity)
    harmless_foreign = "a library of another namespace registers"
    peaceful = replace(design, rules={**design.rules, LIBRARY: harmless, harmless_foreign: harmless})
    stages = timeline(peaceful, peaceful.world("dynamic-now", DEFAULT, "present"), SIMULATED).stages
    assert "fatal" not in {seen.registering.word for seen in stages.values()}


# --- life


def compiled(source: str, tmp_path: Path, *flags: str) -> list[str]:
    """Compile a helper, run it, return the words that it prints."""
    program = tmp_path / "program"
    command: list[str | Path] = [
        "cc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{ROOT / 'csrc'}",
        "-o",
        program,
        HELPERS / source,
    ]
    subprocess.run([*command, *flags], check=True)
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()


def test_thread_local_variables_are_zero_in_a_resolver_of_a_dynamic_program(tmp_path: Path) -> None:
    assert compiled("tls_in_resolver.c", tmp_path) == ["0", "-1"]


@pytest.mark.libc_a
def test_a_static_resolver_can_take_the_registration_from_libc(tmp_path: Path, cells: dict[str, Document]) -> None:
    if cells["static/default/ifunc.executable"]["observed"]["class"] != "blind":
        pytest.skip("this libc registers before static resolvers run")
    if not cells["static/default/executable.main"]["observed"]["user_registered"]:
        pytest.skip("rseq is not usable on this machine")
    assert compiled("registers_in_resolver.c", tmp_path, "-static") == ["0", "0", "-2"]


def test_a_dynamic_resolver_comes_too_late_to_register(tmp_path: Path, cells: dict[str, Document]) -> None:
    if not cells["dynamic-now/default/executable.main"]["observed"]["user_registered"]:
        pytest.skip("rseq is not usable on this machine")
    answer, size, _cpu = compiled("registers_in_resolver.c", tmp_path)
    assert answer == "-22"
    assert int(size) > 0


# --- documents, text, picture


def documents() -> list[Document]:
    failing = Setting("default", "EINVAL", None)
    lives = [
        life_document(design, link, PLAIN) for design in DESIGNS.values() for link in ("dynamic-now", "static-pie")
    ]
    lives.append(life_document(DESIGNS["abi-2020"], "dynamic-now", failing))
    pairs = [comparison_document([DESIGNS[a], DESIGNS[b]], list(LINKS), PLAIN) for a, b in pairwise(DESIGNS)]
    pairs.append(comparison_document([DESIGNS["abi-2020"], DESIGNS["none"]], ["static"], failing))
    return [*lives, *pairs]


def test_documents_are_valid_by_the_schema() -> None:
    for document in [*documents(), designs_document()]:
        jsonschema.validate(document, SCHEMA)


def test_the_schema_refuses_what_is_wrong() -> None:
    document = life_document(DESIGNS["none"], "static", PLAIN)
    document["events"][0]["class"] = "wobbly"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def drawn(document: Document, width: int = 80) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None)
    if document["kind"] == "life":
        show_life(console, read(Life, document))
    elif document["kind"] == "comparison":
        show_comparison(console, read(DesignComparison, document))
    else:
        show_designs(console, read(DesignList, document))
    return text.getvalue()


def test_a_terminal_of_80_columns_shows_all_of_it() -> None:
    for document in [*documents(), designs_document()]:
        text = drawn(document)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text


def test_a_life_shows_every_event_and_stage_without_colour() -> None:
    document = life_document(DESIGNS["abi-2020"], "dynamic-now", PLAIN)
    text = drawn(document)
    for event in document["events"]:
        letters = " ".join(
            letter if event[key] else "-"
            for key, letter in (("thread_pointer", "T"), ("kernel_registered", "K"), ("user_registered", "U"))
        )
        assert any(
            line.strip().startswith(f"{letters}  {event['event']}") and event["class"] in line
            for line in text.splitlines()
        ), event["event"]
        for seen in event["stages"]:
            assert seen["stage"] in text
    assert "stale !" in text


def test_a_comparison_shows_each_difference_once_with_its_reasons() -> None:
    document = comparison_document([DESIGNS["none"], DESIGNS["extensible-2.41"]], list(LINKS), PLAIN)
    text = drawn(document, 120)
    table = text[text.index("\nstage") : text.index("\nwhy\n")]
    for cell in document["differences"]:
        hook = f" {STAGES[cell['stage']].hook} "
        assert any(line.startswith(hook) for line in table.splitlines()), cell["stage"]
        for side in cell["sides"]:
            assert side["because"][:60] in text
    line = next(line for line in table.splitlines() if line.startswith(" vfork_child"))
    assert line.split()[1:5] == ["all", "unregistered", "stale", "!"]


def test_the_comparison_is_what_the_model_says_of_both() -> None:
    document = comparison_document([DESIGNS["none"], DESIGNS["area-2.35"]], list(LINKS), PLAIN)
    found = {(cell["stage"], cell["link"]) for cell in document["differences"]}
    expected = set()
    for link in LINKS:
        old, new = (World(link, DEFAULT, registers, "present", False) for registers in (False, True))
        for life in (LIVES[name] for name in SIMULATED):
            sides = [expectations(life(world), world) for world in (old, new)]
            expected |= {(stage, link) for stage in sides[0] if sides[0][stage].name != sides[1][stage].name}
    assert found == expected
    assert len(found) + len(document["same"]) == sum(len(stage.links) for stage in EVERYWHERE.values())


def test_a_comparison_counts_stages_and_links() -> None:
    document = comparison_document([DESIGNS["extensible-2.41"], DESIGNS["extensible-2.44"]], list(LINKS), PLAIN)
    assert "3 stages in 2 links  blind -> registered" in drawn(document)
    document = comparison_document([DESIGNS["none"], DESIGNS["area-2.35"]], list(LINKS), PLAIN)
    assert re.search(r" \d+ stages in 2 to 4 links  unregistered -> registered", drawn(document))
    document = comparison_document([DESIGNS["none"], DESIGNS["area-2.35"]], ["static"], PLAIN)
    assert re.search(r" \d+ stages in 1 link  unregistered -> registered", drawn(document))


@pytest.mark.parametrize("width", [40, 50, 60])
def test_a_narrow_terminal_shows_every_stage(width: int) -> None:
    document = comparison_document([DESIGNS["none"], DESIGNS["extensible-2.41"]], list(LINKS), PLAIN)
    text = drawn(document, width)
    table = text[text.index("\nstage") : text.index("\nwhy\n")]
    assert "…" not in table
    shown = "".join(line[:9].strip() for line in table.splitlines())
    for cell in document["differences"]:
        assert STAGES[cell["stage"]].hook[:8] in shown


def test_a_design_does_not_differ_from_itself() -> None:
    document = comparison_document([DESIGNS["abi-2020"]] * 2, list(LINKS), PLAIN)
    assert document["differences"] == document["changes"] == document["facts"] == []
    assert "no stage's class" in drawn(document)


SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_shows_every_event_and_stage_inside_its_frame() -> None:
    for document in documents():
        picture = life_svg(document) if document["kind"] == "life" else comparison_svg(document)
        root = ET.fromstring(picture)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        texts = list(root.iter(f"{SVG}text"))
        for text in texts:
            assert 0 <= float(text.attrib["x"]) < width
            assert 0 < float(text.attrib["y"]) < height
            if text.attrib["text-anchor"] == "start":
                assert float(text.attrib["x"]) + 7.3 * len(text.text or "") <= width
        words = " ".join(text.text or "" for text in texts)
        events = document["events"] if document["kind"] == "life" else []
        stages = [seen["stage"] for event in events for seen in event["stages"]]
        stages += [cell["stage"] for cell in document.get("differences", [])]
        assert [name for name in stages if name not in words] == []


def test_the_picture_has_colours_for_a_dark_page_and_its_own_ground() -> None:
    picture = life_svg(life_document(DESIGNS["none"], "static", PLAIN))
    assert "@media (prefers-color-scheme: dark)" in picture
    page = next(ET.fromstring(picture).iter(f"{SVG}rect"))
    assert page.attrib["class"] == "page"


# --- the command


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--design", "wobbly"], "unknown design 'wobbly': known are none, handled-2019, abi-2020, area-2.35"),
        (["--compare", "none", "wobbly"], "unknown design 'wobbly': known are none"),
        (["--compare", "none"], "--compare"),
        (["--link", "wobbly"], "unknown link 'wobbly': known are dynamic-lazy"),
        (["--environment", "moon"], "unknown environment 'moon': known are default"),
        (["--scenario", "party"], "unknown scenario 'party': known are audited"),
        (["--kernel", "EWOBBLY"], "unknown answer of rseq(2) 'EWOBBLY': known are present"),
        (["--scenario", "audited", "--link", "static"], "the scenario 'audited' has no stage in a static program"),
        (["--compare", "none", "abi-2020", "--scenario", "audited", "--link", "static"], "no stage in"),
        (["--design", ""], "unknown design ''"),
        (["--libc", ""], "unknown libc ''"),
        (["--design", "", "--libc", ""], "--design and --libc"),
        (["--scenario", ""], "unknown scenario ''"),
        (["--link", ""], "unknown link ''"),
        (["--design", "none", "--designs"], "--design and --designs"),
        (["--design", "none", "--libc", "system"], "--design and --libc"),
        (["--compare", "none", "abi-2020", "--designs"], "--compare and --designs"),
        (["--libc", "all"], "--libc all is for run"),
        (["--libc", "wobbly"], "unknown libc 'wobbly'"),
        (["--designs", "--svg", "x.svg"], "--svg draws"),
        (["--json", "-", "--svg", "-"], "only one of"),
        (["--json", "/nonexistent/x.json"], "does not exist"),
        (["stray"], "stray"),
    ],
)
def test_bad_usage_is_one_sentence(arguments: list[str], words: str, command: Command) -> None:
    done = command("simulate", *arguments)
    assert done.returncode == 2
    assert words in sentence(done)
    assert done.stdout == ""


def test_the_command_prints_writes_and_draws(command: Command, tmp_path: Path) -> None:
    output, picture = tmp_path / "out.json", tmp_path / "out.svg"
    environment = {**os.environ, "COLUMNS": "80"}
    arguments = ["--compare", "none", "extensible-2.41", "--json", str(output), "--svg", str(picture)]
    done = command("simulate", *arguments, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "unregistered -> registered" in done.stdout
    document = json.loads(output.read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["kind"] == "comparison"
    ET.fromstring(picture.read_text())
    done = command("simulate", "--designs", "--json", "-")
    assert [design["name"] for design in json.loads(done.stdout)["designs"]] == list(DESIGNS)
    done = command("simulate", "--scenario", "threads", "--link", "static-pie", "--svg", "-")
    assert done.returncode == 0
    assert "thread.recycled_stack" in done.stdout
    ET.fromstring(done.stdout)


def test_the_command_needs_no_libc_and_no_compiler(command: Command) -> None:
    done = command("simulate", "--design", "abi-2020", env={**os.environ, "PATH": "/nonexistent"})
    assert done.returncode == 0
    assert "early initialization" in done.stdout


@pytest.mark.parametrize(
    ("offset", "first", "name"),
    [
        (None, False, "none"),
        (None, None, "none"),
        (2336, False, "area-2.35"),
        (-448, False, "extensible-2.41"),
        (-448, None, "extensible-2.41"),
        (-448, True, "extensible-2.44"),
    ],
)
def test_the_design_of_a_libc_follows_from_what_was_found(offset: int | None, first: bool | None, name: str) -> None:
    assert design_of(offset, first).name == name


def test_the_life_of_a_libc_is_glibcs(command: Command, tmp_path: Path) -> None:
    """Also where it would have to be fetched: that is said before."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "RSEQ_MATRIX_MIRROR": "http://127.0.0.1:9/debian"}
    done = command("simulate", "--libc", "musl-1.2.5", env=environment)
    assert done.returncode == 2
    assert "simulate walks through the life of a process on glibc, and musl-1.2.5 is musl" in sentence(done)


@pytest.mark.mirror
def test_the_life_in_a_directory_is_glibcs(command: Command) -> None:
    done = command("simulate", "--libc", str(store_directory() / "musl-1.2.5/root"))
    assert done.returncode == 2
    assert "root is musl" in sentence(done)


@pytest.mark.mirror
def test_a_life_names_the_libc_that_was_looked_into(command: Command) -> None:
    document = json.loads(command("simulate", "--libc", "glibc-2.31", "--json", "-").stdout)
    jsonschema.validate(document, SCHEMA)
    assert (document["libc"]["spec"], document["libc"]["version"]) == ("glibc-2.31", "2.31")
    build_id = document["libc"]["build_id"]
    text = " ".join(command("simulate", "--libc", "glibc-2.31").stdout.split())
    assert f"found in glibc-2.31: version 2.31, build id {build_id}" in text
    assert "libc" not in life_document(DESIGNS["none"], "static", PLAIN)


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("libc", "name"),
    [
        ("glibc-2.31", "none"),
        ("glibc-2.36", "area-2.35"),
        ("glibc-2.43", "extensible-2.41"),
        ("glibc-2.44", "extensible-2.44"),
    ],
)
def test_the_command_finds_the_design_of_a_libc(libc: str, name: str, command: Command) -> None:
    done = command("simulate", "--libc", libc, "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["design"]["name"] == name
