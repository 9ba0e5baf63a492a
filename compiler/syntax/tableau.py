"""Butcher tableaux, read from the text as they stand: rows of constants with one `|` each."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax.tree import Comment, TableauRow

LINE = re.compile(r"([ \t]*)([^\n#]*)(#[^\n]*)?(?:\n|$)")
ROW = re.compile(r"[^|\"'=:;,<>]*\|[^|\"'=:;,<>]*$")
RULE = re.compile(r"--[-+| ]*$")
RATIONAL = re.compile(r"[+-]?\d[\d_]*(\.\d*)?([eE][+-]?\d{1,3})?(/\d[\d_]*(\.\d*)?)?$")
CONSTANT = re.compile(r"\s*(?:(\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d{1,3})?)|(sqrt|pi|e)|([-+*/^()]))")
MAX_ENTRY = 500


@dataclass
class TableauText:
    """What was read: rows, the end of the last row, the start of the next line, errors, comments."""

    stages: tuple[TableauRow, ...] = ()
    outputs: tuple[TableauRow, ...] = ()
    last: int = 0
    end: int = 0
    found: list[Diagnostic] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)


def read_tableau(source: Source, start: int, head: int, column: int) -> TableauText:
    """The rows below the `tableau:` line that starts at `start` in `column` and ends at `head`."""
    text, table = source.text, TableauText()
    table.last = start + len("tableau")
    at = text.find("\n", head) + 1 or len(text)
    table.end = at
    rows: tuple[list[TableauRow], list[TableauRow]] = ([], [])
    part, ruled = 0, False
    while at < len(text) and (line := LINE.match(text, at)) and line.end() > at:
        words, begin = line[2].rstrip(), line.start(2)
        if words and (len(line[1].expandtabs(4)) <= column or not (RULE.match(words) or ROW.match(words))):
            break
        if line[3]:
            span = Span(source, line.start(3), line.start(3) + len(line[3].rstrip()))
            table.comments.append(Comment(span, line[3].rstrip(), not words))
        at = line.end()
        if RULE.match(words):
            part, ruled = 1, True
        elif words:
            rows[part].append(_row(table, Span(source, begin, begin + len(words)), words))
        if words:
            table.last, table.end = begin + len(words), at
    table.comments = [c for c in table.comments if c.span.start < table.end]
    table.stages, table.outputs = tuple(rows[0]), tuple(rows[1])
    here = Span(source, start, start + len("tableau:"))
    if not table.stages or not ruled or not table.outputs:
        missing = "a row for each stage" if not table.stages else "a rule `--+--` and the weights below it"
        table.found.append(Diagnostic("NDL116", f"this tableau lacks {missing}", here, help=EXAMPLE))
    elif len(table.outputs) > 2:
        extra = table.outputs[2].span
        table.found.append(Diagnostic("NDL116", "a tableau has at most two rows of weights", extra))
    return table


EXAMPLE = "Heun's method reads `0 |`, `1 | 1`, `--+----`, `  | 1/2 1/2` on four lines"


def _row(table: TableauText, span: Span, words: str) -> TableauRow:
    """One row; an entry that is no constant is reported and read as 0."""
    left = words.partition("|")[0]
    values: list[Fraction | float] = []
    at = span.start
    for entry in re.finditer(r"\S+", words.replace("|", " ")):
        value = constant(entry.group())
        if value is None:
            here = Span(span.source, at + entry.start(), at + entry.end())
            message = f"`{entry.group()}` is no constant"
            table.found.append(
                Diagnostic(
                    "NDL116",
                    message,
                    here,
                    help="an entry is a number such as `1/4`, `-0.5`, `(1-sqrt(2))/2`",
                )
            )
        values.append(Fraction(0) if value is None else value)
    heads = len(left.split())
    if heads > 1:
        message = "left of `|` stands one entry, the stage's time"
        table.found.append(Diagnostic("NDL116", message, Span(span.source, at, at + len(left.rstrip()))))
    return TableauRow(span, values[0] if heads else None, tuple(values[heads:]), " ".join(words.split()))


def constant(text: str) -> Fraction | float | None:
    """The value of an entry, exact where it is rational; None for what is no constant."""
    if len(text) > MAX_ENTRY:
        return None
    if RATIONAL.match(text):
        above, _, below = text.replace("_", "").partition("/")
        divisor = Fraction(below or 1)
        return Fraction(above) / divisor if divisor else None
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = CONSTANT.match(text, at)
        if found is None:
            return None
        tokens.append(found.group().strip())
        at = found.end()
    try:
        reader = _Reader(tokens)
        value = reader.sum()
        return value if reader.at == len(tokens) and math.isfinite(value) else None
    except (ArithmeticError, ValueError, TypeError, IndexError, RecursionError):
        return None


class _Reader:
    """Recursive descent over the tokens of one entry; short, since an entry is."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def take(self, *wanted: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def sum(self) -> Fraction | float:
        value = self.product()
        while op := self.take("+", "-"):
            other = self.product()
            value = value + other if op == "+" else value - other
        return value

    def product(self) -> Fraction | float:
        value = self.unary()
        while op := self.take("*", "/"):
            other = self.unary()
            value = value * other if op == "*" else value / other
        return value

    def unary(self) -> Fraction | float:
        if op := self.take("+", "-"):
            return self.unary() if op == "+" else -self.unary()
        base = self.atom()
        if self.take("^"):
            power = self.unary()
            if not -64 <= power <= 64:
                raise ValueError("power too large for a coefficient")
            if isinstance(power, Fraction) and power.denominator == 1:
                return base**power.numerator
            return math.pow(base, power)
        return base

    def atom(self) -> Fraction | float:
        if self.take("("):
            value = self.sum()
            if not self.take(")"):
                raise ValueError("unbalanced")
            return value
        if self.take("sqrt"):
            return math.sqrt(self.atom())
        if name := self.take("pi", "e"):
            return math.pi if name == "pi" else math.e
        self.at += 1
        return Fraction(self.tokens[self.at - 1].replace("_", ""))
