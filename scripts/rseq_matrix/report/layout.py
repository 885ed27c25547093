"""The picture of a process's static TLS, in text and as SVG, rendered from its document."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from rseq_matrix.documents.layout import (
    ERROR,
    EXTRA,
    NONE,
    OWN,
    PADDING,
    RSEQ,
    TCB,
    TLS,
    UNKNOWN,
    Block,
    LaidOutRseq,
    LaidOutThread,
    LayoutDocument,
)
from rseq_matrix.report.findings import clean, finding_text

KINDS = {
    TLS: ("TLS block of a module", "green", "#b7dfb9"),
    TCB: ("thread control block", "cyan", "#b9d8ea"),
    RSEQ: ("rseq area", "bold magenta", "#e8a9d8"),
    EXTRA: ("extra TLS block of libc", "blue", "#c3c5f0"),
    PADDING: ("padding", "dim", "#eeeeee"),
}
MOMENTS = {
    "attached": "while it was running",
    "entry": "started, at its entry point",
    "main": "started, at main",
    "rseq": "started, after rseq(2), libc's last step in setting up TLS",
    "tls": "started, at its first system call after TLS was set up",
    "exit": "started, at its end",
}
SHOWN_THREADS = 8
BOX = 40  # characters of a name in the text picture
LINES = (64, 512, 4096)  # bytes up to which a block has 1, 2, 3 lines

CHARACTER = 7.3  # pixels of the SVG's monospaced letters, at most
SCALE = 0.5  # pixels a byte, between the two limits
LOWEST, HIGHEST = 18.0, 160.0
LEFT, STRIP, NAME = 120, 130, 44
LINE = 18
FINDING = 112
PADDING_FILL = "url(#padding)"

UNICODE_LINES = {"top": "┌─┐", "middle": "├─┤", "bottom": "└─┘", "pointer": "╞═╡", "side": "│", "cut": "≈", "dot": "·"}
ASCII_LINES = {"top": "+-+", "middle": "+-+", "bottom": "+-+", "pointer": "+=+", "side": "|", "cut": "~", "dot": "."}


@dataclass(frozen=True)
class StripPiece:
    """A piece of the strip: a block, or what of it lies before or behind the rseq area inside."""

    name: str
    kind: str
    offset: int
    size: int | None
    facts: str

    @property
    def cut(self) -> bool:
        """Return whether it is too large to be drawn to scale."""
        return (self.size or 0) * SCALE > HIGHEST

    @property
    def height(self) -> float:
        """Return the pixels that it gets in the SVG."""
        return min(max((self.size or 0) * SCALE, LOWEST), HIGHEST)


def _short(name: str, room: int) -> str:
    name = clean(name)
    return name if len(name) <= room else name[: room - 1] + "…"


def _facts(block: Block) -> str:
    size = "size unknown" if block.size is None else f"{block.size} byte{'s' * (block.size != 1)}"
    return size if block.kind == PADDING else f"{size}, aligned {block.alignment}"


def _split(block: Block, inner: Sequence[Block]) -> Iterator[StripPiece]:
    """Yield the cells of one block that has rseq areas inside."""
    at, whole = block.offset, f"TLS of {block.name}" if block.kind == TLS else block.name
    name = whole
    end = None if block.size is None else block.end
    facts = _facts(block)
    for area in inner:
        if area.offset > at:
            yield StripPiece(name, block.kind, at, area.offset - at, facts)
            name, facts = f"{whole}, continued", ""
            owner = f"{area.name}, in {whole.partition(' (')[0]}"
            yield StripPiece(owner, RSEQ, area.offset, area.size, _facts(area))
        at = area.end
        name = f"{whole}, continued"
    if end is None or at < end or not inner:
        yield StripPiece(name, block.kind, at, None if end is None else end - at, "" if inner else facts)


def cells(blocks: Sequence[Block]) -> list[StripPiece]:
    """Return what is drawn of a thread's blocks, by offset; areas that lie far away are not."""
    near = [block for block in blocks if block.near]
    areas = [block for block in near if block.kind == RSEQ]
    found: list[StripPiece] = []
    placed: list[int] = []
    for block in near:
        if block.kind == RSEQ:
            continue
        end = float("inf") if block.size is None else block.end
        inner = [a for a in areas if block.offset <= a.offset and a.end <= end]
        placed += [id(area) for area in inner]
        found += _split(block, inner)
    found += [StripPiece(a.name, RSEQ, a.offset, a.size, _facts(a)) for a in areas if id(a) not in placed]
    return sorted(found, key=lambda cell: cell.offset)


def _groups(threads: Sequence[LaidOutThread]) -> list[list[LaidOutThread]]:
    """Return the threads in groups that look the same."""
    groups: dict[str, list[LaidOutThread]] = {}
    for thread in threads:
        near = [(b.name, b.kind, b.offset, b.size, b.alignment) for b in thread.blocks if b.near]
        far = [b.name for b in thread.blocks if not b.near]
        groups.setdefault(repr((near, far)), []).append(thread)
    return list(groups.values())


def _title(group: Sequence[LaidOutThread]) -> str:
    shown = ", ".join(str(thread.tid) for thread in group[:SHOWN_THREADS])
    more = f" and {len(group) - SHOWN_THREADS} more" if len(group) > SHOWN_THREADS else ""
    return f"thread{'s' if len(group) > 1 else ''} {shown}{more}"


def _kernel_words(rseq: LaidOutRseq) -> str:
    if rseq.unasked:
        return f"the kernel does not tell ({rseq.unasked})"
    if not rseq.kernel:
        return "the kernel has nothing registered"
    kernel = rseq.kernel
    return f"the kernel has {kernel.address:#x}, {kernel.size} bytes, signature {kernel.signature:#x}"


def _dwarf_words(rseq: LaidOutRseq) -> str:
    dwarf = rseq.dwarf
    if not dwarf:
        return "debug information of libc: not found"
    member = f"{dwarf.member} at {dwarf.offset:+d}" if dwarf.member else "no rseq area"
    return f"debug information of libc: struct pthread of {dwarf.size} bytes has {member}"


def _rseq_words(thread: LaidOutThread) -> list[str]:
    """Return what a group's first thread says about rseq, in lines."""
    rseq = thread.rseq
    if rseq is None:
        return ["rseq: libc has no __rseq_offset, the kernel has nothing registered"]
    place = {NONE: "used by nobody", OWN: "an area of somebody's own", UNKNOWN: "libc does not say whose"}
    where = place.get(rseq.where, f"in {rseq.where}")
    line = f"rseq area at {rseq.offset:+d}, {rseq.size} bytes, aligned {rseq.alignment}, {where}"
    said = "libc exports no __rseq_size"
    if rseq.feature_size is not None:
        said = f"__rseq_size {rseq.feature_size}, __rseq_flags {rseq.flags:#x}"
    return [line, said, _dwarf_words(rseq)]


def _thread_words(thread: LaidOutThread) -> str:
    new = " (only just starting)" if thread.starting else ""
    text = f"thread {thread.tid}{new}: thread pointer {thread.thread_pointer:#x}"
    return f"{text}, cpu_id {thread.rseq.cpu_id}, {_kernel_words(thread.rseq)}" if thread.rseq else text


def _far_words(thread: LaidOutThread) -> list[str]:
    far = [block for block in thread.blocks if not block.near]
    return [f"{clean(b.name)}: far away, at {thread.thread_pointer + b.offset:#x}, {_facts(b)}" for b in far]


def _heading(document: LayoutDocument) -> str:
    moment = MOMENTS.get(document.moment, document.moment)
    return f"{clean(document.program)}, process {document.pid}, {moment}"


# --- text


def _lines_of(cell: StripPiece) -> int:
    return 1 + sum((cell.size or 0) > limit for limit in LINES)


def _draw_cell(cell: StripPiece, lines: dict[str, str]) -> Iterator[Text]:
    """Yield the lines of one box."""
    style, side, count = KINDS[cell.kind][1], lines["side"], _lines_of(cell)
    for number in range(count):
        first = number == 0
        inside = _short(cell.name, BOX) if first else ""
        if number == count // 2 and cell.cut and not first:
            inside = f" {lines['cut']}" * (BOX // 2)
        elif cell.kind == PADDING and first:
            inside = f"{lines['dot']} padding {lines['dot']}"
        offset = f"{cell.offset:+9d} " if first else " " * 10
        yield Text.assemble(offset, f"{side} ", (f"{inside:{BOX}}", style), f" {side} ", cell.facts if first else "")


def _draw(drawn: Sequence[StripPiece], lines: dict[str, str]) -> Iterator[Text]:
    """Yield the lines of the picture: low addresses first, a double line at the thread pointer."""

    def edge(name: str, before: str = "") -> Text:
        line = lines[name]
        return Text(f"{before:>10}{line[0]}{line[1] * (BOX + 2)}{line[2]}")

    for index, cell in enumerate(drawn):
        if cell.offset == 0:
            yield edge("pointer", "TP ")
        else:
            yield edge("top" if index == 0 else "middle")
        yield from _draw_cell(cell, lines)
    yield edge("bottom")


def _show_group(console: Console, group: Sequence[LaidOutThread], lines: dict[str, str]) -> None:
    console.print(Text(_title(group), style="bold"))
    drawn = cells(group[0].blocks)
    if drawn:
        for line in _draw(drawn, lines):
            console.print(line, soft_wrap=True)
    for words in [*_far_words(group[0]), *_rseq_words(group[0]), *map(_thread_words, group[:SHOWN_THREADS])]:
        console.print(Padding(Text(clean(words)), (0, 0, 0, 2)))
    console.print()


def show_layout(console: Console, document: LayoutDocument) -> None:
    """Draw each kind of thread once, low addresses first, then say what was found."""
    unicode = console.encoding.lower().startswith("utf")
    console.print(Text(_heading(document), style="bold"), soft_wrap=True)
    console.print(Text("offsets are bytes from the thread pointer (TP); large blocks are cut", style="dim"))
    console.print()
    for group in _groups(document.threads):
        _show_group(console, group, UNICODE_LINES if unicode else ASCII_LINES)
    if document.elsewhere:
        names = clean(", ".join(document.elsewhere))
        console.print(Text(f"outside static TLS, allocated when first used: {names}\n"))
    for finding in document.findings:
        console.print(finding_text(finding), soft_wrap=True)
    if not any(finding.severity == ERROR for finding in document.findings):
        console.print(Text("no overlap, no misalignment, all offsets agree", style="green"))


# --- SVG

TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ height }}" \
viewBox="0 0 {{ width }} {{ height }}" role="img">
<title>{{ heading }}</title>
<style>
text { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; fill: #222 }
.bold { font-weight: bold }
.error { fill: #b00020 }
rect.box { stroke: #555; stroke-width: 1 }
.cut { fill: none; stroke: #fff; stroke-width: 5 }
.cut-edge { fill: none; stroke: #555; stroke-width: 1 }
.pointer { stroke: #b00020; stroke-width: 2 }
</style>
<defs><pattern id="padding" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect width="6" height="6" fill="#f6f6f6"/><line x1="0" y1="0" x2="0" y2="6" stroke="#bbb" stroke-width="1.5"/>\
</pattern></defs>
<rect width="{{ width }}" height="{{ height }}" fill="#fff"/>
{% for box in boxes %}
<g><title>{{ box.title }}</title><rect class="box" x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" \
height="{{ box.height }}" fill="{{ box.fill }}"/>
{% if box.cut %}<path class="cut" d="{{ box.cut }}"/><path class="cut-edge" d="{{ box.cut }}"/>{% endif %}</g>
{% endfor %}
{% for line in pointers %}
<line class="pointer" x1="{{ line.left }}" x2="{{ line.right }}" y1="{{ line.y }}" y2="{{ line.y }}"/>
{% endfor %}
{% for label in labels %}
<text x="{{ label.x }}" y="{{ label.y }}" text-anchor="{{ label.anchor }}" class="{{ label.style }}">\
{{ label.text }}</text>
{% endfor %}
</svg>
"""


@dataclass(frozen=True)
class _Box:
    x: int
    y: float
    width: int
    height: float
    fill: str
    title: str
    cut: str = ""
    """The path of the zigzag, if it is not drawn to scale."""


@dataclass(frozen=True)
class _Pointer:
    """The line at the thread pointer."""

    left: int
    right: int
    y: float


@dataclass(frozen=True)
class _Label:
    x: float
    y: float
    text: str
    anchor: str
    style: str


class _Canvas:
    """Collects what the template draws, from the top down. Each label has a line of its own."""

    def __init__(self) -> None:
        self.boxes: list[_Box] = []
        self.pointers: list[_Pointer] = []
        self.labels: list[_Label] = []
        self.y = 10.0
        self.width = 0.0

    def label(self, x: float, y: float, text: str, anchor: str = "start", style: str = "") -> None:
        """Put a label with its baseline at y."""
        self.labels.append(_Label(x, round(y, 1), clean(text), anchor, style))
        if anchor == "start":
            self.width = max(self.width, x + len(text) * CHARACTER)

    def line(self, text: str, x: float = 12, style: str = "") -> None:
        """Put a line of text below everything, wrapped."""
        for part in textwrap.wrap(clean(text), FINDING, subsequent_indent="  ") or [""]:
            self.y += LINE
            self.label(x, self.y, part, style=style)

    def cell(self, cell: StripPiece) -> None:
        """Put a box with its offset to the left and its name and facts to the right."""
        top, height = self.y, cell.height
        fill = PADDING_FILL if cell.kind == PADDING else KINDS[cell.kind][2]
        middle = top + height / 2
        cut = f"M {LEFT - 6} {middle:.1f}" + "".join(f" l {STRIP / 8 + 1.5:.2f} {-6 if i % 2 else 6}" for i in range(8))
        self.boxes.append(
            _Box(
                x=LEFT,
                y=round(top, 1),
                width=STRIP,
                height=round(height, 1),
                fill=fill,
                title=f"{clean(cell.name)} at {cell.offset:+d}, {cell.facts or 'see above'}",
                cut=cut if cell.cut else "",
            )
        )
        self.label(LEFT - 10, top + 13, f"{cell.offset:+d}", "end")
        text = f"{_short(cell.name, NAME)}{f': {cell.facts}' if cell.facts else ''}"
        self.label(LEFT + STRIP + 12, top + 13, text, style="bold" if cell.kind == RSEQ else "")
        self.y += height


def _svg_group(canvas: _Canvas, group: Sequence[LaidOutThread]) -> None:
    canvas.y += LINE / 2
    canvas.line(_title(group), style="bold")
    canvas.y += LINE / 2
    for cell in cells(group[0].blocks):
        if cell.offset == 0:
            canvas.y += 4
            canvas.pointers.append(_Pointer(12, LEFT + STRIP + 6, round(canvas.y, 1)))
            canvas.label(12, canvas.y + 13, "TP", style="bold error")
        canvas.cell(cell)
    canvas.y += LINE / 2
    for words in [*_far_words(group[0]), *_rseq_words(group[0]), *map(_thread_words, group[:SHOWN_THREADS])]:
        canvas.line(words)


def _svg_legend(canvas: _Canvas, document: LayoutDocument) -> None:
    used = {block.kind for thread in document.threads for block in thread.blocks}
    canvas.y += LINE
    for kind, (meaning, _, fill) in KINDS.items():
        if kind not in used:
            continue
        canvas.y += LINE + 2
        box = _Box(x=12, y=canvas.y - 12, width=24, height=14, fill=fill, title=meaning)
        canvas.boxes.append(replace(box, fill=PADDING_FILL) if kind == PADDING else box)
        canvas.label(44, canvas.y, meaning)
    low, high = int(LOWEST / SCALE), int(HIGHEST / SCALE)
    canvas.line("red line: the thread pointer (TP); low addresses are above it, offsets are bytes from it")
    canvas.line(f"to scale from {low} to {high} bytes; smaller boxes are drawn larger, larger ones are cut (zigzag)")


def to_svg(document: LayoutDocument) -> str:
    """Return the picture as SVG: to scale where that can be read, cut where a block is large, with a legend."""
    canvas = _Canvas()
    canvas.line(_heading(document), style="bold")
    for group in _groups(document.threads):
        _svg_group(canvas, group)
    if document.elsewhere:
        canvas.line(f"outside static TLS, allocated when first used: {', '.join(document.elsewhere)}")
    canvas.y += LINE / 2
    for finding in document.findings:
        style = "error" if finding.severity == ERROR else ""
        canvas.line(f"{finding.severity} {finding.id}, {finding.where}: {finding.sentence}", style=style)
    _svg_legend(canvas, document)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE)
    return template.render(
        heading=_heading(document),
        width=int(canvas.width + 20),
        height=int(canvas.y + 20),
        boxes=canvas.boxes,
        pointers=canvas.pointers,
        labels=canvas.labels,
    )
