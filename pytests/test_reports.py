"""What a person or a machine reads: each report is rendered from the document and shows what is in it."""

from __future__ import annotations

import copy
import io
import os
import pty
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conftest import COMMAND, EVERYWHERE, Command, Document
from rseq_matrix.documents.reading import read
from rseq_matrix.documents.run import CellResult, RunDocument
from rseq_matrix.model.stages import CARRIERS, LINKS
from rseq_matrix.report.junit import to_junit
from rseq_matrix.report.table import NARROW, show_hazards, show_problems, show_tables
from rseq_matrix.report.tap import to_tap
from rseq_matrix.report.words import hazards

VICTIM = "executable.main"


@pytest.fixture
def red(document: Document) -> Document:
    """Return the live document with one cell that failed, one that could not be observed and one unsupported."""
    changed = copy.deepcopy(document)
    changed["cells"] = [cell for cell in changed["cells"] if cell["environment"] == "default"]
    for cell in changed["cells"]:
        if cell["link"] == "dynamic-now" and cell["stage"] == VICTIM:
            cell.update(result="FAIL", reason="class: got hidden, want registered")
            cell["observed"]["class"] = "hidden"
        elif cell["link"] == "dynamic-now" and cell["stage"] == "executable.atexit":
            cell.update(result="ERROR", reason="no record (killed by SIGSEGV)", observed=None)
        elif cell["link"] == "dynamic-now" and cell["stage"] == "executable.on_exit":
            cell.update(result="UNSUPPORTED", reason="libc.a not found # really", observed=None)
    return changed


def tap(document: Document) -> str:
    return to_tap(read(RunDocument, document))


def junit(document: Document) -> str:
    return to_junit(read(RunDocument, document))


def drawn(show: Any, document: Document, width: int = 100) -> str:
    text = io.StringIO()
    show(Console(file=text, width=width, color_system=None), read(RunDocument, document))
    return text.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    """Return the table's lines by carrier.hook."""
    found, carrier = {}, ""
    for line in text.split("\nwhy\n", maxsplit=1)[0].splitlines():
        words = line.split()
        if len(words) == 1 and words[0] in CARRIERS and not line.startswith(" "):
            carrier = words[0]
        elif carrier and line.startswith(" ") and words:
            found[f"{carrier}.{words[0]}"] = words[1:]
    return found


def test_the_table_has_a_line_a_stage_and_a_column_a_link(red: Document) -> None:
    text = drawn(show_tables, red)
    table = rows(text)
    assert set(table) == set(EVERYWHERE)
    for link in LINKS:
        assert link in next(line for line in text.splitlines() if line.startswith("stage"))
    for cell in red["cells"]:
        if cell["result"] == "PASS":
            assert cell["observed"]["class"] in table[cell["stage"]], cell["id"]


def test_the_table_shows_what_is_red_without_colour(red: Document) -> None:
    table = rows(drawn(show_tables, red))
    assert table[VICTIM][1:3] == ["FAIL", "hidden"]
    assert "ERROR" in table["executable.atexit"]
    assert "unsupported" in table["executable.on_exit"]
    stale = [cell for cell in red["cells"] if cell["observed"] and cell["observed"]["class"] == "stale"]
    assert all("!" in table[cell["stage"]] for cell in stale)
    assert "*" in table["ifunc.interposed"]


def test_a_narrow_terminal_cuts_no_class(red: Document) -> None:
    assert "…" not in drawn(show_tables, red, width=80)


@pytest.mark.parametrize("width", [30, 40, 60])
def test_a_terminal_that_is_too_narrow_folds_every_column(width: int, red: Document) -> None:
    text = drawn(show_tables, red, width)
    table = text.split("\nwhy\n", maxsplit=1)[0]
    assert "…" not in table
    shown = "".join(line[:NARROW].strip() for line in table.splitlines())
    assert all(stage.hook in shown for stage in EVERYWHERE.values())
    assert max(map(len, table.splitlines())) <= width


def test_every_reason_is_given_once_with_its_reference(red: Document) -> None:
    text = " ".join(drawn(show_tables, red, width=400).split())
    for because, reference in {(c["expected"]["because"], c["expected"]["reference"]) for c in red["cells"]}:
        assert text.count(f"{because} [{reference}]") == 1


def test_problems_name_the_cell_the_reason_and_the_command(red: Document) -> None:
    text = drawn(show_problems, red, width=400)
    assert f"dynamic-now/default/{VICTIM}: class: got hidden, want registered" in text
    assert "ERROR" in text
    assert f"repeat: rseq-matrix run 'host/{red['libcs'][0]['id']}/dynamic-now/default/{VICTIM}'" in text
    assert "UNSUPPORTED libc.a not found" in text


def test_hazards_are_said_in_words(red: Document) -> None:
    cells = [cell for cell in red["cells"] if cell["stage"] == "process.vfork_child"]
    if cells[0]["observed"]["class"] != "stale":
        pytest.skip("rseq is not usable on this machine, so nothing can be stale")
    for cell in cells:
        cell["observed"].update({"sched_getcpu": 0, "getcpu": 1, "cpu_id": 0})
    said = dict(hazards(read(CellResult, cell) for cell in cells))
    (sentence,) = said
    assert sentence.startswith("in a vfork child sched_getcpu() returned 0 on CPU 1")
    assert said[sentence] == [cell["link"] for cell in cells]
    assert "returned 0 on CPU 1" in " ".join(drawn(show_hazards, red).split())
    cells[0]["observed"]["class"] = "dead"
    assert "does not follow the thread" in hazards([read(CellResult, cells[0])])[0][0]


def test_tap(red: Document) -> None:
    lines = tap(red).splitlines()
    assert lines[:2] == ["TAP version 13", f"1..{len(red['cells'])}"]
    points = [line for line in lines if line.startswith(("ok", "not ok"))]
    assert len(points) == len(red["cells"])
    assert [line for line in points if line.startswith("not ok")] == [
        f"not ok {number} - {cell['id']}"
        for number, cell in enumerate(red["cells"], 1)
        if cell["result"] in ("FAIL", "ERROR")
    ]
    assert [line for line in points if line.endswith("# SKIP libc.a not found \\# really")]
    assert "Bail out! interrupted" in tap({**red, "complete": False})


def test_junit(red: Document) -> None:
    root = ET.fromstring(junit(red))
    cases = root.findall(".//testcase")
    assert len(cases) == len(red["cells"])
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("1", "1", "1")
    (failure,) = root.findall(".//failure")
    assert failure.get("message") == "class: got hidden, want registered"
    assert "repeat: rseq-matrix run" in str(failure.text)


def test_junit_is_xml_whatever_a_program_printed(red: Document) -> None:
    cells = [{**cell, "reason": f"{cell['reason']}\x07\x1b[31m\ufffe"} for cell in red["cells"]]
    root = ET.fromstring(junit({**red, "cells": cells}))
    (failure,) = root.findall(".//failure")
    assert str(failure.get("message")).startswith("class: got hidden, want registered?")


def test_machine_output_owns_standard_output(command: Command) -> None:
    done = command("run", "executable.main", "--tap")
    assert done.stdout.startswith("TAP version 13\n1..4\nok 1 - host/")
    assert len(done.stdout.splitlines()) == 6
    assert "4 PASS" in done.stderr


def test_without_a_terminal_only_the_summary_is_printed(command: Command) -> None:
    done = command("run", "executable.*")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert "\x1b" not in done.stdout
    assert "why" in command("run", "executable.*", "--table").stdout


def test_in_a_terminal_there_is_a_progress_bar_and_a_coloured_table() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([*COMMAND, "run"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
    text = seen.decode()
    assert process.returncode == 0
    assert "━" in text  # the bar
    assert "\x1b[32mregistered" in text or "unregistered" in text
    assert " PASS, in " in text


def test_a_report_never_replaces_what_is_not_a_file(command: Command, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-c", f"print(len(open({str(fifo)!r}).read()))"], stdout=subprocess.PIPE
    ) as p:
        assert command("run", "executable.main", "--json", str(fifo)).returncode == 0
        assert p.stdout is not None
        assert int(p.stdout.read()) > 1000
    assert fifo.is_fifo()
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    assert command("run", "executable.main", "--json", str(link)).returncode == 0
    assert link.is_symlink()
    assert target.read_text().startswith("{")


@pytest.mark.parametrize(
    "arguments", [["run", "executable.main"], ["run", "executable.main", "--json", "-"], ["stages"]]
)
def test_a_full_disk_on_standard_output_is_one_sentence(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
