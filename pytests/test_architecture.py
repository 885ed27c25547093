"""The walls between the rooms of the package and of csrc/: contracts as data, each seen to fail where it is broken."""

from __future__ import annotations

import ast
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = "rseq_matrix"
TREE = ROOT / "scripts" / PACKAGE
CSRC = ROOT / "csrc"

AT_THE_ROOT = {"__init__", "__main__", "build", "cache", "cli", "errors", "signals"}
"""The modules beside the rooms, and no more."""

MAY_IMPORT: Mapping[str, str] = {
    "__init__": "",
    "__main__": "",
    "errors": "",
    "signals": "",
    "cache": "errors",
    "cli": "__init__ errors signals",
    "build": "cache errors libcs model sources",
    "model": "_native",
    "documents": "",
    "elf": "errors",
    "ptrace": "errors signals _native",
    "sources": "",
    "schema": "",
    "libcs": "cache errors signals sources",
    "kernels": "build documents errors signals _native",
    "environments": "build errors kernels model signals _native",
    "matrix": "build cache documents environments errors kernels libcs model signals _native",
    "simulation": "documents errors matrix model",
    "explain": "build documents errors kernels model signals",
    "lint": "documents elf errors signals",
    "layout": "documents elf errors ptrace",
    "doctor": "build documents errors kernels layout libcs lint model ptrace signals _native",
    "verify": "build documents elf environments errors kernels matrix model ptrace signals _native",
    "report": "documents model",
    "commands": "build documents doctor environments errors explain kernels layout libcs lint matrix model report "
    "simulation verify",
}
"""What each room, and each module beside them, may import of the package. `_native` is the compiled extension."""

ONLY_IMPORTED_BY = {"elf": {"lint", "layout", "verify"}, "commands": set[str](), "cli": {"__main__"}}

C_BASE = {"rseq", "arch"}
"""What everything else in csrc/ stands on: knows no stage, no log and no feature."""
C_BASE_AT_THE_TOP = {
    "arch.h",
    "auxiliary_vector.h",
    "critical_section.h",
    "kernel_query.h",
    "libc_symbols.h",
    "pair.h",
    "registration.h",
}
"""What belongs to it and still lies at the top of csrc/."""
C_FEATURES = {"detect", "doctor", "environment", "explain", "host", "library", "subject", "tracer", "verify"}
LONGEST = 50
"""Lines of a function."""


def imports_of(path: Path, modules: Iterable[str]) -> set[str]:
    """Return what a module imports of the package, as dotted names without its own."""
    found, known = set(), set(modules)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            base = node.module.partition(".")[2]
            names = {f"{base}.{one.name}".strip(".") for one in node.names}
            found |= {name if name in known or name == "_native" else base or "__init__" for name in names}
    return found


def modules_of(tree: Path) -> dict[str, Path]:
    """Return the modules of a package by their dotted names; a folder's own is the folder's."""
    return {
        ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__"): path
        for path in tree.rglob("*.py")
    }


@cache
def graph_of(tree: Path) -> dict[str, set[str]]:
    """Return what each module imports."""
    modules = modules_of(tree)
    return {name: imports_of(path, modules) - {name} for name, path in modules.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def rooms(tree: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, imported in graph_of(tree).items():
        found.setdefault(room(module), set()).update({room(name) for name in imported} - {room(module)})
    return found


def forbidden_imports(tree: Path) -> list[str]:
    """Return the imports that no contract allows."""
    wrong = []
    for name, imported in rooms(tree).items():
        allowed = set(MAY_IMPORT.get(name, "").split())
        wrong += [f"{name} imports {other}" for other in sorted(imported - allowed)]
    for name, users in ONLY_IMPORTED_BY.items():
        wrong += [
            f"{user} imports {name}" for user, all_of in rooms(tree).items() if name in all_of and user not in users
        ]
    return wrong


def unknown_modules(tree: Path) -> list[str]:
    """Return what lies at the root and is in no list."""
    beside = {path.stem for path in tree.glob("*.py")} - AT_THE_ROOT
    folders = {path.parent.name for path in tree.glob("*/__init__.py")} - MAY_IMPORT.keys()
    return sorted(beside | folders)


def circles(tree: Path) -> list[str]:
    """Return a circle of modules, and one of rooms."""
    return circle(graph_of(tree)) + circle(rooms(tree))


def public_classes_twice(tree: Path) -> list[str]:
    """Return the public names of classes that stand in more than one module."""
    found: Counter[str] = Counter()
    for path in tree.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        found.update(node.name for node in body if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    return [name for name, count in found.items() if count > 1]


def bags(tree: Path) -> list[str]:
    """Return the modules in which a document is a dict of anything. Json is what the workers of `inspect` send."""
    bag = re.compile(r"^(?!Json\b)\w+ = dict\[str, Any\]", re.MULTILINE)
    return [str(path) for path in tree.rglob("*.py") if bag.search(path.read_text(encoding="utf-8"))]


def long_functions(tree: Path) -> list[str]:
    found = []
    for path in tree.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST:
                found.append(f"{path.name}: {node.name}")
    return found


def includes_of(path: Path, roots: Iterable[Path]) -> set[Path]:
    """Return the files of the tree that a C file includes."""
    names = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.M)
    found = set()
    for name in names:
        places = (place / name for place in (path.parent, *roots))
        found |= {next(place.resolve() for place in places if place.is_file())} if name != "generated.h" else set()
    return found


def include_graph(csrc: Path) -> dict[Path, set[Path]]:
    files = [path.resolve() for path in csrc.rglob("*.[chS]")]
    return {path: includes_of(path, [csrc]) for path in files}


def c_room(path: Path, csrc: Path) -> str:
    """Return the folder of a C file; empty for one at the top of csrc/."""
    return path.relative_to(csrc.resolve()).parts[0] if path.parent != csrc.resolve() else ""


def is_c_base(path: Path, csrc: Path) -> bool:
    """Return whether a C file is one of those that everything else stands on."""
    room = c_room(path, csrc)
    return room in C_BASE or (not room and path.name in C_BASE_AT_THE_TOP)


def features_below(csrc: Path) -> list[str]:
    """Return the includes by which what everything stands on knows a feature, a stage or the log."""
    return [
        f"{path.name} includes {other.name}"
        for path, included in include_graph(csrc).items()
        for other in included
        if is_c_base(path, csrc) and not is_c_base(other, csrc)
    ]


def include_circles(csrc: Path) -> list[str]:
    """Return a circle of files that include each other."""
    return [Path(name).name for name in circle({str(k): map(str, v) for k, v in include_graph(csrc).items()})]


def tracing_elsewhere(tree: Path) -> list[str]:
    """Return the requests of ptrace(2) that are made outside of ptrace/, except those of verify's loop (driven.py)."""
    return [
        f"{path.relative_to(tree)}: {name}"
        for path in tree.rglob("*.py")
        for name in re.findall(r"\blib\.rsm_trace_(\w+)", path.read_text(encoding="utf-8"))
        if path.parent.name != "ptrace" and not (path.name == "driven.py" and name in {"await", "walk", "signal"})
    ]


PYTHON_WALLS: Mapping[str, Callable[[Path], list[str]]] = {
    check.__name__: check
    for check in (
        forbidden_imports,
        unknown_modules,
        circles,
        public_classes_twice,
        bags,
        long_functions,
        tracing_elsewhere,
    )
}
C_WALLS: Mapping[str, Callable[[Path], list[str]]] = {
    check.__name__: check for check in (features_below, include_circles)
}


@pytest.mark.parametrize("wall", PYTHON_WALLS)
def test_a_wall_of_the_package(wall: str) -> None:
    assert PYTHON_WALLS[wall](TREE) == []


@pytest.mark.parametrize("wall", C_WALLS)
def test_a_wall_of_csrc(wall: str) -> None:
    assert C_WALLS[wall](CSRC) == []


def test_no_contract_is_wider_than_it_has_to_be() -> None:
    used = rooms(TREE)
    assert used.keys() == MAY_IMPORT.keys()
    unused = {name: set(allowed.split()) - used[name] for name, allowed in MAY_IMPORT.items()}
    assert {name: more for name, more in unused.items() if more} == {}


def test_the_list_of_folders_of_csrc_is_whole() -> None:
    folders = {path.name for path in CSRC.iterdir() if path.is_dir() and any(path.iterdir())}
    assert folders == C_BASE | C_FEATURES


PLANTED_IN_PYTHON = {
    "forbidden_imports": ("report/junit.py", "from rseq_matrix.matrix.cells import KERNEL\n"),
    "unknown_modules": ("helpers.py", ""),
    "circles": ("model/stages.py", "from rseq_matrix.model.lives import LIVES\n"),
    "public_classes_twice": ("model/classes.py", "class Cell:\n    pass\n"),
    "bags": ("model/classes.py", "Anything = dict[str, Any]\n"),
    "tracing_elsewhere": ("verify/driven.py", "lib.rsm_trace_go_on(1, 0, 0)\n"),
    "long_functions": ("model/classes.py", "def long() -> None:\n" + "    print()\n" * LONGEST),
}
PLANTED_IN_C = {
    "features_below": ("arch/x86_64.h", '#include "tracer/tracer.h"\n'),
    "include_circles": ("log.h", '#include "probe.h"\n'),
}


@pytest.mark.parametrize("wall", PYTHON_WALLS)
def test_a_wall_falls_where_it_is_broken(wall: str, tmp_path: Path) -> None:
    copy = tmp_path / PACKAGE
    shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    name, line = PLANTED_IN_PYTHON[wall]
    with (copy / name).open("a", encoding="utf-8") as file:
        file.write(line)
    assert PYTHON_WALLS[wall](copy) != []


@pytest.mark.parametrize("wall", C_WALLS)
def test_a_wall_of_csrc_falls_where_it_is_broken(wall: str, tmp_path: Path) -> None:
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    name, line = PLANTED_IN_C[wall]
    with (copy / name).open("a", encoding="utf-8") as file:
        file.write(line)
    assert C_WALLS[wall](copy) != []
