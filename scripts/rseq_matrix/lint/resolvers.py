"""IFUNC resolvers and signal handlers: what they touch, and what of that is not there yet.

A resolver runs in the middle of relocation: when its own object is relocated, or earlier, when another object that uses
the symbol is. In a static program it runs before the thread pointer is set, where it was not moved behind that.
"""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.inspect import ERROR, WARNING, LintFinding
from rseq_matrix.elf.facts import Code, FileFacts, Touch
from rseq_matrix.lint.rules import finding

SHOWN = 3


def judge(facts: FileFacts) -> Iterator[LintFinding]:
    """Yield the findings about resolvers and handlers."""
    static = facts.kind in ("static", "static-pie")
    exported = {symbol.address for symbol in facts.indirect.symbols if symbol.exported}
    for code in facts.indirect.resolvers:
        yield from _dynamic_tls(code)
        yield from _in_static(facts, code) if static else _in_dynamic(code)
        yield from _before_relocation(code, static, code.address in exported)
    for handler in facts.handlers:
        if handler.code.touches:
            yield finding(
                "handler-gd-tls",
                WARNING,
                _place(handler.code),
                f"the {'signal handler' if handler.certain else 'function'} {_place(handler.code)}"
                f"{'' if handler.certain else ', a signal handler as it seems,'} reaches "
                f"{_said(handler.code.touches)}: the first access of "
                "a thread may call malloc(), which is not async-signal-safe; touch the variable in each thread before, "
                "or use the initial-exec model",
            )


def _place(code: Code) -> str:
    return f"{code.function} ({code.address:#x})" if code.function else f"{code.address:#x}"


def _said(touches: tuple[Touch, ...]) -> str:
    """Return what is touched, a few of it by name."""
    names = list(dict.fromkeys(touch.what for touch in touches))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more + f" at {touches[0].address:#x}"


def _severity(touches: tuple[Touch, ...]) -> str:
    """Return ERROR for what happens whenever the resolver runs, WARNING for what happens on some of its paths."""
    return ERROR if any(touch.always for touch in touches) else WARNING


def _path(touches: tuple[Touch, ...]) -> str:
    return "" if _severity(touches) == ERROR else " where a branch leads there"


def _of(code: Code, *kinds: str) -> tuple[Touch, ...]:
    return tuple(touch for touch in code.touches if touch.kind in kinds)


def _thread_pointer_is_set(facts: FileFacts) -> bool:
    """Return whether a static program sets it before it calls resolvers.

    Where the code does not show it, as on most machines and most glibcs: no; on ppc64le: yes (glibc
    sysdeps/unix/sysv/linux/powerpc/libc-start.h).
    """
    if facts.indirect.thread_pointer_first is not None:
        return facts.indirect.thread_pointer_first
    return facts.machine == "ppc64le" and facts.kind == "static"


def _in_static(facts: FileFacts, code: Code) -> Iterator[LintFinding]:
    if _thread_pointer_is_set(facts):
        return
    tls = _of(code, "tls")
    if tls:
        yield finding(
            "resolver-in-static",
            _severity(tls),
            _place(code),
            f"the resolver {_place(code)} uses {_said(tls)}, and in a static program it runs before the thread pointer "
            f"is set: the program crashes before main{_path(tls)}; a resolver may use its arguments and own constants "
            "only",
        )
    canary = tuple(touch for touch in _of(code, "stack-protector") if not touch.canary_variable)
    if canary:
        yield finding(
            "resolver-stack-protector",
            _severity(canary),
            _place(code),
            f"the resolver {_place(code)} reads the stack protector's canary, and in a static program it runs before "
            f"the thread pointer is set: the program crashes before main{_path(canary)}; give it the attribute "
            "no_stack_protector",
        )


def _in_dynamic(code: Code) -> Iterator[LintFinding]:
    tls = _of(code, "tls")
    if tls:
        yield finding(
            "resolver-tls",
            WARNING,
            _place(code),
            f"the resolver {_place(code)} uses {_said(tls)}: at start it runs before the object's TLS image is copied, "
            "so that it reads zeroes and what it writes is lost; keep TLS out of resolvers",
        )
    canary = _of(code, "stack-protector")
    if any(touch.canary_variable for touch in canary):
        yield finding(
            "resolver-stack-protector",
            ERROR,
            _place(code),
            f"the resolver {_place(code)} reads the stack protector's canary through a GOT entry that may not be "
            "relocated yet: it crashes there; give it the attribute no_stack_protector",
        )
    elif canary:
        yield finding(
            "resolver-stack-protector",
            WARNING,
            _place(code),
            f"the resolver {_place(code)} reads the stack protector's canary: that works where the thread pointer is "
            "set, not in a static program nor before a loader has set it; give it the attribute no_stack_protector",
        )


def _dynamic_tls(code: Code) -> Iterator[LintFinding]:
    touches = _of(code, "tls-get-addr")
    if touches:
        yield finding(
            "resolver-gd-tls",
            _severity(touches),
            _place(code),
            f"the resolver {_place(code)} reaches {_said(touches)}{_path(touches)}: while objects are being relocated "
            "the TLS block is not there yet, and getting it may call a malloc() that is not relocated; keep TLS out of "
            "resolvers",
        )


def _before_relocation(code: Code, static: bool, exported: bool) -> Iterator[LintFinding]:
    # Only its own object calls a resolver that is not exported, and that after the other relocations of the same
    # table (glibc elf/do-rel.h leaves IRELATIVE for the end). The table of the PLT comes later.
    touches = _of(code, "plt-call", "got-load") if exported or static else _of(code, "plt-call")
    if static:  # it relocates itself in the same order
        touches = tuple(touch for touch in touches if "IRELATIV" in touch.relocation)
    if not touches:
        return
    yield finding(
        "resolver-before-relocation",
        WARNING,
        _place(code),
        f"the resolver {_place(code)} needs {_said(touches)}: {_when(static, exported)}, and it crashes or decides "
        "wrongly; compute with its arguments, or with instructions, only",
    )


def _when(static: bool, exported: bool) -> str:
    """Return when what needs relocation is not there yet."""
    if static:
        return "in a static program other IRELATIVE relocations may not be applied yet when it runs"
    if exported:
        return (
            "when another object that uses the function is relocated first (a preloaded object, an interposed symbol, "
            "a missing DT_NEEDED), these are not relocated yet"
        )
    return "its object's PLT may be relocated after the IRELATIVE relocation that calls it"
