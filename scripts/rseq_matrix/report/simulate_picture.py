"""What `simulate` draws as SVG, from its documents: legible on a light and on a dark page."""

from __future__ import annotations

import textwrap

from jinja2 import Environment, StrictUndefined

from rseq_matrix.documents.simulate import DesignComparison, Life, SimulatedEvent
from rseq_matrix.model.classes import BLIND, DEAD, HIDDEN, REGISTERED, STALE, UNREGISTERED
from rseq_matrix.model.stages import STAGES
from rseq_matrix.report.simulate import (
    LETTERS,
    MEANING_OF_LETTERS,
    NEVER,
    Reasons,
    class_word,
    groups,
    links_word,
    notes,
    rows,
    same_groups,
    setting_words,
)

Mark = dict[str, float | str]
"""What the template draws: a place and its looks."""

FILLS = {
    REGISTERED: "#b7dfb9",
    UNREGISTERED: "#f3e2a0",
    BLIND: "#dcc3ec",
    HIDDEN: "#b9e2ea",
    STALE: "#f4b3ad",
    DEAD: "#f4b3ad",
}
OTHER_FILL = "#dddddd"
LINE = 17
CHARACTER = 7.9  # pixels of the monospaced letters, at most
MARGIN, INDENT = 14, 24
FACTS_WIDTH, CHIP, NAME = 62, 118, 250
WRAP = 108  # characters of a line

TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ height }}" \
viewBox="0 0 {{ width }} {{ height }}" role="img">
<title>{{ heading }}</title>
<style>
text { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; fill: #222 }
.page { fill: #fff } .bold { font-weight: bold } .dim { fill: #555 } .error { fill: #b00020; font-weight: bold }
.off { fill: none; stroke: #999 } .on { fill: #2a7d34; stroke: #2a7d34 }
.chip { fill: #111 } .letter, .letter-off { font-size: 10px } .letter { fill: #fff; font-weight: bold }
.letter-off { fill: #888 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .page { fill: #16181d } .dim { fill: #aaa } .error { fill: #ff8a80 } .chip { fill: #111 }
.letter { fill: #fff } .letter-off { fill: #999 }
}
</style>
<rect class="page" width="{{ width }}" height="{{ height }}"/>
{% for box in boxes %}
<rect x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" height="15" rx="3" fill="{{ box.fill }}"/>
{% endfor %}
{% for dot in dots %}
<circle class="{{ dot.style }}" cx="{{ dot.x }}" cy="{{ dot.y }}" r="7"/>
{% endfor %}
{% for label in labels %}
<text x="{{ label.x }}" y="{{ label.y }}" text-anchor="{{ label.anchor }}" class="{{ label.style }}">\
{{ label.text }}</text>
{% endfor %}
</svg>
"""


class _Canvas:
    """Collects what the template draws, from the top down."""

    def __init__(self) -> None:
        self.labels: list[Mark] = []
        self.boxes: list[Mark] = []
        self.dots: list[Mark] = []
        self.y = float(MARGIN)
        self.width = 0.0

    def label(self, x: float, text: str, style: str = "", anchor: str = "start") -> None:
        """Put a text on the line that stands."""
        self.labels.append({"x": x, "y": self.y, "text": text, "style": style, "anchor": anchor})
        if anchor == "start":
            self.width = max(self.width, x + len(text) * CHARACTER)

    def chip(self, x: float, name: str | None) -> None:
        """Put a class on its colour, on the line that stands."""
        fill = FILLS.get(name or "", OTHER_FILL)
        self.boxes.append({"x": x, "y": self.y - 11.5, "width": CHIP, "fill": fill})
        self.label(x + CHIP / 2, class_word(name), "chip", "middle")
        self.width = max(self.width, x + CHIP)

    def facts(self, x: float, event: SimulatedEvent) -> None:
        """Put T, K and U as three discs, filled where the fact holds; the letter is there either way."""
        for number, (key, letter) in enumerate(LETTERS.items()):
            on, place = getattr(event, key), x + 8 + number * 20
            self.dots.append({"x": place, "y": self.y - 4, "style": "on" if on else "off"})
            self.label(place, letter, "letter" if on else "letter-off", "middle")

    def paragraph(self, text: str, x: float = MARGIN, style: str = "") -> None:
        """Put wrapped text below."""
        room = int(WRAP - (x - MARGIN) / CHARACTER)
        for part in textwrap.wrap(text, room, break_long_words=False) or [""]:
            self.y += LINE
            self.label(x, part, style)

    def render(self, heading: str) -> str:
        """Return the picture."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(TEMPLATE).render(
            heading=heading,
            width=int(self.width + MARGIN),
            height=int(self.y + 2 * MARGIN),
            labels=self.labels,
            boxes=self.boxes,
            dots=self.dots,
        )


def _event(canvas: _Canvas, event: SimulatedEvent) -> None:
    left = MARGIN + (INDENT if event.begins else 0)
    canvas.y += LINE + 6
    canvas.facts(left, event)
    canvas.label(left + FACTS_WIDTH + 8, event.event, "bold")
    canvas.chip(left + FACTS_WIDTH + NAME, event.class_)
    text = left + FACTS_WIDTH + 8
    canvas.paragraph(f"{event.because} [{event.reference}]", text, "dim")
    for seen, names in groups(event):
        canvas.y += LINE
        canvas.chip(text + 12, seen.class_)
        parts = textwrap.wrap(", ".join(names), WRAP - 32, break_long_words=False)
        for number, part in enumerate(parts):
            canvas.y += LINE if number else 0
            canvas.label(text + 12 + CHIP + 8, part)
        for because, reference in notes(event, seen):
            canvas.paragraph(f"{because}{f' [{reference}]' if reference else ''}", text + 24, "dim")


def life_svg(document: Life) -> str:
    """Draw a life event by event, from the top down."""
    design, canvas = document.design, _Canvas()
    heading = f"{design.name}, {document.link}, {setting_words(document)}"
    canvas.paragraph(heading, style="bold")
    canvas.paragraph(design.summary)
    canvas.paragraph(f"{MEANING_OF_LETTERS}; ! is a hazard, * an object that is not relocated yet", style="dim")
    for event in document.events:
        _event(canvas, event)
    if document.fatal:
        canvas.y += LINE / 2
        canvas.paragraph(f"the process ends: {document.fatal}", style="error")
        canvas.paragraph(f"{NEVER}: {', '.join(document.unreached)}")
    canvas.y += LINE
    for fact in design.facts:
        canvas.paragraph(f"{fact.name}: {fact.text} [{fact.reference}]")
    return canvas.render(heading)


def _difference_rows(canvas: _Canvas, document: DesignComparison, reasons: Reasons) -> None:
    columns = (MARGIN, MARGIN + 270, MARGIN + 390, MARGIN + 390 + CHIP + 20, MARGIN + 390 + 2 * (CHIP + 20))
    canvas.y += LINE + 6
    for x, text in zip(columns, ("stage", "link", *(d.name for d in document.designs), "why"), strict=True):
        canvas.label(x, text, "bold")
    carrier = ""
    for stage, links, cell in rows(document):
        if STAGES[stage].carrier != carrier:
            carrier = STAGES[stage].carrier
            canvas.y += 5
        canvas.y += LINE
        canvas.label(columns[0], stage)
        canvas.label(columns[1], links_word(links))
        for x, side in zip(columns[2:4], cell.sides, strict=True):
            canvas.chip(x, side.class_)
        canvas.label(columns[4], " ".join(str(reasons.number(side)) for side in cell.sides), "dim")


def comparison_svg(document: DesignComparison) -> str:
    """Draw the stages whose class differs between two designs."""
    reasons, canvas = Reasons(), _Canvas()
    heading = f"{' and '.join(design.name for design in document.designs)}, {setting_words(document)}"
    canvas.paragraph(heading, style="bold")
    for design in document.designs:
        canvas.paragraph(f"{design.name}: {design.summary}")
    if document.differences:
        _difference_rows(canvas, document, reasons)
    else:
        canvas.paragraph("no stage's class differs")
    canvas.y += LINE / 2
    for (because, reference), number in reasons.numbers.items():
        canvas.paragraph(f"{number}  {because} [{reference}]", style="dim")
    canvas.y += LINE / 2
    for name, words in same_groups(document):
        canvas.paragraph(f"the same in both, {class_word(name)}: {', '.join(words)}")
    canvas.y += LINE / 2
    for fact in document.facts:
        for design, side in zip(document.designs, fact.sides, strict=True):
            if side:
                canvas.paragraph(f"{fact.name}, {design.name}: {side.text} [{side.reference}]")
    return canvas.render(heading)
