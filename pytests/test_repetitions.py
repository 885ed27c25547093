"""scripts/test leaves out what scripts/test --all says again, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

from conftest import ROOT

COLLECT = """
import json, sys
import pytest
class Plugin:
    def pytest_collection_finish(self, session):
        self.found = [
            (item.nodeid.partition("[")[0], bool(item.get_closest_marker("repetition"))) for item in session.items
        ]
plugin = Plugin()
sys.stdout = sys.stderr
status = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], [plugin])
sys.stdout = sys.__stdout__
print(json.dumps(plugin.found))
"""


def collected(*arguments: str) -> list[tuple[str, bool]]:
    """Return each test's name without its parameters, and whether it is a repetition, as pytest collects them."""
    command = [sys.executable, "-c", COLLECT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [(name, repetition) for name, repetition in json.loads(done.stdout)]


def never_run(tests: list[tuple[str, bool]]) -> set[str]:
    """Return the tests of which scripts/test runs no round at all."""
    return {name for name, _ in tests} - {name for name, repetition in tests if not repetition}


def test_of_every_test_a_round_is_always_run() -> None:
    everything, quick = collected("--all"), collected()
    assert never_run(everything) == set()
    assert quick == [(name, repetition) for name, repetition in everything if not repetition]
    assert len(quick) < len(everything)


def test_a_test_that_is_nothing_but_a_repetition_is_seen() -> None:
    assert never_run([("again", True), ("always", False), ("always", True), ("again", True)]) == {"again"}
