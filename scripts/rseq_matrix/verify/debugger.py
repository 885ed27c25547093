"""Progress in a real debugger: gdb steps through each operation instruction by instruction, as a person would.

gdb does not know of critical sections, so each of its stops in one aborts it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix._native import lib
from rseq_matrix.documents.verify_phases import DebuggedOperation, DebuggingFound
from rseq_matrix.elf.facts import Section
from rseq_matrix.elf.image import Image
from rseq_matrix.model.results import ERROR
from rseq_matrix.verify.cases import SteppedCase
from rseq_matrix.verify.result import Found
from rseq_matrix.verify.step_judgement import judge_stepped, most_aborted
from rseq_matrix.verify.stepping import steps_said
from rseq_matrix.verify.subject import REQUIRED, Subject
from rseq_matrix.verify.supervised import end
from rseq_matrix.verify.walking import STEP_LIMIT, find_aborts

PHASE = "gdb"
TIME_LIMIT = 20.0
"""Seconds for one operation, gdb's own start included."""
PACKAGE = "no gdb; install it (Debian: apt install gdb; Fedora: dnf install gdb; Alpine: apk add gdb)"
REFUSED = re.compile(r"^(?:warning: )?.*(?:ptrace: |Could not trace|Cannot PTRACE|not permitted).*$", re.MULTILINE)
EFFECTS = {int(lib.RSM_ALONE_ONCE): 1, int(lib.RSM_ALONE_NONE): 0}
"""How often an operation took effect, by the exit status (enum rsm_alone); any other status: more than once."""
DIED = re.compile(r"Program (?:received|terminated with) signal (\w+)")

COMMANDS = """\
set confirm off
set pagination off
set width 0
set auto-load off
set startup-with-shell off
unset environment
{environment}
set args alone {operation}
break rsm_operation_begins
run
printf "rsm add %lx\\n", (long)&{add}
set $steps = 0
set $end = (long)&rsm_operation_ends
while (long)$pc != $end && $steps < {limit}
  stepi
  printf "rsm step %lx\\n", (long)$pc
  set $steps = $steps + 1
end
if (long)$pc == $end
  printf "rsm ended\\n"
  continue
else
  kill
  quit
end
"""
BY_LINES = """\
run
set $lines = 0
set $end = (long)&rsm_operation_ends
while (long)$pc != $end && $lines < {limit}
  step
  set $lines = $lines + 1
end
printf "rsm lines %d\\n", $lines
"""


@dataclass(kw_only=True)
class Debugging(Found):
    """The result of the phase."""

    version: str = ""
    operations: list[DebuggedOperation] = field(default_factory=list)

    def document(self) -> DebuggingFound:
        """Return it as the JSON document holds it."""
        operations = tuple(self.operations)
        said = steps_said(operations)
        return DebuggingFound(self.version, said, STEP_LIMIT, operations, round(self.seconds, 3))


@dataclass(frozen=True)
class DebuggerOutput:
    """What gdb put out, read. Addresses are those in memory."""

    steps: list[int]
    add: int | None
    """Where rsm_subject_add() is; None: gdb did not come to the operation."""
    ended: bool
    lines: int | None
    effect: int | None
    """enum rsm_alone; None: it did not come to its end."""
    died: str
    refused: str
    text: str


def read_output(text: str) -> DebuggerOutput:
    """Read gdb's output."""
    add = re.search(r"^rsm add (\w+)$", text, re.MULTILINE)
    lines = re.search(r"^rsm lines (\d+)$", text, re.MULTILINE)
    exited = re.search(r"\[Inferior .* exited (?:normally|with code (\d+))\]", text)
    died, refused = DIED.search(text), REFUSED.search(text)
    return DebuggerOutput(
        steps=[int(step, 16) for step in re.findall(r"^rsm step (\w+)$", text, re.MULTILINE)],
        add=int(add[1], 16) if add else None,
        ended="rsm ended" in text,
        lines=int(lines[1]) if lines else None,
        effect=int(exited[1] or "0", 8) if exited else None,
        died=died[1] if died else "",
        refused=refused[0].strip() if refused and not add else "",
        text=text,
    )


def _environment(subject: Subject) -> str:
    variables = {**subject.environment(), "LD_BIND_NOW": "1"}
    return "\n".join(f"set environment {name} {value}" for name, value in variables.items())


def _run(gdb: str, subject: Subject, program: Path, operation: str, by_lines: bool) -> str:
    """Return what gdb put out until it ended or its time was up."""
    script_text = COMMANDS + (BY_LINES if by_lines else "")
    commands = script_text.format(
        environment=_environment(subject), operation=operation, add=REQUIRED[0], limit=STEP_LIMIT
    )
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script, tempfile.TemporaryFile("w+b") as output:
        script.write(commands)
        script.flush()
        command = [gdb, "-batch", "-nx", "-x", script.name, str(program)]
        variables = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C"}
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables, start_new_session=True
        ) as process:
            try:
                process.wait(TIME_LIMIT)
            except subprocess.TimeoutExpired:
                pass
            finally:
                if process.poll() is None:
                    end(process)  # what it debugs is killed with it (PTRACE_O_EXITKILL)
        output.seek(0)
        return output.read().decode("utf-8", "replace")


class _Debugger:
    """gdb with one subject."""

    def __init__(self, gdb: str, subject: Subject, program: Path, result: Debugging) -> None:
        self.gdb = gdb
        self.subject = subject
        self.program = program
        self.result = result
        with Image(str(subject.path)) as image:
            self.code = [range(s.address, s.address + s.memory_size) for s in image.loads if s.executable]
            self.by_lines = image.section(".debug_line") is not None

    def go(self, operation: str) -> bool:
        """Debug one operation. Return False where gdb cannot debug here."""
        said = read_output(_run(self.gdb, self.subject, self.program, operation, self.by_lines))
        if said.add is None:
            self._note_no_start(operation, said)
            return False
        bias = said.add - self.subject.code.address
        steps = [step - bias for step in said.steps]
        own = [index for index, step in enumerate(steps) if any(step in code for code in self.code)]
        steps = steps[own[0] : own[-1] + 1] if own else []
        aborts = find_aborts(self.subject.sections, steps)
        self.result.operations.append(DebuggedOperation(operation, len(steps), aborts.total(), said.ended, said.lines))
        self._judge(operation, said, aborts)
        return True

    def _note_no_start(self, operation: str, said: DebuggerOutput) -> None:
        if said.refused:
            self.result.unsupported = f"gdb cannot debug here: {said.refused}"
        elif said.died:
            self.result.note("crash", PHASE, operation, f"{operation} in gdb: {said.died} before it began")
        else:
            last = next((line for line in reversed(said.text.splitlines()) if line.strip()), "it said nothing")
            self.result.problem = f"gdb did not reach the operation {operation}: {last[:200]}"

    def _judge(self, operation: str, said: DebuggerOutput, aborts: Counter[tuple[Section, int]]) -> None:
        case = SteppedCase(
            crash=said.died,
            ended=said.ended,
            limit_reached=len(said.steps) >= STEP_LIMIT,
            aborts=aborts.total(),
            effects=2 if said.effect is None else EFFECTS.get(said.effect, 2),
        )
        section, times = ("", 0) if said.ended else most_aborted(self.subject, aborts)
        row, sentence = judge_stepped(
            case,
            operation=f"{operation}, stepped in gdb,",
            steps=len(said.steps),
            section=section,
            times=times,
            seconds=TIME_LIMIT,
        )
        if row.is_defect:
            self.result.note(row.result, PHASE, section if row.result == "livelock" else operation, sentence)
        elif row.result == ERROR:
            self.result.problem = sentence


def _version(gdb: str) -> str:
    said = subprocess.run([gdb, "-nx", "--version"], capture_output=True, text=True, errors="replace", check=False)
    return said.stdout.partition("\n")[0]


def step_in_gdb(subject: Subject, program: Path) -> Debugging:
    """Step through every operation of a subject in gdb."""
    begun = time.monotonic()
    result = Debugging()
    gdb = shutil.which("gdb")
    if gdb is None:
        result.unsupported = PACKAGE
        return result
    result.version = _version(gdb)
    debugger = _Debugger(gdb, subject, program, result)
    for operation in subject.operations:
        if not debugger.go(operation):
            break
    result.seconds = time.monotonic() - begun
    return result
