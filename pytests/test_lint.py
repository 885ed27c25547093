"""Every rule of the lint has a crafted file that breaks it and a good twin that does not, on every machine.

A case says which findings the bad file earns, all of them; the twin has nothing above a note.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import run_command
from crafting import MACHINES, NATIVE, SECTION_DEFECTS, Inspected, Recipe, inspect_all

Finding = tuple[str, str]
STATIC: Finding = ("tls-static", "note")
EARLY: Finding = ("resolver-before-relocation", "warning")


@dataclass(frozen=True)
class Case:
    """A rule, a file that breaks it with all that it is blamed for, and its twin."""

    rule: str
    bad: Recipe
    good: Recipe
    findings: frozenset[Finding]
    note: str = ""

    @property
    def name(self) -> str:
        """Return the test's name."""
        return "-".join(word for word in (self.bad.machine, self.rule, self.bad.kind, self.note) if word)


def case(
    rule: str, severity: str, bad: Recipe, *options: str, besides: tuple[Finding, ...] = (), note: str = ""
) -> Case:
    """Return the case whose twin is made with these options instead of the bad file's."""
    return Case(rule, bad, replace(bad, options=options), frozenset({(rule, severity), *besides}), note)


# --- thread-local storage


def tls_cases(machine: str) -> Iterator[Case]:
    def block(*options: str) -> Recipe:
        return Recipe("tls_block.c", options, machine)

    dynamic = '-DMODEL="global-dynamic"'
    yield case("tls-size", "error", block("-DSIZE=4096"), "-DSIZE=4096", dynamic)
    yield case("tls-alignment", "error", block("-DALIGNMENT=128"), "-DALIGNMENT=32")
    yield case("tls-surplus", "warning", block("-DSIZE=1024"), "-DSIZE=256")
    yield case("tls-static", "note", block("-DSIZE=256"), "-DSIZE=256", dynamic)


# --- resolvers


CANARY_VARIABLE = {"aarch64", "riscv64"}  # the canary is a variable of the loader, behind the GOT (gcc, clang)

ADDS_THREAD_POINTER = {"aarch64", "s390x"}  # to what a descriptor or __tls_get_offset returns


def resolver_cases(machine: str) -> Iterator[Case]:
    def resolver(rule: str, *options: str, kind: str = "shared-object") -> Recipe:
        return Recipe(f"resolver_{rule}.c", ("-DBAD", *options), machine, kind)

    yield case("resolver-before-relocation", "warning", resolver("before_relocation"))
    if machine in ("x86-64", "i386"):
        yield case("resolver-before-relocation", "warning", resolver("checked"), note="checked")
    yield case("resolver-tls", "warning", resolver("tls"), besides=(STATIC, EARLY))
    pointer = (("resolver-tls", "warning"),) if machine in ADDS_THREAD_POINTER else ()
    yield case("resolver-gd-tls", "error", resolver("gd_tls"), besides=pointer)
    for kind in ("static", "static-pie") if machine != "ppc64le" else ("static-pie",):
        # There, a static program's thread pointer is set first: powerpc/libc-start.h, ARCH_SETUP_TLS.
        yield case("resolver-in-static", "error", resolver("tls", kind=kind))
    some = ("-DON_SOME_PATH",)
    yield case("resolver-gd-tls", "warning", resolver("gd_tls", *some), *some, besides=pointer, note="some path")
    if machine != "ppc64le":
        yield case("resolver-in-static", "warning", resolver("tls", *some, kind="static"), *some, note="some path")
    late = Recipe("static_order.c", (), machine, "static")
    yield case("resolver-in-static", "error", late, "-DTHREAD_POINTER_FIRST", note="order")
    if machine == "arm":
        return  # zig links a __stack_chk_guard of its own into everything for arm
    severity = "error" if machine in CANARY_VARIABLE else "warning"
    protected = "-fstack-protector-strong"
    yield case("resolver-stack-protector", severity, resolver("stack_protector", protected), protected, note="guard")
    if machine == NATIVE:  # zig refuses the stack protector without libc
        for kind in ("static", "static-pie"):
            yield case("resolver-stack-protector", "error", resolver("stack_protector", protected, kind=kind))


def handler_cases(machine: str) -> Iterator[Case]:
    for note, options in (("sigaction", ()), ("signal", ("-DBY_SIGNAL",))):
        bad = Recipe("handler_gd_tls.c", ("-DBAD", *options), machine)
        yield case("handler-gd-tls", "warning", bad, *options, note=note)


# --- critical sections


SECTION_SEVERITIES = {"cs-undecodable": "warning", "cs-no-table": "warning", "cs-no-sections": "warning"}
SECTION_BESIDES: dict[str, tuple[Finding, ...]] = {
    "cs-start": (("cs-post-commit", "error"),),  # whose start is in data ends there, too
}
SECTION_TWINS = {"cs-branch": ("-DINSIDE=BRANCH(.Lexit)",)}  # a place that is listed as an exit point


def section_cases(machine: str) -> Iterator[Case]:
    for rule, options in SECTION_DEFECTS.items():
        severity, besides = SECTION_SEVERITIES.get(rule, "error"), SECTION_BESIDES.get(rule, ())
        bad = Recipe("section.S", options, machine)
        yield case(rule, severity, bad, *SECTION_TWINS.get(rule, ()), besides=besides)
    unlisted = Recipe("section.S", ("-DINSIDE=BRANCH(.Lelsewhere)", "-DNO_EXITS"), machine)
    yield case("cs-branch", "warning", unlisted, "-DNO_EXITS", note="no exit table")
    elsewhere = Recipe("section.S", ("-DINSIDE=BRANCH(.Lelsewhere)",), machine)
    yield case("cs-branch", "error", elsewhere, "-DINSIDE=BRANCH(.Lteardown)", note="teardown")
    for way in ("JUMP(.Lelsewhere)", "JUMP_INDIRECTLY", "RETURN"):
        yield case("cs-branch", "error", Recipe("section.S", (f"-DINSIDE={way}",), machine), note=way)


# --- registration


def rseq_cases(machine: str) -> Iterator[Case]:
    def own(*options: str) -> Recipe:
        return Recipe("rseq_own.c", options, machine)

    yield case("rseq-strong-reference", "warning", Recipe("rseq_reference.c", ("-DBAD",), machine))
    for field, offset in (("cpu_id_start", 0), ("cpu_id", 4), ("node_id", 20), ("mm_cid", 24)):
        written = Recipe("rseq_write.c", (f"-DFIELD={offset}",), machine)
        yield case("rseq-write-read-only", "error", written, "-DFIELD=8", note=field)
    yield case("rseq-write-read-only", "warning", own("-DSTORE"), besides=(STATIC,), note="own area")
    yield case("rseq-length", "error", own("-DLENGTH=24"), besides=(STATIC,), note="24")
    yield case("rseq-length", "error", own("-DLENGTH=20"), "-DLENGTH=0", besides=(STATIC,), note="a query")
    yield case("rseq-length", "warning", own("-DLENGTH=64"), besides=(STATIC,), note="64")
    if machine == "x86-64":
        whole = Recipe("rseq_write.c", ("-DWHOLE",), machine)
        yield case("rseq-write-read-only", "error", whole, "-DFIELD=8", note="whole area")
        wrapped = ("-DWRAPPER", "-D_GNU_SOURCE")
        short = own("-DLENGTH=20", *wrapped)
        yield case("rseq-length", "error", short, *wrapped, besides=(STATIC,), note="syscall")
        described = (*wrapped, '-DMODEL="global-dynamic"', "-mtls-dialect=gnu2")
        yield case("rseq-length", "error", own("-DLENGTH=20", *described), *described, note="descriptor")
    yield case("rseq-alignment", "error", own("-DALIGNMENT=8"), besides=(STATIC,))


def cases(machine: str) -> list[Case]:
    made = (tls_cases, resolver_cases, handler_cases, section_cases, rseq_cases)
    return [found for family in made for found in family(machine)]


def every_case() -> list[Any]:
    return [
        pytest.param(found, id=found.name, marks=[pytest.mark.cross] if found.bad.by_zig else [])
        for machine in MACHINES
        for found in cases(machine)
    ]


# --- the tests


Document = dict[str, Any]


@pytest.fixture(scope="session")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    """Return a function that tells of a case's file."""

    def recipes(machine: str) -> list[Recipe]:
        return [one for found in cases(machine) for one in (found.bad, found.good)]

    return Inspected(recipes, tmp_path_factory.mktemp("lint"))


def findings(file: Document) -> set[Finding]:
    return {(finding["id"], finding["severity"]) for finding in file["findings"]}


@pytest.mark.parametrize("case", every_case())
def test_the_bad_file_is_blamed_and_its_twin_is_not(case: Case, inspected: Inspected) -> None:
    bad, good = inspected(case.bad), inspected(case.good)
    assert bad["machine"] == case.bad.machine
    assert findings(bad) == case.findings, [finding["sentence"] for finding in bad["findings"]]
    assert case.rule not in {rule for rule, _ in findings(good)}
    assert {severity for _, severity in findings(good)} <= {"note"}, good["findings"]


@pytest.mark.libc_a
def test_libc_in_a_static_program_is_not_blamed(tmp_path: Path) -> None:
    """Its own resolvers, handlers and registration among them; nor is a resolver for what __stack_chk_fail() does."""
    touching = Recipe("resolver_tls.c", ("-DBAD",), kind="static", hosted=True)
    protected = replace(touching, source="resolver_stack_protector.c", options=("-DBAD", "-fstack-protector-strong"))
    found = inspect_all([touching, protected, replace(touching, options=())], tmp_path)
    assert [findings(file) for file in found.values()] == [
        {("resolver-in-static", "error")},
        {("resolver-stack-protector", "error")},
        set(),
    ]


def test_every_rule_has_a_case_for_each_of_its_severities() -> None:
    rules = json.loads(run_command("inspect", "--rules", "--json", "-").stdout)["rules"]
    known = {(rule["id"], severity) for rule in rules for severity in rule["severities"]}
    crafted = {finding for found in cases(NATIVE) for finding in found.findings}
    assert crafted == known
    assert {found.rule for found in cases(NATIVE)} == {rule for rule, _ in known}


def test_what_a_finding_tells(inspected: Inspected) -> None:
    for found in cases(NATIVE):
        for finding in inspected(found.bad)["findings"]:
            assert finding["sentence"]
            assert finding["where"]
            assert finding["reference"]


@pytest.mark.parametrize(
    ("rule", "status"), [("tls-size", 1), ("tls-surplus", 0), ("tls-static", 0), ("cs-version", 1), ("cs-no-table", 0)]
)
def test_the_exit_status_is_that_of_the_worst_finding(rule: str, status: int, inspected: Inspected) -> None:
    found = next(found for found in cases(NATIVE) if found.rule == rule)
    bad, good = (str(inspected(one)["path"]) for one in (found.bad, found.good))
    assert run_command("inspect", bad).returncode == status
    assert run_command("inspect", good).returncode == 0
    assert run_command("inspect", good, bad).returncode == status
