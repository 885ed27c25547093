"""`rseq-matrix simulate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from rseq_matrix.commands.output import STANDARD_OUTPUT, check_outputs, emit, report_console
from rseq_matrix.documents.plain import to_json
from rseq_matrix.documents.simulate import DesignComparison, DesignList, LibcOfDesign, Life
from rseq_matrix.errors import UsageError
from rseq_matrix.libcs.catalogue import Listed, look_into
from rseq_matrix.libcs.roots import open_root
from rseq_matrix.libcs.specs import ALL, parse
from rseq_matrix.model.stages import LINKS
from rseq_matrix.report.simulate import show_comparison, show_designs, show_life
from rseq_matrix.report.simulate_picture import comparison_svg, life_svg
from rseq_matrix.simulation.designs import DESIGNS, design_of
from rseq_matrix.simulation.documents import (
    ENVIRONMENTS,
    KERNELS,
    Setting,
    check_link,
    comparison_document,
    designs_document,
    find_design,
    life_document,
)

SimulateDocument = Life | DesignComparison | DesignList

DESIGN = "extensible-2.44"
LINK = "dynamic-lazy"


@dataclass(frozen=True)
class SimulateRequest:
    """What the command line asks for."""

    design: str | None
    libc: str | None
    pair: tuple[str, str] | None
    listing: bool
    link: str | None
    setting: Setting
    json_path: Path | None
    svg_path: Path | None

    def check(self) -> None:
        """Raise UsageError for what does not go together or could not be written afterwards."""
        asked = {"--design": self.design, "--libc": self.libc, "--compare": self.pair, "--designs": self.listing}
        modes = [name for name, value in asked.items() if value is not None and value is not False]
        if len(modes) > 1:
            raise UsageError(f"{modes[0]} and {modes[1]} cannot be asked for together")
        if self.svg_path and self.listing:
            raise UsageError("--svg draws a life or a comparison, not the list of designs")
        if check_outputs([self.json_path, self.svg_path]) and self.json_path == self.svg_path:
            raise UsageError("only one of --json - and --svg - can have standard output")
        self.setting.check()

    def document(self) -> SimulateDocument:
        """Return what was asked for."""
        if self.listing:
            return designs_document()
        if self.pair:
            links = list(LINKS) if self.link is None else [check_link(self.link)]
            return comparison_document([find_design(name) for name in self.pair], links, self.setting)
        link = check_link(LINK if self.link is None else self.link)
        if self.libc is None:
            return life_document(find_design(DESIGN if self.design is None else self.design), link, self.setting)
        found = _looked_into(self.libc)
        design = design_of(found.rseq_offset, found.static_thread_pointer_first)
        libc = LibcOfDesign(self.libc, found.version, found.build_id)
        return replace(life_document(design, link, self.setting), libc=libc)


def _require_glibc(libc: str, family: str) -> None:
    if family == "musl":
        raise UsageError(f"simulate walks through the life of a process on glibc, and {libc} is musl")


def _looked_into(libc: str) -> Listed:
    """Look into a libc, which is fetched if it has to be."""
    if libc == ALL:
        raise UsageError("simulate walks through the life of a process on one libc: --libc all is for run")
    spec = parse(libc)
    _require_glibc(libc, open_root(spec.directory).family if spec.directory else spec.family)
    found = look_into(spec)
    _require_glibc(libc, "musl" if "ld-musl" in (found.loader or "") else "glibc")  # the system's
    return found


def _show(console: Console, document: SimulateDocument) -> None:
    if isinstance(document, Life):
        show_life(console, document)
    elif isinstance(document, DesignComparison):
        show_comparison(console, document)
    else:
        show_designs(console, document)


def _draw(path: Path, document: SimulateDocument) -> None:
    if isinstance(document, DesignComparison):
        emit(path, comparison_svg(document))
    elif isinstance(document, Life):
        emit(path, life_svg(document))


@click.command()
@click.option("--design", metavar="NAME", help=f"{', '.join(DESIGNS)}.  [default: {DESIGN}]")
@click.option("--libc", metavar="SPEC", help="Take the design of this libc, found by experiment; SPEC is as for run.")
@click.option(
    "--compare", "pair", nargs=2, metavar="A B", help="Print the stages whose class differs between two designs."
)
@click.option("--designs", "listing", is_flag=True, help="List the designs and what each promises.")
@click.option(
    "--link",
    metavar="LINK",
    help=f"How the program is linked: {', '.join(LINKS)}.  [default: {LINK}; all for --compare]",
)
@click.option("--environment", default="default", show_default=True, metavar="NAME", help=f"{', '.join(ENVIRONMENTS)}.")
@click.option("--scenario", metavar="NAME", help="Print the stages of one scenario (one process) only.  [default: all]")
@click.option(
    "--kernel",
    default="present",
    show_default=True,
    metavar="ANSWER",
    help=f"What rseq(2) answers: {', '.join(KERNELS)}.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
@click.option(
    "--svg", "svg_path", type=click.Path(path_type=Path), help="Also write a picture as SVG; '-' is standard output."
)
def simulate(
    design: str | None,
    libc: str | None,
    pair: tuple[str, str] | None,
    listing: bool,
    link: str | None,
    environment: str,
    scenario: str | None,
    kernel: str,
    json_path: Path | None,
    svg_path: Path | None,
) -> None:
    """Print the life of a process under a design of how libc integrates rseq: its events, and the class of each stage.

    The first column has three facts, T K U: the thread pointer is set; the kernel has an rseq area registered for the
    thread; a library (user code) that follows libc's manual concludes that it can use rseq. A dash: no. The model is
    the one that `run` compares its observations with. Each event and class has a reason and a reference.
    Nothing is run, except with --libc: the experiments that show which design a libc has.
    """
    setting = Setting(environment, kernel, scenario)
    request = SimulateRequest(design, libc, pair or None, listing, link, setting, json_path, svg_path)
    request.check()
    document = request.document()
    if json_path:
        emit(json_path, to_json(document))
    if svg_path:
        _draw(svg_path, document)
    if STANDARD_OUTPUT not in (json_path, svg_path):
        _show(report_console(), document)
    sys.stdout.flush()
