"""Libraries whose thread-local variables have no room in static TLS."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.doctor import ERROR, DoctorFinding, Examined

TLS_MESSAGE = "cannot allocate memory in static TLS block"


def full(document: Examined) -> Iterator[DoctorFinding]:
    """A library's thread-local variables do not fit."""
    for library in document.libraries:
        if not library.fits:
            yield DoctorFinding(
                "static-tls-full",
                ERROR,
                f"{library.path} cannot be loaded with dlopen(3), because its thread-local variables do not fit into "
                f"static TLS, the memory for them that every thread gets when it is created: {library.sentence}",
                "Preload the library or link the program with it, or raise the tunable named here",
                "glibc elf/dl-tls.c, _dl_tls_static_surplus_init",
            )
    words = [w for w in (document.run.last_words if document.run else ()) if TLS_MESSAGE in w]
    if words:
        yield DoctorFinding(
            "static-tls-full",
            ERROR,
            "A library could not be loaded, because static TLS, the memory for thread-local variables that every "
            f"thread gets when it is created, is used up: {words[0][:160]}",
            "Preload the library or link the program with it, or raise GLIBC_TUNABLES=glibc.rtld.optional_static_tls=… "
            "(`rseq-matrix inspect LIBRARY` tells how far)",
            "glibc elf/dl-tls.c, _dl_tls_static_surplus_init",
        )
