"""The result words, and no others: what a cell or a phase can come to."""

PASS = "PASS"
FAIL = "FAIL"
XFAIL = "XFAIL"
"""Ended as expected, before its time."""
XPASS = "XPASS"
UNSUPPORTED = "UNSUPPORTED"
"""Cannot be had here; always with a reason."""
ERROR = "ERROR"
"""Could not be observed: a crash, a hang, a missing record."""
RESULTS = (PASS, FAIL, XFAIL, XPASS, UNSUPPORTED, ERROR)
