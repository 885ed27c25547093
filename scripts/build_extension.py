"""The build hook of hatchling that makes the extension module rseq_matrix._native. Run by `pip` and `python -m build`.

cffi reads the layouts that C and Python share from csrc's *_layout.h, so there is no second copy of them, and compiles
the result with csrc's registry*.c and native*.c, in whichever folder they are. It does so for the stable ABI: one file
serves every CPython from 3.10.
"""

from __future__ import annotations

import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import cffi
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
SOURCES = ("registry*.c", "native*.c")
PACKAGE = ROOT / "scripts" / "rseq_matrix"
WORK = ROOT / "build" / "native"
INPUTS = WORK / "inputs"
"""What the extension was made from, a path below ROOT a line. scripts/environment.sh compares times with it."""

STABLE_ABI = ("Py_LIMITED_API", "0x030A0000")
STABLE_SUFFIX = ".abi3.so"


def has_stable_abi() -> bool:
    """Return whether this Python loads modules of the stable ABI. A free-threaded or a debugging one does not."""
    return STABLE_SUFFIX in EXTENSION_SUFFIXES and not sysconfig.get_config_var("Py_DEBUG")


def compile_extension() -> Path:
    """Compile the extension below WORK, and write INPUTS. Return the module's path.

    Raises cffi.VerificationError if the compiler fails; what the compiler said is on standard error then.
    """
    stable = has_stable_abi()
    ffi = cffi.FFI()
    for layout in sorted(CSRC.rglob("*_layout.h")):
        ffi.cdef(layout.read_text(encoding="utf-8"))
    (header,) = CSRC.rglob("native.h")
    ffi.set_source(
        "rseq_matrix._native",
        f'#include "{header.relative_to(CSRC)}"',
        sources=[str(path) for pattern in SOURCES for path in sorted(CSRC.rglob(pattern))],
        include_dirs=[str(CSRC)],
        define_macros=[STABLE_ABI if stable else ("_CFFI_NO_LIMITED_API", None)],
        extra_compile_args=["-MMD"],
    )
    WORK.mkdir(parents=True, exist_ok=True)
    for old in WORK.rglob("*.d"):
        old.unlink()
    suffix = STABLE_SUFFIX if stable else EXTENSION_SUFFIXES[0]
    module = Path(ffi.compile(tmpdir=str(WORK), target=f"_native{suffix}"))
    write_inputs()
    return module


def write_inputs() -> None:
    """Gather, from the rules for make(1) that the compiler wrote (-MMD), what of this tree it read."""
    read = {Path(__file__).resolve(), ROOT / "pyproject.toml"}
    for rules in WORK.rglob("*.d"):
        text = rules.read_text(encoding="utf-8").replace("\\\n", " ").replace("$$", "$").replace("\\#", "#")
        words = text.replace("\\ ", "\0").split()
        read |= {(WORK / word.replace("\0", " ")).resolve() for word in words[1:]}
    inside = (path.relative_to(ROOT) for path in read if path.is_relative_to(ROOT) and not path.is_relative_to(WORK))
    INPUTS.write_text("".join(f"{path}\n" for path in sorted(inside)), encoding="utf-8")


def put(module: Path, package: Path) -> None:
    """Move the module into the package. One made before goes: Python prefers one for its version to a stable one."""
    module.replace(package / module.name)
    for old in set(package.glob("_native.*.so")) - {package / module.name}:
        old.unlink()


class NativeExtension(BuildHookInterface[Any]):
    """Puts the extension into the wheel; for an editable installation, into the checkout's package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for. `version` is "standard" or "editable"."""
        module = compile_extension()
        if version == "editable":
            put(module, PACKAGE)
            return
        build_data["pure_python"] = False
        build_data["force_include"][str(module)] = f"rseq_matrix/{module.name}"
        if has_stable_abi():
            build_data["tag"] = f"cp310-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        else:
            build_data["infer_tag"] = True
