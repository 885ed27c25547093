"""The JSON document of a run. Every table and every other file is rendered from it; its schema is schema/run-1.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rseq_matrix.kernels.host import Kernel
from rseq_matrix.matrix.cells import KERNEL
from rseq_matrix.matrix.judgement import RESULTS, Judged, kernel_registered, observed_area, user_registered
from rseq_matrix.matrix.libc import Libc
from rseq_matrix.matrix.log import SUBJECT, Record

SCHEMA = 1

Document = dict[str, Any]


def _oracle(record: Record) -> Document | None:
    oracle = record.oracle
    if oracle is None:
        return None
    registered = oracle.registered
    return {
        "registered": registered,
        "address": oracle.address if registered else None,
        "size": oracle.size if registered else None,
        "signature": oracle.signature if registered else None,
    }


def _observed(judged: Judged) -> Document | None:
    record = judged.record
    if record is None:
        return None
    return {
        "class": judged.name,
        "owner": judged.owner,
        "thread_pointer": bool(record.thread_pointer),
        "kernel_registered": kernel_registered(record),
        "user_registered": user_registered(record),
        "rseq_size": record.rseq_size,
        "rseq_offset": record.rseq_offset,
        "rseq_flags": record.rseq_flags,
        "area": observed_area(record),
        "area_address": record.area_address,
        "cpu_id": record.cpu_id,
        "cpu_id_start": record.cpu_id_start,
        "getcpu": record.getcpu,
        "sched_getcpu": record.sched_getcpu,
        "relocated": record.relocated,
        "critical_section": record.section,
        "libc_version": record.libc_version,
        "oracle": _oracle(record),
    }


def cell_document(judged: Judged) -> Document:
    """Return one cell as the document holds it. What could not be known is null."""
    cell, expected, record = judged.cell, judged.expected, judged.record
    return {
        "id": cell.id,
        "kernel": cell.kernel,
        "libc": cell.libc,
        "link": cell.link,
        "environment": cell.environment,
        "stage": cell.stage,
        "scenario": cell.scenario,
        "sequence": record.sequence if record else None,
        "observed": _observed(judged),
        "expected": {
            "class": expected.name,
            "owner": expected.owner,
            "area": expected.area,
            "path": expected.path,
            "ending": {"signal": expected.ending.signal, "message": expected.ending.message}
            if expected.ending
            else None,
            "because": expected.because,
            "reference": expected.reference,
        },
        "subject": {
            "name": SUBJECT,
            "path": record.path if record else "none",
            "attempted": record.attempted if record else None,
            "committed": judged.committed,
            "aborts": record.aborts if record else None,
        },
        "result": judged.result,
        "reason": judged.reason,
    }


def host_document(running: Kernel) -> Document:
    """Return the kernel as the document holds it."""
    return {"kernel": KERNEL, **asdict(running)}


def libc_document(libc: Libc) -> Document:
    """Return a libc as the document holds it."""
    return {"id": libc.id, "version": libc.version, "build_id": libc.build_id, "loader": libc.loader}


def target_document(libc: Libc) -> Document:
    """Return a libc as the document of a run holds it: with how to ask for it, and what was found out about it."""
    return {**libc_document(libc), "spec": libc.spec, "features": libc.features}


def run_document(
    host: Mapping[str, Any], libcs: Iterable[Document], cells: Iterable[Document], notes: Iterable[str], complete: bool
) -> Document:
    """Assemble the document of a run; `complete` is false where the run was interrupted."""
    cells = list(cells)
    counts = Counter(cell["result"] for cell in cells)
    return {
        "schema": SCHEMA,
        "complete": complete,
        "host": dict(host),
        "libcs": list(libcs),
        "notes": list(notes),
        "cells": cells,
        "summary": {word: counts.get(word, 0) for word in RESULTS},
    }
