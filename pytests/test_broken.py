"""Every broken subject is caught by name by the phase that is meant to, in every one of many runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from compiling import BROKEN, compile_subject
from conftest import run_command

pytestmark = pytest.mark.ptrace

REPEATS = int(os.environ.get("RSEQ_MATRIX_REPEATS", "20"))
SEEN_ELSEWHERE = {"trusts_vfork", "stack_not_lifo", "pop_not_atomic"}  # more than the nine that are promised
LIMIT = 30  # seconds that one run may take
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


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_subject_is_caught_by_name_every_time(name: str, tmp_path: Path) -> None:
    phase, defect = CAUGHT[name]
    subject, out = compile_subject(BROKEN / f"{name}.c", tmp_path), tmp_path / "out.json"
    arguments = [*GLOBS.get(name, []), "--subject", str(subject), "--phase", phase, "--seconds", "1"]
    for repeat in range(min(3, REPEATS) if name in SEEN_ELSEWHERE else REPEATS):
        done = run_command("verify", *arguments, "--json", str(out), timeout=LIMIT)
        assert done.returncode == 1, (repeat, done.stdout, done.stderr)
        document = json.loads(out.read_text())["subjects"][0]
        assert defect in {found["name"] for found in document["defects"]}, (repeat, document["defects"])
        out.unlink()
