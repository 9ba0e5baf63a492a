"""Brackets: each closer with its opener, and how a line ends whose bracket is never closed."""

from __future__ import annotations

import re
from typing import Any

from ndl.compiler.diagnostics import Diagnostic, Label
from ndl.compiler.source import Span
from ndl.compiler.syntax.reader import INDENT, Reader
from ndl.compiler.syntax.tokens import BLOCK_WORDS, LINE_WORDS, RESERVED, Token
from ndl.compiler.syntax.tree import Comment

MAX_BRACKETS = 100  # open brackets
MAX_SCANS = 20  # texts read to the end in search of a closing bracket
STATEMENT = re.compile(rf"({'|'.join(sorted(LINE_WORDS))})[ ]+(?!(?:{'|'.join(sorted(RESERVED))})\b)[^\W\d]")
CLOSER = {"(": ")", "[": "]", "{": "}"}


class Brackets(Reader):
    """Closes what was opened; what stays open is closed where the next statement begins."""

    def brace_block(self, start: int) -> bool:
        """`model M {` at the end of a line: reported, and read as a colon."""
        first = self.line.first
        if first is None or first.text not in BLOCK_WORDS or self.line_end(start) > start + 1:
            return False
        self.error(
            "NDL129",
            "a block stands in braces",
            start,
            start + 1,
            help="write `:` and indent the lines of the block; no sign ends it",
        )
        self.braces += 1
        self.line.last = self.emit(":", start, start + 1, text=":")
        self.line.colon = True
        return True

    def close(self, open_: list[Token], closer: str, start: int) -> None:
        if not open_ and closer == "}" and self.braces:
            self.braces -= 1
            return
        if not open_:
            self.error("NDL103", f"this `{closer}` closes nothing", start, start + 1, help="remove it")
            return
        opener = open_.pop()
        if CLOSER[opener.kind] != closer:
            self.error(
                "NDL103",
                f"`{opener.kind}` is closed by `{closer}`",
                start,
                start + 1,
                labels=(Label(Span(self.source, opener.start, opener.end), "opened here"),),
                help=f"write `{CLOSER[opener.kind]}`",
            )
        self.line.last = self.emit(CLOSER[opener.kind], start, start + 1, text=CLOSER[opener.kind])

    def breaks_off(self, at: int) -> bool:
        """Whether the physical line at `at`, inside brackets, is the beginning of a new statement."""
        blanks = INDENT.match(self.text, at)
        assert blanks is not None
        if "\t" in blanks.group():
            self.tabs.append(at + blanks.group().index("\t"))
        return STATEMENT.match(self.text, blanks.end()) is not None

    def unclosed(self, open_: list[Token], at: int) -> int:
        """Report the bracket that is never closed; the line ends before the next that stands as far left."""
        opener = open_[-1]
        closer = CLOSER[opener.kind]
        self.error(
            "NDL103",
            f"this `{opener.kind}` is never closed",
            opener.start,
            opener.end,
            help=f"close it with `{closer}`",
        )
        end = at
        self.scans += at == len(self.text)
        if self.scans <= MAX_SCANS:
            end = self.next_line_left_of(self.tokens_of_row()[0].start, self.line.column, at)
        collected: tuple[list[Any], ...] = (self.tokens, self.tabs, self.comments, self.found)
        for items in collected:
            while items and begin(items[-1]) >= end:
                items.pop()
        rest: list[str] = []
        for token in self.tokens_of_row():
            if token.kind in CLOSER:
                rest.append(CLOSER[token.kind])
            elif rest and token.kind == rest[-1]:
                rest.pop()
        stop = self.tokens[-1].end
        for kind in reversed(rest):
            self.line.last = self.emit(kind, stop, stop, text=kind)
        return end

    def next_line_left_of(self, start: int, column: int, limit: int) -> int:
        """The first line after `start` that has words at or left of `column`, or `limit`."""
        at = self.text.find("\n", start) + 1
        while 0 < at < limit:
            blanks = INDENT.match(self.text, at)
            assert blanks is not None
            has_words = self.text[blanks.end() : blanks.end() + 1] not in ("", "\n", "\r", "#")
            if has_words and len(blanks.group().expandtabs(4)) <= column:
                return at
            at = self.text.find("\n", at) + 1
        return limit

    def too_deep(self, open_: list[Token], start: int) -> int:
        """Give up a line whose brackets are nested too deeply."""
        self.error(
            "NDL109",
            f"brackets are nested deeper than {MAX_BRACKETS}",
            start,
            start + 1,
            help="name a part of the expression on a line of its own",
        )
        row = self.tokens_of_row()
        first = row[0]
        del self.tokens[len(self.tokens) - len(row) :]
        self.line.first = self.line.last = self.emit("ERROR", first.start, start)
        end = self.text.find("\n", start)
        return len(self.text) if end < 0 else end + 1


def begin(found: Token | Comment | Diagnostic | int) -> int:
    """Where something that the lexer collected begins."""
    if isinstance(found, int):
        return found
    return found.start if isinstance(found, Token) else found.span.start
