"""The stages, read from the compiled table (csrc/stages.def). There is no second list of them."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix._native import ffi, lib

LINKS = {
    "dynamic-lazy": int(lib.RSM_LINK_DYNAMIC_LAZY),
    "dynamic-now": int(lib.RSM_LINK_DYNAMIC_NOW),
    "static": int(lib.RSM_LINK_STATIC),
    "static-pie": int(lib.RSM_LINK_STATIC_PIE),
}

PHASES = {
    lib.RSM_PHASE_LOADING: "loading",
    lib.RSM_PHASE_RELOCATION: "relocation",
    lib.RSM_PHASE_EARLY_INITIALIZATION: "early initialization",
    lib.RSM_PHASE_INITIALIZATION: "initialization",
    lib.RSM_PHASE_MAIN: "main",
    lib.RSM_PHASE_EXIT: "exit",
    lib.RSM_PHASE_TERMINATION: "termination",
    lib.RSM_PHASE_BINDING: "binding",
}

ALLOWANCES = {
    lib.RSM_MAY_RAW: "raw",
    lib.RSM_MAY_RELOCATED: "relocated",
    lib.RSM_MAY_LIBC: "libc",
}


REACHED_IN_PHASE = {
    "loading": "start",
    "relocation": "start",
    "early initialization": "start",
    "initialization": "start",
    "main": "main",
    "exit": "exit",
    "termination": "exit",
}
"""How far the main program has come when a stage of the phase fires."""


@dataclass(frozen=True)
class Stage:
    """A place in the life of a process or a thread where library code can run."""

    number: int
    carrier: str
    hook: str
    phase: str
    links: tuple[str, ...]
    may: str
    repeats: bool
    fires: str

    @property
    def name(self) -> str:
        """Return carrier.hook, the stage's name everywhere."""
        return f"{self.carrier}.{self.hook}"


def _text(pointer: object) -> str:
    return str(ffi.string(pointer).decode())


def _read(number: int) -> Stage:
    info = lib.rsm_stage_table[number]
    return Stage(
        number=number,
        carrier=_text(info.carrier),
        hook=_text(info.hook),
        phase=PHASES[info.phase],
        links=tuple(link for link, bit in LINKS.items() if info.links & bit),
        may=ALLOWANCES[info.may],
        repeats=info.firing == lib.RSM_FIRING_REPEATS,
        fires=_text(info.fires),
    )


STAGES: dict[str, Stage] = {stage.name: stage for stage in map(_read, range(lib.rsm_stage_count))}
CARRIERS: tuple[str, ...] = tuple(dict.fromkeys(stage.carrier for stage in STAGES.values()))
