"""What all builders share: spans, errors, names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.tokens import Token

Place = tuple[int, int]


class Block:
    """The statements of a block and its documentation, on the way to their declaration."""

    __slots__ = ("doc", "span", "stmts")

    def __init__(self, doc: Token | None, stmts: tuple[t.Stmt, ...], span: Span) -> None:
        self.doc, self.stmts, self.span = doc, stmts, span


class Base:
    """`found` collects what the grammar lets pass but the language does not."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[Diagnostic] = []

    def span(self, place: Place) -> Span:
        return Span(self.source, place[0], place[1])

    def at(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    def error(self, code: str, message: str, span: Span, **more: Any) -> None:
        self.found.append(Diagnostic(code, message, span, **more))

    def plain(self, token: Token) -> str:
        """A name that takes no apostrophe."""
        if token.data:
            shown = f"{token.text}{chr(39) * token.data}"
            self.error(
                "NDL117", f"`{shown}` cannot be declared", self.at(token), help=f"write `{token.text}`"
            )
        return token.text

    def doc(self, block: Block) -> str | None:
        return block.doc.data if block.doc else None

    def no_doc(self, block: Block, what: str) -> tuple[t.Stmt, ...]:
        if block.doc is not None:
            self.error(
                "NDL118", f"{what} has no doc string", self.at(block.doc), help="write a comment: `# …`"
            )
        return block.stmts

    def name(self, token: Token) -> t.Name:
        return t.Name(self.at(token), token.text, token.data)


def present(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(v for v in values if v is not None)


def short(span: Span) -> str:
    text = " ".join(span.text.split())
    return text if len(text) <= 40 else text[:39] + "…"
