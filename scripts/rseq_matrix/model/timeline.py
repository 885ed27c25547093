"""The timeline model: what the state of a thread is, event by event, and why. It never looks at an observation.

A life is a list of steps: rules, which change the state, stages, which come where they stand, and branches, which are
other tasks that start from a state. Unfolding a life in a world gives, for every stage, the state at that point. The
lives themselves are in lives.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from rseq_matrix.model.classes import REGISTERED, classify, right_path
from rseq_matrix.model.stages import STAGES

INTERRUPTED, PASSED_OVER = "interrupted", "passed over"
"""A section that is stopped in, and one that a debugger stops in, but leads around the kernel's look at it."""

NOWHERE, BEHIND, BEFORE = "nowhere", "behind", "before"
KILLED = "SIGSYS"
"""What a filter that kills answers, in the place of an errno's name."""


@dataclass(frozen=True)
class Ending:
    """How a process ends before its time."""

    signal: str
    message: str
    """What it says of it, on standard error; may be empty."""
    because: str
    reference: str


FATAL = Ending(
    "SIGABRT",
    "Fatal glibc error: rseq registration failed",
    "libc ends the process: the creating thread is registered, and rseq(2) is refused to the new one",
    "glibc nptl/pthread_create.c start_thread",
)
KILLING = Ending(KILLED, "", "a filter kills the process at its first rseq(2)", "seccomp(2), SECCOMP_RET_KILL_PROCESS")


@dataclass(frozen=True)
class Conditions:
    """What an environment changes for the model; all else that it does shows in what rseq(2) answers."""

    tunable_off: bool = False
    """GLIBC_TUNABLES keeps libc from registering."""
    own_area: bool = False
    """The program registers areas of its own."""
    late_filter: bool = False
    """rseq(2) is refused from main() on."""
    stepped: bool = False
    """Every instruction is single-stepped."""


DEFAULT = Conditions()


@dataclass(frozen=True)
class World:
    """What the model is told: found out by experiment and from ELF files, never from a version."""

    link: str
    environment: Conditions
    libc_registers: bool
    """This libc has rseq support: the dynamic linker, or the static program, defines __rseq_offset."""
    kernel_rseq: str
    """"present"; else what rseq(2) answers to everything: an errno's name, "success" from a filter that fakes it, or
    "SIGSYS" from one that kills."""
    static_thread_pointer_first: bool
    """In a static program the thread pointer is set before IRELATIVE relocations are applied."""
    area: str = BEHIND
    """Where libc has the rseq area of a thread: behind the thread pointer (BEHIND), before it (BEFORE), or NOWHERE."""
    preloaded_first: bool = False
    """Constructors of a preloaded object are called before those of a needed library that is independent of it."""
    audit_binds_lazily: bool = False
    """Any audit library makes binding lazy, not only one that wants to see calls through the PLT."""
    rseq_after_exec: str = ""
    """What rseq(2) answers to the image that an execve() starts, where that differs: an emulator may not follow."""

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
        return self.kernel_rseq == "success" and self.libc_registers and not self.environment.tunable_off

    def answer(self, state: State) -> str:
        """Return what rseq(2) answers in a state, in the words of `kernel_rseq`."""
        if state.filtered:
            return "EPERM"
        return self.rseq_after_exec if state.images > 1 and self.rseq_after_exec else self.kernel_rseq

    def hinders(self, state: State) -> tuple[str, str] | None:
        """Return why libc registers no area in a state, and the reference; None if it does."""
        answer = self.answer(state)
        if answer == "ENOSYS":
            return "this kernel has no rseq(2)", "rseq(2), ENOSYS"
        if answer != "present":
            return f"rseq(2) is answered with {answer} here and registers nothing", "seccomp(2)"
        if not self.libc_registers:
            return "this libc has no rseq support and registers nothing", "glibc before commit 95e114a0919d; musl"
        if self.environment.tunable_off:
            return (
                "the tunable glibc.pthread.rseq=0 keeps libc from registering",
                "glibc commit e3e589829d16, sysdeps/nptl/dl-tls_init_tp.c",
            )
        return None


@dataclass(frozen=True)
class State:
    """The three facts about one thread, the owner of its area, and the rule that made it so."""

    thread_pointer: bool = False
    kernel: bool = False
    user: bool = False
    owner: str = "none"
    task: str = "main"
    area: str = NOWHERE
    """Where libc has an area for the thread, used or not."""
    images: int = 0
    """How many programs the process has been, by execve()."""
    filtered: bool = False
    """A filter that the program installed refuses rseq(2)."""
    inherits: bool = False
    """The thread's creator is registered by libc, so libc wants this thread to be."""
    ending: Ending | None = None
    """The process has ended here."""
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


def _start_image(state: State, world: World) -> State:
    image = State(images=state.images + 1, filtered=state.filtered)
    return replace(image, ending=KILLING) if world.answer(image) == KILLED else image


def _register(state: State, world: World) -> State:
    hindrance = world.hinders(state)
    if hindrance:
        because, reference = hindrance
        return replace(state, kernel=False, user=False, owner="none", because=because, reference=reference)
    return replace(state, kernel=True, user=True, owner="glibc")


def _zeroed_block(state: State, world: World) -> State:
    """cpu_id 0 is a CPU number; __rseq_size is positive only where libc registered its own threads, or thinks so."""
    hindrance = world.hinders(replace(state, filtered=False))
    if hindrance and not world.libc_believes:
        because, reference = hindrance
        return replace(state, kernel=False, user=False, owner="none", because=because, reference=reference)
    return replace(state, kernel=False, user=True, owner="none")


def _register_thread(state: State, world: World) -> State:
    """A thread whose creator was registered has to be, too: libc ends the process if that fails."""
    after = _register(state, world)
    if after.kernel or not state.inherits or not state.filtered:
        return after
    return replace(after, ending=FATAL)


def _register_own(state: State, world: World) -> State:
    if not world.environment.own_area or world.answer(state) != "present":
        return state
    return replace(state, kernel=True, owner="other")


def _unregistered(state: State, _world: World) -> State:
    return replace(state, kernel=False, user=False, owner="none")


def _unregister(state: State, world: World) -> State:
    if state.filtered:
        because = "rseq(2) is refused, so nothing can be unregistered, either"
        return replace(state, because=because, reference="seccomp(2)")
    return _unregistered(state, world)


RULES: dict[str, Rule] = {
    "exec": Rule(
        _start_image,
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
        lambda state, _world: replace(
            state, kernel=False, user=False, owner="none", task="thread", inherits=state.kernel and state.user
        ),
        "clone(CLONE_VM) drops the registration, and the TLS block is new",
        "Linux include/linux/rseq.h rseq_fork, commit 463f550fb47b",
    ),
    "thread registration": Rule(
        _register_thread,
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
    "own registration": Rule(
        _register_own,
        "the program registered an area of its own, as with librseq; __rseq_size, which is libc's, says nothing of it",
        "librseq src/rseq.c rseq_register_current_thread; glibc manual, Restartable Sequences",
    ),
    "late filter": Rule(
        lambda state, world: replace(state, filtered=world.environment.late_filter),
        "a filter refuses rseq(2) from here on; what is registered stays registered",
        "seccomp(2)",
    ),
    "unregistration": Rule(
        _unregister,
        "the kernel sets cpu_id to RSEQ_CPU_ID_UNINITIALIZED when it unregisters; __rseq_size stays",
        "Linux kernel/rseq.c rseq_reset_rseq_cpu_node_id",
    ),
}


@dataclass(frozen=True)
class Apply:
    """A rule is applied."""

    rule: str


@dataclass(frozen=True)
class At:
    """Stages that come here, in no order among each other."""

    stages: tuple[str, ...]
    only: str = "any"
    """"any", "now" (only where calls are bound during relocation) or "lazy"."""
    bound: str = ""
    """When the call is bound that brings the stages about, for stages of the phase BINDING: "now" or "lazy"."""
    relocated: bool | None = None
    """Whether the stage's own object is relocated; None where that is nobody's business."""
    section: str = ""
    """What a critical section went through: INTERRUPTED, and is aborted where it is protected, or PASSED_OVER."""
    creates: bool = False
    """The function that it runs in is about to create a thread, and shares that thread's end."""


@dataclass(frozen=True)
class Branch:
    """Another task. It starts with the state of here and leaves it unchanged."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Pass:
    """An event that changes none of the three facts. Nothing is judged by it: it tells a reader where a life stands."""

    event: str


Step = Apply | At | Branch | Pass


def at(
    *stages: str,
    only: str = "any",
    bound: str = "",
    relocated: bool | None = None,
    section: str = "",
    creates: bool = False,
) -> At:
    """Write an At shortly."""
    return At(stages, only, bound or ("" if only == "any" else only), relocated, section, creates)


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
    ends: Ending | None = None
    """How the process ends right behind it."""


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
    path: str = "fallback"
    """How a subject that asks the kernel before it adds has to add there."""
    ending: Ending | None = None
    """How the process ends before the stage, or because of it."""


def _apply(rule: Rule, state: State, world: World) -> State:
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


def _path(state: State, world: World) -> str:
    """Return how a subject adds that asks the kernel first, and that gives up a critical section which is aborted."""
    if state.name == REGISTERED and (state.filtered or world.environment.stepped):
        return "fallback"
    return right_path(state.name)


def stages_at(step: At, world: World) -> tuple[str, ...]:
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
                state = _apply(self.rules[step.rule], state, self.world)
                self.moments.append(Moment(self.order, step.rule, state))
            elif isinstance(step, Branch):
                self.take(step.steps, state)
            elif isinstance(step, Pass):
                self.moments.append(Moment(self.order, step.event, state))
            else:
                aborted = state.kernel and step.section == INTERRUPTED
                section = ("aborted" if aborted else "continued") if step.section else None
                stages = stages_at(step, self.world)
                if stages:
                    ends = self.end_of_thread(state) if step.creates else None
                    moment = Moment(self.order, "stage", state, stages, step.relocated, section, step.bound, ends)
                    self.moments.append(moment)
        return state

    def end_of_thread(self, state: State) -> Ending | None:
        """Return how the process ends if a thread is created in this state; None if it does not."""
        if not state.filtered:
            return None
        for rule in ("new thread", "thread registration"):
            state = _apply(self.rules[rule], state, self.world)
        return state.ending


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
                path=_path(state, world),
                ending=state.ending or moment.ends,
            )
    return expected
