"""Filling the document of a run in. Every table and every other file is rendered from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from rseq_matrix.documents.run import (
    SCHEMA,
    CellResult,
    ExpectedCell,
    ExpectedEnding,
    HostKernel,
    LibcFeatures,
    LibcIdentity,
    LibcOfRun,
    Observation,
    OracleAnswer,
    Registers,
    RunDocument,
    SubjectAtCell,
)
from rseq_matrix.kernels.host import Kernel
from rseq_matrix.matrix.cells import KERNEL
from rseq_matrix.matrix.judgement import Judged, kernel_registered, observed_area, user_registered
from rseq_matrix.matrix.libc import Libc
from rseq_matrix.matrix.log import SUBJECT, Record
from rseq_matrix.model.results import RESULTS
from rseq_matrix.model.timeline import Expectation


def _oracle(record: Record) -> OracleAnswer | None:
    oracle = record.oracle
    if oracle is None:
        return None
    if not oracle.registered:
        return OracleAnswer(registered=False, address=None, size=None, signature=None)
    return OracleAnswer(True, oracle.address, oracle.size, oracle.signature)


def _observed(judged: Judged) -> Observation | None:
    record = judged.record
    if record is None:
        return None
    return Observation(
        class_=judged.name,
        owner=judged.owner,
        thread_pointer=bool(record.thread_pointer),
        kernel_registered=kernel_registered(record),
        user_registered=user_registered(record),
        rseq_size=record.rseq_size,
        rseq_offset=record.rseq_offset,
        rseq_flags=record.rseq_flags,
        area=observed_area(record),
        area_address=record.area_address,
        cpu_id=record.cpu_id,
        cpu_id_start=record.cpu_id_start,
        getcpu=record.getcpu,
        sched_getcpu=record.sched_getcpu,
        relocated=record.relocated,
        critical_section=record.section,
        libc_version=record.libc_version,
        oracle=_oracle(record),
    )


def _expected(expected: Expectation) -> ExpectedCell:
    ending = expected.ending
    return ExpectedCell(
        class_=expected.name,
        owner=expected.owner,
        area=expected.area,
        path=expected.path,
        ending=ExpectedEnding(ending.signal, ending.message) if ending else None,
        because=expected.because,
        reference=expected.reference,
    )


def cell_result(judged: Judged) -> CellResult:
    """Return one cell as the document holds it."""
    cell, record = judged.cell, judged.record
    return CellResult(
        id=cell.id,
        kernel=cell.kernel,
        libc=cell.libc,
        link=cell.link,
        environment=cell.environment,
        stage=cell.stage,
        scenario=cell.scenario,
        sequence=record.sequence if record else None,
        observed=_observed(judged),
        expected=_expected(judged.expected),
        subject=SubjectAtCell(
            name=SUBJECT,
            path=record.path if record else "none",
            attempted=record.attempted if record else None,
            committed=judged.committed,
            aborts=record.aborts if record else None,
        ),
        result=judged.result,
        reason=judged.reason,
    )


def host_kernel(running: Kernel) -> HostKernel:
    """Return the kernel as a document holds it."""
    return HostKernel(kernel=KERNEL, **asdict(running))


def libc_identity(libc: Libc) -> LibcIdentity:
    """Return a libc as a document holds it."""
    return LibcIdentity(libc.id, libc.version, libc.build_id, libc.loader)


def libc_of_run(libc: Libc) -> LibcOfRun:
    """Return a libc with how to ask for it, and what was found out about it."""
    features = LibcFeatures(
        registers=Registers(libc.registers_dynamic, libc.registers_static),
        area=libc.area,
        static_thread_pointer_first=libc.static_thread_pointer_first,
        preloaded_first=libc.preloaded_first,
        audit_binds_lazily=libc.audit_binds_lazily,
        absent=libc.absent,
    )
    return LibcOfRun(libc.id, libc.version, libc.build_id, libc.loader, libc.spec, features)


def run_document(
    host: HostKernel, libcs: Iterable[LibcOfRun], cells: Iterable[CellResult], notes: Iterable[str], complete: bool
) -> RunDocument:
    """Assemble the document of a run; `complete` is false where the run was interrupted."""
    cells = tuple(cells)
    counts = Counter(cell.result for cell in cells)
    summary = {word: counts.get(word, 0) for word in RESULTS}
    return RunDocument(SCHEMA, complete, host, tuple(libcs), tuple(notes), cells, summary)
