"""The facts that inspect tells of crafted files are those that their sources and the linker's options say.

What can run here is also run: the order of initialisation is the order in which the functions print their names.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from crafting import ALONE, KINDS, MACHINES, NATIVE, Inspected, Recipe, inspect, make

Document = dict[str, Any]

TLS_KINDS = ("executable", "pie", *ALONE)
SECTION_KINDS = ("shared-object", *ALONE)
SIGNATURES = {  # RSEQ_SIG: glibc sysdeps/unix/sysv/linux/*/bits/rseq.h
    "x86-64": 0x53053053,
    "i386": 0x53053053,
    "aarch64": 0xD428BC00,
    "arm": 0xE7F5DEF3,
    "ppc64le": 0x0FE5000B,
    "s390x": 0xB2FF0FFF,
    "riscv64": 0xF1401073,
}


SWAP = ("-DFIELD=4", "-DSWAP")
LOOP = ("-DLOOP",)


def on(machine: str, *values: Any) -> Any:
    """Return the parameters of a test on a machine."""
    crossed = Recipe("", machine=machine).by_zig
    return pytest.param(machine, *values, marks=[pytest.mark.cross] if crossed else [])


every_machine = pytest.mark.parametrize("machine", [on(machine) for machine in MACHINES])


# --- the files


def models(machine: str, model: str, *options: str, kind: str = "shared-object") -> Recipe:
    return Recipe("tls_models.c", (f'-DMODEL="{model}"', *options), machine, kind)


def ordered(machine: str, *options: str, kind: str = "shared-object") -> Recipe:
    """Return the recipe for order.c, with functions for DT_INIT and DT_FINI where a linker can be told."""
    if machine != NATIVE or Recipe("", machine=machine).by_zig:  # lld's default names; zig has no -init
        named = ("-Dcrafted_dt_init=_init", "-Dcrafted_dt_fini=_fini")
    else:
        named = ("-Wl,-init=crafted_dt_init", "-Wl,-fini=crafted_dt_fini")
    return Recipe("order.c", (*options, *(named if kind == "shared-object" else ())), machine, kind)


def resolver(machine: str, which: str, *options: str, kind: str = "shared-object") -> Recipe:
    return Recipe(f"resolver_{which}.c", options, machine, kind)


def section(machine: str, kind: str = "shared-object", *options: str) -> Recipe:
    entry = ("-Wl,-e,crafted_section",) if kind in ALONE else ()
    return Recipe("section.S", (*entry, *options), machine, kind)


def recipes(machine: str) -> Iterator[Recipe]:
    """Yield all files of a machine that the tests ask for."""
    for model in ("global-dynamic", "local-dynamic"):
        yield models(machine, model, "-DHIDDEN")
    for model in ("global-dynamic", "initial-exec"):
        yield models(machine, model)
    for kind in TLS_KINDS:
        yield models(machine, "local-exec", kind=kind)
        yield models(machine, "initial-exec", kind=kind)
    if machine in ("x86-64", "i386"):
        yield models(machine, "global-dynamic", "-mtls-dialect=gnu2")
    for binding in ("lazy", "now"):
        yield ordered(machine, f"-Wl,-z,{binding}")
    for kind in KINDS:
        yield ordered(machine, kind=kind)
    for which in ("before_relocation", "tls", "gd_tls"):
        yield resolver(machine, which, "-DBAD")
        yield resolver(machine, which)
    if machine == "x86-64":
        yield resolver(machine, "before_relocation", "-DBAD", "-fno-plt")
    yield resolver(machine, "stack_protector", "-DBAD", "-fstack-protector-strong")
    for kind in ALONE:
        yield resolver(machine, "tls", "-DBAD", kind=kind)
    yield from (Recipe("rseq_reference.c", options, machine) for options in ((), ("-DBAD",)))
    yield from (Recipe("rseq_own.c", options, machine) for options in ((), LOOP, ("-DSTORE", "-DALIGNMENT=8")))
    yield from (Recipe("rseq_write.c", options, machine) for options in (("-DFIELD=4",), SWAP))
    yield Recipe("rseq_elsewhere.c", (), machine)
    yield from (section(machine, kind) for kind in SECTION_KINDS)
    yield section(machine, "shared-object", "-DINSIDE=BRANCH(.Lexit)")
    yield Recipe("audit.c", ("-Wl,-soname,libcrafted.so.7", "-Wl,--build-id=0x0123abcd"), machine)


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    """Return a function that tells the facts of a file."""
    return Inspected(recipes, tmp_path_factory.mktemp("facts"))


def names(file: Document) -> dict[str, int]:
    """Return the addresses of a file's symbols, as pyelftools reads them."""
    with Path(file["path"]).open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


# --- the file


@every_machine
@pytest.mark.parametrize("kind", KINDS)
def test_machine_and_kind(machine: str, kind: str, facts: Inspected) -> None:
    file = facts(ordered(machine, kind=kind))
    assert (file["machine"], file["kind"]) == (machine, kind)
    assert (file["interpreter"] is not None) == (kind in ("executable", "pie"))


@every_machine
def test_soname_and_build_id(machine: str, facts: Inspected) -> None:
    file = facts(Recipe("audit.c", ("-Wl,-soname,libcrafted.so.7", "-Wl,--build-id=0x0123abcd"), machine))
    assert (file["soname"], file["build_id"]) == ("libcrafted.so.7", "0123abcd")


@every_machine
@pytest.mark.parametrize("binding", ["lazy", "now"])
def test_binding(machine: str, binding: str, facts: Inspected) -> None:
    assert facts(ordered(machine, f"-Wl,-z,{binding}"))["binding"] == binding


@every_machine
@pytest.mark.parametrize("kind", ALONE)
def test_a_static_program_is_bound_when_it_starts(machine: str, kind: str, facts: Inspected) -> None:
    assert facts(ordered(machine, kind=kind))["binding"] == "now"


# --- thread-local storage


def used(file: Document) -> dict[tuple[str, str], int]:
    return {(use["model"], use["evidence"]): use["count"] for use in file["tls"]["models"]}


@every_machine
@pytest.mark.binutils
def test_the_tls_segment_is_the_one_that_readelf_shows(machine: str, facts: Inspected) -> None:
    for recipe in (models(machine, "initial-exec"), models(machine, "local-exec", kind="executable")):
        file = facts(recipe)
        shown = subprocess.run(["readelf", "-lW", file["path"]], capture_output=True, text=True, check=True).stdout
        line = re.search(r"^  TLS +\S+ (\S+) \S+ (\S+) (\S+) R +(\S+)$", shown, re.MULTILINE)
        assert line is not None
        address, image_size, size, alignment = (int(number, 16) for number in line.groups())
        want = {"address": address, "size": size, "alignment": alignment, "image_size": image_size}
        assert file["tls"]["segment"] == want
        assert (image_size, alignment) == (24, 32)
        assert size >= 32 + 40


@every_machine
def test_a_file_without_tls_has_no_segment(machine: str, facts: Inspected) -> None:
    tls = facts(section(machine))["tls"]
    assert (tls["segment"], tls["models"], tls["static_flag"]) == (None, [], False)


@every_machine
def test_initial_exec(machine: str, facts: Inspected) -> None:
    file = facts(models(machine, "initial-exec"))
    assert used(file) == {("initial-exec", "relocation"): 1}
    assert file["tls"]["models"][0]["example"] == "crafted_initialised"
    assert file["tls"]["static_flag"]


@every_machine
def test_global_dynamic(machine: str, facts: Inspected) -> None:
    """Clang knows only descriptors on aarch64."""
    file = facts(models(machine, "global-dynamic"))
    model = "descriptor" if machine == "aarch64" else "global-dynamic"
    assert used(file) == {(model, "relocation"): 1}
    assert not file["tls"]["static_flag"]


@pytest.mark.parametrize("machine", [on("x86-64"), on("i386")])
def test_descriptor(machine: str, facts: Inspected) -> None:
    assert used(facts(models(machine, "global-dynamic", "-mtls-dialect=gnu2"))) == {("descriptor", "relocation"): 1}


@pytest.mark.parametrize(
    ("machine", "model", "want"),
    [
        on("x86-64", "local-dynamic", {"local-dynamic": 1}),
        on("x86-64", "global-dynamic", {"global-dynamic": 2}),
        # Clang makes local-dynamic of global-dynamic where two variables share it, on the machines that it has it for.
        *[on(machine, "global-dynamic", {"local-dynamic": 1}) for machine in ("i386", "ppc64le", "s390x")],
        on("aarch64", "local-dynamic", {"descriptor": 2}),
        on("riscv64", "local-dynamic", {"global-dynamic": 2}),
    ],
)
def test_variables_of_the_files_own(machine: str, model: str, want: dict[str, int], facts: Inspected) -> None:
    found = used(facts(models(machine, model, "-DHIDDEN")))
    assert found == {(name, "relocation"): count for name, count in want.items()}


@pytest.mark.cross
def test_arm_says_global_or_local_dynamic(facts: Inspected) -> None:
    """On arm the first variable of a block cannot be told from local-dynamic: both have offset 0."""
    found = used(facts(models("arm", "global-dynamic", "-DHIDDEN")))
    assert set(found) <= {("global-dynamic", "relocation"), ("local-dynamic", "relocation")}
    assert sum(found.values()) == 2


@every_machine
@pytest.mark.parametrize("model", ["local-exec", "initial-exec"])
@pytest.mark.parametrize("kind", TLS_KINDS)
def test_local_exec_shows_in_the_code(machine: str, model: str, kind: str, facts: Inspected) -> None:
    """Initial-exec too: the linker makes local-exec of it in an executable, unless it cannot (riscv)."""
    file = facts(models(machine, model, kind=kind))
    if machine == "riscv64" and model == "initial-exec":
        assert set(used(file)) & {("initial-exec", "relocation"), ("initial-exec", "code"), ("local-exec", "code")}
        return
    assert used(file) == {("local-exec", "code"): 3}
    assert not file["tls"]["static_flag"]


@pytest.mark.cross
@pytest.mark.parametrize("kind", ["executable", "pie"])
def test_a_call_that_the_linker_left_shows_in_the_code(kind: str, tmp_path: Path) -> None:
    """riscv's linker relaxes no call, and of an executable's own variable it leaves no relocation either."""
    recipe = Recipe("tls_models.c", ('-DMODEL="global-dynamic"',), "riscv64", kind)
    (file,) = inspect([make(recipe, tmp_path / "program")]).values()
    calls = [place["function"] for place in file["tls"]["dynamic_accesses"]]
    assert calls == ["crafted_access"]
    assert used(file) == {("global-dynamic", "code"): 1}


@pytest.mark.libc_a
def test_local_exec_of_a_static_program_with_its_libc(tmp_path: Path) -> None:
    path = make(Recipe("tls_models.c", ('-DMODEL="local-exec"',), kind="static", hosted=True), tmp_path / "program")
    (file,) = inspect([path]).values()
    assert used(file)["local-exec", "code"] > 3


# --- order

PRIORITIES = ("_200", "_300", "")


def own(calls: list[Document]) -> list[tuple[str, str]]:
    """Return the functions that the test's source has, with their kinds."""
    ours = [(call["kind"], call["function"]) for call in calls]
    return [(kind, name) for kind, name in ours if name.startswith("crafted_") or name in ("_init", "_fini")]


@every_machine
def test_the_order_of_a_shared_object(machine: str, facts: Inspected) -> None:
    file = facts(ordered(machine))
    init, fini = ("crafted_dt_init", "crafted_dt_fini") if not ordered(machine).by_zig else ("_init", "_fini")
    assert own(file["order"]["start"]) == [
        ("DT_INIT", init),
        *[("init_array", f"crafted_constructor{number}") for number in PRIORITIES],
    ]
    assert own(file["order"]["end"]) == [
        *[("fini_array", f"crafted_destructor{number}") for number in reversed(PRIORITIES)],
        ("DT_FINI", fini),
    ]
    addresses = names(file)
    thumbless = {name: address & ~1 if machine == "arm" else address for name, address in addresses.items()}
    for call in [*file["order"]["start"], *file["order"]["end"]]:
        if call["function"]:
            assert thumbless[call["function"]] == call["address"]


@every_machine
@pytest.mark.parametrize("kind", ["executable", "pie", *ALONE])
def test_the_order_of_a_program(machine: str, kind: str, facts: Inspected) -> None:
    file = facts(ordered(machine, kind=kind))
    start = [found for found in own(file["order"]["start"]) if found[1] != "_init"]
    assert start == [
        ("preinit_array", "crafted_preinit"),
        *[("init_array", f"crafted_constructor{number}") for number in PRIORITIES],
    ]
    end = [found for found in own(file["order"]["end"]) if found[1] != "_fini"]
    assert end == [("fini_array", f"crafted_destructor{number}") for number in reversed(PRIORITIES)]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the crafted files are run on x86-64 only")
@pytest.mark.parametrize(
    "kind",
    [
        "executable",
        "pie",
        pytest.param("static", marks=pytest.mark.libc_a),
        pytest.param("static-pie", marks=pytest.mark.libc_a),
    ],
)
def test_the_order_is_that_in_which_they_run(kind: str, tmp_path: Path) -> None:
    replaced = ("-Wl,-init=crafted_dt_init", "-Wl,-fini=crafted_dt_fini") if kind in ("executable", "pie") else ()
    path = make(Recipe("order.c", replaced, kind=kind, hosted=True), tmp_path / "program")
    printed = subprocess.run([path], capture_output=True, text=True, check=True).stdout.split()
    order = inspect([path])[path]["order"]
    listed = [name for _, name in own([*order["start"], *order["end"]]) if name.startswith("crafted_")]
    assert printed == listed
    assert len(printed) == (9 if replaced else 7)


# --- audit


@pytest.mark.skipif(Recipe("").by_zig, reason="the linker of zig does not know --audit")
def test_audit(tmp_path: Path) -> None:
    asked = ("-Wl,--audit=one.so:two.so", "-Wl,--audit=three.so", "-Wl,--depaudit=four.so:five.so")
    for kind, options in (("shared-object", asked), ("pie", (*asked, "-Wl,--no-as-needed"))):
        source = "audit.c" if kind == "shared-object" else "order.c"
        (file,) = inspect([make(Recipe(source, options, kind=kind), tmp_path / kind)]).values()
        assert list(file["audit"]["audit"]) == ["one.so", "two.so", "three.so"]
        assert list(file["audit"]["depaudit"]) == ["four.so", "five.so"]


@every_machine
def test_what_an_audit_module_offers(machine: str, facts: Inspected) -> None:
    file = facts(Recipe("audit.c", ("-Wl,-soname,libcrafted.so.7", "-Wl,--build-id=0x0123abcd"), machine))
    assert (list(file["audit"]["audit"]), list(file["audit"]["depaudit"])) == ([], [])
    assert list(file["audit"]["exports"]) == ["la_preinit", "la_version"]


# --- indirect functions


def touched(file: Document) -> Counter[str]:
    (found,) = file["indirect"]["resolvers"]
    assert found["function"] in ("crafted_resolver", "crafted_function")  # two names for one address
    return Counter(touch["kind"] for touch in found["touches"])


@every_machine
@pytest.mark.parametrize("which", ["before_relocation", "tls", "gd_tls"])
def test_an_indirect_function_whose_resolver_touches_nothing(machine: str, which: str, facts: Inspected) -> None:
    file = facts(resolver(machine, which))
    (symbol,) = {(s["name"], s["exported"]) for s in file["indirect"]["symbols"]}
    assert symbol == ("crafted_function", True)
    assert file["indirect"]["symbols"][0]["address"] == names(file)["crafted_function"] & (
        -2 if machine == "arm" else -1
    )
    assert file["indirect"]["irelative"] == 0
    assert touched(file) == {}


@pytest.mark.parametrize(
    ("machine", "which", "kinds"),
    [
        on(machine, which, kinds)
        for machine in MACHINES
        for which, kinds in (
            ("before_relocation", {"plt-call"}),
            ("tls", {"tls", "got-load"}),
            ("gd_tls", {"tls-get-addr"}),
        )
    ],
)
def test_what_a_resolver_touches(machine: str, which: str, kinds: set[str], facts: Inspected) -> None:
    """On aarch64, riscv and s390x what __tls_get_addr or a descriptor returns is added to the thread pointer."""
    found = touched(facts(resolver(machine, which, "-DBAD")))
    assert set(found) - ({"tls"} if which == "gd_tls" else set()) == kinds


@pytest.mark.parametrize("machine", [on("x86-64")])
def test_a_call_without_plt_is_a_got_load(machine: str, facts: Inspected) -> None:
    assert touched(facts(resolver(machine, "before_relocation", "-DBAD", "-fno-plt"))) == {"got-load": 1}


@pytest.mark.parametrize("machine", [on(machine) for machine in MACHINES if machine != "arm"])
def test_a_resolver_with_stack_protector(machine: str, facts: Inspected) -> None:
    """The canary is read on entry and on return. (Zig links an own canary for arm, in an ordinary variable.)"""
    file = facts(resolver(machine, "stack_protector", "-DBAD", "-fstack-protector-strong"))
    assert touched(file)["stack-protector"] >= 1
    (found,) = file["indirect"]["resolvers"]
    variables = {touch["canary_variable"] for touch in found["touches"] if touch["kind"] == "stack-protector"}
    assert variables == {machine in ("aarch64", "riscv64")}


@every_machine
@pytest.mark.parametrize("kind", ALONE)
def test_indirect_functions_of_a_static_program(machine: str, kind: str, facts: Inspected) -> None:
    file = facts(resolver(machine, "tls", "-DBAD", kind=kind))
    assert file["indirect"]["irelative"] == 1
    assert touched(file)["tls"] >= 1


# --- restartable sequences


@every_machine
@pytest.mark.parametrize(
    ("binding", "version", "options"), [("weak", "", ()), ("strong", "GLIBC_2.35", ("-DBAD",))], ids=["weak", "strong"]
)
def test_references(machine: str, binding: str, version: str, options: tuple[str, ...], facts: Inspected) -> None:
    """The symbols are ld.so's, which libc.so offers AS_NEEDED: for a weak reference nobody asks it for the version."""
    found = facts(Recipe("rseq_reference.c", options, machine))["rseq"]["references"]
    assert sorted((one["symbol"], one["binding"], one["version"]) for one in found) == [
        ("__rseq_offset", binding, version),
        ("__rseq_size", binding, version),
    ]


@every_machine
@pytest.mark.parametrize(("options", "alignment"), [((), 32), (("-DSTORE", "-DALIGNMENT=8"), 8)])
def test_an_own_area_and_its_registration(
    machine: str, options: tuple[str, ...], alignment: int, facts: Inspected
) -> None:
    rseq = facts(Recipe("rseq_own.c", options, machine))["rseq"]
    assert rseq["own_area"] == {"symbol": "__rseq_abi", "size": 32, "alignment": alignment, "defined": True}
    (registration,) = rseq["registrations"]
    assert registration["function"] == "crafted_register"
    assert (registration["length"], registration["flags"], registration["signature"]) == (32, 0, 0x53053053)
    written = [(write["area"], write["field"], write["value"]) for write in rseq["writes"]]
    assert written == ([("own", "cpu_id", 0)] if options else [])


@every_machine
def test_an_area_of_another_object(machine: str, facts: Inspected) -> None:
    area = facts(Recipe("rseq_elsewhere.c", (), machine))["rseq"]["own_area"]
    assert (area["symbol"], area["size"], area["defined"]) == ("__rseq_abi", 0, False)


@every_machine
def test_a_write(machine: str, facts: Inspected) -> None:
    (write,) = facts(Recipe("rseq_write.c", ("-DFIELD=4",), machine))["rseq"]["writes"]
    assert (write["function"], write["area"], write["field"]) == ("crafted_store", "glibc", "cpu_id")


@every_machine
def test_a_compare_and_swap_is_a_write(machine: str, facts: Inspected) -> None:
    written = facts(Recipe("rseq_write.c", SWAP, machine))["rseq"]["writes"]
    assert {(write["function"], write["area"], write["field"]) for write in written} == {
        ("crafted_store", "glibc", "cpu_id")
    }


@every_machine
def test_a_loops_first_value_is_not_that_of_all_rounds(machine: str, facts: Inspected) -> None:
    """Compilers may put the first call before the loop: of that one the length is known."""
    found = facts(Recipe("rseq_own.c", LOOP, machine))["rseq"]["registrations"]
    lengths = [registration["length"] for registration in found]
    assert lengths[-1] is None
    assert lengths[:-1] in ([], [32])


def test_what_an_instruction_leaves_in_registers(tmp_path: Path) -> None:
    rseq = inspect([make(Recipe("registers.S"), tmp_path / "registers.so")]).popitem()[1]["rseq"]
    written = {write["function"]: write["field"] for write in rseq["writes"]}
    assert written == {"crafted_sign": "cpu_id"}
    lengths = {call["function"]: call["length"] for call in rseq["registrations"]}
    assert lengths == {"crafted_rcx_is_lost": None, "crafted_r11_is_lost": None, "crafted_kept": 32} | dict.fromkeys(
        ("crafted_near_loop", "crafted_far_loop")
    )


@every_machine
@pytest.mark.parametrize("kind", SECTION_KINDS)
def test_a_critical_section(machine: str, kind: str, facts: Inspected) -> None:
    """Its addresses are constants in a static program and relocated anywhere else."""
    file = facts(section(machine, kind))
    found = file["critical_sections"]
    assert found["tables"] == {"descriptors": 1, "pointers": 1, "exit_points": 1}
    (only,) = found["sections"]
    where = names(file)
    assert (only["version"], only["flags"]) == (0, 0)
    assert (only["function"], only["abort_function"]) == ("crafted_section", "crafted_abort")
    opening = 3 if machine in ("x86-64", "i386") else 0
    assert only["abort"] == where["crafted_abort"] + opening + 4
    assert only["signature"] == found["expected_signature"] == SIGNATURES[machine]
    assert only["start"] >= where["crafted_section"]
    assert only["start_executable"]
    assert only["post_commit_executable"]
    assert only["abort_executable"]
    assert len(only["exit_points"]) == 1
    assert only["exit_points"][0] > only["start"] + only["length"]
    assert not any((found["missing"], found["doubled"], found["foreign"], found["foreign_exits"], found["unlisted"]))


@every_machine
def test_the_code_of_a_critical_section(machine: str, facts: Inspected) -> None:
    plain, leaving = (
        facts(section(machine, "shared-object", *options))["critical_sections"]["sections"][0]
        for options in ((), ("-DINSIDE=BRANCH(.Lexit)",))
    )
    for found in (plain, leaving):
        at = found["start"]
        for instruction in found["code"]:
            assert instruction["address"] == at
            at += len(instruction["bytes"]) // 2
        assert at == found["start"] + found["length"]
    assert {instruction["mark"] for instruction in plain["code"]} == {""}
    last = leaving["code"][-1]
    assert (last["mark"], last["target"]) == ("exit", leaving["exit_points"][0])


@pytest.mark.skipif(Recipe("").by_zig, reason="zig does not know -z pack-relative-relocs")
def test_descriptors_are_relocated_by_packed_relocations_too(tmp_path: Path) -> None:
    """DT_RELR (gABI), which gcc may use by default."""
    packed, plain = (
        make(Recipe("section.S", (f"-Wl,-z,{word}pack-relative-relocs",)), tmp_path / f"{word}packed")
        for word in ("", "no")
    )
    with packed.open("rb") as stream:
        if ELFFile(stream).get_section_by_name(".relr.dyn") is None:
            pytest.skip("this linker packs no relocations")
    for file in inspect([packed, plain]).values():
        (found,) = file["critical_sections"]["sections"]
        assert (found["function"], found["abort_function"]) == ("crafted_section", "crafted_abort")
        assert file["findings"] == []


@pytest.mark.libc_a
@pytest.mark.parametrize("kind", ["static", "static-pie"])
def test_a_stripped_static_program_has_the_same_resolvers_and_sections(kind: str, tmp_path: Path) -> None:
    """Its functions are known by their unwind entries: nothing of a neighbour is taken for a resolver's own."""
    recipe = Recipe("resolver_tls.c", ("-DBAD",), kind=kind, hosted=True)
    whole, stripped = (
        make(replace(recipe, options=options), tmp_path / name)
        for name, options in (("whole", recipe.options), ("stripped", (*recipe.options, "-s")))
    )
    first, second = inspect([whole, stripped]).values()
    touches = [
        {code["address"]: [t["address"] for t in code["touches"]] for code in file["indirect"]["resolvers"]}
        for file in (first, second)
    ]
    assert touches[1].items() <= touches[0].items()
    assert [f["id"] for f in second["findings"]] == [f["id"] for f in first["findings"]]
    assert used(second) == used(first)


@pytest.mark.skipif(Recipe("").by_zig, reason="zig does not know -z pack-relative-relocs")
def test_a_word_of_the_packed_relocations_needs_relocation_too(tmp_path: Path) -> None:
    touches = {}
    for word in ("", "no"):
        options = ("-DBAD", f"-Wl,-z,{word}pack-relative-relocs")
        path = make(Recipe("resolver_checked.c", options), tmp_path / f"{word}packed")
        touches[word] = inspect([path])[path]["indirect"]["resolvers"][0]["touches"]
    assert [(touch["kind"], touch["relocation"]) for touch in touches[""]] == [("got-load", "R_X86_64_RELATIVE")]
    assert [touch["kind"] for touch in touches["no"]] == ["got-load"]


def test_names_come_from_symbols(tmp_path: Path) -> None:
    path = make(Recipe("section.S", ("-s",)), tmp_path / "stripped.so")
    (found,) = inspect([path])[path]["critical_sections"]["sections"]
    assert found["function"] == "crafted_section"  # exported, so the loader's table has it
    assert found["abort_function"] == ""
