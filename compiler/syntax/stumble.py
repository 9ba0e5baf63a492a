"""The place of a syntax error, as the guesses at its meaning see it."""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.source import Source, Span
from ndl.compiler.syntax.tokens import Token

CLOSERS = frozenset([")", "]", "}"])


@dataclass(frozen=True)
class Stumble:
    """The place of an error: its row up to the token, and what the grammar expected."""

    source: Source
    row: list[Token]
    token: Token
    following: list[Token]
    expected: frozenset[str]
    nested: int  # open blocks

    @property
    def first(self) -> Token:
        return self.row[0] if self.row else self.token

    @property
    def before(self) -> Token | None:
        return self.row[-1] if self.row else None

    @property
    def ends(self) -> bool:
        return self.token.kind == "_NL"

    @property
    def shown(self) -> str:
        return "the end of the line" if self.ends else f"`{clip(self.token)}`"

    def brackets(self) -> list[Token]:
        """The brackets that are open before the token."""
        open_: list[Token] = []
        for token in self.row:
            if token.kind in "([{":
                open_.append(token)
            elif token.kind in CLOSERS and open_:
                open_.pop()
        return open_

    def span(self, token: Token | None = None) -> Span:
        token = token or self.token
        return Span(self.source, token.start, token.end)


def clip(token: Token) -> str:
    text = token.text + "'" * (token.data or 0 if token.kind in ("NAME", "WORD") else 0)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"
