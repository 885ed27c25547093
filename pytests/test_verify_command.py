"""`rseq-matrix verify` as a user types it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from compiling import GOOD, compile_subject
from conftest import COMMAND, ROOT, run_command
from moments import comes
from rseq_matrix.build import Build
from rseq_matrix.documents.verify import PHASES, PhaseResult, SubjectResult, SubjectTotals
from rseq_matrix.report.verify import summary_line
from rseq_matrix.verify.interruption_results import Interruptions, OutsideResult, SectionResult
from rseq_matrix.verify.subject import OPTIONAL, REQUIRED
from rseq_matrix.verify.verification import RUNNERS
from test_verify_table import FIRST, section

PAGE = ROOT / "docs/commands/verify.md"
SCHEMA = json.loads((ROOT / "scripts/rseq_matrix/schema/verify-1.json").read_text())


def sentence(*arguments: str, code: int) -> str:
    """Run verify on bad input: one sentence, the right exit code, no traceback."""
    done = run_command("verify", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def documented_example() -> str:
    """Return the C code of the page's example."""
    found = re.search(r"```c\n(/\* counts\.c \*/.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert found
    return found[1]


def test_the_contract_is_the_header() -> None:
    """A function that is declared there and unknown to Python, or the other way round, would never be asked for."""
    declared = re.findall(
        r"^\S[^(#]*?[ *](rsm_subject_\w+)\(", (ROOT / "csrc/subject.h").read_text(), flags=re.MULTILINE
    )
    assert sorted(declared) == sorted(REQUIRED + OPTIONAL)


def test_what_the_help_names_is_what_runs() -> None:
    assert list(PHASES) == list(RUNNERS)
    shown = run_command("verify", "--help").stdout
    assert all(f"  {name:14} {what}\n" in shown for name, what in PHASES.items())
    assert "a shared object that exports" in " ".join(shown.split())


def test_the_line_of_the_interruptions_says_what_is_counted() -> None:
    around = OutsideResult("add", 0, True, None, 10, 2, Counter({"signal": 8, "migration": 7}))
    found = Interruptions((0, 1), outside=[around])
    assert found.document().said == "15 interruptions at 8 instructions; the subject has no critical sections"
    entered = SectionResult(section(FIRST), ["add"], tried=Counter({"signal": 2, "membarrier": 2}))
    found = Interruptions((0, 1), sections=[entered, SectionResult(section(0x2000))], outside=[around])
    assert found.document().said == (
        "4 interruptions at the 2 instructions of 1 critical section (2 kinds), 15 at 8 other instructions; "
        "1 critical section entered by no operation"
    )


def test_the_totals_say_what_the_subject_does_not_tell() -> None:
    totals = SubjectTotals(operations=1000, lost=0, doubled=0, stages=60, instructions=8)
    subject = SubjectResult("x.so", "/x.so", (), 0, "PASS", totals, {"stages": PhaseResult("PASS", "", 0.0, None)}, ())
    assert summary_line(subject) == (
        "totals: operations 1,000 (fast path -, fallback -), aborts -, lost 0, doubled 0, stages passed 60, "
        "instructions interrupted 8; -: not known"
    )


@pytest.mark.ptrace
def test_the_example_of_the_page_is_judged_in_one_command(tmp_path: Path) -> None:
    (tmp_path / "counts.c").write_text(documented_example())
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", "counts.so", "counts.c"], cwd=tmp_path, check=True)
    out = tmp_path / "out.json"
    done = run_command("verify", "--subject", "./counts.so", "--seconds", "1", "--json", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    jsonschema.validate(document, SCHEMA)
    (subject,) = document["subjects"]
    assert subject["totals"]["lost"] == subject["totals"]["doubled"] == 0
    assert subject["totals"]["operations"] > 400_000
    assert subject["totals"]["fast"] is None  # it does not tell
    assert "lost 0" in done.stdout


@pytest.mark.ptrace
@pytest.mark.gdb
@pytest.mark.libc_a
def test_the_built_in_subjects_are_proven(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run_command("verify", "--seconds", "1.5", "--json", str(out))
    document = json.loads(out.read_text())
    jsonschema.validate(document, SCHEMA)
    assert done.returncode == 0, [subject["defects"] for subject in document["subjects"]]
    assert [subject["name"] for subject in document["subjects"]] == ["split", "atomic", "list"]
    split, atomic, stacks = document["subjects"]
    for subject in document["subjects"]:
        results = {name: phase["result"] for name, phase in subject["phases"].items() if phase["result"] != "PASS"}
        assert results == ({} if subject["name"] == "list" else {"history": "UNSUPPORTED"}), subject["phases"]
        assert (subject["totals"]["lost"], subject["totals"]["doubled"]) == (0, 0)
    assert split["totals"]["fast"] > 1000 < split["totals"]["fallback"]
    assert split["totals"]["aborts"] > 100
    assert atomic["totals"]["fast"] == 0
    assert stacks["totals"]["instructions"] > split["totals"]["instructions"] > 0


def test_bad_input_is_one_sentence(built: Build, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not ELF\n")
    assert "not an ELF file" in sentence("--subject", str(tmp_path / "text.so"), code=4)
    assert "no such file" in sentence("--subject", str(tmp_path / "none.so"), code=4).lower()
    without = str(built.directory / "dynamic-lazy" / "rsm_subject.so")
    assert "does not define rsm_subject_add and rsm_subject_sum" in sentence("--subject", without, code=4)
    assert "it is split, atomic, list, or the path" in sentence("--subject", "splat", code=2)
    assert "unknown phase 'staging'" in sentence("--phase", "staging", code=2)
    assert "no cell matches 'nowhere.*'" in sentence("nowhere.*", "--subject", "atomic", "--phase", "stages", code=2)


def test_a_program_is_no_subject(tmp_path: Path) -> None:
    program = tmp_path / "program"
    subprocess.run(["cc", "-o", program, "-x", "c", "-"], input=b"int main(void){return 0;}", check=True)
    assert "a subject is a shared object" in sentence("--subject", str(program), code=4)


def test_a_subject_that_lacks_a_library_or_a_symbol(tmp_path: Path) -> None:
    (tmp_path / "lost.c").write_text("int lost;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "liblost.so", tmp_path / "lost.c"], check=True)
    flags = (f"-L{tmp_path}", "-Wl,--no-as-needed", "-llost")
    subject = compile_subject(GOOD / "smallest.c", tmp_path, *flags)
    (tmp_path / "liblost.so").unlink()
    said = sentence("--subject", str(subject), code=4)
    assert "cannot be loaded" in said
    assert "liblost.so" in said


@pytest.mark.cross
def test_a_subject_for_another_machine(tmp_path: Path) -> None:
    target = tmp_path / "other.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(target), f"-I{ROOT / 'csrc'}", str(GOOD / "smallest.c")], check=True)
    assert "it is for aarch64" in sentence("--subject", str(target), code=4)


def stress_of(pid: int) -> list[int]:
    """Return the children of a process that put a subject under stress."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"verify/stress" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []


@pytest.mark.ptrace
def test_an_interruption_keeps_what_was_finished_and_leaves_nothing_running(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["verify", "--subject", "atomic", "--subject", "split", "--phase", "stress", "--seconds", "60"]
    process = subprocess.Popen([*COMMAND, *arguments, "--json", str(out)], stderr=subprocess.PIPE, text=True)
    assert comes(lambda: process.poll() is not None or bool(stress_of(process.pid)))
    started = stress_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5, errors
    assert "Traceback" not in errors
    assert json.loads(out.read_text())["complete"] is False
    assert started
    assert comes(lambda: not [pid for pid in started if Path(f"/proc/{pid}/stat").exists()])
