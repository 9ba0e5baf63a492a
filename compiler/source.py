"""Source text and spans: where every word of a program stands."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, eq=False)
class Source:
    """One text with the path it came from; identity is equality."""

    path: str
    text: str

    @cached_property
    def line_starts(self) -> list[int]:
        """Offset of the first character of each line."""
        starts = [0]
        starts.extend(i + 1 for i, c in enumerate(self.text) if c == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line_text(self, line: int) -> str:
        """Text of a line (from 1) without its line break."""
        lines = self.line_starts
        if not 1 <= line <= len(lines):
            return ""
        end = lines[line] - 1 if line < len(lines) else len(self.text)
        return self.text[lines[line - 1] : end].rstrip("\r")


NOWHERE = Source("<internal>", "")


@dataclass(frozen=True)
class Span:
    """A half-open range of character offsets in a source."""

    source: Source = field(repr=False, default=NOWHERE)
    start: int = 0
    end: int = 0

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    @property
    def end_position(self) -> tuple[int, int]:
        return self.source.position(self.end)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of the other."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))


NO_SPAN = Span()
