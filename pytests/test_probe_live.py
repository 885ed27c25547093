"""The probe and the critical section, in programs made for the purpose: states that no stage of the matrix has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import HELPERS, ROOT, Document
from rseq_matrix.build import Build
from rseq_matrix.matrix.judgement import observed_class, observed_owner
from rseq_matrix.matrix.log import Log
from rseq_matrix.matrix.tracer import Run, Session, TracerPlan

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-stack-protector", f"-I{ROOT}/csrc"]


def compiled(name: str, tmp_path: Path) -> Path:
    sources = [HELPERS / f"{name}.c", ROOT / "csrc" / "probe.c"]
    subprocess.run(["cc", *FLAGS, "-o", tmp_path / name, *sources], check=True)
    return tmp_path / name


def run(program: Path, stage: str, built: Build, traced: bool) -> Run:
    session = Session(built.directory / "tracer")
    try:
        with Log([stage]) as log:
            return session.run(TracerPlan(program.parent, [f"./{program.name}"], {}, traced, 20.0), log)
    finally:
        session.close()


@pytest.mark.parametrize("traced", [False, pytest.param(True, marks=pytest.mark.ptrace)])
def test_an_area_that_another_library_registered_is_hidden(traced: bool, built: Build, tmp_path: Path) -> None:
    stage = "process.after_unregister"
    done = run(compiled("other_owner", tmp_path), stage, built, traced)
    record = done.records[stage]
    if record.query_errno not in (1, 22):
        pytest.skip("rseq is not usable on this machine")
    assert not done.misbehaved
    assert record.complete
    assert (observed_class(record), observed_owner(record)) == ("hidden", "other")
    assert record.path == "fallback"
    if traced:
        assert record.oracle is not None
        assert record.oracle.registered
        assert record.oracle.address != record.area_address


def test_a_critical_section_does_nothing_on_another_cpu_and_is_exact_in_a_storm_of_signals(tmp_path: Path) -> None:
    done = subprocess.run([compiled("section", tmp_path)], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("rseq is not usable on this machine")
    moved_adds, aborts, lost = map(int, done.stdout.split())
    assert moved_adds == 0
    assert aborts > 0
    assert lost == 0


ONE_CPU = len(os.sched_getaffinity(0)) < 2 and not os.environ.get("RSEQ_MATRIX_REQUIRE_ALL")


@pytest.mark.skipif(ONE_CPU, reason="one CPU cannot go stale")
def test_the_stale_children_are_on_another_cpu_than_the_area_says(cells: dict[str, Document]) -> None:
    for stage in ("process.vfork_child", "process.clone_vm_child", "process.clone_thread_zeroed"):
        observed = cells[f"dynamic-now/default/{stage}"]["observed"]
        if observed["class"] == "stale":
            assert observed["cpu_id"] != observed["getcpu"], stage


def test_a_scenario_has_no_descriptor_but_its_own(built: Build, tmp_path: Path) -> None:
    (tmp_path / "list.sh").write_text("#!/bin/sh\nls -l /proc/self/fd >&2\n")
    (tmp_path / "list.sh").chmod(0o755)
    session = Session(built.directory / "tracer")
    with Log(["executable.main"]) as log:
        done = session.run(TracerPlan(tmp_path, ["./list.sh"], {"PATH": os.environ["PATH"]}, False, 20.0), log)
    session.close()
    assert "socket:" not in done.complaints
    kept = [line.split(" -> ")[0].split()[-1] for line in done.complaints.splitlines() if " -> " in line]
    assert {int(number) for number in kept} - {0, 1, 2, 3, 199} == set(), done.complaints  # 3 is what ls reads
