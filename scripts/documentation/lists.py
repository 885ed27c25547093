"""The lists in docs/ that the code knows. Each function returns one, as Markdown.

What a page says of an entry beside what the code says stands in words.py; an entry without words, and words without an
entry, are an error.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import words
from jinja2 import Environment

from rseq_matrix import errors
from rseq_matrix.doctor import findings
from rseq_matrix.documents.verify import DEFECTS
from rseq_matrix.documents.verify import PHASES as VERIFY_PHASES
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.kernels.rules import RULES as KERNEL_RULES
from rseq_matrix.libcs.specs import FETCHED
from rseq_matrix.lint.rules import RULES as LINT_RULES
from rseq_matrix.matrix.cells import SCENARIOS
from rseq_matrix.model.classes import MEANING
from rseq_matrix.model.results import RESULTS
from rseq_matrix.model.stages import ALLOWANCES, CARRIERS, LINKS, PHASES, STAGES
from rseq_matrix.simulation.designs import DESIGNS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "scripts" / "rseq_matrix"
SEVERITIES = ("ERROR", "WARNING", "NOTE")

TABLE = Environment(autoescape=False, keep_trailing_newline=True).from_string(
    """| {{ head | join(" | ") }} |
|{% for _ in head %} --- |{% endfor %}
{% for row in rows %}| {% for cell in row %}{{ cell | replace("|", "\\\\|") }}{{ " |" if loop.last else " | " }}\
{% endfor %}

{% endfor %}""".replace("\n\n{% endfor %}", "\n{% endfor %}")
)


class ListError(Exception):
    """A list and its words do not agree."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return TABLE.render(head=head, rows=list(rows))


def code(text: str) -> str:
    """Return text as code."""
    return f"`{text}`"


def agree(what: str, known: Collection[object], said: Collection[object]) -> None:
    """Raise where words are missing or left over."""
    for sentence, left in (("no words for", set(known) - set(said)), ("words for unknown", set(said) - set(known))):
        if left:
            raise ListError(f"{what}: {sentence} {', '.join(sorted(map(str, left)))}")


def said(what: str, head: tuple[str, str], known: Collection[str], sentences: Mapping[str, str]) -> str:
    """Return a table of names and sentences."""
    agree(what, known, sentences)
    return table(head, ((code(name), sentences[name]) for name in known))


def stages() -> str:
    """Return every stage, a table a carrier."""
    parts = []
    for carrier in CARRIERS:
        rows = (
            (
                code(stage.name),
                stage.phase,
                "all" if len(stage.links) == len(LINKS) else "dynamic",
                stage.may,
                stage.fires,
            )
            for stage in STAGES.values()
            if stage.carrier == carrier
        )
        parts.append(f"### {carrier}\n\n" + table(("stage", "phase", "links", "may use", "what runs it"), rows))
    return "\n".join(parts)


def environments() -> str:
    """Return the environments."""
    agree("environments", ENVIRONMENTS, words.ENVIRONMENTS)
    rows = (
        (code(name), environment.summary + needs(environment.tool), words.ENVIRONMENTS[name])
        for name, environment in ENVIRONMENTS.items()
    )
    return table(("environment", "what it is", "what rseq does there"), rows)


def needs(tool: object) -> str:
    """Return which package an environment needs."""
    return f" ({getattr(tool, 'packages', '')})" if tool else ""


def classes() -> str:
    """Return the classes."""
    agree("classes", MEANING, words.FACTS_OF_A_CLASS)
    rows = (
        (code(name), *words.FACTS_OF_A_CLASS[name], meaning.replace("HAZARD", "**hazard**"))
        for name, meaning in MEANING.items()
    )
    return table(("class", "T", "K", "U", "what it means for a library"), rows)


def exit_codes() -> str:
    """Return the exit codes of the one error tree."""

    def below(error: type[errors.RseqMatrixError]) -> set[int]:
        return {error.exit_code}.union(*map(below, error.__subclasses__()))

    known = {errors.EXIT_AS_EXPECTED} | below(errors.RseqMatrixError)
    agree("exit codes", known, words.EXIT_CODES)
    return table(("exit status", "meaning"), ((str(number), words.EXIT_CODES[number]) for number in sorted(known)))


def phases_of_verify() -> str:
    """Return the phases of verify."""
    agree("phases", VERIFY_PHASES, words.PHASES_OF_VERIFY)
    rows = ((code(name), *words.PHASES_OF_VERIFY[name]) for name in VERIFY_PHASES)
    return table(("phase", "what is done", "what it shows"), rows)


def lint_rules() -> str:
    """Return the rules of the lint."""
    rows = ((code(rule.id), ", ".join(rule.severities), rule.meaning, rule.reference) for rule in LINT_RULES.values())
    return table(("rule", "severity", "what it looks for", "where that is written"), rows)


def kernel_rules() -> str:
    """Return the kernel's rules. What a sentence takes from the call is in capitals."""

    class Names(dict[str, str]):
        def __missing__(self, name: str) -> str:
            return "" if name == "where" else name.upper()

    rows = ((code(rule.id), rule.answer, rule.because.format_map(Names())) for rule in KERNEL_RULES.values())
    return table(("rule", "answer", "cause"), rows)


def severities(name: ast.expr, severity: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield the ids and severities that two expressions can be, side by side where both are conditional."""
    if isinstance(name, ast.IfExp) and isinstance(severity, ast.IfExp):
        yield from severities(name.body, severity.body)
        yield from severities(name.orelse, severity.orelse)
    elif isinstance(name, ast.Constant) and isinstance(severity, ast.IfExp):
        yield from severities(name, severity.body)
        yield from severities(name, severity.orelse)
    elif isinstance(name, ast.Constant) and isinstance(severity, ast.Name) and severity.id in SEVERITIES:
        yield str(name.value), severity.id


def doctor_findings() -> str:
    """Return the findings of the doctor: each is made where an id stands before a severity."""
    found: dict[str, set[str]] = {}
    for path in sorted(Path(str(findings.__file__)).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            arguments = node.args if isinstance(node, ast.Call) else []
            for name, severity in severities(*arguments[:2]) if len(arguments) > 1 else ():
                found.setdefault(name, set()).add(severity)
    agree("findings", found, words.FINDINGS)
    rows = (
        (code(name), ", ".join(level.lower() for level in SEVERITIES if level in found[name]), words.FINDINGS[name])
        for name in sorted(found, key=lambda name: (min(map(SEVERITIES.index, found[name])), name))
    )
    return table(("finding", "severity", "what it says"), rows)


def schemas() -> str:
    """Return the schemas."""
    rows = [
        (code(path.name), json.loads(path.read_text())["title"]) for path in sorted((PACKAGE / "schema").glob("*.json"))
    ]
    return table(("schema", "what it describes"), rows)


def folders(what: str, root: Path, said_of_them: Mapping[str, str], prefix: str = "") -> str:
    """Return the folders of the tree that hold a file of ours."""
    known = {
        str(path.parent.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.suffix in (".c", ".h", ".py", ".cmake") and path.parent != root
    }
    here = {name for name in known if not any(part.startswith((".", "__")) for part in Path(name).parts)}
    agree(what, {name for name in here if name in said_of_them or "/" not in name}, said_of_them)
    return table(
        ("folder", "what it is for"), ((code(f"{prefix}{name}/"), said_of_them[name]) for name in said_of_them)
    )


def top() -> str:
    """Return the folders at the top of the tree."""
    for name in words.TOP:
        if not (ROOT / name).is_dir():
            raise ListError(f"the tree: no folder {name}")
    return table(("folder", "what it is for"), ((code(f"{name}/"), sentence) for name, sentence in words.TOP.items()))


def packages() -> str:
    """Return the packages, with the first sentence of each."""
    rows = []
    for path in sorted(PACKAGE.rglob("__init__.py")):
        name = path.parent.relative_to(PACKAGE.parent)
        if path.parent != PACKAGE:
            first = (importlib.import_module(".".join(name.parts)).__doc__ or "").strip().split("\n\n")[0]
            rows.append((code(f"{name.relative_to('rseq_matrix')}/"), " ".join(first.split())))
    return table(("package", "what it is for"), rows)


def benchmarks() -> str:
    """Return the benchmarks, with the first paragraph of each."""
    rows = []
    for path in sorted((ROOT / "scripts" / "benchmarks").glob("*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
        rows.append((code(f"scripts/benchmarks/{path.name}"), " ".join(first.split())))
    return table(("benchmark", "what it measures"), rows)


LISTS: dict[str, Callable[[], str]] = {
    "stages": stages,
    "phases of a life": lambda: said("phases", ("phase", "when"), list(PHASES.values()), words.PHASES_OF_A_LIFE),
    "allowances": lambda: said("allowances", ("may use", "meaning"), list(ALLOWANCES.values()), words.ALLOWANCES),
    "links": lambda: said("links", ("link", "meaning"), list(LINKS), words.LINKS),
    "libcs": lambda: ", ".join(map(code, FETCHED)) + "\n",
    "scenarios": lambda: said("scenarios", ("scenario", "its process"), list(SCENARIOS), words.SCENARIOS),
    "environments": environments,
    "designs": lambda: table(("design", "what it is"), ((code(d.name), d.summary) for d in DESIGNS.values())),
    "classes": classes,
    "results": lambda: said("results", ("result", "meaning"), RESULTS, words.RESULTS),
    "exit codes": exit_codes,
    "phases of verify": phases_of_verify,
    "defects": lambda: table(("defect", "the subject"), ((code(name), what) for name, what in DEFECTS.items())),
    "findings": doctor_findings,
    "lint rules": lint_rules,
    "kernel rules": kernel_rules,
    "schemas": schemas,
    "top": top,
    "C folders": lambda: folders("csrc", ROOT / "csrc", words.C_FOLDERS, "csrc/"),
    "scripts": lambda: folders("scripts", ROOT / "scripts", words.SCRIPT_FOLDERS, "scripts/"),
    "packages": packages,
    "benchmarks": benchmarks,
}
"""Every list, by the name that stands in the page's mark."""
