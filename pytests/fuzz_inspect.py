"""Gives inspect damaged files: real ones, mutated where it hurts. Every one must end as facts or as one sentence.

Usage: fuzz_inspect.py INPUTS SEED FILE...

Anything else ends the program with a status that is not 0: an exception (a traceback), more than 5 seconds of
processor time for one input, more than 1 GiB of memory, a crash inside a library. Prints how many inputs ended how.
"""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rseq_matrix.elf.image import Image
from rseq_matrix.elf.read import read
from rseq_matrix.errors import InputError
from rseq_matrix.lint import answers, judge

SECONDS = 5
MEMORY = 1 << 30
NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)


def places(path: str) -> list[range]:
    """Return the parts of a file that its readers believe: headers, dynamic section, tables, and its code."""
    with Image(path) as image:
        header = image.header
        size = len(image.data)
        parts = [range(header["e_ehsize"])]
        parts.append(range(header["e_phoff"], header["e_phoff"] + header["e_phnum"] * header["e_phentsize"]))
        parts.append(range(header["e_shoff"], header["e_shoff"] + header["e_shnum"] * header["e_shentsize"]))
        parts += [range(s.offset, s.offset + s.size) for s in image.sections if s.type != "SHT_NOBITS" and s.size]
        return [part for part in parts if len(part) and part.stop <= size]


class Fuzzer:
    """The originals and what came of their mutations."""

    def __init__(self, paths: list[str]) -> None:
        self.originals = [(Path(path).read_bytes(), places(path)) for path in paths]
        self.endings: Counter[str] = Counter()
        self.slowest = 0.0
        self.directory = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.file = Path(self.directory.name) / "input"

    def mutated(self, dice: random.Random) -> bytes:
        """Return one original with a few words or bits changed, or cut short, or with a part repeated."""
        raw, parts = dice.choice(self.originals)
        found = bytearray(raw)
        for _ in range(dice.choice((1, 1, 2, 3, 8, 40))):
            part = dice.choice(parts)
            at = dice.choice(part) & -dice.choice((1, 4, 8))
            width = dice.choice((1, 2, 4, 8))
            number = dice.choice((dice.choice(NUMBERS), dice.getrandbits(64), len(raw), at, 1 << dice.randrange(64)))
            word = struct.pack(dice.choice("<>") + "Q", number & (1 << 64) - 1)[:width]
            if dice.random() < 0.3:
                word = bytes([found[at] ^ 1 << dice.randrange(8)])
            found[at : at + len(word)] = word
        kind = dice.random()
        if kind < 0.1:
            return bytes(found[: dice.randrange(len(found))])
        if kind < 0.15:
            source, target = dice.choice(parts), dice.choice(parts)
            found[target.start : target.start + len(source)] = found[source.start : source.stop]
        return bytes(found)

    def one(self, dice: random.Random) -> None:
        """Try one input."""
        self.file.write_bytes(self.mutated(dice))
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            facts = read(str(self.file))
            findings = judge(facts)
            json.dumps([asdict(facts), [asdict(finding) for finding in findings], answers(facts, findings)])
            self.endings["read"] += 1
        except InputError as error:
            self.endings["refused" if "\n" not in str(error) else "several lines"] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.slowest = max(self.slowest, time.process_time() - started)


def main() -> None:
    """Try the inputs."""
    inputs, number = int(sys.argv[1]), int(sys.argv[2])
    faulthandler.register(signal.SIGPROF, chain=True)  # then it ends by the signal
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    fuzzer = Fuzzer(sys.argv[3:])

    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True))
    def try_one(dice: random.Random) -> None:
        fuzzer.one(dice)

    try_one()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak < MEMORY, f"{peak} bytes of memory"
    tried = sum(fuzzer.endings.values())
    print(json.dumps({"inputs": tried, **fuzzer.endings, "slowest": round(fuzzer.slowest, 3), "memory": peak}))
    assert tried >= inputs
    assert not fuzzer.endings["several lines"]


if __name__ == "__main__":
    main()
