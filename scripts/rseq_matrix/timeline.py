"""The timeline model: what the state of a thread is, event by event, and why. It never looks at an observation.

A life is a list of steps: rules, which change the state, stages, which fall where they stand, and branches, which are
other tasks that start from a state. Unfolding a life in a world gives, for every stage, the state at that point. The
lives themselves are in lives.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from rseq_matrix.classes import classify
from rseq_matrix.registry import STAGES

NOWHERE, BEHIND, BEFORE = "nowhere", "behind", "before"


@dataclass(frozen=True)
class World:
    """What the model is told of the surroundings; found out by experiment and from ELF files, never from a version."""

    link: str
    environment: str
    libc_registers: bool
    """This libc has rseq support: the dynamic linker, or the static program, defines __rseq_offset."""
    kernel_rseq: str
    """"present"; else what rseq(2) answers to everything: an errno's name, or "success" from a filter that fakes it."""
    static_thread_pointer_first: bool
    """In a static program the thread pointer is set before IRELATIVE relocations are applied."""
    area: str = BEHIND
    """Where libc has the rseq area of a thread: behind the thread pointer (BEHIND), before it (BEFORE), or NOWHERE."""
    preloaded_first: bool = False
    """Constructors of a preloaded object are called before those of a needed library that is independent of it."""
    audit_binds_lazily: bool = False
    """Any audit library makes binding lazy, not only one that wants to see calls through the PLT."""

    @property
    def dynamic(self) -> bool:
        """Return whether there is a dynamic linker."""
        return self.link.startswith("dynamic")

    @property
    def binds_now(self) -> bool:
        """Return whether calls are bound when the caller is relocated."""
        return self.link == "dynamic-now"

    @property
    def libc_believes(self) -> bool:
        """Return whether libc takes its registration for done and sets __rseq_size, though it is not."""
        return self.kernel_rseq == "success" and self.libc_registers and self.environment != "tunable-off"

    @property
    def hinders(self) -> tuple[str, str] | None:
        """Return why no area gets registered, and the reference; None if one does."""
        if self.kernel_rseq == "ENOSYS":
            return "this kernel has no rseq(2)", "rseq(2), ENOSYS"
        if self.kernel_rseq != "present":
            return f"rseq(2) is answered with {self.kernel_rseq} here and registers nothing", "seccomp(2)"
        if not self.libc_registers:
            return "this libc has no rseq support and registers nothing", "glibc before commit 95e114a0919d; musl"
        if self.environment == "tunable-off":
            return (
                "the tunable glibc.pthread.rseq=0 keeps libc from registering",
                "glibc commit e3e589829d16, sysdeps/nptl/dl-tls_init_tp.c",
            )
        return None


@dataclass(frozen=True)
class State:
    """The three facts about one thread, who owns the area, and the rule that made it so."""

    thread_pointer: bool = False
    kernel: bool = False
    user: bool = False
    owner: str = "none"
    task: str = "main"
    area: str = NOWHERE
    """Where libc has an area for the thread, used or not."""
    because: str = ""
    reference: str = ""

    @property
    def name(self) -> str:
        """Return the class."""
        return classify(self.thread_pointer, self.kernel, self.user)


@dataclass(frozen=True)
class Rule:
    """One way in which the state changes, with its reason and where that is written."""

    apply: Callable[[State, World], State]
    because: str
    reference: str


def _register(state: State, world: World) -> State:
    if world.hinders:
        because, reference = world.hinders
        return replace(state, kernel=False, user=False, owner="none", because=because, reference=reference)
    return replace(state, kernel=True, user=True, owner="glibc")


def _zeroed_block(state: State, world: World) -> State:
    """cpu_id 0 is a CPU number; __rseq_size is positive only where libc registered its own threads, or thinks so."""
    if world.hinders and not world.libc_believes:
        because, reference = world.hinders
        return replace(state, kernel=False, user=False, owner="none", because=because, reference=reference)
    return replace(state, kernel=False, user=True, owner="none")


def _unregistered(state: State, _world: World) -> State:
    return replace(state, kernel=False, user=False, owner="none")


RULES: dict[str, Rule] = {
    "exec": Rule(
        lambda _state, _world: State(),
        "execve() drops the registration and the new image has no thread pointer yet",
        "Linux fs/exec.c bprm_execve, rseq_execve",
    ),
    "thread pointer": Rule(
        lambda state, _world: replace(state, thread_pointer=True),
        "libc has set the thread pointer",
        "glibc elf/rtld.c init_tls, csu/libc-tls.c __libc_setup_tls",
    ),
    "area": Rule(
        lambda state, world: replace(state, area=world.area),
        "libc has a place for the area: in the thread's descriptor behind the thread pointer, or before it in TLS",
        "glibc nptl/descr.h struct pthread; since commits 304221775cd3 and 93d0bfbe8ffa dl-extra_tls.h",
    ),
    "registration": Rule(
        _register,
        "libc registers the main thread's area where it sets the thread pointer: before audit libraries and relocation",
        "glibc sysdeps/nptl/dl-tls_init_tp.c __tls_init_tp, commits 95e114a0919d and c901c3e764d7",
    ),
    "new thread": Rule(
        lambda state, _world: replace(state, kernel=False, user=False, owner="none", task="thread"),
        "clone(CLONE_VM) drops the registration, and the TLS block is new",
        "Linux include/linux/rseq.h rseq_fork, commit 463f550fb47b",
    ),
    "thread registration": Rule(
        _register,
        "libc registers a thread's area before the start routine, and never unregisters it",
        "glibc nptl/pthread_create.c start_thread",
    ),
    "fork": Rule(
        lambda state, _world: replace(state, task="child"),
        "a fork child inherits the registration with the copy of the memory",
        "Linux include/linux/rseq.h rseq_fork",
    ),
    "shared-memory clone": Rule(
        lambda state, _world: replace(state, kernel=False, owner="none", task="child"),
        "clone(CLONE_VM) drops the registration, but the area is the parent's and still holds its CPU number",
        "Linux include/linux/rseq.h rseq_fork, commit 463f550fb47b",
    ),
    "initialized TLS block": Rule(
        lambda state, world: replace(_unregistered(state, world), task="thread"),
        "nobody registers a raw thread's area, and cpu_id says so: it was initialized to RSEQ_CPU_ID_UNINITIALIZED",
        "rseq(2)",
    ),
    "zeroed TLS block": Rule(
        lambda state, world: replace(_zeroed_block(state, world), task="thread"),
        "nobody registers a raw thread's area, and cpu_id 0 reads as CPU 0",
        "rseq(2); glibc manual, Restartable Sequences",
    ),
    "unregistration": Rule(
        _unregistered,
        "the kernel sets cpu_id to RSEQ_CPU_ID_UNINITIALIZED when it unregisters; __rseq_size stays",
        "Linux kernel/rseq.c rseq_reset_rseq_cpu_node_id",
    ),
}


@dataclass(frozen=True)
class Apply:
    """A rule strikes."""

    rule: str


@dataclass(frozen=True)
class At:
    """Stages that fall here, in no order among each other."""

    stages: tuple[str, ...]
    only: str = "any"
    """"any", "now" (only where calls are bound during relocation) or "lazy"."""
    bound: str = ""
    """When the call is bound that brings the stages about, for stages of the phase BINDING: "now" or "lazy"."""
    relocated: bool | None = None
    """Whether the stage's own object is relocated; None where that is nobody's business."""
    section: bool = False
    """A critical section was interrupted, and is aborted where one is protected."""


@dataclass(frozen=True)
class Branch:
    """Another task. It starts with the state of here and leaves it unchanged."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Pass:
    """An event that changes none of the three facts. Nothing is judged by it: it tells a reader where a life stands."""

    event: str


Step = Apply | At | Branch | Pass


def at(*stages: str, only: str = "any", bound: str = "", relocated: bool | None = None, section: bool = False) -> At:
    """Write an At shortly."""
    return At(stages, only, bound or ("" if only == "any" else only), relocated, section)


@dataclass(frozen=True)
class Moment:
    """A step that was reached: its place in the order, its name, and the state after it."""

    order: int
    event: str
    state: State
    stages: tuple[str, ...] = ()
    relocated: bool | None = None
    section: str | None = None
    bound: str = ""


@dataclass(frozen=True)
class Expectation:
    """What a cell should be."""

    name: str
    owner: str
    task: str
    because: str
    reference: str
    order: int
    relocated: bool | None
    section: str | None
    area: str
    """Where libc has the thread's area: BEHIND or BEFORE the thread pointer, or NOWHERE."""
    phase: str
    """When, in the life of the process, the stage comes; of a binding, when that is made."""


def _strike(rule: Rule, state: State, world: World) -> State:
    """Apply a rule and keep the reason that explains the state best.

    A rule may name its own; a rule that left an unregistered thread as it was explains nothing; else it is the rule's.
    """
    after = rule.apply(replace(state, because="", reference=""), world)
    if after.because:
        return after
    unchanged = (after.thread_pointer, after.kernel, after.user) == (state.thread_pointer, state.kernel, state.user)
    if unchanged and not state.kernel and state.because:
        return replace(after, because=state.because, reference=state.reference)
    return replace(after, because=rule.because, reference=rule.reference)


def falls(step: At, world: World) -> tuple[str, ...]:
    """Return those of the step's stages that exist in this link and are bound now."""
    if step.only != "any" and (step.only == "now") != world.binds_now:
        return ()
    return tuple(name for name in step.stages if world.link in STAGES[name].links)


@dataclass
class _Walk:
    world: World
    rules: dict[str, Rule]
    order: int = 0
    moments: list[Moment] = field(default_factory=list)

    def take(self, steps: Iterable[Step], state: State) -> State:
        for step in steps:
            self.order += 1
            if isinstance(step, Apply):
                state = _strike(self.rules[step.rule], state, self.world)
                self.moments.append(Moment(self.order, step.rule, state))
            elif isinstance(step, Branch):
                self.take(step.steps, state)
            elif isinstance(step, Pass):
                self.moments.append(Moment(self.order, step.event, state))
            else:
                section = ("aborted" if state.kernel else "continued") if step.section else None
                stages = falls(step, self.world)
                if stages:
                    moment = Moment(self.order, "stage", state, stages, step.relocated, section, step.bound)
                    self.moments.append(moment)
        return state


def unfold(steps: Iterable[Step], world: World, rules: dict[str, Rule] | None = None) -> Iterator[Moment]:
    """Walk through a life in a world and yield every moment of it, in order."""
    walk = _Walk(world, RULES if rules is None else rules)
    walk.take(steps, State())
    yield from walk.moments


def expectations(steps: Iterable[Step], world: World) -> dict[str, Expectation]:
    """Return the expectation of every stage of a life in a world."""
    expected = {}
    for moment in unfold(steps, world):
        for name in moment.stages:
            state = moment.state
            expected[name] = Expectation(
                name=state.name,
                owner=state.owner,
                task=state.task,
                because=state.because,
                reference=state.reference,
                order=moment.order,
                relocated=moment.relocated,
                section=moment.section,
                area=state.area,
                phase={"now": "relocation", "lazy": "main"}.get(moment.bound) or STAGES[name].phase,
            )
    return expected
