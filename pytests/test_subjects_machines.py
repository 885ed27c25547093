"""The built-in subjects as files: on every machine they are written for, each critical section keeps every rule."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from rseq_matrix.build import Build
from rseq_matrix.elf.facts import FileFacts, Section
from rseq_matrix.elf.read import read
from rseq_matrix.lint import judge
from rseq_matrix.verify.subject import BUILT_IN

SECTIONS = {"split": 2, "atomic": 0, "list": 4}
"""split: with a relocated descriptor, and with one that need not be. list: push and pop, in add() and by themselves."""
FLAGS = "-O2 -Wall -Wextra -Werror -std=gnu11 -fPIC -shared -fvisibility=hidden -fno-stack-protector -ffreestanding"
ACCEPTED = "tls-static"
"""A note: what a subject remembers of a thread is in initial-exec TLS, because that needs no call."""
STORES = {"aarch64": ("str ", "stlr "), "x86-64": ("mov qword ptr [", "add qword ptr [")}


def compiled(name: str, directory: Path, csrc: Path = ROOT / "csrc", *more: str) -> Path:
    """Compile a built-in subject, and what else is given, for aarch64."""
    target = directory / f"{name}.so"
    files = [f"-I{csrc}", "-o", str(target), str(csrc / "subject" / f"{name}.c"), *more]
    subprocess.run(["aarch64-linux-gnu-gcc", *FLAGS.split(), *files], check=True)
    return target


def wrong_with_a_section(section: Section, machine: str) -> list[str]:
    """Return what is wrong beyond the lint's rules: the commit is one store, and the last instruction."""
    stores = STORES[machine]
    texts = [instruction.text for instruction in section.code]
    wrong = [f"ends with '{text}', which is no store" for text in texts[-1:] if not text.startswith(stores)]
    return wrong if texts else ["no instruction could be read"]


def wrong_with(name: str, facts: FileFacts) -> list[str]:
    """Return all that is wrong with a subject's file."""
    found = facts.critical_sections
    wrong = [f"{finding.id}: {finding.sentence}" for finding in judge(facts) if finding.id != ACCEPTED]
    if len(found.sections) != SECTIONS[name]:
        wrong.append(f"{len(found.sections)} critical sections, want {SECTIONS[name]}")
    if {section.signature for section in found.sections} - {found.expected_signature}:
        wrong.append("a signature that is not the machine's")
    return wrong + [word for section in found.sections for word in wrong_with_a_section(section, facts.machine)]


@pytest.mark.cross_gcc
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_subject_compiles_for_aarch64_and_its_sections_are_sound(name: str, tmp_path: Path) -> None:
    facts = read(str(compiled(name, tmp_path)))
    assert facts.machine == "aarch64"
    assert wrong_with(name, facts) == []


@pytest.mark.cross_gcc
@pytest.mark.parametrize("name", ["split", "list"])
def test_a_subject_can_be_part_of_a_large_object(name: str, tmp_path: Path) -> None:
    """A conditional branch reaches 1 MiB on aarch64, so a section's exits may not be beyond all the other code."""
    large = tmp_path / "large.s"
    large.write_text(".text\n.skip 0x800000\n")
    assert wrong_with(name, read(str(compiled(name, tmp_path, ROOT / "csrc", str(large))))) == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_subject_as_built_has_sound_sections(name: str, built: Build) -> None:
    facts = read(str(built.directory / "subjects" / f"{name}.so"))
    assert facts.machine == "x86-64"
    assert wrong_with(name, facts) == []


@dataclass(frozen=True)
class Planted:
    """A defect in a copy of the aarch64 sections: `old` becomes `new`, and `says` is what the check says then."""

    old: str
    new: str
    says: str


DEFECTS = {
    "signature": Planted(".inst 0xd428bc00", ".inst 0xd428bc01", "cs-signature"),
    "version": Planted(".long 0, 0", ".long 1, 0", "cs-version"),
    "flags": Planted(".long 0, 0", ".long 0, 1", "cs-flags"),
    "alignment": Planted('".balign 32\\n"', '".balign 32; .long 0, 0\\n"', "cs-alignment"),
    "unlisted": Planted('".quad .Lrsm_descriptor%=\\n\\t"', '"\\n\\t"', "cs-no-table"),
    "exit": Planted('".quad .Lrsm_start%=, .Lrsm_" target "%=\\n\\t"', '"\\n\\t"', "cs-branch"),
    "late": Planted('".Lrsm_end%=:\\n\\t"', '"nop\\n.Lrsm_end%=:\\n\\t"', "which is no store"),
    "early": Planted(".Lrsm_end%= - .Lrsm_start%=", ".Lrsm_end%= - .Lrsm_start%= - 4", "which is no store"),
}


@pytest.mark.cross_gcc
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    header = tmp_path / "csrc" / "arch" / "aarch64_section.h"
    text = header.read_text()
    assert defect.old in text
    header.write_text(text.replace(defect.old, defect.new))
    wrong = wrong_with("list", read(str(compiled("list", tmp_path, tmp_path / "csrc"))))
    assert any(defect.says in sentence for sentence in wrong), wrong
