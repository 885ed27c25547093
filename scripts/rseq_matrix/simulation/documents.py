"""The JSON documents of `simulate`; what is printed and drawn is rendered from them. Schema: schema/simulate-1.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rseq_matrix.errors import UsageError
from rseq_matrix.matrix.cells import exists_in, scenario_stages
from rseq_matrix.model.classes import HAZARDS
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import DEFAULT, Conditions, State
from rseq_matrix.simulation.designs import DESIGNS, Design, Process
from rseq_matrix.simulation.walk import Event, Seen, Timeline, timeline

SCHEMA = 1
KERNELS = ("present", "ENOSYS", "EPERM", "EACCES", "EINVAL", "success")
"""What rseq(2) answers: it is there, an errno's name, or a success that a filter fakes."""

ENVIRONMENTS = {"default": DEFAULT, "tunable-off": Conditions(tunable_off=True)}
"""What surrounds a simulated process; of the others, what matters is the kernel's answer."""

SIMULATED = tuple(name for name in LIVES if exists_in(name, "default"))
"""The scenarios of a life that no debugger is in."""

Document = dict[str, Any]


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the name; a UsageError that lists those that there are if there is no such."""
    names = list(names)
    if name not in names:
        raise UsageError(f"unknown {kind} '{name}': known are {', '.join(names)}")
    return name


@dataclass(frozen=True)
class Setting:
    """What surrounds the lives that are simulated."""

    environment: str
    kernel: str
    scenario: str | None

    def check(self) -> None:
        """Raise UsageError for what does not exist."""
        known("environment", self.environment, ENVIRONMENTS)
        known("answer of rseq(2)", self.kernel, KERNELS)
        if self.scenario is not None:
            known("scenario", self.scenario, SIMULATED)

    def scenarios(self, link: str) -> list[str]:
        """Return the scenarios that exist in a link, or the one that is wanted."""
        wanted = [self.scenario] if self.scenario else list(SIMULATED)
        found = [scenario for scenario in wanted if scenario_stages(scenario, link)]
        if not found:
            raise UsageError(f"the scenario '{self.scenario}' has no stage in a {link} program")
        return found

    def walk(self, design: Design, link: str) -> Timeline:
        """Return the life of a process under a design."""
        world = design.world(link, ENVIRONMENTS[self.environment], self.kernel)
        return timeline(design, world, self.scenarios(link))


def find_design(name: str) -> Design:
    """Return a design by its name; a UsageError that lists the known ones."""
    return DESIGNS[known("design", name, DESIGNS)]


def check_link(link: str) -> str:
    """Return the link; a UsageError that lists the known ones."""
    return known("link", link, LINKS)


# --- pieces


def design_document(design: Design) -> Document:
    """Return a design with its properties."""
    facts = [{"name": name, **asdict(fact)} for name, fact in design.facts.items()]
    return {"name": design.name, "summary": design.summary, "symbol": design.symbol_name, "facts": facts}


def _state(state: State) -> Document:
    return {
        "thread_pointer": state.thread_pointer,
        "kernel_registered": state.kernel,
        "user_registered": state.thread_pointer and state.user,
        "class": state.name,
        "owner": state.owner,
    }


def _seen(seen: Seen) -> Document:
    return {
        "stage": seen.name,
        "scenario": seen.scenario,
        **_state(seen.state),
        "because": seen.state.because,
        "reference": seen.state.reference,
        "relocated": seen.relocated,
        "critical_section": seen.section,
        "own_registration": {
            "outcome": seen.registering.word,
            "because": seen.registering.because,
            "reference": seen.registering.reference,
        },
    }


def _fatal(timeline: Timeline) -> str:
    states = (event.state for event in timeline.events)
    return next((state.fatal for state in states if isinstance(state, Process) and state.fatal), "")


def _event(event: Event) -> Document:
    return {
        "event": event.name,
        "begins": event.root or None,
        "because": event.words.because,
        "reference": event.words.reference,
        **_state(event.state),
        "explained": {"because": event.state.because, "reference": event.state.reference},
        "stages": [_seen(seen) for seen in event.stages],
    }


def _head(kind: str, setting: Setting) -> Document:
    return {
        "schema": SCHEMA,
        "kind": kind,
        "environment": setting.environment,
        "kernel": setting.kernel,
        "scenario": setting.scenario,
    }


# --- documents


def life_document(design: Design, link: str, setting: Setting) -> Document:
    """Return the life of a process under a design, event by event."""
    walked = setting.walk(design, link)
    return {
        **_head("life", setting),
        "design": design_document(design),
        "link": link,
        "events": [_event(event) for event in walked.events],
        "fatal": _fatal(walked) or None,
        "unreached": list(walked.unreached),
    }


def _side(walked: Timeline, stage: str) -> Document:
    seen = walked.stages.get(stage)
    if seen is None:
        return {
            "class": None,
            "owner": None,
            "because": f"the process has ended before: {_fatal(walked)}",
            "reference": next(event.state.reference for event in reversed(walked.events)),
            "own_registration": None,
        }
    document = _seen(seen)
    return {key: document[key] for key in ("class", "owner", "because", "reference", "own_registration")}


def _cells(designs: Sequence[Design], links: Sequence[str], setting: Setting) -> list[Document]:
    cells = []
    for link in links:
        walked = [setting.walk(design, link) for design in designs]
        stages = {*walked[0].stages, *walked[0].unreached}
        cells += [
            {"stage": stage, "link": link, "sides": [_side(one, stage) for one in walked]}
            for stage in STAGES
            if stage in stages
        ]
    place = list(STAGES)
    return sorted(cells, key=lambda cell: place.index(cell["stage"]))


def _facts(designs: Sequence[Design]) -> list[Document]:
    """Return the properties that are not the same in both."""
    names = dict.fromkeys(name for design in designs for name in design.facts)
    rows = []
    for name in names:
        sides = [design.facts.get(name) for design in designs]
        if len({side.text if side else None for side in sides}) > 1:
            rows.append({"name": name, "sides": [asdict(side) if side else None for side in sides]})
    return rows


def _changes(differences: Sequence[Document]) -> list[Document]:
    """Count the changes of class, hazards first."""
    counts: dict[tuple[str | None, str | None], int] = {}
    for cell in differences:
        pair = (cell["sides"][0]["class"], cell["sides"][1]["class"])
        counts[pair] = counts.get(pair, 0) + 1
    ordered = sorted(counts, key=lambda pair: (not {*pair} & {*HAZARDS}, -counts[pair]))
    return [{"from": pair[0], "to": pair[1], "cells": counts[pair]} for pair in ordered]


def _registering(designs: Sequence[Design], cells: Sequence[Document]) -> list[Document]:
    """Return what becomes, under each design, of a library that registers its thread itself: outcome and stages."""
    rows = []
    for number, design in enumerate(designs):
        outcomes: dict[str, list[Document]] = {}
        for cell in cells:
            own = cell["sides"][number]["own_registration"]
            if own:
                place = {"stage": cell["stage"], "link": cell["link"]}
                outcomes.setdefault(own["outcome"], []).append(place)
        rows.append({"design": design.name, "outcomes": outcomes})
    return rows


def comparison_document(designs: Sequence[Design], links: Sequence[str], setting: Setting) -> Document:
    """Return the stages whose class differs between two designs."""
    links = [link for link in links if not setting.scenario or scenario_stages(setting.scenario, link)]
    if not links:
        raise UsageError(f"the scenario '{setting.scenario}' has no stage in this link")
    cells = _cells(designs, links, setting)
    differences = [cell for cell in cells if cell["sides"][0]["class"] != cell["sides"][1]["class"]]
    return {
        **_head("comparison", setting),
        "designs": [design_document(design) for design in designs],
        "links": links,
        "changes": _changes(differences),
        "differences": differences,
        "same": [
            {"stage": cell["stage"], "link": cell["link"], "class": cell["sides"][0]["class"]}
            for cell in cells
            if cell not in differences
        ],
        "own_registration": _registering(designs, cells),
        "facts": _facts(designs),
    }


def designs_document() -> Document:
    """Return all designs."""
    return {"schema": SCHEMA, "kind": "designs", "designs": [design_document(design) for design in DESIGNS.values()]}
