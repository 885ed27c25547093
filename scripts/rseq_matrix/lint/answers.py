"""What a person wants to know of an unknown file: five questions, each with an answer and the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rseq_matrix.documents.inspect import ERROR, WARNING, LintFinding
from rseq_matrix.elf.facts import FileFacts
from rseq_matrix.lint.tls import uses_static_tls

YES, NO, WITH_CARE, NONE = "yes", "no", "with care", "none"

Answer = dict[str, str]


def answers(facts: FileFacts, findings: Sequence[LintFinding]) -> dict[str, Answer]:
    """Return the answers to: can it be opened with dlopen(), preloaded, used for auditing; are its parts sound?"""
    return {
        "dlopen": _dlopen(facts, findings),
        "preload": _preload(facts, findings),
        "audit": _audit(facts, findings),
        "resolver": _resolver(facts, findings),
        "critical_sections": _critical_sections(facts, findings),
    }


def _answer(answer: str, why: str) -> Answer:
    return {"answer": answer, "why": why}


def _of(findings: Iterable[LintFinding], *rules: str) -> list[LintFinding]:
    return [found for found in findings if found.id.startswith(rules)]


def _ids(findings: Iterable[LintFinding]) -> str:
    return ", ".join(dict.fromkeys(found.id for found in findings))


def _shared(facts: FileFacts) -> Answer | None:
    """Return the answer for what is no shared object."""
    if facts.kind == "shared-object":
        return None
    return _answer(NO, f"it is {_KINDS[facts.kind]}, not a shared object")


_KINDS = {
    "executable": "an executable",
    "pie": "a position-independent executable",
    "static": "a static program",
    "static-pie": "a static position-independent program",
}


def _dlopen(facts: FileFacts, findings: Sequence[LintFinding]) -> Answer:
    refused = _shared(facts)
    if refused:
        return refused
    if facts.no_open:
        return _answer(NO, "it is marked so (DF_1_NOOPEN)")
    fatal = _of(findings, "tls-size", "tls-alignment")
    if fatal:
        return _answer(NO, f"its static TLS cannot be allocated later ({_ids(fatal)})")
    care = [f"its static TLS needs {_tls_size(facts)} bytes of the surplus"] if uses_static_tls(facts) else []
    others = [name for name in facts.tls.static_symbols if name and "@GLIBC_" not in name]
    care += [f"it uses {name}, which has to lie in the static TLS of an object that is loaded" for name in others[:1]]
    return _late(findings, care, "it needs no static TLS of its own")


def _tls_size(facts: FileFacts) -> int:
    return facts.tls.segment.size if facts.tls.segment else 0


def _late(findings: Sequence[LintFinding], care: Sequence[str], yes: str) -> Answer:
    """Return the answer where, beside the reasons for care, only resolvers and references can stand in the way."""
    bad = _of([found for found in findings if found.severity == ERROR], "resolver-")
    if bad:
        return _answer(NO, f"a resolver crashes or reads wrong values ({_ids(bad)})")
    warned = _of([found for found in findings if found.severity == WARNING], "resolver-", "rseq-strong-reference")
    reasons = [*care, *([f"see {_ids(warned)}"] if warned else [])]
    return _answer(WITH_CARE, "; ".join(reasons)) if reasons else _answer(YES, yes)


def _preload(facts: FileFacts, findings: Sequence[LintFinding]) -> Answer:
    has_block = facts.tls.segment is not None and facts.tls.segment.size > 0
    yes = "at start its TLS is part of every thread's static block" if has_block else "it has no TLS of its own"
    return _shared(facts) or _late(findings, (), yes)


def _audit(facts: FileFacts, findings: Sequence[LintFinding]) -> Answer:
    refused = _shared(facts)
    if refused:
        return refused
    if "la_version" not in facts.audit.exports:
        return _answer(NO, "it does not export la_version")
    if facts.no_open:
        return _answer(NO, "it is marked so that it cannot be opened (DF_1_NOOPEN), and ld.so ignores it")
    fatal = _of(findings, "tls-size", "tls-alignment")
    if fatal:
        return _answer(NO, f"in its own namespace its static TLS comes from the surplus, too ({_ids(fatal)})")
    taken = f"in its own namespace its static TLS takes {_tls_size(facts)} bytes of the surplus"
    care = [taken] if uses_static_tls(facts) else []
    return _late(findings, care, "it exports la_version and needs no static TLS of its own")


def _resolver(facts: FileFacts, findings: Sequence[LintFinding]) -> Answer:
    count = len(facts.indirect.resolvers)
    if not count:
        return _answer(NONE, "it has no indirect functions")
    return _judged(
        _of(findings, "resolver-"),
        all(code.complete for code in facts.indirect.resolvers),
        f"its {count} resolvers use their arguments and instructions only" if count > 1 else "its resolver is pure",
        "what some of them call cannot be known from the code",
    )


def _critical_sections(facts: FileFacts, findings: Sequence[LintFinding]) -> Answer:
    found = facts.critical_sections
    bad = _of(findings, "cs-")
    if not found.sections and not bad:
        return _answer(NONE, "it has none in the sections that list them (__rseq_cs and its like)")
    count = len(found.sections)
    sound = f"{count} critical section{'s' * (count != 1)}, every rule kept"
    return _judged(bad, True, sound, "")


def _judged(findings: Sequence[LintFinding], complete: bool, yes: str, unknown: str) -> Answer:
    errors = [found for found in findings if found.severity == ERROR]
    if errors:
        return _answer(NO, f"see {_ids(errors)}")
    if findings:
        return _answer(WITH_CARE, f"see {_ids(findings)}")
    return _answer(YES, yes) if complete else _answer(WITH_CARE, unknown)
