"""On files that nobody here wrote, inspect, readelf and LIEF say the same: the system's libraries, libc and ld.so too.

A disagreement that has been looked into gets a line in EXPLAINED; any other fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lief
import pytest

from crafting import MACHINES, NATIVE, Recipe, make_all
from rseq_matrix.elf.facts import FileFacts
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.read import read
from rseq_matrix.elf.relocations import Relocated
from rseq_matrix.errors import InputError

LARGEST = 16_000_000  # bytes: readelf takes long for more
ALWAYS = ("libc.so.6", "ld-linux-x86-64.so.2", "libm.so.6")

EXPLAINED: dict[tuple[str, str], str] = {}
"""(file name, fact) to the reason why two readers may differ there. Empty: they agree on all that was ever met."""

TLS_RELOCATIONS = ("DTPMOD", "TPOFF", "TLSDESC", "IRELATIV")


def library_directory() -> Path:
    with Image(os.path.realpath("/proc/self/exe")) as image:
        loader = image.interpreter
    libc = next(
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if re.search(r"/libc[.-].*so", line)
    )
    assert loader
    return Path(libc).resolve().parent


def system_objects() -> list[Path]:
    files = {path.resolve() for path in library_directory().rglob("*.so*") if path.is_file()}
    elf = (path for path in files if path.open("rb").read(4) == b"\x7fELF")
    return sorted(path for path in elf if path.stat().st_size <= LARGEST)


def readelf(path: Path) -> str:
    command = ["readelf", "-hldrnW", "--dyn-syms", str(path)]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, env=environment).stdout


def tagged(text: str, tag: str) -> list[str]:
    return re.findall(rf"\({tag}\)\s+(?:.*?: \[)?(.*?)\]?$", text, flags=re.MULTILINE)


def segment(text: str) -> tuple[int, ...] | None:
    found = re.search(r"^  TLS +\S+ (0x\S+) \S+ (0x\S+) (0x\S+) [RWE ]{3} (0x\S+)$", text, flags=re.MULTILINE)
    if not found:
        return None
    address, in_file, in_memory, alignment = (int(number, 16) for number in found.groups())
    return address, in_memory, max(alignment, 1), in_file


def relocations(text: str) -> Counter[str]:
    return Counter(re.findall(r"^[0-9a-f]+  [0-9a-f]+ R_(?:X86_64_)?(\w+)", text, flags=re.MULTILINE))


def indirect(text: str) -> int:
    """Count the symbols; readelf knows the type's name only where EI_OSABI says GNU, and lld does not set that."""
    row = r"^ +\d+: [0-9a-f]+ +\S+ (?:IFUNC|<OS specific>: 10) .* (?!UND)\S+ \S+(?: \(\d+\))?$"
    return len(re.findall(row, text, flags=re.MULTILINE))


def by_readelf(text: str) -> Iterator[tuple[str, Any]]:
    word = 4 if "ELF32" in text else 8
    yield "PT_TLS", segment(text)
    yield "needed", tagged(text, "NEEDED")
    yield "soname", tagged(text, "SONAME")
    yield "interpreter", re.findall(r"\[Requesting program interpreter: (.*)\]", text)
    yield "build id", re.findall(r"Build ID: ([0-9a-f]+)", text)[:1]
    flags = " ".join(tagged(text, "FLAGS") + tagged(text, "FLAGS_1"))
    yield "static TLS", "STATIC_TLS" in flags
    yield "now", bool(re.search(r"BIND_NOW|\bNOW\b", flags)) or "(BIND_NOW)" in text
    for kind in ("INIT_ARRAY", "FINI_ARRAY", "PREINIT_ARRAY"):
        yield kind, [int(found) // word for found in re.findall(rf"\({kind}SZ\)\s+(\d+)", text)] or [0]
    for tag in ("INIT", "FINI"):
        yield tag, [int(found, 16) for found in re.findall(rf"\({tag}\)\s+(0x\S+)", text)]
    counts = relocations(text)
    for kind in TLS_RELOCATIONS:
        yield kind, sum(number for name, number in counts.items() if name.startswith(kind))
    yield "relocations", counts.total()
    yield "indirect functions", indirect(text)


def by_lief(path: Path) -> Iterator[tuple[str, Any]]:
    binary: Any = lief.ELF.parse(str(path))
    kinds = Counter(str(found.type).rpartition("X86_64_")[2] for found in binary.relocations)
    for kind in TLS_RELOCATIONS:
        yield kind, sum(number for name, number in kinds.items() if name.startswith(kind))
    symbols = [symbol for symbol in binary.dynamic_symbols if symbol.shndx]
    yield "indirect functions", sum(symbol.type == lief.ELF.Symbol.TYPE.GNU_IFUNC for symbol in symbols)
    for kind in ("INIT_ARRAY", "FINI_ARRAY"):
        entry = binary.get(getattr(lief.ELF.DynamicEntry.TAG, kind))
        yield kind, [len(entry.array) if entry is not None else 0]


def ours(facts: FileFacts, path: Path) -> dict[str, Any]:
    with Image(str(path)) as image:
        memory = Relocated(image)
        types = image.machine.relocations
        total = len(memory.table["address"])
        counts = [memory.count(kind) for kind in (types.module, 18, types.descriptor or 0, types.irelative)]
    kinds = Counter(call.kind for call in (*facts.order.start, *facts.order.end))
    tls = facts.tls.segment
    return {
        "PT_TLS": tls and (tls.address, tls.size, tls.alignment, tls.image_size),
        "needed": list(facts.needed),
        "soname": [facts.soname] if facts.soname is not None else [],
        "interpreter": [facts.interpreter] if facts.interpreter is not None else [],
        "build id": [facts.build_id] if facts.build_id is not None else [],
        "static TLS": facts.tls.static_flag,
        "now": facts.binding == "now",
        "INIT_ARRAY": [kinds["init_array"]],
        "FINI_ARRAY": [kinds["fini_array"]],
        "PREINIT_ARRAY": [kinds["preinit_array"]],
        "INIT": [call.address for call in facts.order.start if call.kind == "DT_INIT"],
        "FINI": [call.address for call in facts.order.end if call.kind == "DT_FINI"],
        **dict(zip(TLS_RELOCATIONS, counts, strict=True)),
        "relocations": total,
        "indirect functions": sum(symbol.exported for symbol in facts.indirect.symbols),
    }


def disagreements(path: Path, leave_out: tuple[str, ...] = ()) -> list[str]:
    try:
        facts = read(str(path))
    except InputError as error:
        return [str(error)]
    mine = ours(facts, path)
    said = [
        f"{path.name}: {what}: {mine[what]} here, {theirs} by {reader}"
        for reader, facts_of_reader in (("readelf", by_readelf(readelf(path))), ("LIEF", by_lief(path)))
        for what, theirs in facts_of_reader
        if mine[what] != theirs and what not in leave_out and (path.name, what) not in EXPLAINED
    ]
    return said + [f"{path.name}: {note}" for note in facts.notes if "LIEF" in note]


@pytest.mark.binutils
@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.repetition)])
def test_the_readers_agree_on_the_systems_libraries(some: bool) -> None:
    files = system_objects()
    assert set(ALWAYS) <= {path.name for path in files}
    if some:
        files = [path for number, path in enumerate(files) if number % 8 == 0 or path.name in ALWAYS]
    with ThreadPoolExecutor(2) as pool:
        found = [line for lines in pool.map(disagreements, files) for line in lines]
    assert found == []


@pytest.mark.binutils
@pytest.mark.cross
@pytest.mark.parametrize("machine", [machine for machine in MACHINES if machine != NATIVE])
def test_the_readers_agree_on_files_of_other_machines(machine: str, tmp_path: Path) -> None:
    """But for the names of TLS relocations, which differ: test_inspect_facts.py has the models."""
    recipes = [
        Recipe("section.S", (), machine),
        Recipe("tls_models.c", ("-DHIDDEN",), machine),
        Recipe("resolver_gd_tls.c", ("-DBAD", "-Wl,-soname,libcrafted.so"), machine),
        Recipe("order.c", ("-Wl,-z,now",), machine),
        *(Recipe("order.c", (), machine, kind) for kind in ("executable", "pie")),
    ]
    found = [line for path in make_all(recipes, tmp_path).values() for line in disagreements(path, TLS_RELOCATIONS)]
    assert found == []


@pytest.mark.binutils
def test_a_disagreement_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison with a planted difference: readelf is asked about a file whose TLS alignment was changed."""
    original = next(p for p in system_objects() if segment(readelf(p)))
    changed = tmp_path / original.name
    shutil.copyfile(original, changed)
    with Image(str(original)) as image:
        number = next(n for n, s in enumerate(image.segments) if s.type == "PT_TLS")
        place = image.header["e_phoff"] + number * image.header["e_phentsize"] + 48
    raw = bytearray(changed.read_bytes())
    raw[place : place + 8] = (128).to_bytes(8, "little")
    changed.write_bytes(raw)
    real = readelf
    monkeypatch.setitem(globals(), "readelf", lambda _path: real(changed))
    assert any("PT_TLS" in line for line in disagreements(original))
