"""All facts of one file, put together."""

from __future__ import annotations

import numpy as np

from rseq_matrix.elf.critical import critical_sections
from rseq_matrix.elf.facts import Audit, FileFacts
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.handlers import handlers
from rseq_matrix.elf.image import Image
from rseq_matrix.elf.indirect import indirect
from rseq_matrix.elf.opinion import second_opinion
from rseq_matrix.elf.order import order
from rseq_matrix.elf.registration import rseq
from rseq_matrix.elf.tls import tls
from rseq_matrix.elf.touches import Touches

DF_BIND_NOW, DF_1_NOW, DF_1_NOOPEN = 0x8, 0x1, 0x40
STB_GLOBAL = 1
AUDIT_FUNCTIONS = frozenset(
    f"la_{name}"
    for name in ("version", "activity", "objsearch", "objopen", "objclose", "preinit", "symbind32", "symbind64")
)
UNDEFINED = 5000


def read(path: str) -> FileFacts:
    """Read a file. Raises InputError with one sentence where it is no whole program or library of a known machine."""
    with Image(path) as image:
        program = ProgramCode(image)
        facts = _facts(program)
        return second_opinion(image, facts)


def _facts(program: ProgramCode) -> FileFacts:
    image = program.image
    touches = Touches(program)
    own_tls, tls_examined = tls(program)
    own_rseq = rseq(program)
    notes = []
    if not tls_examined:
        notes.append("too much code to look for all local-exec accesses: their count is a lower bound")
    if not own_rseq.examined:
        notes.append("too much code to look for all registrations of rseq areas and writes to them")
    return FileFacts(
        path=image.path,
        machine=image.machine.name,
        kind=image.kind,
        soname=next(iter(image.names("DT_SONAME")), None),
        interpreter=image.interpreter,
        build_id=image.build_id,
        needed=image.names("DT_NEEDED"),
        binding=_binding(image),
        undefined=_undefined(image),
        tls=own_tls,
        order=order(program),
        audit=_audit(image),
        indirect=indirect(program, touches),
        handlers=handlers(program, touches),
        rseq=own_rseq,
        critical_sections=critical_sections(program),
        no_open=bool((image.tag("DT_FLAGS_1") or 0) & DF_1_NOOPEN),
        static_tls_alignment=image.machine.tls_alignment,
        notes=tuple(notes),
    )


def _binding(image: Image) -> str:
    """Return when functions are bound (gABI, DF_BIND_NOW): "now" is at load, "lazy" at the first call.

    LD_BIND_NOW and RTLD_NOW turn lazy into now.
    """
    flags, flags_1 = image.tag("DT_FLAGS") or 0, image.tag("DT_FLAGS_1") or 0
    now = flags & DF_BIND_NOW or flags_1 & DF_1_NOW or image.tag("DT_BIND_NOW") is not None
    return "now" if now or image.static else "lazy"


def _undefined(image: Image) -> tuple[str, ...]:
    symbols = image.dynamic_symbols
    chosen = np.flatnonzero(~symbols.defined & (symbols.bindings == STB_GLOBAL))
    return tuple(sorted({symbols.name(int(index)) for index in chosen[:UNDEFINED]} - {""}))


def _audit(image: Image) -> Audit:
    """Return the audit modules that it asks for (rtld-audit(7)), and the functions that make it one itself."""
    symbols = image.dynamic_symbols
    exports = {name for index, name in symbols.named(AUDIT_FUNCTIONS) if symbols.defined[index]}
    listed = [
        tuple(name for names in image.names(tag) for name in names.split(":") if name)
        for tag in ("DT_AUDIT", "DT_DEPAUDIT")
    ]
    return Audit(listed[0], listed[1], tuple(sorted(exports)))
