"""JUnit XML for continuous integration, written with junitparser."""

from __future__ import annotations

from itertools import groupby

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from rseq_matrix.documents.run import CellResult, RunDocument
from rseq_matrix.model.results import ERROR, FAIL, UNSUPPORTED, XFAIL, XPASS
from rseq_matrix.report.findings import clean
from rseq_matrix.report.words import repeat

ELEMENTS = {FAIL: Failure, XPASS: Failure, ERROR: Error, UNSUPPORTED: Skipped, XFAIL: Skipped}


def _case(cell: CellResult, document: RunDocument) -> TestCase:
    case = TestCase(name=cell.stage, classname="/".join(cell.id.split("/")[:-1]))
    element = ELEMENTS.get(cell.result)
    if element:
        verdict = element(message=clean(cell.reason), type_=cell.result)
        verdict.text = f"repeat: {repeat(cell, document)}"
        case.result = [verdict]
    return case


def to_junit(document: RunDocument) -> str:
    """Return the document as JUnit XML: a suite for each libc, link and environment, a case for each stage."""
    xml = JUnitXml("rseq-matrix")

    def suite_of(cell: CellResult) -> str:
        return "/".join(cell.id.split("/")[:-1])

    for name, cells in groupby(sorted(document.cells, key=suite_of), key=suite_of):
        suite = TestSuite(name)
        for cell in cells:
            suite.add_testcase(_case(cell, document))
        xml.add_testsuite(suite)
    xml.update_statistics()
    return str(xml.tostring().decode())
