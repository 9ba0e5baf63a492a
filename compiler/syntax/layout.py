"""Layout: indentation becomes _INDENT and _DEDENT; missing colons, empty blocks and tabs are reported."""

from __future__ import annotations

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Span
from ndl.compiler.syntax.reader import Line, Reader
from ndl.compiler.syntax.tokens import BLOCK_WORDS, Token

MAX_BLOCKS = 40  # open blocks


class Layout(Reader):
    """Compares the column of each line with the blocks that are open."""

    def begin(self, column: int, at: int, last: bool = False) -> None:
        """Compare a new line's column with the open blocks; `last` closes all of them."""
        before, levels = self.line, self.levels
        wants_block = before.last is not None and before.last.kind == ":" and before.first is not None
        if column > levels[-1][0]:
            if not wants_block and self.lacks_colon(before):
                self.insert_colon(before)
                wants_block = True
            self.line = Line(before.row + 1, column)
            if not wants_block:
                self.error(
                    "NDL106",
                    "this line is indented deeper than the one above, which opens no block",
                    at,
                    self.line_end(at),
                    help="give it the indentation of the line above",
                )
            elif len(levels) >= MAX_BLOCKS:
                self.error("NDL109", f"blocks are nested deeper than {MAX_BLOCKS}", at, self.line_end(at))
                wants_block = False
            if wants_block:
                self.emit("_INDENT", at, at)
            levels.append((column, wants_block))
            return
        if wants_block and before.first is not None and before.first.text in BLOCK_WORDS and before.last:
            colon = before.last.start
            self.line = before
            self.error(
                "NDL107",
                f"the block of this `{before.first.text}` is empty",
                before.first.start,
                colon + 1,
                help="indent the lines that belong to it by four spaces",
            )
            self.emit("_INDENT", colon + 1, colon + 1)
            self.emit("_DEDENT", colon + 1, colon + 1)
        self.line = Line(before.row + 1, column)
        if not last and all(column != c for c, _ in levels):
            self.error(
                "NDL105",
                "this line's indentation matches no block that is open",
                at,
                self.line_end(at),
                notes=("open blocks stand at columns " + ", ".join(str(c + 1) for c, _ in levels),),
                help="align it with the other lines of its block",
            )
            column = min(c for c, _ in levels if c > column)
        while levels[-1][0] > column:
            if levels.pop()[1]:
                end = self.tokens[-1].end
                self.emit("_DEDENT", end, end)

    def lacks_colon(self, line: Line) -> bool:
        first = line.first
        if first is None or first.text not in BLOCK_WORDS or line.colon:
            return False
        return not (line.equals and first.text in ("fn", "model"))

    def insert_colon(self, line: Line) -> None:
        assert line.first is not None and line.last is not None
        self.line, end = line, line.last.end
        if self.tokens[-1].kind == "_NL" and self.tokens[-1].row == line.row:
            self.tokens.insert(-1, Token(":", ":", end, end, line.row))
        what = self.text[line.first.start : min(end, line.first.start + 60)].split("\n")[0]
        self.error(
            "NDL104",
            f"a `{line.first.text}` line that opens a block ends in `:`",
            max(end - 1, line.first.start),
            end,
            text="`:` is missing after this",
            help=f"write `{what}:`",
        )

    def report_tabs(self) -> None:
        lines = sorted({self.source.position(at)[0] for at in self.tabs})
        more = f"also on line{'s' * (len(lines) > 2)} " + ", ".join(map(str, lines[1:8]))
        self.found.append(
            Diagnostic(
                "NDL102",
                "a tab stands where NDL wants spaces",
                Span(self.source, self.tabs[0], self.tabs[0] + 1),
                notes=(more + (", …" if len(lines) > 8 else ""),) if len(lines) > 1 else (),
                help="indent with spaces, four for each level",
            )
        )
