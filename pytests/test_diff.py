"""`rseq-matrix diff`: what changed is said once, chance is not compared, and what is no document gets one sentence."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from conftest import ROOT, Command, Document
from rseq_matrix.documents.diff import DiffDocument
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import read
from rseq_matrix.errors import InputError
from rseq_matrix.matrix.comparison import FIELDS, class_changed, diff_document, load
from rseq_matrix.report.diff import show_diff

SCHEMAS = ROOT / "scripts" / "rseq_matrix" / "schema"
SCHEMA = json.loads((SCHEMAS / "diff-1.json").read_text())
VICTIM = "dynamic-now/default/executable.main"
VOLATILE = {"area_address", "cpu_id_start", "getcpu", "sched_getcpu"}
"""What is chance. libc_version says which of the two libcs it was, and the class of a cell is compared by itself."""
BY_ITSELF = {"class", "oracle", "libc_version"}


@pytest.fixture
def old(document: Document) -> Document:
    return copy.deepcopy(document)


@pytest.fixture
def new(document: Document) -> Document:
    return copy.deepcopy(document)


def cell_of(document: Document, name: str = VICTIM) -> Document:
    return next(cell for cell in document["cells"] if cell["id"].endswith(f"/{name}"))


def observed_cells(document: Document) -> list[Document]:
    return [cell for cell in document["cells"] if cell["observed"]]


def written(tmp_path: Path, name: str, document: Any) -> Path:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def compared(tmp_path: Path, old: Document, new: Document) -> Document:
    """Return the comparison, valid by its schema."""
    document: Document = plain(diff_document(written(tmp_path, "old.json", old), written(tmp_path, "new.json", new)))
    jsonschema.validate(document, SCHEMA)
    return document


def shown(document: Document, width: int = 80) -> str:
    text = io.StringIO()
    show_diff(Console(file=text, width=width, color_system=None), read(DiffDocument, document))
    return text.getvalue()


def renamed(document: Document, libc: str) -> Document:
    """Give a document's only libc another name."""
    for cell in document["cells"]:
        parts = cell["id"].split("/")
        cell["libc"], cell["id"] = libc, "/".join([parts[0], libc, *parts[2:]])
    document["libcs"][0]["id"] = libc
    return document


# --- what is compared


def test_a_document_does_not_differ_from_itself(tmp_path: Path, old: Document, new: Document) -> None:
    document = compared(tmp_path, old, new)
    assert document["changes"] == document["added"] == document["vanished"] == []
    assert document["common"] == len(old["cells"])
    assert not class_changed(read(DiffDocument, document))


def test_a_second_run_does_not_differ(tmp_path: Path, old: Document, command: Command) -> None:
    path = tmp_path / "again.json"
    command("run", "--environment", "default", "--environment", "tunable-off", "--json", str(path))
    document = plain(diff_document(written(tmp_path, "old.json", old), path))
    assert document["changes"] == document["added"] == document["vanished"] == []


def test_every_field_of_an_observation_is_compared_or_known_to_be_chance() -> None:
    schema = json.loads((SCHEMAS / "run-1.json").read_text())["$defs"]
    fields = {*schema["observed"]["properties"]} - BY_ITSELF
    fields |= {f"oracle.{name}" for name in schema["oracle"]["properties"]}
    assert fields == {*FIELDS} | VOLATILE | {"oracle.address"}
    enum = SCHEMA["properties"]["changes"]["items"]["properties"]["field"]["enum"]
    assert enum == ["class", "result", "path", *FIELDS]


def test_chance_is_not_compared(tmp_path: Path, old: Document, new: Document) -> None:
    for cell in observed_cells(new):
        seen = cell["observed"]
        seen.update(dict.fromkeys(VOLATILE, 77))
        cell["sequence"] = 99
        cell["subject"].update(attempted=1000, committed=1000, aborts=3)
        if (seen["cpu_id"] or 0) >= 0:
            seen["cpu_id"] = 4711 if seen["cpu_id"] is not None else None
        if seen["oracle"]:
            seen["oracle"]["address"] = 12345
    assert compared(tmp_path, old, new)["changes"] == []


def other(value: Any) -> Any:
    """Return another value of the same type."""
    return (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else "other"


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_compared(field: str, tmp_path: Path, old: Document, new: Document) -> None:
    holder, _, name = field.rpartition(".")
    for document in (old, new):
        cell_of(document)["observed"]["oracle"] = {"registered": True, "address": 1, "size": 32, "signature": 5}
    seen = cell_of(new)["observed"]
    target = seen[holder] if holder else seen
    before = target[name]
    target[name] = -2 if name == "cpu_id" else other(before)
    (change,) = compared(tmp_path, old, new)["changes"]
    assert (change["field"], change["cells"]) == (field, [VICTIM])
    assert change["new"] == target[name]
    assert change["old"] == ("a CPU" if name == "cpu_id" else before)


@pytest.mark.parametrize("field", ["kernel_registered", "owner"])
def test_what_nobody_looked_at_is_no_difference(field: str, tmp_path: Path, old: Document, new: Document) -> None:
    for cell in observed_cells(new):
        cell["observed"][field] = None
        cell["observed"]["oracle"] = None
    assert compared(tmp_path, old, new)["changes"] == []


def test_a_changed_field_is_said_once_for_all_its_cells(tmp_path: Path, old: Document, new: Document) -> None:
    for cell in observed_cells(old):
        cell["observed"].update(rseq_size=32, rseq_offset=2336)
    for cell in observed_cells(new):
        cell["observed"].update(rseq_size=20, rseq_offset=-704)
    document = compared(tmp_path, old, new)
    assert [(change["field"], change["old"], change["new"]) for change in document["changes"]] == [
        ("rseq_size", 32, 20),
        ("rseq_offset", 2336, -704),
    ]
    text = shown(document)
    count = "all " if len(observed_cells(old)) == len(old["cells"]) else ""
    assert f"rseq_size 32 -> 20 in {count}{len(observed_cells(old))} cells" in text
    assert f"rseq_offset 2336 -> -704 in {count}{len(observed_cells(old))} cells" in text
    assert text.count("2336") == 1
    assert not class_changed(read(DiffDocument, document))


# --- classes, paths, results, cells


def test_a_changed_class_is_shown_with_its_stages_and_links(tmp_path: Path, old: Document, new: Document) -> None:
    names = [f"{link}/default/process.fork_child" for link in ("dynamic-lazy", "dynamic-now")]
    for name in names:
        cell = cell_of(new, name)
        cell["observed"].update({"class": "stale"})
        cell["subject"]["path"] = "fallback"
        cell["result"] = "FAIL"
        cell_of(old, name)["observed"]["class"] = "registered"
        cell_of(old, name)["subject"]["path"] = "fast"
    document = compared(tmp_path, old, new)
    assert [(c["field"], c["old"], c["new"], c["cells"]) for c in document["changes"]] == [
        ("class", "registered", "stale", names),
        ("result", "PASS", "FAIL", names),
        ("path", "fast", "fallback", names),
    ]
    assert class_changed(read(DiffDocument, document))
    text = shown(document)
    assert "registered -> stale ! in 2 cells" in text
    assert "process.fork_child (dynamic)" in text
    counted = (
        f"{document['common']} cells are in both documents: 2 changed their class, 2 their result, 2 the path of the "
        "subject, and 0 another field of what was observed; 0 cells are new, and 0 have vanished"
    )
    assert counted in " ".join(text.split())
    assert text.count("process.fork_child") == 1
    assert text.count("in the same 2 cells") == 2


def test_a_cell_that_could_not_be_observed_has_changed_its_class(tmp_path: Path, old: Document, new: Document) -> None:
    cell_of(new).update(observed=None, result="ERROR", reason="no record")
    document = compared(tmp_path, old, new)
    assert document["changes"][0]["field"] == "class"
    assert document["changes"][0]["new"] is None
    assert class_changed(read(DiffDocument, document))
    assert "-> not observed" in shown(document)


def test_new_and_vanished_cells_and_interrupted_runs(tmp_path: Path, old: Document, new: Document) -> None:
    old["cells"].remove(cell_of(old))
    gone = cell_of(new, "dynamic-now/tunable-off/executable.atexit")
    new["cells"].remove(gone)
    new["complete"] = False
    document = compared(tmp_path, old, new)
    assert document["added"] == [VICTIM]
    assert document["vanished"] == ["dynamic-now/tunable-off/executable.atexit"]
    assert not class_changed(read(DiffDocument, document))
    text = shown(document)
    assert "new cells: 1\n" in text
    assert "tunable-off/executable.atexit (dynamic-now)" in text
    assert text.count("interrupted") == 1
    assert text.index("new  ") < text.index("interrupted")


def test_two_libcs_are_compared_without_their_names(tmp_path: Path, old: Document, new: Document) -> None:
    document = compared(tmp_path, renamed(old, "glibc-2.36"), renamed(new, "glibc-2.41"))
    assert document["matched_by"] == ["link", "environment", "stage"]
    assert document["common"] == len(old["cells"])
    assert document["changes"] == []
    text = shown(document, 200)
    assert "glibc-2.36 (" in text
    assert "glibc-2.41 (" in text


def test_several_libcs_are_matched_by_their_names(tmp_path: Path, old: Document, new: Document) -> None:
    more = renamed(copy.deepcopy(new), "glibc-9.9")
    cell_of(more)["observed"]["class"] = "stale"
    both = renamed(new, "glibc-2.36")
    both["cells"] += more["cells"]
    both["libcs"] += more["libcs"]
    document = compared(tmp_path, renamed(old, "glibc-2.36"), both)
    assert document["matched_by"] == ["libc", "link", "environment", "stage"]
    assert len(document["added"]) == len(more["cells"])
    assert document["changes"] == []
    swapped = copy.deepcopy(both)
    cell_of(swapped)["observed"]["class"] = "hidden"
    (change,) = compared(tmp_path, both, swapped)["changes"]
    assert change["cells"] == [f"glibc-2.36/{VICTIM}"]


def test_nothing_in_common_is_not_called_equal(tmp_path: Path, old: Document, new: Document) -> None:
    old["cells"] = [cell for cell in old["cells"] if cell["link"] == "dynamic-lazy"]
    new["cells"] = [cell for cell in new["cells"] if cell["link"] == "dynamic-now"]
    with pytest.raises(InputError, match="no cell is both in"):
        compared(tmp_path, old, new)
    with pytest.raises(InputError, match=r"no cell is both in .*: link dynamic-lazy against dynamic-now$"):
        compared(tmp_path, old, new)
    with pytest.raises(InputError, match="no cell is both in"):
        compared(tmp_path, {**old, "cells": []}, new)


def test_the_axis_in_which_nothing_is_common_is_named(tmp_path: Path, old: Document, new: Document) -> None:
    old["cells"] = [cell for cell in old["cells"] if cell["environment"] == "default"]
    new["cells"] = [cell for cell in new["cells"] if cell["environment"] == "tunable-off"]
    with pytest.raises(InputError, match=r"no cell is both in .*: environment default against tunable-off$"):
        compared(tmp_path, old, new)


# --- what is no document


def change_cell(**fields: Any) -> Callable[[Document], None]:
    return lambda document: document["cells"][0].update(fields)


def change_observed(**fields: Any) -> Callable[[Document], None]:
    return lambda document: observed_cells(document)[0]["observed"].update(fields)


def change(**fields: Any) -> Callable[[Document], None]:
    return lambda document: document.update(fields)


def drop(name: str) -> Callable[[Document], None]:
    return lambda document: document["cells"][0].pop(name)


BAD: dict[str, tuple[Callable[[Document], Any], str]] = {
    "schema 2": (change(schema=2), "it has schema 2; this version of rseq-matrix reads schema 1"),
    "schema true": (change(schema=True), "it has schema True"),
    "schema text": (change(schema="1"), "it has schema 1"),
    "schema long": (change(schema="x" * 5000), "it has schema xxxx"),
    "no schema": (lambda document: document.pop("schema"), "no 'schema' and 'cells'"),
    "no cells": (lambda document: document.pop("cells"), "no 'schema' and 'cells'"),
    "cells no list": (change(cells={}), "'cells' of the document is not what it should be"),
    "cell no object": (change(cells=[7]), "cell 0 is no object"),
    "complete no truth": (change(complete=1), "'complete' of the document"),
    "host no object": (change(host=None), "'host' of the document"),
    "libc without id": (change(libcs=[{}]), "libc 0 has no 'id'"),
    "no stage": (drop("stage"), "cell 0 has no 'stage'"),
    "no subject": (drop("subject"), "cell 0 has no 'subject'"),
    "other id": (change_cell(id="a/b/c/d/e"), "the id of cell 0 is not made of its parts"),
    "id too long": (change_cell(libc="a/b"), "the id of cell 0 is not made of its parts"),
    "path no text": (change_cell(subject={"path": 1}), "'path' of the subject of cell 0"),
    "observed no object": (change_cell(observed=[]), "'observed' of cell 0"),
    "observed empty": (change_cell(observed={}), "what was observed of cell 0 has no 'class'"),
    "size text": (change_observed(rseq_size="20"), "'rseq_size' of what was observed"),
    "size truth": (change_observed(rseq_size=True), "'rseq_size' of what was observed"),
    "oracle empty": (change_observed(oracle={}), "the oracle of what was observed of cell 0 has no 'registered'"),
    "twice": (lambda document: document["cells"].append(document["cells"][0]), "more than once"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_document_that_is_not_sound_is_refused(case: str, tmp_path: Path, old: Document, new: Document) -> None:
    spoil, words = BAD[case]
    spoil(new)
    with pytest.raises(InputError) as error:
        compared(tmp_path, old, new)
    assert words in str(error.value)
    assert "new.json" in str(error.value)
    assert len(str(error.value)) < 300
    with pytest.raises(InputError):
        diff_document(tmp_path / "new.json", tmp_path / "old.json")


TEXTS = {
    "empty": "",
    "text": "hello",
    "truncated": '{"schema": 1, "cells": [',
    "list": "[]",
    "null": "null",
    "deep": "[" * 200_000,
    "not a number": '{"schema": 1, "cells": NaN}',
    "many digits": '{"schema": 1, "cells": ' + "9" * 10_000 + "}",
    "a life": '{"schema": 1, "kind": "life"}',
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_no_document_is_refused(case: str, tmp_path: Path) -> None:
    path = written(tmp_path, "bad.json", TEXTS[case])
    with pytest.raises(InputError, match=r"no document of `rseq-matrix run --json`") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b'{"schema": 1, "cells": "\xff\xfe"}')
    with pytest.raises(InputError, match="not JSON"):
        load(path)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


# --- the command


def test_exit_statuses_and_what_is_written(tmp_path: Path, old: Document, new: Document, command: Command) -> None:
    first, output = written(tmp_path, "old.json", old), tmp_path / "diff.json"
    cell_of(new)["observed"]["rseq_offset"] = -704
    done = command("diff", str(first), str(written(tmp_path, "new.json", new)), "--json", str(output))
    assert (done.returncode, done.stderr) == (0, "")
    assert "-> -704 in 1 cell" in done.stdout
    assert VICTIM.replace("dynamic-now/default/", "") in done.stdout
    jsonschema.validate(json.loads(output.read_text()), SCHEMA)
    cell_of(new)["observed"]["class"] = "hidden"
    done = command("diff", str(first), str(written(tmp_path, "new.json", new)), "--json", "-")
    assert done.returncode == 1
    assert json.loads(done.stdout)["changes"][0]["new"] == "hidden"


def test_an_input_is_not_written_over(tmp_path: Path, old: Document, command: Command) -> None:
    first, second = written(tmp_path, "old.json", old), written(tmp_path, "new.json", old)
    (tmp_path / "link.json").symlink_to(first)
    (tmp_path / "hard.json").hardlink_to(second)
    for output in (first, second, tmp_path / "link.json", tmp_path / "hard.json"):
        done = command("diff", str(first), str(second), "--json", str(output))
        assert done.returncode == 2
        assert f"{output} is one of the documents that are compared" in sentence(done)
        assert json.loads(first.read_text()) == json.loads(second.read_text()) == old


def test_bad_files_are_one_sentence(tmp_path: Path, old: Document, command: Command) -> None:
    good, bad = written(tmp_path, "old.json", old), written(tmp_path, "bad.json", "{")
    for path, words in (
        (str(bad), "bad.json: no document of `rseq-matrix run --json`"),
        (str(tmp_path / "nowhere.json"), "No such file"),
        (str(tmp_path), "Is a directory"),
        ("/dev/zero", "larger than"),
    ):
        for arguments in ((str(good), path), (path, str(good))):
            done = command("diff", *arguments)
            assert done.returncode == 4, words
            assert words in sentence(done)
            assert done.stdout == ""
    done = command("diff", str(good))
    assert done.returncode == 2
    assert "NEW.json" in sentence(done)


def test_names_that_others_chose_do_no_harm(tmp_path: Path, old: Document, new: Document, command: Command) -> None:
    hostile = "glibc-\x1b[2J[red]\ud800"
    renamed(new, hostile)
    cell_of(new)["observed"]["class"] = "\x1b[31m\ud800"
    environment = {**os.environ, "COLUMNS": "80"}
    done = command(
        "diff", str(written(tmp_path, "old.json", old)), str(written(tmp_path, "new.json", new)), env=environment
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout
    assert "[red]" in done.stdout


def test_a_terminal_of_80_columns_shows_all_of_it(tmp_path: Path, old: Document, new: Document) -> None:
    for number, cell in enumerate(observed_cells(new)):
        cell["observed"]["class"] = ("stale", "hidden")[number % 2]
    text = shown(compared(tmp_path, old, new))
    assert max(map(len, text.splitlines())) <= 80
    assert all(name.split("/")[-1] in text for name in (VICTIM, "x/x/process.coroutine"))
