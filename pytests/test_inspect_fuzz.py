"""Damaged files, twenty thousand with --all: each ends as facts or as one sentence, within its time and memory.

Half of the inputs come from this machine's crafted files and small system libraries, half from the other machines'
crafted files; fuzz_inspect.py says how they are damaged. The seed is fixed, so that a failure can be repeated; another
seed: .venv/bin/python pytests/fuzz_inspect.py INPUTS SEED FILE...
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from crafting import MACHINES, NATIVE, Recipe, make_all

FUZZER = ROOT / "pytests" / "fuzz_inspect.py"
INPUTS = [500, pytest.param(10_000, marks=pytest.mark.repetition)]
"""Of each of the two."""
SECONDS = 1800


def native() -> Iterator[Recipe]:
    yield Recipe("section.S")
    yield Recipe("resolver_tls.c", ("-DBAD",))
    yield Recipe("resolver_gd_tls.c", ("-DBAD",), kind="static")
    yield Recipe("rseq_own.c", ("-DSTORE",))
    yield Recipe("tls_models.c", ("-DHIDDEN",))
    yield Recipe("tls_models.c", ('-DMODEL="local-exec"',), kind="pie")
    yield Recipe("handler_gd_tls.c", ("-DBAD",))
    yield Recipe("order.c", kind="executable")


def foreign() -> Iterator[Recipe]:
    for machine in MACHINES:
        if machine != NATIVE:
            yield Recipe("section.S", (), machine)
            yield Recipe("resolver_gd_tls.c", ("-DBAD",), machine)
            yield Recipe("rseq_own.c", ("-DSTORE",), machine)


def fuzz(inputs: int, seed: int, files: list[Path]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FUZZER), str(inputs), str(seed), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.cross
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("seed", "recipes"), [(1, native), (2, foreign)])
def test_damaged_files(inputs: int, seed: int, recipes: Callable[[], Iterator[Recipe]], tmp_path: Path) -> None:
    done = fuzz(inputs, seed, list(make_all(recipes(), tmp_path).values()))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""  # nothing is printed past the sentence either
    told = json.loads(done.stdout)
    assert told["inputs"] >= inputs
    assert told["read"] > inputs / 10  # most damage is survived, and some is refused: both ways are trodden
    assert told["refused"] > inputs / 10


def test_the_fuzzer_sees_a_traceback(tmp_path: Path) -> None:
    """A reader with a planted defect: it believes an entry count."""
    (path,) = make_all([Recipe("section.S")], tmp_path).values()
    code = (
        "import runpy, sys\nfrom rseq_matrix.elf import image\n"
        "def tag(self, name): return dict(self.dynamic)[name]\n"
        "image.Image.tag = tag\n"
        f"sys.argv = ['fuzz', '200', '1', {str(path)!r}]\nrunpy.run_path({str(FUZZER)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "KeyError" in done.stderr
