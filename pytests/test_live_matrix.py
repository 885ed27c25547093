"""The live matrix on the system's glibc: one test a cell, and what must hold over all of them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from conftest import EVERYWHERE, Command, Document
from rseq_matrix.matrix.cells import all_cells
from rseq_matrix.matrix.libc import own_libc_version
from rseq_matrix.model.results import RESULTS
from rseq_matrix.model.stages import LINKS, STAGES

ENVIRONMENTS = ("default", "tunable-off")
"""The others: test_environments.py."""

CELLS = all_cells(f"glibc-{own_libc_version()}", LINKS, ENVIRONMENTS)
SCHEMA = json.loads((resources.files("rseq_matrix.schema") / "run-1.json").read_text())


@pytest.fixture(scope="module")
def by_id(document: Document) -> dict[str, Document]:
    return {cell["id"]: cell for cell in document["cells"]}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_cell(cell: Any, by_id: dict[str, Document]) -> None:
    found = by_id[cell.id]
    if found["result"] == "UNSUPPORTED":
        pytest.skip(found["reason"])
    assert found["result"] == "PASS", found["reason"]


def test_document_follows_the_schema(document: Document) -> None:
    jsonschema.validate(document, SCHEMA)


def test_schema_refuses_a_pass_that_was_not_observed(document: Document) -> None:
    cell = {**document["cells"][0], "observed": None}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "cells": [cell]}, SCHEMA)


def test_every_cell_of_the_axes_is_there_once(document: Document) -> None:
    ids = [cell["id"].split("/", 2)[2] for cell in document["cells"]]
    assert sorted(ids) == sorted(cell.id.split("/", 2)[2] for cell in CELLS)
    assert sum(document["summary"].values()) == len(ids)
    assert set(document["summary"]) == set(RESULTS)


@pytest.mark.libc_a
def test_every_stage_was_recorded_in_every_link_that_it_exists_in(cells: dict[str, Document]) -> None:
    for stage in EVERYWHERE.values():
        for link in stage.links:
            assert cells[f"{link}/default/{stage.name}"]["sequence"]


@pytest.mark.libc_a
def test_untraced_run_sees_the_same_classes(command: Command, cells: dict[str, Document], tmp_path: Any) -> None:
    path = tmp_path / "untraced.json"
    done = command(
        "run", "--no-oracle", "--environment", "default", "--environment", "tunable-off", "--json", str(path)
    )
    assert done.returncode == 0, done.stdout
    assert "untraced" in done.stdout
    untraced = {"/".join(cell["id"].split("/")[2:]): cell["observed"] for cell in json.loads(path.read_text())["cells"]}
    assert {key: observed["class"] for key, observed in untraced.items()} == {
        key: cell["observed"]["class"] for key, cell in cells.items()
    }
    assert all(observed["oracle"] is None for observed in untraced.values())


@pytest.mark.ptrace
def test_both_oracles_are_in_every_cell(cells: dict[str, Document]) -> None:
    for name, cell in cells.items():
        observed = cell["observed"]
        assert observed["oracle"] is not None, name
        assert observed["oracle"]["registered"] == observed["kernel_registered"], name
        if observed["class"] == "registered":
            assert observed["oracle"]["address"] == observed["area_address"], name


def test_subject_path_is_right_everywhere(cells: dict[str, Document]) -> None:
    for name, cell in cells.items():
        fast = cell["observed"]["class"] == "registered"
        assert cell["subject"]["path"] == ("fast" if fast else "fallback"), name
        assert cell["subject"]["attempted"] == cell["subject"]["committed"] > 0, name


@pytest.mark.libc_a
def test_vfork_child_is_a_hazard_that_sched_getcpu_shares(cells: dict[str, Document]) -> None:
    """The child is pinned to another CPU than the parent; one CPU alone cannot show it."""
    for link in LINKS:
        observed = cells[f"{link}/default/process.vfork_child"]["observed"]
        if observed["user_registered"] and observed["cpu_id"] != observed["getcpu"]:
            assert observed["class"] == "stale"
            assert observed["sched_getcpu"] == observed["cpu_id"]


def test_interposed_resolver_runs_before_its_own_object_is_relocated(cells: dict[str, Document]) -> None:
    for link in ("dynamic-lazy", "dynamic-now"):
        assert cells[f"{link}/default/ifunc.interposed"]["observed"]["relocated"] is False
        assert cells[f"{link}/default/ifunc.preload"]["observed"]["relocated"] is True


def test_lazy_binding_runs_a_resolver_after_the_preload_constructor_and_eager_before(
    cells: dict[str, Document],
) -> None:
    def sequence(link: str, stage: str) -> int:
        return int(cells[f"{link}/default/{stage}"]["sequence"])

    for stage in ("ifunc.library", "ifunc.preload"):
        assert sequence("dynamic-lazy", stage) > sequence("dynamic-lazy", "preload.constructor")
        assert sequence("dynamic-now", stage) < sequence("dynamic-now", "preload.constructor")


@pytest.mark.libc_a
def test_critical_section_is_aborted_where_it_is_protected(cells: dict[str, Document]) -> None:
    for link in LINKS:
        for environment in ENVIRONMENTS:
            observed = cells[f"{link}/{environment}/signal.critical_section"]["observed"]
            assert observed["critical_section"] == ("aborted" if observed["kernel_registered"] else "continued")


def test_libc_is_called_only_where_the_registry_allows_it(cells: dict[str, Document]) -> None:
    for cell in cells.values():
        allowed = STAGES[cell["stage"]].may == "libc"
        assert (cell["observed"]["sched_getcpu"] is not None) == allowed, cell["id"]
        assert (cell["observed"]["libc_version"] is not None) == allowed, cell["id"]


def test_tunable_is_judged_by_its_effect(cells: dict[str, Document]) -> None:
    if cells["dynamic-now/default/executable.main"]["observed"]["rseq_size"]:
        observed = cells["dynamic-now/tunable-off/executable.main"]["observed"]
        assert (observed["rseq_size"], observed["cpu_id"]) == (0, -2)
