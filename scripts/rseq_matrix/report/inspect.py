"""What a person reads of an inspection: all of one file, or a summary of many. From a document of inspect-1.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.documents.inspect import LintFinding, LintRule
from rseq_matrix.documents.plain import Json
from rseq_matrix.report.findings import SEVERITY_STYLES, clean, finding_text

SHOWN = 20  # of a long list; JSON has all
SHOWN_OF_RULE = 3
QUESTIONS = {
    "dlopen": "can I dlopen it?",
    "preload": "can I preload it?",
    "audit": "can I audit with it?",
    "resolver": "is its resolver safe?",
    "critical_sections": "are its critical sections sound?",
}
ANSWER_STYLES = {"yes": "green", "with care": "yellow", "no": "bold red", "none": "dim"}
KINDS = {
    "executable": "executable",
    "pie": "position-independent executable",
    "shared-object": "shared object",
    "static": "static program",
    "static-pie": "static position-independent program",
}
BINDING = {"lazy": "bound lazily", "now": "bound when it is loaded"}
MARKS = {
    "call": "call!",
    "system-call": "system call!",
    "branch": "leaves the section!",
    "exit": "exit",
    "undecodable": "no instruction!",
}


def _hexadecimal(number: int | None) -> str:
    return "unknown" if number is None else f"{number:#x}"


def _at(function: str, address: int) -> str:
    """Return a place in the code."""
    return f"{clean(function)} ({address:#x})" if function else f"{address:#x}"


def _some(lines: Iterable[str]) -> Iterator[str]:
    """Yield the first lines, and how many are left out."""
    listed = list(lines)
    yield from listed[:SHOWN]
    if len(listed) > SHOWN:
        yield f"... and {len(listed) - SHOWN} more (--json has them all)"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


# --- one file


def _identity(file: Json) -> Iterator[str]:
    words = [f"{file['machine']} {KINDS[file['kind']]}", BINDING[file["binding"]]]
    words += [f"soname {file['soname']}"] if file["soname"] else []
    words += [f"build id {file['build_id']}"] if file["build_id"] else []
    yield ", ".join(words)
    if file["needed"]:
        yield f"needs {', '.join(file['needed'])}"
    if file["interpreter"]:
        yield f"interpreter {file['interpreter']}"


def _tls(tls: Json) -> Iterator[str]:
    segment = tls["segment"]
    if segment:
        image = f"{segment['image_size']} with initial values" if segment["image_size"] else "all zero"
        flag = "; DF_STATIC_TLS" if tls["static_flag"] else ""
        yield f"block of {_plural(segment['size'], 'byte')} ({image}), aligned {segment['alignment']}{flag}"
    elif tls["static_flag"]:
        yield "no block of its own; DF_STATIC_TLS"
    for use in tls["models"]:
        yield f"{use['model']}: {use['count']} by {use['evidence']}, for example {clean(use['example'])}"
    yield from _some(f"dynamic access at {_at(p['function'], p['address'])}" for p in tls["dynamic_accesses"])


def _calls(calls: Sequence[Json]) -> Iterator[str]:
    yield from _some(
        f"{n:3} {call['kind']:13} {_at(call['function'], call['address'])}" for n, call in enumerate(calls, 1)
    )


def _audit(audit: Json) -> Iterator[str]:
    for name in ("audit", "depaudit"):
        if audit[name]:
            yield f"DT_{name.upper()}: {clean(', '.join(audit[name]))}"
    if audit["exports"]:
        yield f"is an audit module: exports {', '.join(audit['exports'])}"


def _code(code: Json) -> Iterator[str]:
    touches = [f"{t['kind']} of {clean(t['what'])} at {t['address']:#x}: {t['instruction']}" for t in code["touches"]]
    unknown = "" if code["complete"] else "; not all of its code could be followed"
    yield f"{_at(code['function'], code['address'])}{'' if touches else ' touches none of it'}{unknown}"
    yield from (f"    {line}" for line in _some(touches))


def _indirect(indirect: Json) -> Iterator[str]:
    if not indirect["resolvers"]:
        return
    symbols, relocations = _plural(len(indirect["symbols"]), "symbol"), _plural(indirect["irelative"], "relocation")
    yield f"{symbols}, {relocations} R_*_IRELATIVE; what resolvers touch of PLT, GOT, TLS and stack protector:"
    lines = [line for code in indirect["resolvers"] for line in _code(code)]
    yield from _some(f"  {line}" for line in lines)


def _handlers(handlers: Sequence[Json]) -> Iterator[str]:
    for handler in handlers:
        yield from _code(handler["code"])


def _rseq(rseq: Json) -> Iterator[str]:
    for found in rseq["references"]:
        version = f"@{found['version']}" if found["version"] else ""
        yield f"{found['binding']} reference to {found['symbol']}{version}"
    area = rseq["own_area"]
    if area and area["defined"]:
        yield f"its own area {area['symbol']}: {area['size']} bytes, aligned {area['alignment']}"
    elif area:
        yield f"uses another object's area {area['symbol']}"
    for call in rseq["registrations"]:
        words = f"length {call['length']}, flags {call['flags']}, signature {_hexadecimal(call['signature'])}"
        yield f"calls rseq(2) at {_at(call['function'], call['address'])}: {words.replace('None', 'unknown')}"
    for write in rseq["writes"]:
        whose = "glibc's area" if write["area"] == "glibc" else "its own area"
        where = _at(write["function"], write["address"])
        yield f"writes {write['field']} of {whose} at {where}: {write['instruction']}"


def _section(section: Json) -> Iterator[str]:
    end = section["start"] + section["length"]
    yield (
        f"{_at(section['function'], section['start'])} to {end:#x}, abort handler "
        f"{_at(section['abort_function'], section['abort'])}, descriptor {section['descriptor']:#x}"
    )
    exits = ", ".join(f"{address:#x}" for address in section["exit_points"]) or "none"
    facts = f"version {section['version']}, flags {section['flags']}, signature {_hexadecimal(section['signature'])}"
    yield f"    {facts}, exit points {exits}"
    for code in section["code"]:
        yield f"    {code['address']:8x}  {code['bytes']:20}  {code['text']:44} {MARKS.get(code['mark'], '')}".rstrip()


def _sections(found: Json) -> Iterator[str]:
    tables = found["tables"]
    counts = {"__rseq_cs": "descriptors", "__rseq_cs_ptr_array": "pointers", "__rseq_exit_point_array": "exit_points"}
    present = [f"{name} {tables[key]}" for name, key in counts.items() if tables[key] is not None]
    if present or found["sections"]:
        yield f"entries: {', '.join(present) or 'no section in the file'}"
    for section in found["sections"][:SHOWN]:
        yield from _section(section)
    if len(found["sections"]) > SHOWN:
        yield f"... and {len(found['sections']) - SHOWN} more (--json has them all)"


def _rooms(file: Json) -> Iterator[tuple[str, Iterator[str]]]:
    yield "thread-local storage", _tls(file["tls"])
    yield "runs before main, in this order", _calls(file["order"]["start"])
    yield "runs at the end, in this order", _calls(file["order"]["end"])
    yield "audit", _audit(file["audit"])
    yield "indirect functions", _indirect(file["indirect"])
    yield "signal handlers that it installs", _handlers(file["handlers"])
    yield "rseq", _rseq(file["rseq"])
    yield "critical sections", _sections(file["critical_sections"])
    yield "notes", iter(file["notes"])


def _heading(console: Console, text: str) -> None:
    console.print(Text(clean(text), style="bold"), soft_wrap=True)


def _show_file(console: Console, file: Json) -> None:
    _heading(console, file["path"])
    for line in _identity(file):
        console.print(Padding(Text(clean(line)), (0, 0, 0, 2)))
    console.print()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, question in QUESTIONS.items():
        answer = file["answers"][name]
        table.add_row(question, Text(answer["answer"], style=ANSWER_STYLES[answer["answer"]]), Text(answer["why"]))
    console.print(Padding(table, (0, 0, 0, 2)))
    for title, lines in _rooms(file):
        listed = list(lines)
        if listed:
            console.print()
            _heading(console, title)
            for line in listed:
                console.print(Text(f"  {line}"), soft_wrap=True)
    console.print()
    _heading(console, "findings" if file["findings"] else "no findings")
    for finding, more in _first_of_each(file["findings"]):
        console.print(Padding(finding_text(LintFinding(**finding)), (0, 0, 0, 2)))
        if more:
            console.print(f"  ... and {more} more of {finding['id']} (--json has them all)", highlight=False)


def _first_of_each(findings: Sequence[Json]) -> Iterator[tuple[Json, int]]:
    """Yield the first findings of each rule; with the last of these, how many more the rule has."""
    totals, seen = Counter(finding["id"] for finding in findings), Counter[str]()
    for finding in findings:
        seen[finding["id"]] += 1
        if seen[finding["id"]] <= SHOWN_OF_RULE:
            last = seen[finding["id"]] == SHOWN_OF_RULE
            yield finding, totals[finding["id"]] - SHOWN_OF_RULE if last else 0


def show_details(console: Console, document: Json) -> None:
    """Tell all of each file."""
    for number, file in enumerate(document["files"]):
        if number:
            console.print()
        _show_file(console, file)


# --- many files


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if 0 < number < len(headings) - 1 else "left")
    return table


def _counted(title: str, members: Iterable[str]) -> str:
    counts = Counter(members)
    return f"{title}: {', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'none'}"


def _census(files: Sequence[Json]) -> Iterator[str]:
    yield _counted("kinds", (KINDS[file["kind"]] for file in files))
    yield _counted("machines", (file["machine"] for file in files))
    yield _counted("TLS models, by file", (m for f in files for m in {use["model"] for use in f["tls"]["models"]}))
    resolvers = sum(len(file["indirect"]["resolvers"]) for file in files)
    sections = sum(len(file["critical_sections"]["sections"]) for file in files)
    registering = sum(bool(file["rseq"]["registrations"]) for file in files)
    yield (
        f"{_plural(resolvers, 'IFUNC resolver')}, {_plural(sections, 'critical section')}, "
        f"{_plural(registering, 'file')} with calls of rseq(2)"
    )


def _answered(files: Sequence[Json]) -> Table:
    table = _table("", *ANSWER_STYLES, "")
    for name, question in QUESTIONS.items():
        counts = Counter(file["answers"][name]["answer"] for file in files)
        table.add_row(question, *(str(counts[answer]) for answer in ANSWER_STYLES), "")
    return table


def _by_rule(files: Sequence[Json], rules: Mapping[str, LintRule]) -> Table | None:
    found: dict[tuple[str, str], list[str]] = {}
    for file in files:
        for key in {(finding["id"], finding["severity"]) for finding in file["findings"]}:
            found.setdefault(key, []).append(file["path"])
    if not found:
        return None
    table = _table("finding", "files", "meaning and the first file")
    for (rule, severity), paths in sorted(
        found.items(), key=lambda item: (list(SEVERITY_STYLES).index(item[0][1]), item)
    ):
        head = Text(f"{severity} {rule}", style=SEVERITY_STYLES[severity])
        table.add_row(head, str(len(paths)), Text(f"{rules[rule].meaning}: {clean(paths[0])}"))
    return table


def _problems(document: Json) -> Iterator[Text]:
    for file in document["files"]:
        for finding in file["findings"]:
            if finding["severity"] == "error":
                yield Text.assemble(f"{clean(file['path'])}: ", finding_text(LintFinding(**finding)))
    for file in document["unreadable"]:
        yield Text.assemble(f"{clean(file['path'])}: ", ("not read", "bold"), f": {clean(file['reason'])}")


def show_summary(console: Console, document: Json, rules: Mapping[str, LintRule]) -> None:
    """Count what many files are and have, and say each error."""
    files = document["files"]
    if files:
        for line in _census(files):
            console.print(Text(line), soft_wrap=True)
        console.print()
        console.print(_answered(files))
        console.print()
        console.print(_by_rule(files, rules) or "no findings")
        console.print()
    problems = list(_problems(document))
    for problem in problems[:SHOWN]:
        console.print(problem, soft_wrap=True)
    if len(problems) > SHOWN:
        console.print(f"... and {len(problems) - SHOWN} more (--json FILE has them all)")
    console.print(Text(_total(document)), soft_wrap=True)


def _total(document: Json) -> str:
    summary = document["summary"]
    findings = ", ".join(_plural(count, severity) for severity, count in summary["findings"].items())
    words = [f"{_plural(summary['files'], 'file')} inspected: {findings}"]
    words += [f"{summary['unreadable']} could not be read"] if summary["unreadable"] else []
    words += [f"{summary['skipped']} passed over (object files, debug information, other machines)"] * bool(
        summary["skipped"]
    )
    return ("" if document["complete"] else "interrupted; ") + "; ".join(words)


def show_rules(console: Console, rules: Mapping[str, LintRule]) -> None:
    """List the rules of the lint: severities, what each looks for, where that is written."""
    for rule in rules.values():
        severities = "/".join(rule.severities)
        console.print(Text.assemble((f"{rule.id:28}", "cyan"), f"{severities:16}{rule.meaning}"), soft_wrap=True)
        console.print(Padding(Text(rule.reference, style="dim"), (0, 0, 0, 4)))
