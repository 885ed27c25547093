"""The probes are early-safe by construction, and this reads the built objects to prove it."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_x64
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from conftest import ROOT
from rseq_matrix.build import Build
from rseq_matrix.model.stages import STAGES

NAMES = list(STAGES)
RELOCATION_NAMES = {number: name for name, number in ENUM_RELOC_TYPE_x64.items() if isinstance(number, int)}

# Code before relocation may refer to what lies in its own object, by a distance that the linker knows; __rseq_offset
# and its like are named only by static programs, weakly, and the linker settles that too.
CODE_RELOCATIONS = {"R_X86_64_PC32", "R_X86_64_PLT32"}
STATIC_SYMBOLS = {"__rseq_offset", "__rseq_size", "__rseq_flags"}
PROBE = {"rsm_probe", "rsm_warm"}
"""csrc/probe.c, which is linked into each object that has a stage, hidden: calls of it need no relocation then."""
LINKED_SUBJECT = re.compile("rsm_(split|atomic|list)_subject_[a-z]+")  # hidden, in the same program
STATIC_RELOCATIONS = {"R_X86_64_REX_GOTPCRELX", "R_X86_64_GOTPCRELX", "R_X86_64_GOTPCREL"}

# Data of early objects that needs relocation: the probe compares before it trusts (csrc/arch/x86_64*.h).
CHECKED_DATA = (".data.rel.rsm_canary", "__rseq_cs", "__rseq_cs_ptr_array", "__rseq_exit_point_array")
# The pointer to the indirect function is what makes the resolver run; it is not read by the stage.
TRIGGERS = (".data.rel", ".data.rel.local")


def stages_of(elf: ELFFile) -> list[str]:
    section = elf.get_section_by_name("rsm_stages")
    return [NAMES[number] for (number,) in struct.iter_unpack("<I", section.data())] if section else []


def objects(built: Build) -> Iterator[tuple[Path, ELFFile]]:
    for path in sorted(built.directory.rglob("*.o")):
        with path.open("rb") as file:
            yield path, ELFFile(file)


LINKERS_OWN = {"_GLOBAL_OFFSET_TABLE_", "__ehdr_start"}  # defined by the linker in the object itself


def undefined(elf: ELFFile) -> set[str]:
    """Return the symbols that have to come from elsewhere: not the probe's, which is in the same program or object."""
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = [s for s in table.iter_symbols() if s["st_shndx"] == "SHN_UNDEF" and s.name not in {"", *LINKERS_OWN}]
    return {s.name for s in symbols if not (s.name in PROBE and s["st_other"]["visibility"] == "STV_HIDDEN")}


def relocations(elf: ELFFile) -> Iterator[tuple[str, str, str]]:
    """Yield (section that is relocated, type, symbol) for sections that are loaded."""
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection):
            target = elf.get_section(section["sh_info"])
            if target["sh_flags"] & 2:
                for relocation in section.iter_relocations():
                    symbol = table.get_symbol(relocation["r_info_sym"])
                    yield target.name, RELOCATION_NAMES[relocation["r_info_type"]], symbol.name


def problems(elf: ELFFile, static: bool) -> list[str]:
    """Return what an object with early stages has that it may not have."""
    allowed = STATIC_SYMBOLS if static else set()
    wanted = {name for name in undefined(elf) if not (static and LINKED_SUBJECT.fullmatch(name))}
    found = [f"undefined symbol {name}" for name in wanted - allowed]
    for section, kind, symbol in relocations(elf):
        in_code = section.startswith(".text") or section == "__rseq_failure"
        if section.startswith((".eh_frame", *CHECKED_DATA, *TRIGGERS)) or (in_code and kind in CODE_RELOCATIONS):
            continue
        if static and symbol in STATIC_SYMBOLS and kind in STATIC_RELOCATIONS:
            continue
        found.append(f"relocation {kind} against {symbol!r} in {section}")
    return found


def test_every_stage_is_in_an_object(built: Build) -> None:
    assert {stage for _, elf in objects(built) for stage in stages_of(elf)} == set(STAGES)


def test_early_objects_need_nothing(built: Build) -> None:
    seen = set()
    for path, elf in objects(built):
        raw = [name for name in stages_of(elf) if STAGES[name].may == "raw"]
        if raw:
            assert problems(elf, "objects.static" in str(path)) == [], path
            seen |= set(raw)
    assert seen == {name for name, stage in STAGES.items() if stage.may == "raw"}


def test_the_probe_needs_nothing(built: Build) -> None:
    """It is compiled for shared objects and for both kinds of programs."""
    seen = set()
    for path, elf in objects(built):
        if path.name == "probe.c.o":
            seen.add(path.parent.name)
            assert problems(elf, "static" in path.parent.name) == [], path
    assert seen == {"probe.object.dir", "probe.dynamic.dir", "probe.static.dir"}


def test_stages_that_may_not_call_libc_are_in_objects_that_import_none_of_it(built: Build) -> None:
    """What arranges such a stage, and may use libc, is in another file; only its name may be undefined here."""
    seen = set()
    for path, elf in objects(built):
        relocated = [name for name in stages_of(elf) if STAGES[name].may == "relocated"]
        if relocated:
            foreign = {name for name in undefined(elf) - STATIC_SYMBOLS if not name.startswith("rsm_")}
            assert foreign == set(), path
            seen |= set(relocated)
    assert seen == {name for name, stage in STAGES.items() if stage.may == "relocated"}


def test_no_object_with_a_stage_uses_tls_or_a_stack_protector(built: Build) -> None:
    for path, elf in objects(built):
        if stages_of(elf) or path.name == "probe.c.o":
            assert "__stack_chk_fail" not in undefined(elf), path
            kinds = {kind for _, kind, _ in relocations(elf)}
            assert not {kind for kind in kinds if "TPOFF" in kind or "TLS" in kind}, path


def test_preloadable_objects_export_only_what_they_must(built: Build) -> None:
    """A probe that leaked a symbol would interpose the next object's probe."""
    for path in (built.directory / "dynamic-now").glob("*.so"):
        with path.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            assert isinstance(table, SymbolTableSection)
            names = {s.name for s in table.iter_symbols() if s["st_shndx"] != "SHN_UNDEF" and s.name}
        assert not {name for name in names if name.startswith(("rsm_probe", "rsm_record", "rsm_split"))}, path


@pytest.mark.parametrize(
    ("defect", "flags"),
    [
        ("undefined symbol", ["-DDEFECT=getpid()"]),
        ("a probe that may be another object's", ["-Dvisibility(kind)=unused"]),
        ("stack protector", ["-fstack-protector-all"]),
        ("TLS", ["-DDEFECT=(rsm_defect=1)"]),
    ],
)
def test_a_planted_defect_is_seen(defect: str, flags: list[str], tmp_path: Path) -> None:
    """The checks above can fail: an early stage that calls libc, has a canary, or touches TLS."""
    source = tmp_path / "defect.c"
    source.write_text(
        '#define _GNU_SOURCE\n#include <unistd.h>\n#include "indirect.h"\n'
        "#ifndef DEFECT\n#define DEFECT 0\n#endif\n"
        "extern __thread int rsm_defect;\n"
        "static rsm_function *resolve(void)\n"
        "{ (void)(DEFECT); RSM_PROBE(ifunc, library); return rsm_indirect_target; }\n"
        'RSM_EXPORT void rsm_defective(void) __attribute__((ifunc("resolve")));\n'
    )
    command = ["cc", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-stack-protector", f"-I{ROOT}/csrc", *flags]
    subprocess.run([*command, "-c", source, "-o", tmp_path / "defect.o"], check=True)
    with (tmp_path / "defect.o").open("rb") as file:
        assert problems(ELFFile(file), static=False), defect


def defined(elf: ELFFile) -> set[str]:
    """Return the global symbols that an object defines."""
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return {
        s.name for s in table.iter_symbols() if s["st_shndx"] != "SHN_UNDEF" and s["st_info"]["bind"] != "STB_LOCAL"
    }


def callers_of_each_other(directory: Path) -> set[str]:
    """Return the objects of one target that use each other's symbols, in a circle of any length."""
    files = {path.name: ELFFile(path.open("rb")) for path in sorted(directory.rglob("*.o"))}
    home = {symbol: name for name, elf in files.items() for symbol in defined(elf)}
    uses = {name: {home[s] for s in undefined(elf) if s in home} - {name} for name, elf in files.items()}
    reached = {name: set(direct) for name, direct in uses.items()}
    for _ in files:
        reached = {name: far.union(*(uses[other] for other in far)) for name, far in reached.items()}
    return {name for name, far in reached.items() if name in far}


def test_no_c_files_of_a_target_use_each_other_in_a_circle(built: Build) -> None:
    targets = sorted({path for path in built.directory.rglob("*.dir") if any(path.rglob("*.o"))})
    assert {"verify.stress.dir", "verify.history.dir", "tracer.dir"} <= {path.name for path in targets}
    assert {path.name: found for path in targets if (found := callers_of_each_other(path))} == {}


def test_a_circle_of_c_files_is_seen(tmp_path: Path) -> None:
    calls = {"one": "two", "two": "three", "three": "one", "outside": "one"}
    for name, other in calls.items():
        (tmp_path / f"{name}.c").write_text(
            f"void {other}(void);\nvoid {name}(void);\nvoid {name}(void) {{ {other}(); }}\n"
        )
        subprocess.run(["cc", "-c", tmp_path / f"{name}.c", "-o", tmp_path / f"{name}.o"], check=True)
    assert callers_of_each_other(tmp_path) == {"one.o", "two.o", "three.o"}
