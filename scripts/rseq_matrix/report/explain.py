"""What `explain` prints, and the table of the kernel's answers to rseq(2). Rendered from their documents."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.documents.explain import (
    Cause,
    CureOfMessage,
    Explanation,
    Explanations,
    KnownCall,
    ProgramReplay,
    Replay,
)
from rseq_matrix.documents.kernel import AS_ASKED, PRESENT, AnswerRow, AnswerTable, KernelFeatures
from rseq_matrix.report.findings import clean

DISAGREES = "bold red"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _line(console: Console, text: Text | str, indent: int = 2) -> None:
    console.print(Padding(text if isinstance(text, Text) else Text(clean(text)), (0, 0, 0, indent)))


def _answer(word: str) -> str:
    return "0, success" if word == "0" else word


def outcome(word: str) -> str:
    """Return an answer as the end of a sentence."""
    if word.startswith("SIG"):
        return f"the child was killed with {word}"
    return f"the answer was {_answer(word)}"


def replay_text(replay: Replay | None, by: str) -> Text:
    """Say how a replay ended."""
    if replay is None:
        return Text("not replayed: a child cannot be brought there on this machine", style="dim")
    if not replay.agrees:
        said = (
            f"CONTRADICTED: replayed in a child, {outcome(replay.got)}, but by the kernel's rules it should be "
            f"{_answer(replay.want)}: this kernel has a rule that is not in the model, so do not trust the "
            "sentence above"
        )
        return Text(clean(said), style=DISAGREES)
    where = " behind such a filter" if any("seccomp" in step for step in replay.steps) else ""
    end = ", as the rules of this kernel say" if by.startswith("Linux") else ""
    shown = ""
    if replay.got == "0" and replay.cpu_id is not None:
        shown = f", and cpu_id in the area is {replay.cpu_id}"
    return Text(clean(f"checked: replayed in a child{where}, {outcome(replay.got)}{shown}{end}"), style="green")


def _checked(cause: Cause) -> Text:
    replay = cause.replay
    return trial_text(replay) if isinstance(replay, ProgramReplay) else replay_text(replay, cause.by)


def _cause(console: Console, cause: Cause, number: int | None) -> None:
    lead = f"{number}. " if number else ""
    indent = 2 + len(lead)
    body = clean(cause.sentence)
    first, *rest = textwrap.wrap(body[0].upper() + body[1:] + ".", max(30, console.width - indent))
    _line(console, Text(f"{lead}{first}", style="bold"))
    for line in rest:
        _line(console, Text(line, style="bold"), indent)
    _line(console, _checked(cause), indent)
    if cause.look:
        _line(console, f"look at: {cause.look}", indent)
    if cause.cure:
        _line(console, f"to do: {cause.cure}", indent)
    _line(console, Text(clean(f"[{cause.reference}]"), style="dim"), indent)


def _heading(document: Explanation) -> str:
    causes = document.causes
    count = len(causes)
    if document.message:
        return f"a message of {document.message.whose}"
    word = document.call.answer if document.call else ""
    about = "success (0)" if word == "0" else word
    if count == 1:
        return f"{about} of rseq(2)"
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    facts = "in general" if document.form == "errno" and _knows_nothing(document.call) else "by what is given"
    return f"{about} of rseq(2) can have {number} causes {facts}; what to look at tells them apart"


def _knows_nothing(call: KnownCall | None) -> bool:
    known = (call.address, call.align, call.length, call.flags, call.signature, call.registered) if call else ()
    return all(one is None for one in known)


def trial_text(trial: ProgramReplay) -> Text:
    """Say how a run of a program ended."""
    verb = "checked" if trial.agrees else "CONTRADICTED"
    got = trial.got or "nothing"
    said = f"{verb}: {trial.what}: it {_came(got)}"
    if not trial.agrees:
        said += f", where it should have {_came(trial.want)}"
    return Text(clean(said), style="green" if trial.agrees else DISAGREES)


def _came(got: str) -> str:
    words = {
        "main 1 thread 1": "ran, with rseq in main() and in the thread",
        "main 0 thread 0": "ran, without rseq in main() and in the thread",
        "main 1 thread 0": "ran, with rseq in main() and without in the thread",
    }
    return words.get(got, f"ended with '{got}'")


def _cures(console: Console, cures: Sequence[CureOfMessage]) -> None:
    if cures:
        console.print()
        _line(console, Text("what to do", style="bold"))
    for number, cure in enumerate(cures, start=1):
        _line(console, f"{number}. {cure.do};")
        _line(console, f"this {cure.loses}", 5)
        if cure.trial:
            _line(console, trial_text(cure.trial), 5)


def show_explanation(console: Console, document: Explanation | Explanations) -> None:
    """Print an explanation, or several."""
    if isinstance(document, Explanations):
        for number, explanation in enumerate(document.explanations):
            console.print("\n" if number else "", end="")
            show_explanation(console, explanation)
        return
    if document.text:
        console.print(Text(clean(document.text)), soft_wrap=True)
    console.print(Text(clean(_heading(document))))
    causes = document.causes
    for number, cause in enumerate(causes, start=1):
        console.print()
        _cause(console, cause, number if len(causes) > 1 else None)
    _cures(console, document.cures)
    for note in document.notes:
        console.print()
        _line(console, f"note: {note}", 0)


# --- the table


def features_text(features: KernelFeatures) -> str:
    """Say what was found out about the kernel."""
    if features.rseq != PRESENT:
        return f"rseq(2) is answered with {features.rseq}" + (": there is none" if features.rseq == "ENOSYS" else "")
    size = features.feature_size
    told = f"feature size {size}, alignment {features.align}" if size else "no feature size: areas have 32 bytes"
    return f"rseq present, {told}"


def _why(row: AnswerRow) -> str:
    """Return the name of the rule that answered, for the list below the table; what is as it should be needs none."""
    if row.rule is None:
        return "seccomp filter"
    return "" if row.rule in AS_ASKED and ";" not in row.because else str(row.rule)


def _reasons(console: Console, rows: Sequence[AnswerRow]) -> None:
    """Print the reason of each name once, as its first row has it."""
    found: dict[str, AnswerRow] = {}
    for row in rows:
        if _why(row):
            found.setdefault(_why(row), row)
    for name, row in found.items():
        text = Text.assemble((clean(name), "bold"), f": {clean(row.because)} ", (clean(f"[{row.reference}]"), "dim"))
        console.print(Padding(text, (0, 0, 0, 2)))


def show_kernel_table(console: Console, document: AnswerTable) -> None:
    """Print what this kernel answers, each answer with its reason; what the model does not say so is marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("call", overflow="fold")
    table.add_column("answer", no_wrap=True)
    table.add_column("because of", no_wrap=True)
    group = ""
    for row in document.rows:
        if row.group != group and group:
            table.add_row()
        group = row.group
        wrong = "" if row.agrees else f" ! (want {_answer(row.want)})"
        style = "" if row.agrees else DISAGREES
        table.add_row(clean(row.what), Text(f"{row.got}{wrong}", style=style), _why(row))
    console.print(Text(features_text(document.features)))
    console.print(table)
    console.print()
    _reasons(console, document.rows)
    if not document.agrees:
        said = "! this kernel does not answer as the model of its rules says: it may have new rules, or errors"
        console.print(Text(said, style=DISAGREES))
