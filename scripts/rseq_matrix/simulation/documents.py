"""The JSON documents of `simulate`; what is printed and drawn is rendered from them. Schema: schema/simulate-1.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rseq_matrix.documents.simulate import (
    SIMULATE_SCHEMA,
    ClassChange,
    DesignComparison,
    DesignDifference,
    DesignInWords,
    DesignList,
    DesignSide,
    Life,
    OwnRegistration,
    Property,
    PropertyOfBoth,
    PropertySide,
    Reason,
    RegisteringLibrary,
    SameStage,
    SimulatedEvent,
    SimulatedStage,
    StageInLink,
)
from rseq_matrix.errors import UsageError
from rseq_matrix.matrix.cells import exists_in, scenario_stages
from rseq_matrix.model.classes import HAZARDS
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import DEFAULT, Conditions
from rseq_matrix.simulation.designs import DESIGNS, Design, DesignState
from rseq_matrix.simulation.walk import Event, StageInDesign, Timeline, timeline

KERNELS = ("present", "ENOSYS", "EPERM", "EACCES", "EINVAL", "success")
"""What rseq(2) answers: it is there, an errno's name, or a success that a filter fakes."""

ENVIRONMENTS = {"default": DEFAULT, "tunable-off": Conditions(tunable_off=True)}
"""What surrounds a simulated process; of the others, what matters is the kernel's answer."""

SIMULATED = tuple(name for name in LIVES if exists_in(name, "default"))
"""The scenarios of a life that no debugger is in."""


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


def design_in_words(design: Design) -> DesignInWords:
    """Return a design with its properties."""
    facts = tuple(Property(name, fact.text, fact.reference) for name, fact in design.facts.items())
    return DesignInWords(design.name, design.summary, design.symbol_name, facts)


def _own_registration(seen: StageInDesign) -> OwnRegistration:
    return OwnRegistration(seen.registering.word, seen.registering.because, seen.registering.reference)


def _stage(seen: StageInDesign) -> SimulatedStage:
    state = seen.state
    return SimulatedStage(
        stage=seen.name,
        scenario=seen.scenario,
        thread_pointer=state.thread_pointer,
        kernel_registered=state.kernel,
        user_registered=state.thread_pointer and state.user,
        class_=state.name,
        owner=state.owner,
        because=state.because,
        reference=state.reference,
        relocated=seen.relocated,
        critical_section=seen.section,
        own_registration=_own_registration(seen),
    )


def _fatal(timeline: Timeline) -> str:
    states = (event.state for event in timeline.events)
    return next((state.fatal for state in states if isinstance(state, DesignState) and state.fatal), "")


def _event(event: Event) -> SimulatedEvent:
    state = event.state
    return SimulatedEvent(
        event=event.name,
        begins=event.root or None,
        because=event.words.because,
        reference=event.words.reference,
        thread_pointer=state.thread_pointer,
        kernel_registered=state.kernel,
        user_registered=state.thread_pointer and state.user,
        class_=state.name,
        owner=state.owner,
        explained=Reason(state.because, state.reference),
        stages=tuple(_stage(seen) for seen in event.stages),
    )


# --- documents


def life_document(design: Design, link: str, setting: Setting) -> Life:
    """Return the life of a process under a design, event by event."""
    walked = setting.walk(design, link)
    return Life(
        schema=SIMULATE_SCHEMA,
        kind="life",
        environment=setting.environment,
        kernel=setting.kernel,
        scenario=setting.scenario,
        design=design_in_words(design),
        link=link,
        events=tuple(_event(event) for event in walked.events),
        fatal=_fatal(walked) or None,
        unreached=walked.unreached,
    )


def _side(walked: Timeline, stage: str) -> DesignSide:
    seen = walked.stages.get(stage)
    if seen is None:
        because = f"the process has ended before: {_fatal(walked)}"
        return DesignSide(None, None, because, next(event.state.reference for event in reversed(walked.events)), None)
    state = seen.state
    return DesignSide(state.name, state.owner, state.because, state.reference, _own_registration(seen))


def _cells(designs: Sequence[Design], links: Sequence[str], setting: Setting) -> list[DesignDifference]:
    cells = []
    for link in links:
        walked = [setting.walk(design, link) for design in designs]
        stages = {*walked[0].stages, *walked[0].unreached}
        cells += [
            DesignDifference(stage, link, tuple(_side(one, stage) for one in walked))
            for stage in STAGES
            if stage in stages
        ]
    place = list(STAGES)
    return sorted(cells, key=lambda cell: place.index(cell.stage))


def _facts(designs: Sequence[Design]) -> Iterator[PropertyOfBoth]:
    """Yield the properties that are not the same in both."""
    for name in dict.fromkeys(name for design in designs for name in design.facts):
        facts = [design.facts.get(name) for design in designs]
        if len({fact.text if fact else None for fact in facts}) > 1:
            sides = tuple(PropertySide(fact.text, fact.reference) if fact else None for fact in facts)
            yield PropertyOfBoth(name, sides)


def _changes(differences: Sequence[DesignDifference]) -> Iterator[ClassChange]:
    """Count the changes of class, hazards first."""
    counts = Counter((cell.sides[0].class_, cell.sides[1].class_) for cell in differences)
    for pair in sorted(counts, key=lambda pair: (not {*pair} & {*HAZARDS}, -counts[pair])):
        yield ClassChange(pair[0], pair[1], counts[pair])


def _registering(designs: Sequence[Design], cells: Sequence[DesignDifference]) -> Iterator[RegisteringLibrary]:
    """Yield what becomes, under each design, of a library that registers its thread itself: outcome and stages."""
    for number, design in enumerate(designs):
        outcomes: dict[str, tuple[StageInLink, ...]] = {}
        for cell in cells:
            own = cell.sides[number].own_registration
            if own:
                outcomes[own.outcome] = (*outcomes.get(own.outcome, ()), StageInLink(cell.stage, cell.link))
        yield RegisteringLibrary(design.name, outcomes)


def comparison_document(designs: Sequence[Design], links: Sequence[str], setting: Setting) -> DesignComparison:
    """Return the stages whose class differs between two designs."""
    links = [link for link in links if not setting.scenario or scenario_stages(setting.scenario, link)]
    if not links:
        raise UsageError(f"the scenario '{setting.scenario}' has no stage in this link")
    cells = _cells(designs, links, setting)
    differences = [cell for cell in cells if cell.sides[0].class_ != cell.sides[1].class_]
    same = [cell for cell in cells if cell.sides[0].class_ == cell.sides[1].class_]
    return DesignComparison(
        schema=SIMULATE_SCHEMA,
        kind="comparison",
        environment=setting.environment,
        kernel=setting.kernel,
        scenario=setting.scenario,
        designs=tuple(design_in_words(design) for design in designs),
        links=tuple(links),
        changes=tuple(_changes(differences)),
        differences=tuple(differences),
        same=tuple(SameStage(cell.stage, cell.link, cell.sides[0].class_) for cell in same),
        own_registration=tuple(_registering(designs, cells)),
        facts=tuple(_facts(designs)),
    )


def designs_document() -> DesignList:
    """Return all designs."""
    return DesignList(SIMULATE_SCHEMA, "designs", tuple(design_in_words(design) for design in DESIGNS.values()))
