"""Critical sections: what the kernel kills a process for, what makes a section unsafe, what debuggers stumble over."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.inspect import ERROR, WARNING, LintFinding
from rseq_matrix.elf.facts import CriticalSections, FileFacts, Section, SectionInstruction
from rseq_matrix.lint.rules import finding

ALIGNMENT = 32
KILLED = "the kernel kills the process with SIGSEGV when it finds a thread inside"


def judge(facts: FileFacts) -> Iterator[LintFinding]:
    """Yield the findings about critical sections."""
    found = facts.critical_sections
    for section in found.sections:
        if section.length == 0:
            yield finding(
                "cs-empty", ERROR, _where(section), f"the section of {_name(section)} has length 0: it protects nothing"
            )
            continue
        yield from _descriptor(section)
        yield from _addresses(section, found.expected_signature)
        yield from _code(section, found.tables.exit_points is not None)
    yield from _tables(found)


def _name(section: Section) -> str:
    return f"{section.function or 'the code'} at {section.start:#x}"


def _where(section: Section) -> str:
    return f"descriptor {section.descriptor:#x}"


def _descriptor(section: Section) -> Iterator[LintFinding]:
    where, name = _where(section), _name(section)
    if section.descriptor % ALIGNMENT:
        sentence = f"the descriptor of {name} is not aligned to {ALIGNMENT} bytes, as struct rseq_cs has to be"
        yield finding("cs-alignment", ERROR, where, f"{sentence}; align the section __rseq_cs with .balign {ALIGNMENT}")
    if section.version:
        sentence = f"the descriptor of {name} has version {section.version}, and only 0 exists: {KILLED}"
        yield finding("cs-version", ERROR, where, sentence)
    if section.flags:
        sentence = f"the descriptor of {name} has flags {section.flags:#x}, which Linux 6.1 and later refuse: {KILLED}"
        yield finding("cs-flags", ERROR, where, sentence)


def _addresses(section: Section, signature: int) -> Iterator[LintFinding]:
    where, name = _where(section), _name(section)
    if not section.start_executable:
        yield finding("cs-start", ERROR, where, f"the section of {name} does not start in executable memory")
    if not section.post_commit_executable:
        end = section.start + section.length
        sentence = f"the section of {name} ends at {end:#x}, which is not in executable memory: its length is wrong"
        yield finding("cs-post-commit", ERROR, where, sentence)
    if not section.abort_executable:
        sentence = f"the abort handler of {name} at {section.abort:#x} is not in executable memory: an abort crashes"
        yield finding("cs-abort", ERROR, where, sentence)
    elif section.start <= section.abort < section.start + section.length:
        sentence = f"the abort handler of {name} at {section.abort:#x} lies inside the section: {KILLED}"
        yield finding("cs-abort-inside", ERROR, where, sentence)
    elif section.signature != signature:
        got = "nothing" if section.signature is None else f"{section.signature:#010x}"
        sentence = (
            f"before the abort handler of {name} at {section.abort:#x} stands {got}, not {signature:#010x}: {KILLED}"
        )
        yield finding("cs-signature", ERROR, where, sentence)


def _code(section: Section, has_exits: bool) -> Iterator[LintFinding]:
    for instruction in section.code:
        where = f"{instruction.address:#x}"
        what = f"'{instruction.text}' at {where} in the section of {_name(section)}"
        if instruction.mark == "system-call":
            sentence = f"{what} is a system call: with CONFIG_DEBUG_RSEQ {KILLED}, and an abort does not undo it"
            yield finding("cs-system-call", ERROR, where, sentence)
        elif instruction.mark == "call":
            sentence = f"{what} is a call: inside the function the thread is outside the section, and nothing aborts it"
            yield finding("cs-call", ERROR, where, sentence)
        elif instruction.mark == "branch":
            yield _branch(instruction, what, has_exits)
        elif instruction.mark == "undecodable":
            sentence = f"{what}: these bytes ({instruction.bytes}) are no known instruction, so the rest is not checked"
            yield finding("cs-undecodable", WARNING, where, sentence)


def _branch(instruction: SectionInstruction, what: str, has_exits: bool) -> LintFinding:
    to = "somewhere that cannot be known" if instruction.target is None else f"{instruction.target:#x}"
    sentence = f"{what} branches to {to}, neither the abort handler nor "
    if has_exits:
        sentence += "an exit point in __rseq_exit_point_array: a debugger that steps over the section misses it"
        return finding("cs-branch", ERROR, f"{instruction.address:#x}", sentence)
    sentence += (
        "the section's end, and there is no __rseq_exit_point_array: a debugger cannot know where the thread leaves it"
    )
    return finding("cs-branch", WARNING, f"{instruction.address:#x}", sentence)


def _tables(found: CriticalSections) -> Iterator[LintFinding]:
    names = {section.descriptor: _name(section) for section in found.sections}
    for address in found.missing:
        sentence = f"the descriptor of {names[address]} is not in __rseq_cs_ptr_array: debuggers step into that section"
        yield finding("cs-table-missing", ERROR, f"descriptor {address:#x}", sentence)
    for address in found.doubled:
        sentence = f"the descriptor of {names.get(address, hex(address))} is more than once in __rseq_cs_ptr_array"
        yield finding("cs-table-doubled", ERROR, f"descriptor {address:#x}", sentence)
    for address in found.foreign:
        sentence = f"__rseq_cs_ptr_array points to {address:#x}, where __rseq_cs has no descriptor"
        yield finding("cs-table-foreign", ERROR, f"{address:#x}", sentence)
    for start, target in found.foreign_exits:
        sentence = (
            f"__rseq_exit_point_array has an exit to {target:#x} for a section at {start:#x}, and none starts there"
        )
        yield finding("cs-exit-foreign", ERROR, f"{start:#x}", sentence)
    yield from _no_tables(found)


def _no_tables(found: CriticalSections) -> Iterator[LintFinding]:
    tables = found.tables
    if tables.descriptors and tables.pointers is None:
        sentence = "there is no __rseq_cs_ptr_array: debuggers do not find the descriptors and step into the sections"
        yield finding("cs-no-table", WARNING, "__rseq_cs", sentence)
    if tables.descriptors is None and tables.pointers is None and found.unlisted:
        first = found.unlisted[0]
        name = f"{first.function} " if first.function else ""
        sentence = (
            f"the code has abort handlers (the first: {name}at {first.address:#x}) but no section __rseq_cs: debuggers "
            "step into the critical sections, which then never end; do not strip these sections"
        )
        yield finding("cs-no-sections", WARNING, f"{first.address:#x}", sentence)
