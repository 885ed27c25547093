"""Static TLS: can the object be loaded into a process that runs already?

A shared object with initial-exec or local-exec accesses to variables of its own needs a place in the static TLS block
of every thread there is. glibc reserves a surplus for such latecomers: 1664 bytes with the default tunables, of which
libraries share what is left. A start-up dependency and a preloaded object need none of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.inspect import ERROR, NOTE, WARNING, LintFinding
from rseq_matrix.elf.facts import FileFacts
from rseq_matrix.lint.rules import finding
from rseq_matrix.lint.surplus import Surplus

SHARE = 512  # of the surplus; more than one library is expected to live of it


def uses_static_tls(facts: FileFacts) -> bool:
    """Return whether the object needs a place of its own in the static TLS block."""
    tls = facts.tls
    own = "" in tls.static_symbols or any(use.model == "local-exec" for use in tls.models)
    return facts.kind == "shared-object" and tls.segment is not None and tls.segment.size > 0 and own


def judge(facts: FileFacts, surplus: Surplus) -> Iterator[LintFinding]:
    """Yield the findings about static TLS, for a process whose surplus is this."""
    segment = facts.tls.segment
    if segment is None or not uses_static_tls(facts):
        return
    size, where = segment.size, "PT_TLS"
    most = facts.static_tls_alignment
    if segment.alignment > most:
        yield finding(
            "tls-alignment",
            ERROR,
            where,
            f"its static TLS asks for an alignment of {segment.alignment} bytes, and a process's static TLS is aligned "
            f"to {most} unless an object that is there at start asks for more: dlopen() fails ('cannot allocate memory "
            "in static TLS block') and no tunable helps; link it to the program, preload it, or align less",
        )
    if size > surplus.size + most:  # what rounding the static TLS up may leave over
        yield finding(
            "tls-size",
            ERROR,
            where,
            f"its static TLS of {size} bytes does not fit into the surplus of {surplus.size} bytes: dlopen() fails "
            "('cannot allocate memory in static TLS block') unless GLIBC_TUNABLES=glibc.rtld.optional_static_tls="
            f"{surplus.optional_for(size)} is set at start; link it to the program, preload it, or use the "
            "global-dynamic model",
        )
    elif segment.alignment > most:
        return  # its size is not what stands in the way
    elif size > SHARE:
        yield finding(
            "tls-surplus",
            WARNING,
            where,
            f"its static TLS takes {size} of the {surplus.size} bytes that all libraries loaded with dlopen() share: "
            f"{'it fits only where rounding left some more, and ' if size > surplus.size else ''}with others like "
            "it dlopen() fails; the global-dynamic model needs none of it",
        )
    else:
        yield finding(
            "tls-static",
            NOTE,
            where,
            f"its static TLS takes {size} of the {surplus.size} bytes that all libraries loaded with dlopen() share",
        )
