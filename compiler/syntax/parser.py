"""Text → syntax tree. Nothing here raises for any text: errors are diagnostics NDL1xx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax import tables
from ndl.compiler.syntax.build import Builder
from ndl.compiler.syntax.errors import unexpected
from ndl.compiler.syntax.lexer import Lexer
from ndl.compiler.syntax.machine import MAX_DEPTH, Machine
from ndl.compiler.syntax.tokens import Token
from ndl.compiler.syntax.tree import Expr, File, Stmt

MAX_ERRORS = 100


def parse(source: Source) -> tuple[File, list[Diagnostic]]:
    """The file as far as it could be read, and all independent syntax errors in the order of the text."""
    value, found, lexer = _run(source, "file")
    file = value if isinstance(value, File) else File(source, None, ())
    return replace(file, comments=tuple(lexer.comments)), found


def parse_expression(source: Source) -> tuple[Expr | None, list[Diagnostic]]:
    """A single expression, as in `--set sweep.method.rtol=1e-9`; None when it has errors."""
    value, found, _ = _run(source, "expression")
    return (value if isinstance(value, Expr) and not found else None), found


def load_source(path: str | Path) -> tuple[Source, list[Diagnostic]]:
    """Read a file as UTF-8, with or without a byte-order mark; bytes that are no text are reported."""
    raw = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return Source(str(path), raw.decode("utf-8")), []
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        source = Source(str(path), raw.decode("utf-8", "replace"))
        span = Span(source, len(before), len(before) + 1)
        byte = f"0x{raw[error.start]:02X}"
        found = Diagnostic(
            "NDL101",
            f"the file is not UTF-8: byte {byte} is no text",
            span,
            help="save the file with the encoding UTF-8",
        )
        return source, [found]


def _run(source: Source, start: str) -> tuple[Any, list[Diagnostic], Lexer]:
    """Lex and parse from a start symbol; the diagnostics of both, sorted."""
    lexer = Lexer(source)
    lexer.run()
    builder = Builder(source)
    found: list[Diagnostic] = []

    def complain(tokens: list[Token], at: int, expected: Callable[[], frozenset[str]]) -> None:
        if tokens[at].row not in lexer.bad_rows and len(found) < MAX_ERRORS:
            found.append(unexpected(source, tokens, at, expected()))

    def too_deep(begin: int, token: Token) -> None:
        found.append(
            Diagnostic(
                "NDL109",
                f"an expression of more than {MAX_DEPTH} operations nested inside each other",
                Span(source, begin, min(token.start, begin + 40)),
                help="name a part of it on a line of its own, or write a `sum(…)`",
            )
        )

    machine = Machine(tables.load(), builder.actions(), complain, too_deep)
    value = machine.run(lexer.tokens, start)
    if value is None and start == "file":
        value = File(source, None, _salvage(machine.values))
    found = lexer.found + builder.found + found
    found.sort(key=lambda d: d.span.start)
    return value, found[:MAX_ERRORS], lexer


def _salvage(values: list[Any]) -> tuple[Stmt, ...]:
    """The items that were complete when a parse was given up."""
    lists = (v for v in values if isinstance(v, list))
    return tuple(item for items in lists for item in items if isinstance(item, Stmt))
