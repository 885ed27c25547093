"""Walks through lives with a design: the timeline's machinery, with events for a reader put between its steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rseq_matrix.documents.simulate import REGISTERING
from rseq_matrix.matrix.cells import scenario_stages
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import STAGES
from rseq_matrix.model.timeline import Apply, At, Branch, Moment, Pass, State, Step, World, stages_at, unfold
from rseq_matrix.simulation import landmarks
from rseq_matrix.simulation.designs import (
    FOREIGN_LIBRARY,
    LIBRARY,
    OWN,
    REGISTRATION,
    THREAD_REGISTRATION,
    Design,
    DesignState,
    foreign,
)
from rseq_matrix.simulation.landmarks import Words


@dataclass(frozen=True)
class Registering:
    """The outcome for a library that registers its thread itself: a word of REGISTERING, and why."""

    word: str
    because: str
    reference: str


@dataclass(frozen=True)
class StageInDesign:
    """A stage as a design has it: the state that its code sees."""

    name: str
    scenario: str
    state: State
    relocated: bool | None
    section: str | None
    registering: Registering


@dataclass
class Event:
    """A row of the timeline: what happened, the state after it, and the stages that come there."""

    name: str
    root: str
    """The event with which another task or image begins; empty on the main line."""
    words: Words
    state: State
    stages: list[StageInDesign] = field(default_factory=list)


@dataclass(frozen=True)
class Timeline:
    """A life under a design."""

    design: Design
    world: World
    events: tuple[Event, ...]
    unreached: tuple[str, ...]
    """The stages that never come, because libc ended the process."""

    @property
    def stages(self) -> dict[str, StageInDesign]:
        """Return the stages by name."""
        return {seen.name: seen for event in self.events for seen in event.stages}


# --- the steps

LEAVING = ("unregistration",)
"""Rules that change the main thread for good in one scenario, from main() on."""


class _Steps:
    """Puts a design's events between the steps of a life."""

    def __init__(self, design: Design, world: World) -> None:
        self._rules = design.all_rules()
        self._rules_after = design.rules_by_event(world)
        self._skipped = design.skips if world.dynamic else ()
        self._order = [event for event in landmarks.order(world) if event not in self._skipped]
        self._world = world
        self._at = -1

    def _event(self, name: str) -> Iterator[Step]:
        yield Apply(name) if name in self._rules else Pass(name)
        if name != landmarks.THREAD_POINTER:  # the rules there apply where the life has its registration
            yield from map(Apply, self._rules_after.get(name, ()))

    def _up_to(self, name: str) -> Iterator[Step]:
        """Yield the events from where the life stands up to this one; a new image begins again."""
        place = self._order.index(name)
        if name == landmarks.EXEC and self._at >= 0:
            yield from self._up_to(landmarks.MAIN)  # which calls execve()
            self._at = place - 1
        for event in self._order[self._at + 1 : place + 1]:
            yield from self._event(event)
        self._at = max(self._at, place)

    def _branch(self, steps: Sequence[Step]) -> Iterator[Step]:
        yield from steps
        if Apply("new thread") in steps:
            yield from self._event(landmarks.THREAD_EXIT)

    def _stages(self, step: At) -> Iterator[Step]:
        stages = stages_at(step, self._world)
        if stages:
            yield from self._up_to(landmarks.place(stages[0], self._world, step.bound))
            yield step

    def _rule(self, step: Apply) -> Iterator[Step]:
        if step.rule == REGISTRATION:
            yield from map(Apply, self._rules_after.get(landmarks.THREAD_POINTER, ()))
        elif step.rule in self._order:
            yield from self._up_to(step.rule)
        elif step.rule not in self._skipped:
            if step.rule in LEAVING:
                yield from self._up_to(landmarks.MAIN)
            yield step

    def of(self, life: Iterable[Step]) -> Iterator[Step]:
        """Yield the steps of a life."""
        for step in life:
            if isinstance(step, Apply):
                yield from self._rule(step)
            elif isinstance(step, At):
                yield from self._stages(step)
            elif isinstance(step, Branch):
                yield from self._up_to(landmarks.MAIN)
                yield Branch(tuple(self._branch(step.steps)))
            else:
                yield step
        yield from self._up_to(landmarks.MAIN)
        yield from self._event(landmarks.END)


def steps(design: Design, world: World, scenario: str) -> tuple[Step, ...]:
    """Return the life of a scenario's process under a design."""
    return tuple(_Steps(design, world).of(LIVES[scenario](world)))


# --- a library that registers by itself


def _with_library(life: Iterable[Step], stage: str) -> Iterator[Step]:
    """Let a library register itself where a stage comes."""
    for step in life:
        if isinstance(step, Branch):
            yield Branch(tuple(_with_library(step.steps, stage)))
        else:
            yield step
            if isinstance(step, At) and stage in step.stages:
                yield Apply(FOREIGN_LIBRARY if foreign(stage) else LIBRARY)


def _follows(design: Design, world: World, scenario: str, stage: str) -> Registering:
    """Walk the life with a library that registers at the stage, and say what libc does about it."""
    registered = False
    for moment in unfold(_with_library(steps(design, world, scenario), stage), world, design.all_rules()):
        state = moment.state
        registered = registered or moment.event in (LIBRARY, FOREIGN_LIBRARY)
        if not registered or not isinstance(state, DesignState):
            continue
        if state.fatal:
            return Registering("fatal", f"libc ends the process: {state.fatal}", state.reference)
        if moment.event == REGISTRATION and state.holds == OWN and not world.hinders(state):
            return Registering("takes it", state.because, state.reference)
    return Registering("works", REGISTERING["works"], "rseq(2)")


def _registering(design: Design, world: World, scenario: str, stage: str, seen: State) -> Registering:
    """Say what a library's own registration leads to at a stage."""
    word = ""
    if world.kernel_rseq != "present":
        word = "impossible"
    elif seen.kernel:
        word = "not needed" if seen.user else "refused"
    elif isinstance(seen, DesignState) and seen.handled:
        word = "reserved"
    return Registering(word, REGISTERING[word], "rseq(2)") if word else _follows(design, world, scenario, stage)


# --- the timeline


def _words(moment: Moment, design: Design, world: World) -> Words:
    """Return what happens at an event: as the design, the rule or the landmark says."""
    if moment.event in design.words:
        return design.words[moment.event]
    rule = design.all_rules().get(moment.event)
    if rule is None:
        return landmarks.words(moment.event, world)
    if moment.event in (landmarks.THREAD_POINTER, REGISTRATION, THREAD_REGISTRATION) and moment.state.because:
        return Words(moment.state.because, moment.state.reference)  # also where the rule had to say something else
    return Words(rule.because, rule.reference)


@dataclass(frozen=True)
class _Line:
    """The steps of the main thread's one image, or of what leaves it: another task, another image."""

    root: str
    """The event that it begins with; empty for the main thread."""
    before: tuple[Step, ...]
    steps: tuple[Step, ...]


def _lines(life: Sequence[Step]) -> Iterator[_Line]:
    """Take a life apart: the main line, then each other one with the steps that lead to it."""
    main: list[Step] = []
    others: list[_Line] = []
    for number, step in enumerate(life):
        if isinstance(step, Branch):
            root = step.steps[0]
            others.append(_Line(root.rule if isinstance(root, Apply) else "", tuple(main), step.steps))
        elif isinstance(step, Apply) and (step.rule in LEAVING or step in main):
            others.append(_Line(step.rule, tuple(main), tuple(life[number:])))
            main.append(Pass(landmarks.END))
            break
        else:
            main.append(step)
    yield _Line("", (), tuple(main))
    yield from others


class _Merging:
    """Merges the lives of scenarios into one timeline. Their main lines are the same up to main()."""

    def __init__(self, design: Design, world: World) -> None:
        self._design, self._world = design, world
        self._rules = design.all_rules()
        self._main: list[str] = []
        self._events: dict[tuple[str, str], Event] = {}

    def add(self, scenario: str) -> None:
        """Walk through a scenario's life, as far as libc lets it."""
        for line in _lines(steps(self._design, self._world, scenario)):
            self._follow(line, scenario)

    def _follow(self, line: _Line, scenario: str) -> None:
        here = None
        for moment in unfold((*line.before, *line.steps), self._world, self._rules):
            ended = isinstance(moment.state, DesignState) and moment.state.fatal
            if moment.order > len(line.before):
                if moment.stages and here:
                    here.stages += [self._seen(moment, name, scenario) for name in moment.stages]
                else:
                    here = self._event(line.root, moment, here)
            if ended:
                return

    def _event(self, root: str, moment: Moment, before: Event | None) -> Event:
        """Return the row of an event; a new one of the main line comes directly behind the one before."""
        if not root and moment.event not in self._main:
            self._main.insert(self._main.index(before.name) + 1 if before else 0, moment.event)
        words = _words(moment, self._design, self._world)
        return self._events.setdefault((root, moment.event), Event(moment.event, root, words, moment.state))

    def _seen(self, moment: Moment, name: str, scenario: str) -> StageInDesign:
        state = self._design.view(moment.state, name)
        registering = _registering(self._design, self._world, scenario, name, state)
        return StageInDesign(name, scenario, state, moment.relocated, moment.section, registering)

    def _shown(self, event: Event) -> bool:
        """Return whether a reader needs it: all of the main line; of others, what has stages or may change a fact."""
        return not event.root or bool(event.stages) or event.name in self._rules or event.name == landmarks.THREAD_EXIT

    def events(self) -> tuple[Event, ...]:
        """Return the rows: the main line in its order, what leaves it behind main()."""
        events = [event for event in self._events.values() if self._shown(event)]
        main = [self._events["", name] for name in self._main]
        roots = dict.fromkeys(event.root for event in events if event.root)
        others = [event for root in roots for event in events if event.root == root]
        place = next((i + 1 for i, event in enumerate(main) if event.name == landmarks.MAIN), len(main))
        return (*main[:place], *others, *main[place:])


def timeline(design: Design, world: World, scenarios: Iterable[str]) -> Timeline:
    """Return the merged lives of these scenarios' processes under a design."""
    merging = _Merging(design, world)
    wanted: list[str] = []
    for scenario in scenarios:
        merging.add(scenario)
        wanted += scenario_stages(scenario, world.link)
    events = merging.events()
    reached = {seen.name for event in events for seen in event.stages}
    return Timeline(design, world, events, tuple(name for name in STAGES if name in {*wanted} - reached))
