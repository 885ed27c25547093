"""The matrix on every libc of the axis: no difference between the model and reality, and no part of the model idle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import Command, Document
from rseq_matrix.libcs.specs import FETCHED
from rseq_matrix.matrix.campaign import Campaign, Wanted
from rseq_matrix.matrix.cells import all_cells
from rseq_matrix.matrix.libc import Libc
from rseq_matrix.matrix.runner import ProcessRuns, Runner
from rseq_matrix.model import timeline
from rseq_matrix.model.results import PASS, UNSUPPORTED, XFAIL
from rseq_matrix.model.stages import LINKS
from rseq_matrix.model.timeline import BEFORE, BEHIND, RULES, State, World

pytestmark = pytest.mark.mirror
SCHEMA = json.loads((resources.files("rseq_matrix.schema") / "run-1.json").read_text())
ENVIRONMENTS = ("default", "tunable-off", "self-registered", "seccomp-late")
OLDEST, TCB, EXTENSIBLE, NEWEST, MUSL = "glibc-2.31", "glibc-2.36", "glibc-2.41", "glibc-2.44", "musl-1.2.5"


@dataclass
class Axis:
    """Every libc, run once."""

    campaign: Campaign
    findings: list[ProcessRuns]

    def failing(self) -> list[str]:
        """Judge all again, without running, and return the cells that do not pass."""
        judged = [verdict for finding in self.findings for verdict in self.campaign.judge(finding)]
        return [verdict.cell.id for verdict in judged if verdict.result not in (PASS, XFAIL)]

    def cell(self, libc: str, link: str, stage: str) -> Any:
        """Return the verdict on a cell of the default environment."""
        wanted = f"host/{libc}/{link}/default/{stage}"
        judged = (verdict for finding in self.findings for verdict in self.campaign.judge(finding))
        return next(verdict for verdict in judged if verdict.cell.id == wanted)

    def libc(self, name: str) -> Libc:
        return self.campaign.targets[name].libc


@pytest.fixture(scope="module")
def axis() -> Axis:
    """Return the records of all libcs, in the environments that any libc can have and that differ by rules."""
    campaign = Campaign(Wanted(libcs=("all",), environments=tuple(ENVIRONMENTS)))
    findings = []
    for name, target in campaign.targets.items():
        processes = [process for process in campaign.processes if process.libc == name]
        findings += list(Runner(target.build, campaign.wanted.options).findings(processes))
    return Axis(campaign, findings)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, command: Command, axis: Axis) -> Document:  # noqa: ARG001
    """Return what the command writes. The axis has been built by then, so the run is warm."""
    path = tmp_path_factory.mktemp("axis") / "all.json"
    done = command("run", "--libc", "all", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cells a second" in done.stdout
    found: Document = json.loads(path.read_text())
    return found


@pytest.mark.libc_a
@pytest.mark.parametrize("libc", FETCHED)
def test_all_that_is_built_can_be_built(libc: str, axis: Axis) -> None:
    """What fails is tried again at every run, and takes its time each time, also where no cell needs it."""
    assert axis.campaign.targets[libc].build.failures == {}


@pytest.mark.libc_a
@pytest.mark.parametrize("libc", FETCHED)
def test_no_cell_of_a_libc_differs_from_the_model(libc: str, everything: Document) -> None:
    cells = [cell for cell in everything["cells"] if cell["libc"] == libc]
    assert sorted(cell["id"] for cell in cells) == sorted(cell.id for cell in all_cells(libc, LINKS, ["default"]))
    wrong = [f"{cell['id']}: {cell['reason']}" for cell in cells if cell["result"] not in (PASS, UNSUPPORTED)]
    assert wrong == []


def test_only_musl_lacks_anything(everything: Document) -> None:
    lacking = {cell["libc"] for cell in everything["cells"] if cell["result"] == UNSUPPORTED}
    assert lacking == {MUSL}
    reasons = {cell["reason"] for cell in everything["cells"] if cell["result"] == UNSUPPORTED}
    assert all(reason.startswith(("this libc", "this dynamic linker", "dlclose()")) for reason in reasons)


def test_document_follows_the_schema(everything: Document) -> None:
    jsonschema.validate(everything, SCHEMA)


def test_every_record_proves_the_libc_that_it_ran_on(everything: Document, axis: Axis) -> None:
    """Where libc may be called, it says its version; in a dynamic process, the loader's build id is the root's."""
    for cell in everything["cells"]:
        if cell["result"] == PASS and cell["observed"]["libc_version"] is not None:
            assert cell["observed"]["libc_version"] == cell["libc"].partition("-")[2], cell["id"]
    for finding in axis.findings:
        wanted = axis.libc(finding.process.libc)
        records = [record for run in finding.runs.values() for record in run.records.values()]
        if finding.process.link.startswith("dynamic"):
            assert {record.build_id for record in records} <= {wanted.build_id}
        else:
            assert {record.libc_version for record in records} <= {wanted.version, None}
    told = {
        f.process.libc for f in axis.findings for run in f.runs.values() for r in run.records.values() if r.libc_version
    }
    assert told == set(FETCHED)


def test_a_namespace_of_its_own_has_the_same_libc(axis: Axis) -> None:
    for libc in (OLDEST, NEWEST):
        for stage in ("audit.la_version", "library.dlmopen_constructor"):
            assert axis.cell(libc, "dynamic-now", stage).record.libc_version == axis.libc(libc).version


def test_the_records_of_another_libc_are_an_error(axis: Axis, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the programs had been linked to the wrong libc: every cell that could tell does."""
    target = axis.campaign.targets[NEWEST]
    own = [f for f in axis.findings if f.process.libc == NEWEST and "dynamic" in f.process.link]
    passing = {verdict.cell.id for f in own for verdict in axis.campaign.judge(f) if verdict.result == PASS}
    other = replace(target.libc, version="2.99", build_id="00" * 20)
    monkeypatch.setitem(axis.campaign.targets, NEWEST, replace(target, libc=other))
    assert passing
    assert {name for name in axis.failing() if "/dynamic" in name} == passing


@pytest.mark.parametrize("link", ["static", "static-pie"])
def test_what_differs_between_the_libcs(link: str, axis: Axis) -> None:
    """The facts that the design rests on, as they were seen."""
    assert {axis.cell(OLDEST, "dynamic-now", "executable.main").name} == {"unregistered"}
    assert axis.cell(TCB, link, "ifunc.executable").name == "blind"
    assert axis.cell(EXTENSIBLE, link, "ifunc.executable").name == "blind"
    assert axis.cell(NEWEST, link, "ifunc.executable").name == "registered"
    assert axis.libc(TCB).area[link] == BEHIND
    assert axis.libc(EXTENSIBLE).area[link] == axis.libc(NEWEST).area[link] == BEFORE
    assert axis.libc(OLDEST).audit_binds_lazily
    assert not axis.libc(TCB).audit_binds_lazily
    assert axis.libc(MUSL).preloaded_first


def unchanged(state: State, _world: World) -> State:
    return state


@pytest.mark.parametrize("rule", RULES)
def test_without_any_one_rule_a_live_cell_fails(rule: str, axis: Axis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert axis.failing() == []
    monkeypatch.setitem(timeline.RULES, rule, replace(RULES[rule], apply=unchanged))
    assert axis.failing() != []


def opposite_area(libc: Libc) -> Libc:
    return replace(libc, area={link: BEFORE if side == BEHIND else BEHIND for link, side in libc.area.items()})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (OLDEST, lambda libc: replace(libc, registers_dynamic=True)),
        (OLDEST, lambda libc: replace(libc, registers_static=True)),
        (NEWEST, lambda libc: replace(libc, registers_dynamic=False)),
        (NEWEST, lambda libc: replace(libc, registers_static=False)),
        (NEWEST, lambda libc: replace(libc, static_thread_pointer_first={"static": False, "static-pie": False})),
        (TCB, lambda libc: replace(libc, static_thread_pointer_first={"static": True, "static-pie": True})),
        (OLDEST, lambda libc: replace(libc, audit_binds_lazily=False)),
        (TCB, lambda libc: replace(libc, audit_binds_lazily=True)),
        (MUSL, lambda libc: replace(libc, preloaded_first=False)),
        (NEWEST, lambda libc: replace(libc, preloaded_first=True)),
        (TCB, opposite_area),
        (EXTENSIBLE, opposite_area),
    ],
)
def test_a_feature_that_was_detected_wrong_makes_a_live_cell_fail(
    name: str, change: Callable[[Libc], Libc], axis: Axis, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = axis.campaign.targets[name]
    monkeypatch.setitem(axis.campaign.targets, name, replace(target, libc=change(target.libc)))
    failing = axis.failing()
    assert failing != []
    assert {cell.split("/")[1] for cell in failing} == {name}


def test_the_order_of_the_libcs_is_no_other_run(axis: Axis) -> None:
    """So that --resume goes on with the libcs written in any order."""
    names = list(axis.campaign.targets)
    identities = []
    for order in (names, names[::-1]):
        campaign = Campaign(Wanted(("executable.main",), libcs=tuple(order)))
        assert list(campaign.targets) == order
        identities.append(campaign.identity())
    assert identities[0] == identities[1]


def test_a_cell_of_another_libc_can_be_given_back(command: Command, axis: Axis) -> None:  # noqa: ARG001
    done = command("run", f"host/{OLDEST}/dynamic-now/default/audit.la_symbind", "--json", "-")
    found = json.loads(done.stdout)
    assert [cell["id"] for cell in found["cells"]] == [f"host/{OLDEST}/dynamic-now/default/audit.la_symbind"]
    assert found["libcs"][0]["spec"] == OLDEST
    assert f"rseq-matrix run --libc {OLDEST} 'host/{OLDEST}/dynamic-now/default/audit.la_symbind'" in done.stderr


def test_what_is_linked_lies_in_the_root_or_with_the_compiler(axis: Axis) -> None:
    """No object of the system's libc is in a static program, whatever --sysroot or a search path would have found."""
    for name, target in axis.campaign.targets.items():
        loader = Path(str(target.libc.loader))
        assert f"/libc/{name}/root/" in str(loader)
        rules = (target.build.directory / "build.ninja").read_text()
        linked = {word for line in rules.splitlines() if "LINK_LIBRARIES =" in line for word in line.split()}
        files = {word.removeprefix("-Wl,").removeprefix("-L") for word in linked}
        files = {word for word in files if word.startswith("/") and not word.startswith(str(target.build.directory))}
        foreign = {
            word
            for word in files
            if f"/libc/{name}/root/" not in word and "/gcc/" not in word and "/clang/" not in word
        }
        assert foreign == set()
        assert not {word for word in linked if word.startswith("-l")} - {"-ldl", "-l:libc.so"}
