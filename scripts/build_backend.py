"""The PEP 517 build backend: setuptools, after cffi wrote the C source of the extension module.

The layouts that C and Python share are read from the headers in csrc/, so there is no second copy of them.
"""

from __future__ import annotations

from pathlib import Path

import cffi
from setuptools.build_meta import (  # noqa: F401  (the hooks of PEP 517 and PEP 660)
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parent.parent
SHARED_LAYOUTS = (
    "registry_layout.h",
    "record_layout.h",
    "tracer_layout.h",
    "native_layout.h",
    "native_trace_layout.h",
    "verify/mailbox_layout.h",
)


def write_extension_source() -> None:
    """Write build/native/_native.c, which pyproject.toml names as the source of rseq_matrix._native."""
    ffi = cffi.FFI()
    for name in SHARED_LAYOUTS:
        ffi.cdef((ROOT / "csrc" / name).read_text(encoding="utf-8"))
    ffi.set_source("rseq_matrix._native", '#include "native.h"')
    target = ROOT / "build" / "native" / "_native.c"
    target.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_c_code(str(target))


write_extension_source()
