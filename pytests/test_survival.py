"""A run survives what its processes do, a Ctrl-C, and its own death; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from conftest import COMMAND, Command, private_copy
from moments import comes
from rseq_matrix.build import build
from rseq_matrix.matrix.cells import Process, all_cells
from rseq_matrix.matrix.log import Record
from rseq_matrix.matrix.runner import Options, Runner, attribute
from rseq_matrix.matrix.tracer import Run

# A driver with planted defects and no time limit, so that it can be caught in the middle.
HANGING_DRIVER = """
import sys
from rseq_matrix import cli
from rseq_matrix.matrix import campaign
from rseq_matrix.commands import run
from rseq_matrix.matrix.runner import Options
class Wanted(campaign.Wanted):
    def __init__(self, globs, libcs, links, environments, options, resume):
        planted = Options(traced=options.traced, time_limit=600.0, jobs=1, sabotage={SABOTAGE})
        super().__init__(globs, libcs, links, environments, planted, resume, True)
run.Wanted = Wanted
cli.main()
"""


def descendants(pid: int) -> set[int]:
    """Return every process that came from `pid`, as far as parents tell."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def named(pid: int, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def start_hanging(*arguments: str, sabotage: dict[str, str]) -> subprocess.Popen[str]:
    program = HANGING_DRIVER.replace("{SABOTAGE}", repr(sabotage))
    return subprocess.Popen(
        [sys.executable, "-c", program, "run", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Build before anything is timed."""
    build(sabotage=True)


@pytest.mark.parametrize("oracle", ["--oracle", "--no-oracle"])
def test_ctrl_c_keeps_what_is_finished_and_resume_goes_on(oracle: str, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    arguments = ("host/*/dynamic-now/default/*", oracle, "--json", str(path))
    driver = start_hanging(*arguments, sabotage={"process.coroutine": "hang"})
    assert comes(lambda: any(named(pid, "children") for pid in descendants(driver.pid)))
    started = descendants(driver.pid)
    driver.send_signal(signal.SIGINT)
    _, complaints = driver.communicate(timeout=300)
    assert driver.returncode == 5
    assert "continue with --resume" in complaints
    assert "Traceback" not in complaints
    assert not [pid for pid in started if alive(pid)]
    document = json.loads(path.read_text())
    finished = {cell["id"] for cell in document["cells"]}
    assert document["complete"] is False
    assert finished
    assert not any("process.coroutine" in cell for cell in finished)
    # The same selection, resumed: only what was missing is run. The defect is part of a run's identity.
    again = start_hanging(*arguments, "--resume", sabotage={"process.coroutine": "hang"})
    assert comes(lambda: any(named(pid, "children") for pid in descendants(again.pid)))
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=300)
    assert again.returncode == 5
    assert {cell["id"] for cell in json.loads(path.read_text())["cells"]} >= finished


def test_resume_runs_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from rseq_matrix.matrix.campaign import Campaign, Wanted  # noqa: PLC0415
    from rseq_matrix.matrix.journal import Journal  # noqa: PLC0415

    wanted = Wanted(("host/*/dynamic-now/default/*",), options=Options(jobs=1))
    first = Campaign(wanted)
    with Journal(first.identity(), resume=False) as journal:
        steps = first.go(journal)
        done = [next(steps).scenario, next(steps).scenario]
        steps.close()  # type: ignore[attr-defined]
    second = Campaign(wanted)
    ran: list[str] = []
    original = Runner.findings

    def counting(self: Runner, processes: list[Process]) -> object:
        ran.extend(process.scenario for process in processes)
        return original(self, processes)

    monkeypatch.setattr(Runner, "findings", counting)
    with Journal(second.identity(), resume=True) as journal:
        assert len(list(second.go(journal))) == len(second.processes)
        journal.discard()
    assert sorted(ran) == sorted(p.scenario for p in second.processes if p.scenario not in done)
    document = second.document()
    assert document.complete is True
    assert document.summary["PASS"] == len(second.cells)


@pytest.mark.parametrize("oracle", ["--oracle", "--no-oracle"])
def test_a_killed_driver_leaves_no_process_and_no_half_written_file(oracle: str, tmp_path: Path) -> None:
    """SIGKILL while one stage hangs and the child of another has gone into a session of its own."""
    sabotage = {"process.clone_thread": "stray-child", "process.coroutine": "hang"}
    path = tmp_path / "out.json"
    driver = start_hanging("host/*/dynamic-now/default/process.*", oracle, "--json", str(path), sabotage=sabotage)
    assert comes(lambda: sum(named(pid, "children") for pid in descendants(driver.pid)) == 2)
    started = descendants(driver.pid)
    driver.kill()
    driver.wait()
    assert comes(lambda: not any(alive(pid) for pid in started)), [pid for pid in started if alive(pid)]
    assert list(tmp_path.iterdir()) == []


def of_the_build() -> set[int]:
    """Return the processes that run a program of the build that the sabotage uses."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            program = str((entry / "exe").readlink()) if entry.name.isdigit() else ""
        except OSError:
            continue
        if program.startswith(str(build(sabotage=True).directory)) and alive(int(entry.name)):
            found.add(int(entry.name))
    return found


def test_an_orphan_in_its_own_session_is_ended_with_its_run() -> None:
    """Untraced, so that nothing but the tracer's reaping can end it."""
    victim = "executable.main"
    driver = start_hanging(f"host/*/dynamic-now/default/{victim}", "--no-oracle", sabotage={victim: "stray-child"})
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert "stray process" in output
    assert of_the_build() == set()


def test_an_existing_report_is_replaced_whole_or_not_at_all(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    assert command("run", "nothing.*", "--json", str(path)).returncode == 2
    assert path.read_text() == "old"
    assert command("run", "executable.main", "--json", str(path)).returncode == 0
    assert json.loads(path.read_text())["schema"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_whose_tracer_dies_is_an_error_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from rseq_matrix.matrix.tracer import Session  # noqa: PLC0415

    original = Session._exchange
    killed: list[int] = []

    def kill_once(self: Session, message: bytes, descriptors: list[int], deadline: float) -> bytes:
        if not killed:
            killed.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        return original(self, message, descriptors, deadline)

    monkeypatch.setattr(Session, "_exchange", kill_once)
    cells = [cell for cell in all_cells("glibc", ["dynamic-now"], ["default"]) if cell.scenario == "quick_exit"]
    process = Process("quick_exit", "dynamic-now", "default", tuple(cells))
    two = list(
        Runner(build(), Options(jobs=1)).findings([process, Process("quick_exit", "static", "default", tuple(cells))])
    )
    endings = sorted(finding.runs["executable.quick_exit"].ending for finding in two)
    assert endings == ["", "the tracer failed: it ended without a reply"]


def test_attribution_runs_again_only_what_is_needed() -> None:
    launched: list[tuple[str, ...]] = []

    def launch(stages: Sequence[str]) -> Run:
        names = tuple(stages)
        launched.append(names)
        return Run(names, "ended", 0, 0, True, 0, 0, 1, 0.0, "", "", {}, {})

    attribute(["a", "b"], ["a", "b"], launch)
    assert launched == [("a", "b"), ("a",), ("b",)]


def test_a_bad_end_that_no_stage_shows_alone_stays_with_the_last_one() -> None:
    record = cast("Record", SimpleNamespace(complete=True))

    def launch(stages: Sequence[str]) -> Run:
        names = tuple(stages)
        bad = len(names) > 1
        return Run(
            names, "ended", int(signal.SIGSEGV) * bad, 0, True, 0, 0, 1, 0.0, "", "", dict.fromkeys(names, record), {}
        )

    runs = attribute(["a", "b"], ["a", "b"], launch)
    assert [runs["a"].ending, runs["b"].ending] == ["", "killed by SIGSEGV"]


def test_a_damaged_cache_is_made_whole(tmp_path: Path) -> None:
    """Not the user's own: a copy of the build that is in it, as large as any other."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [*COMMAND, "run", "executable.main", "process.exec"]
    directory = private_copy(build().directory, tmp_path)
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    (directory / "static" / "life").write_bytes(b"")
    (directory / "dynamic-now" / "exec_image").unlink()
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    (directory / "tracer").write_bytes(b"\x7fELF")
    (directory / "finished.json").write_text("{")
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    assert [path for path in directory.parent.iterdir() if path.is_dir()] == [directory]


def test_two_runs_at_once_do_not_disturb_each_other() -> None:
    runs = [
        subprocess.Popen([*COMMAND, "run", "executable.*"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [run.wait(timeout=300) for run in runs] == [0, 0, 0]


INTERRUPTED_IMPORT = """
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from rseq_matrix.__main__ import main
main()
"""


def test_an_interruption_before_anything_is_imported_is_one_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (5, "rseq-matrix: interrupted before anything was finished\n")
