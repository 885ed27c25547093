"""The pages are up to date, their links lead somewhere, and the site and the man pages can be built."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, run_command
from rseq_matrix.cli import COMMANDS
from rseq_matrix.model.classes import MEANING
from rseq_matrix.model.stages import CARRIERS

SCRIPTS = ROOT / "scripts" / "documentation"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NAMED = re.compile(r"`([\w./-]*\w\.(?:py|c|h|def|cmake|txt|yml)|[\w-]+-1\.json|[a-z][\w./-]*/)`")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINES = {"README.md": 150, "CONTRIBUTING.md": 60}


def tree(path: Path) -> Path:
    """Copy what the scripts read: a page or a list can then be spoilt."""
    path.mkdir(exist_ok=True)
    names = ("README.md", "CONTRIBUTING.md", "docs", "scripts", "csrc", "preload", "auditlib", "ifunc", "pytests")
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__", "crafted", "planted"))
        else:
            shutil.copy(source, path / name)
    return path


def script(where: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the documentation's in a tree."""
    command = [sys.executable, str(where / "scripts" / "documentation" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as a forge and MkDocs make them."""
    words = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", page.read_text())))
    return {re.sub(r"[\s-]+", "-", text.strip()) for text in words}


def test_every_list_is_that_of_the_code() -> None:
    done = script(ROOT, "render.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_page_that_is_out_of_date_is_named(tmp_path: Path) -> None:
    copy = tree(tmp_path)
    page = copy / "docs" / "axes" / "environments.md"
    page.write_text(page.read_text().replace("`seccomp-late` |", "`seccomp-soon` |"))
    done = script(copy, "render.py", "--check")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(": docs/axes/environments.md")
    assert script(copy, "render.py").returncode == 0
    assert script(copy, "render.py", "--check").returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"gvisor": "rseq(2) is', '"gvizor": "rseq(2) is', "environments: no words for gvisor"),
        ('"arch": "', '"arches": "', "csrc: no words for arch"),
        ('"tunable-off": "rseq is', '"tunable-out": "rseq is', "findings: no words for tunable-off"),
    ],
)
def test_words_that_are_missing_or_left_over_are_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    copy = tree(tmp_path)
    words = copy / "scripts" / "documentation" / "words.py"
    text = words.read_text()
    assert text.count(old) == 1
    words.write_text(text.replace(old, new))
    done = script(copy, "render.py", "--check")
    assert done.returncode == 1
    assert done.stderr.strip() == sentence


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for name in NAMED.findall(FENCE.sub("", page.read_text())):
        places = (ROOT, page.parent, ROOT / "scripts" / "rseq_matrix", ROOT / "csrc", ROOT / "pytests")
        above = ROOT / "scripts" / "rseq_matrix" / "schema"
        assert any((place / name).exists() for place in (*places, above)) or any(ROOT.glob(f"csrc/*/{name}")), name


@pytest.mark.parametrize("page", LINES)
def test_the_first_pages_are_short(page: str) -> None:
    lines = (ROOT / page).read_text().splitlines()
    assert len(lines) <= LINES[page]
    for sample in FENCE.findall("\n".join(lines)):
        assert len(sample.splitlines()) - 2 <= 25


def test_the_glossary_has_every_class_and_carrier() -> None:
    glossary = (ROOT / "docs" / "concepts.md").read_text().partition("## Glossary")[2]
    assert all(f"| {name} |" in glossary for name in MEANING)
    assert all(f"`{carrier}`" in glossary for carrier in CARRIERS)


def test_every_command_has_a_page() -> None:
    assert {page.stem for page in (ROOT / "docs" / "commands").glob("*.md")} == {*COMMANDS, "reference"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("documentation")
    done = script(ROOT, "build.py", str(directory))
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_the_site_and_the_man_pages_are_built(built: Path) -> None:
    reference = (built / "site" / "commands" / "reference.html").read_text()
    for name in COMMANDS:
        text = (built / "man" / f"rseq-matrix-{name}.1").read_text()
        assert text.startswith(".TH ")
        assert all(f"\n.SH {section}" in text for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"))
        assert f"rseq-matrix-{name}(1)" in (built / "man" / "rseq-matrix.1").read_text().replace("\\-", "-")
        assert f"rseq-matrix {name}" in reference
    assert "--environment" in reference


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("concept.md", "concept.md"),
        ("concepts.md#no-such-heading", "no-such-heading"),
        ("../README.md", "../README.md"),
    ],
)
def test_a_broken_link_or_anchor_fails_the_site(tmp_path: Path, link: str, said: str) -> None:
    copy = tree(tmp_path / "tree")
    with (copy / "docs" / "json.md").open("a") as page:
        page.write(f"\n[broken]({link})\n")
    done = script(copy, "build.py", str(tmp_path / "out"))
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.skipif(not shutil.which("man"), reason="man is missing (Debian: apt install man-db)")
def test_man_shows_a_page_without_complaint(built: Path) -> None:
    for page in sorted((built / "man").iterdir()):
        done = subprocess.run(
            ["man", "--warnings", "-l", str(page)], capture_output=True, text=True, check=False, env={"MANWIDTH": "80"}
        )
        assert done.returncode == 0
        assert done.stderr == ""
        assert page.stem in done.stdout.replace("\b", "")


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is missing (Debian: apt install jq)")
def test_the_recipes_for_jq_give_something(tmp_path: Path) -> None:
    """Those of quick documents; what says nothing on a healthy machine may be empty."""
    for name, command in (("run", ("run", "process.*")), ("libcs", ("libcs",)), ("life", ("simulate",))):
        assert run_command(*command, "--json", str(tmp_path / f"{name}.json")).returncode == 0
    recipes = re.findall(r"^jq .*?(\w+\.json)$", (ROOT / "docs" / "json.md").read_text(), flags=re.MULTILINE)
    assert {"run.json", "verify.json", "inspect.json", "doctor.json", "libcs.json", "life.json"} == set(recipes)
    said = {}
    for line in re.findall(r"^jq .*$", (ROOT / "docs" / "json.md").read_text(), flags=re.MULTILINE):
        if line.endswith(("run.json", "libcs.json", "life.json")):
            done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            said[line] = done.stdout
    cells = json.loads((tmp_path / "run.json").read_text())["cells"]
    hazards = next(text for line, text in said.items() if '"stale"' in line)
    assert len(hazards.splitlines()) == sum(cell["observed"]["class"] == "stale" for cell in cells)
