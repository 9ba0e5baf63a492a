"""What all parts of the lexer share: the text, the tokens made so far, the line being read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax.tokens import Token
from ndl.compiler.syntax.tree import Comment

INDENT = re.compile(r"[ \t]*")


@dataclass
class Line:
    """The logical line being read."""

    row: int
    column: int
    first: Token | None = None
    last: Token | None = None
    colon: bool = False  # outside brackets
    equals: bool = False


class Reader:
    """The state of one pass over a text; `tokens`, `comments`, `found` and `bad_rows` are its results."""

    def __init__(self, source: Source) -> None:
        self.source, self.text = source, source.text
        self.tokens: list[Token] = []
        self.comments: list[Comment] = []
        self.found: list[Diagnostic] = []
        self.bad_rows: set[int] = set()
        self.levels: list[tuple[int, bool]] = [(0, True)]  # column, whether an _INDENT was emitted
        self.line = Line(0, 0)
        self.tabs: list[int] = []
        self.scans = 0
        self.braces = 0  # blocks in braces that were reported

    def error(self, code: str, message: str, start: int, end: int, **more: object) -> None:
        self.bad_rows.add(self.line.row)
        self.found.append(Diagnostic(code, message, Span(self.source, start, end), **more))  # type: ignore[arg-type]

    def emit(self, kind: str, start: int, end: int, data: object = None, text: str | None = None) -> Token:
        token = Token(kind, self.text[start:end] if text is None else text, start, end, self.line.row, data)
        self.tokens.append(token)
        return token

    def comment(self, start: int) -> int:
        """Keep the comment that starts here; the offset of the next line."""
        end = self.text.find("\n", start)
        end = len(self.text) if end < 0 else end
        text = self.text[start:end].rstrip()
        begin = self.text.rfind("\n", 0, start) + 1
        own = not self.text[begin:start].strip()
        self.comments.append(Comment(Span(self.source, start, start + len(text)), text, own))
        return min(end + 1, len(self.text))

    def line_end(self, at: int) -> int:
        """The end of the words of the physical line at an offset."""
        end = self.text.find("\n", at)
        end = len(self.text) if end < 0 else end
        return max(at, at + len(self.text[at:end].split("#")[0].rstrip()))

    def tokens_of_row(self) -> list[Token]:
        first = len(self.tokens)
        while first and self.tokens[first - 1].row == self.line.row:
            first -= 1
        return [t for t in self.tokens[first:] if t.kind[0] != "_"]
