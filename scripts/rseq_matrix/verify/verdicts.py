"""What wrong trials say about a subject: one defect for each name and place, the first instruction, a count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import capstone

from rseq_matrix.elf.facts import Section, SectionInstruction
from rseq_matrix.elf.image import Image
from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.tracee import HANDLER, UNREGISTERED_HELPER, UNREGISTERED_OPERATOR
from rseq_matrix.verify.trials import FAMILY, SIGNAL, Trial

PHASE = "interruptions"
LONGEST = 15  # bytes of an instruction (Intel SDM, volume 2, 2.3.11)
POPPED = {
    0: "the interrupted pop gave what is still in a stack, or what another got, too",
    2: "a node was taken that nobody got",
}
DOUBLING = frozenset({"doubled-after-abort", "early-commit"})  # defects of a section whose abort takes effect, too
LOSING = frozenset({"not-retried"})
UNREGISTERED = frozenset({UNREGISTERED_OPERATOR, UNREGISTERED_HELPER})
CYCLE = 3  # effects of one operation, from which on they are not counted any more


@cache
def _disassembler() -> Any:
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return disassembler


def stores(instruction: SectionInstruction) -> bool:
    """Return whether an instruction writes to memory."""
    for insn in _disassembler().disasm(bytes.fromhex(instruction.bytes), instruction.address):
        written = (o for o in insn.operands if o.type == capstone.x86.X86_OP_MEM and o.access & capstone.CS_AC_WRITE)
        return any(written)
    return False


def section_name(section: Section) -> str:
    """Return how reports call a section."""
    return f"the critical section at +{section.start:#x} in {section.function or 'a function without a name'}"


def wrong_effect(missing: bool, aborted: bool) -> tuple[str, str]:
    """Return the defect's name, and what it took, of a stepped operation that did not take effect once."""
    if missing:
        return "not-retried" if aborted else "lost", "no effect"
    return "doubled-after-abort" if aborted else "doubled", "effect more than once"


def is_explained(trial: Trial, names: Collection[str]) -> bool:
    """Return whether defects of sections, by name, explain a trial that had nothing to do with these sections.

    Sections are aborted by timer ticks and preemptions, too, that no trial brings about; a section that does not bear
    it then takes its wrong effect in any thread that enters it: in those with a registration.
    """
    if trial.effect is None or trial.effect.right:
        return False
    by_role = {trial.place.operator: trial.effect.operator, **trial.effect.others}
    wrong = {role: times for role, times in by_role.items() if times != 1}
    if UNREGISTERED & set(wrong):
        return False
    return all((DOUBLING if times > 1 else LOSING) & set(names) for times in wrong.values())


class Instructions:
    """The subject's instructions by address, for sentences."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._text = {i.address: i.text for section in subject.sections for i in section.code}

    def name(self, address: int) -> str:
        """Return "instruction +0x1234 `addq …`"; the text is taken from the file where it is in no section."""
        text = self._text.get(address) or self._read(address)
        return f"instruction +{address:#x}" + (f" `{text}`" if text else "")

    def _read(self, address: int) -> str:
        with Image(str(self.subject.path)) as image:
            code = image.read(address, LONGEST) or b""
        found = next(iter(_disassembler().disasm(code, address, 1)), None)
        return f"{found.mnemonic} {found.op_str}".strip() if found else ""


def _times(number: int) -> str:
    words = {0: "no effect", 1: "effect once", 2: "effect twice"}
    return words.get(number, f"effect {number} times" if number < CYCLE else "effect more than twice")


def _got(trial: Trial) -> str:
    """Return what a trial with wrong effects showed."""
    who = trial.place.operation
    if trial.effect is None:
        return ""
    if trial.effect.operator != 1:
        if who == "pop":
            return POPPED[trial.effect.operator]
        return f"the interrupted {who} took {_times(trial.effect.operator)}"
    role, times = next((r, t) for r, t in trial.effect.others.items() if t != 1)
    other = "the signal handler's" if role == HANDLER else "another thread's"
    thread = "an unregistered thread's" if trial.place.operator == UNREGISTERED_OPERATOR else "a registered thread's"
    return f"{other} {who}, in the middle of {thread}, took {_times(times)}"


def how(kind: str) -> str:
    """Return a kind of interruption in words."""
    return {
        SIGNAL: "a signal whose handler does the same",
        "migration": "a migration",
        "preemption": "a preemption by a thread that does the same",
        "membarrier": "an RSEQ membarrier",
        "other-cpu": "a thread on another CPU that does the same",
    }[FAMILY.get(kind, kind)]


class _Judge:
    """Judges the trials of one place: a section, or an operation outside of sections."""

    def __init__(self, subject: Subject, trials: Sequence[Trial], where: str) -> None:
        self.instructions = Instructions(subject)
        self.subject = subject
        self.trials = trials
        self.where = where
        self.wrong = sorted((trial for trial in trials if not trial.right), key=lambda trial: trial.place.address)
        self.found: list[Defect] = []

    def only_signal(self, wrong: Sequence[Trial]) -> bool:
        """Return whether nothing but the handler's own use was wrong, where other kinds were tried, too."""
        return {t.kind for t in wrong} == {SIGNAL} and any(t.kind != SIGNAL for t in self.trials if t.happened)

    def add(self, name: str, trials: Sequence[Trial], sentence: Callable[[Trial], str]) -> None:
        """Note a defect with the first of the trials that show it."""
        first = trials[0]
        count = f" ({len(trials)} of {len([t for t in self.trials if t.happened])} trials)"
        where = f"{self.where}, {self.instructions.name(first.place.address)}"
        self.found.append(Defect(name, PHASE, where, f"{sentence(first)}{count}"))

    def at(self, trial: Trial) -> str:
        """Return where and by what a trial interrupted."""
        return f"{self.instructions.name(trial.place.address)}: interrupted there by {how(trial.kind)}"

    def ends(self) -> None:
        """Judge crashes, and operations that did not end."""
        crashes = [t for t in self.wrong if t.crash]
        stuck = [t for t in self.wrong if t.stuck]
        if crashes:
            self.add("crash", crashes, lambda t: f"{self.at(t)}, the {t.place.operation} crashed: {t.crash}")
        if not stuck:
            return
        if {t.kind for t in stuck} == {SIGNAL}:
            ending = "did not end within a second: the handler waits for what it interrupted"
            self.add("not-reentrant", stuck, lambda t: f"{self.at(t)}, the {t.place.operation} {ending}")
        else:
            self.add("hang", stuck, lambda t: f"{self.at(t)}, the {t.place.operation} did not end within a second")

    def reentrancy(self, wrong: Sequence[Trial]) -> None:
        """Note that only the handler's own use went wrong."""
        self.add("not-reentrant", wrong, lambda t: f"{self.at(t)}, {_got(t)}; wanted was one effect of each")


def judge_section(subject: Subject, section: Section, trials: Sequence[Trial]) -> list[Defect]:
    """Return what the trials inside of one section say."""
    judge = _Judge(subject, trials, section_name(section))
    judge.ends()
    wrong = [t for t in judge.wrong if t.effect]
    if wrong and judge.only_signal(wrong):
        judge.reentrancy(wrong)
        return judge.found
    missing = [t for t in wrong if t.effect and t.effect.operator == 0]
    doubled = [t for t in wrong if t.effect and t.effect.operator > 1]
    others = [t for t in wrong if t.effect and t.effect.operator == 1]
    if missing:
        judge.add(
            "not-retried",
            missing,
            lambda t: f"{judge.at(t)}, {_got(t)}: it is neither tried again nor done by the fallback",
        )
    if doubled:
        _judge_doubled(judge, section, doubled)
    others = [t for t in others if not is_explained(t, {defect.name for defect in judge.found})]
    if others:
        lost = any(0 in t.effect.others.values() for t in others if t.effect)
        judge.add("lost" if lost else "doubled", others, lambda t: f"{judge.at(t)}, {_got(t)}; wanted was one")
    return judge.found


def _judge_doubled(judge: _Judge, section: Section, doubled: Sequence[Trial]) -> None:
    """Tell a commit before the end from an abort handler that commits: the latter doubles at every instruction."""
    first = min(t.place.address for t in judge.trials if t.happened)
    if any(t.place.address == first for t in doubled):
        judge.add(
            "doubled-after-abort",
            doubled,
            lambda t: (
                f"{judge.at(t)}, {_got(t)}, although nothing was stored before: the abort and the retry both count"
            ),
        )
        return
    behind = min(t.place.address for t in doubled)
    before = [i for i in section.code if i.address < behind and stores(i)]
    store = judge.instructions.name(before[-1].address) if before else "it"

    def sentence(trial: Trial) -> str:
        place = judge.instructions.name(trial.place.address)
        behind = f"aborted behind it, at {place}, by {how(trial.kind)}"
        return f"{store} stores before the section's end: {behind}, {_got(trial)}"

    judge.add("early-commit", doubled, sentence)


def judge_outside(subject: Subject, operation: str, trials: Sequence[Trial]) -> list[Defect]:
    """Return what the trials outside of sections say, of one operation."""
    judge = _Judge(subject, trials, f"{operation}, outside of critical sections")
    judge.ends()
    wrong = [t for t in judge.wrong if t.effect]
    if wrong and judge.only_signal(wrong):
        judge.reentrancy(wrong)
        return judge.found
    more = [t for t in wrong if t.effect and any(n > 1 for n in t.effect.all)]
    less = [t for t in wrong if t not in more]
    if less:
        name = "fallback-not-atomic" if subject.sections else "not-atomic"
        judge.add(name, less, lambda t: f"{judge.at(t)}, {_got(t)}; wanted was one effect of each")
    if more:
        judge.add("doubled", more, lambda t: f"{judge.at(t)}, {_got(t)}; wanted was one effect of each")
    return judge.found
