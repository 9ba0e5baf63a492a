"""Errors as values: code, span, message, notes, help; and the one place that renders them.

Codes: NDL1xx text and syntax, 2xx names and modules, 3xx types, shapes, units, 4xx equations,
5xx solve/train settings, 6xx run time (data, solver failure), 9xx a bug of ours. A message is
lower case, without a full stop; code stands in backticks.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ndl.compiler.source import Span


@dataclass(frozen=True)
class Label:
    """Secondary words under a part of the text (drawn with `‾`)."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding. `text` is what stands behind the carets, `notes` say why, `help` what to write."""

    code: str
    message: str
    span: Span
    text: str = ""
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    severity: str = "error"


class NDLError(Exception):
    """Carries diagnostics to the edge, where `render` prints them."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(render(d) for d in self.diagnostics))


def fail(code: str, message: str, span: Span, **more: Any) -> NDLError:
    """An `NDLError` with a single diagnostic, to be raised."""
    return NDLError([Diagnostic(code, message, span, **more)])


@dataclass
class Sink:
    """Collects diagnostics while a phase goes on; the same finding is kept once."""

    found: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        key = (diagnostic.code, diagnostic.span, diagnostic.message)
        if all((d.code, d.span, d.message) != key for d in self.found):
            self.found.append(diagnostic)

    def error(self, code: str, message: str, span: Span, **more: Any) -> None:
        self.add(Diagnostic(code, message, span, **more))

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.found)

    def check(self) -> None:
        """Raise what was collected, in the order of the text, if any of it is an error."""
        if self.failed:
            raise NDLError(sorted(self.found, key=lambda d: (d.span.source.path, d.span.start)))


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a misspelt one, or None."""
    candidates = sorted({k for k in known if not k.startswith("_") and not k.endswith("_")})
    folded = {c.lower(): c for c in reversed(candidates)}
    if name.lower() in folded:
        return folded[name.lower()]
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=0.66)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A help line that offers the nearest known name."""
    best = near(name, known)
    return f"did you mean `{best}`?" if best else None


# ---------------------------------------------------------------- rendering

RED, BLUE, BOLD, CYAN, RESET = "\x1b[31m", "\x1b[34m", "\x1b[1m", "\x1b[36m", "\x1b[0m"


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    cells = 0
    for c in text:
        if not unicodedata.combining(c):
            cells += 2 if unicodedata.east_asian_width(c) in "WF" else 1
    return cells


def render(d: Diagnostic, color: bool = False) -> str:
    """A diagnostic as text, with the line it speaks of and carets under the exact words."""

    def paint(text: str, *codes: str) -> str:
        return "".join(codes) + text + RESET if color else text

    tone = RED if d.severity == "error" else CYAN
    lines = [f"{paint(f'{d.severity}[{d.code}]', BOLD, tone)}: {paint(d.message, BOLD)}"]
    gutter = len(str(max([d.span.line, *(lab.span.line for lab in d.labels)])))
    bar = paint("│", BLUE)
    if d.span.source.text or d.span.source.path != "<internal>":
        where = f"{d.span.source.path}:{d.span.line}:{d.span.column}"
        lines.append(f"{' ' * gutter} {paint('┌─', BLUE)} {where}")
        lines.extend(_quote(d, gutter, bar, paint, tone))
    lines.extend(f"{' ' * gutter} {paint('=', BLUE)} {note}" for note in d.notes)
    if d.help:
        lines.append(f"{' ' * gutter} {paint('help', CYAN)}: {d.help}")
    return "\n".join(lines)


def _quote(d: Diagnostic, gutter: int, bar: str, paint: Any, tone: str) -> list[str]:
    """Quoted lines with their marks, main span and labels in the order of the text."""
    marks = [(d.span, d.text, True)] + [(lab.span, lab.text, False) for lab in d.labels]
    by_line: dict[tuple[str, int], list[tuple[Span, str, bool]]] = {}
    for mark in marks:
        by_line.setdefault((mark[0].source.path, mark[0].line), []).append(mark)
    out: list[str] = []
    for (_, line), here in sorted(by_line.items(), key=lambda item: item[0][1]):
        source = here[0][0].source
        text = source.line_text(line).replace("\t", " ")
        if len(text) > 160:
            text, here = _clip(text, here, source.line_starts[line - 1])
        out.append(f"{str(line).rjust(gutter)} {bar} {text}")
        for span, label, main in sorted(here, key=lambda m: not m[2]):
            start = span.start - source.line_starts[line - 1]
            stop = min(span.end - source.line_starts[line - 1], len(text))
            if start > len(text):
                start = len(text)
            line_of_marks = ("^" if main else "‾") * max(1, width(text[start:stop]))
            shown = paint(line_of_marks, tone if main else BLUE)
            out.append(f"{' ' * gutter} {bar} {' ' * width(text[:start])}{shown} {label}".rstrip())
    return out


def _clip(
    text: str, marks: list[tuple[Span, str, bool]], line_start: int
) -> tuple[str, list[tuple[Span, str, bool]]]:
    """A window of a very long line around its first mark, with the marks moved along."""
    first = min(m[0].start for m in marks) - line_start
    left = max(0, min(first - 40, len(text) - 120))
    window = ("…" if left else "") + text[left : left + 120] + ("…" if left + 120 < len(text) else "")
    shift = left - (1 if left else 0)
    moved = [(Span(s.source, s.start - shift, s.end - shift), label, main) for s, label, main in marks]
    return window, moved


def to_json(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic for tools: code, file, range (line and column from 1), message, help."""
    line, column = d.span.source.position(d.span.start)
    end_line, end_column = d.span.end_position
    return {
        "code": d.code,
        "severity": d.severity,
        "file": d.span.source.path,
        "range": {
            "start": {"line": line, "column": column},
            "end": {"line": end_line, "column": end_column},
        },
        "message": d.message,
        "notes": list(d.notes),
        "help": d.help,
    }
