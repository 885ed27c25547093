"""Every broken subject is caught by name by the phase that is meant to, in every one of many runs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from compiling import BROKEN, compile_subject
from conftest import rounds, run_command
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.verify import VerifyRequest
from rseq_matrix.verify.verification import Verification

pytestmark = pytest.mark.ptrace

SEEN_ELSEWHERE = {"trusts_vfork", "stack_not_lifo", "pop_not_atomic"}  # more than the nine that are promised
SECONDS, ADDS = 0.6, 100
CAUGHT = {
    "not_atomic": ("stress", "not-atomic"),
    "trusts_cpu_id": ("stages", "unprotected-fast-path"),
    "trusts_vfork": ("stages", "unprotected-fast-path"),
    "early_commit": ("interruptions", "early-commit"),
    "not_retried": ("interruptions", "not-retried"),
    "retries_for_ever": ("stepping", "livelock"),
    "not_reentrant": ("interruptions", "not-reentrant"),
    "fallback_not_atomic": ("stress", "fallback-not-atomic"),
    "doubled_after_abort": ("interruptions", "doubled-after-abort"),
    "tls_in_resolver": ("stages", "needs-tls"),
    "stack_not_lifo": ("history", "not-linearizable"),
    "pop_not_atomic": ("stress", "doubled"),
}
GLOBS = {"trusts_cpu_id": ["process.*"], "trusts_vfork": ["process.*"], "tls_in_resolver": ["ifunc.*"]}


def test_every_broken_subject_is_in_the_list() -> None:
    assert {path.stem for path in BROKEN.glob("*.c")} == set(CAUGHT)


def by_command(subject: Path, phase: str, globs: list[str], out: Path) -> dict[str, Any]:
    """Judge it as a user does."""
    brief = ["--seconds", str(SECONDS), "--adds", str(ADDS)]
    arguments = [*globs, "--subject", str(subject), "--phase", phase, *brief]
    done = run_command("verify", *arguments, "--json", str(out))
    assert done.returncode == 1, (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(out.read_text())["subjects"][0]
    return found


def in_process(subject: Path, phase: str, globs: list[str]) -> dict[str, Any]:
    """Do the same without a new Python each time."""
    request = VerifyRequest((str(subject),), tuple(globs), (phase,), seconds=SECONDS, adds=ADDS)
    with ExitStack() as stack:
        verification = Verification(request, stack)
        (judged,) = verification.go(lambda _subject, _phase, _part: None)
        document: dict[str, Any] = plain(judged.document())
        return document


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        pytest.param(name, *turn.values, marks=turn.marks)
        for name in CAUGHT
        for turn in rounds(3 if name in SEEN_ELSEWHERE else 20)
    ],
)
def test_a_broken_subject_is_caught_by_name_every_time(name: str, turn: int, tmp_path: Path) -> None:
    phase, defect = CAUGHT[name]
    subject, globs = compile_subject(BROKEN / f"{name}.c", tmp_path), GLOBS.get(name, [])
    document = in_process(subject, phase, globs) if turn else by_command(subject, phase, globs, tmp_path / "out.json")
    assert defect in {found["name"] for found in document["defects"]}, document["defects"]
    assert document["result"] == "FAIL"
