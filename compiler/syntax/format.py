"""The formatter: canonical spacing and indentation; comments, blank lines and alignment are kept.

A statement that its author broke over several lines stays as it was, moved to its block's column.
Lines below each other whose `=`, `~`, `<-` or constraints stood in one column keep them in one column; a
comment behind a line keeps its column where that is free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ndl.compiler.source import Source
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.lexer import Lexer
from ndl.compiler.syntax.show import body_of, cells, show_constant, show_expr, show_stmt
from ndl.compiler.syntax.tokens import Token

__all__ = ["format_file", "show_expr", "show_stmt"]

INDENT = 4
CUTS = frozenset(["=", "~", "<-"])
CONSTRAINTS = frozenset([">", ">=", "<", "<=", "in"])


def format_file(file: t.File) -> str:
    """The canonical text of a file; parsing it gives an equal tree."""
    return Formatter(file).run()


@dataclass
class Row:
    """A logical line of the source: its tokens' extent."""

    start: int
    end: int
    tokens: list[Token]


@dataclass
class Line:
    """A line to be written; `columns` are where its cells stood in the source, if they had one."""

    indent: int
    cells: list[str]
    columns: list[int]
    blanks: int = 0
    comment: str = ""
    comment_column: int = -1


class Formatter:
    """One pass over the tree; the source, lexed again, tells of rows, docs and comments."""

    def __init__(self, file: t.File) -> None:
        self.file, self.source = file, file.source
        self.lines: list[Line] = []
        self.comments = deque(sorted(file.comments, key=lambda c: c.span.start))
        self.rows: dict[int, Row] = {}
        self.docs: deque[Token] = deque()
        self.last_line = 0  # of the source, that was written
        if self.source.text:
            self.read_rows(self.source)
        self.starts = sorted({row.start for row in self.rows.values()})

    def read_rows(self, source: Source) -> None:
        lexer = Lexer(source)
        lexer.run()
        row: list[Token] = []
        for token in lexer.tokens:
            if token.kind == "DOC":
                self.docs.append(token)
            if token.kind == "_NL" and row:
                here = Row(row[0].start, row[-1].end, row)
                for part in row:
                    self.rows[part.start] = here
                row = []
            elif token.kind[0] != "_" and token.kind != "$END":
                row.append(token)

    def run(self) -> str:
        if self.file.doc is not None:
            self.write_doc(self.file.doc, 0, 0)
        self.block(self.file.items, 0, 0)
        self.flush(len(self.source.text) + 1, 0, 0)
        align(self.lines)
        out: list[str] = []
        for line in self.lines:
            out.extend([""] * (line.blanks if out else 0))
            text = (" " * line.indent + "".join(line.cells)).rstrip()
            out.append(text + line.comment)
        return "\n".join(out) + "\n" if out else ""

    # ------------------------------------------------------------ blocks

    def block(self, stmts: tuple[t.Stmt, ...], indent: int, limit: int) -> None:
        """Statements in a column; `limit` is the least source column of comments that belong here."""
        for stmt in stmts:
            self.flush(stmt.span.start, indent, 0)
            self.statement(stmt, indent)

    def statement(self, stmt: t.Stmt, indent: int) -> None:
        if isinstance(stmt, t.Tableau):
            return self.tableau(stmt, indent)
        row = self.rows.get(stmt.span.start)
        body = body_of(stmt)
        words = cells(stmt)
        if row and "\n" in self.source.text[row.start : row.end]:
            self.verbatim(row, indent)
        elif row and body and len(body) == 1 and self.rows.get(body[0].span.start) is row:
            self.put(row, indent, [" ".join(words) + " " + " ".join(self.one_line(body[0]))])
            return None
        else:
            self.put(row, indent, words)
        if body is None or (row and body and self.rows.get(body[0].span.start) is row):
            return None
        column = self.column(body[0].span.start) if row and body else -1
        doc = getattr(stmt, "doc", None)
        if doc is not None:
            self.write_doc(doc, indent + INDENT, column)
        self.block(body, indent + INDENT, column)
        if row and column > 0:
            self.flush(self.next_row(stmt), indent + INDENT, column)
        return None

    def one_line(self, stmt: t.Stmt) -> list[str]:
        """A statement behind the colon of its block's head, perhaps with such a block of its own."""
        words = cells(stmt)
        for inner in body_of(stmt) or ():
            words += self.one_line(inner)
        return words

    def next_row(self, stmt: t.Stmt) -> int:
        """The end of the text in which comments may belong to a statement's block."""
        k = bisect_right(self.starts, max(stmt.span.end, stmt.span.start))
        return self.starts[k] if k < len(self.starts) else len(self.source.text) + 1

    def column(self, offset: int) -> int:
        return self.source.position(offset)[1] - 1

    def line_of(self, offset: int) -> int:
        return self.source.position(offset)[0]

    # ------------------------------------------------------------ lines

    def add(self, line: Line, first: int, last: int) -> None:
        """Append a line that stood from source line `first` to `last`, with the blank lines above it."""
        most = 2 if line.indent == 0 else 1
        opens = bool(self.lines) and self.lines[-1].indent < line.indent
        if first:
            line.blanks = 0 if opens else max(0, min(most, first - self.last_line - 1))
            self.last_line = last
        elif line.indent == 0 and self.lines and (line.cells[-1].endswith(":") or self.lines[-1].indent):
            line.blanks = 1
        self.lines.append(line)

    def put(self, row: Row | None, indent: int, words: list[str]) -> None:
        """A line of its own, with the comment that follows it."""
        if row is None:
            return self.add(Line(indent, words, []), 0, 0)
        line = Line(indent, words, self.cuts(row, len(words)))
        self.add(line, self.line_of(row.start), self.line_of(row.end))
        self.trailing(line, row.end)
        return None

    def cuts(self, row: Row, count: int) -> list[int]:
        """The source columns of the cells after the first, when as many are found."""
        depth = 0
        found: list[int] = []
        for token in row.tokens:
            depth += (token.kind in "([{") - (token.kind in ")]}")
            if depth == 0 and (token.kind in CUTS or (token.kind in CONSTRAINTS and count - len(found) > 2)):
                found.append(self.column(token.start))
                if token.kind in CUTS:
                    break
        return found if len(found) == count - 1 else []

    def trailing(self, line: Line, end: int) -> None:
        """Attach the comment on the line where a row ends."""
        here = self.line_of(end)
        while self.comments and self.comments[0].span.start < end:
            self.comments.popleft()
        if self.comments and self.line_of(self.comments[0].span.start) == here:
            comment = self.comments.popleft()
            line.comment, line.comment_column = comment.text, self.column(comment.span.start)

    def flush(self, until: int, indent: int, column: int) -> None:
        """Write the comments on lines of their own before an offset that stand at or right of a column."""
        while self.comments and self.comments[0].span.start < until:
            comment = self.comments[0]
            if self.column(comment.span.start) < column:
                return
            self.comments.popleft()
            at = self.line_of(comment.span.start)
            self.add(Line(indent, [comment.text], []), at, at)

    def verbatim(self, row: Row, indent: int) -> None:
        """A row of several lines: as it was, moved to its column."""
        text = self.source.text[row.start : row.end].replace("\r", "")
        shift = indent - self.column(row.start)
        first, *rest = text.split("\n")
        moved = [first.rstrip()]
        for part in rest:
            blank = len(part) - len(part.lstrip(" "))
            moved.append((" " * max(0, blank + shift) + part.lstrip(" ")).rstrip())
        line = Line(indent, ["\n".join(moved)], [])
        self.add(line, self.line_of(row.start), self.line_of(row.end))
        self.trailing(line, row.end)

    def write_doc(self, doc: str, indent: int, column: int) -> None:
        line = Line(indent, [f'"""{doc}"""'], [])
        token = self.docs.popleft() if self.docs else None
        if token is None:
            return self.add(line, 0, 0)
        self.flush(token.start, indent, 0)
        self.add(line, self.line_of(token.start), self.line_of(token.end))
        self.trailing(line, token.end)
        return None

    # ------------------------------------------------------------ tableaux

    def tableau(self, stmt: t.Tableau, indent: int) -> None:
        row = self.rows.get(stmt.span.start)
        head = Line(indent, ["tableau:"], [])
        at = self.line_of(stmt.span.start) if row else 0
        self.add(head, at, at)
        if row:
            self.trailing(head, row.start + 1)
        entries = [self.entries(r) for r in (*stmt.stages, *stmt.outputs)]
        left = max((len(c) for c, _ in entries), default=0)
        widths = [
            max(len(a[k]) for _, a in entries if k < len(a)) for k in range(max(len(a) for _, a in entries))
        ]
        rule = "-" * (left + 1) + "+" + "-" * (sum(widths) + len(widths))
        for k, (source_row, (c, a)) in enumerate(zip((*stmt.stages, *stmt.outputs), entries)):
            if k == len(stmt.stages):
                self.lines.append(Line(indent + INDENT, [rule], []))
                self.last_line += 1
            shown = " ".join(entry.ljust(width) for entry, width in zip(a, widths))
            line = Line(indent + INDENT, [f"{c.ljust(left)} | {shown}".rstrip()], [])
            if row:
                self.flush(source_row.span.start, indent + INDENT, 0)
                self.last_line = self.line_of(source_row.span.start) - 1
                self.add(line, self.line_of(source_row.span.start), self.line_of(source_row.span.end))
                self.trailing(line, source_row.span.end)
            else:
                self.add(line, 0, 0)

    def entries(self, row: t.TableauRow) -> tuple[str, list[str]]:
        """The texts left and right of the bar."""
        if row.text:
            left, _, right = row.text.partition("|")
            return left.strip(), right.split()
        return "" if row.c is None else show_constant(row.c), [show_constant(a) for a in row.a]


def align(lines: list[Line]) -> None:
    """Pad the cells of neighbouring lines that stood in one column; a lone cell gets one blank."""
    most = max((len(line.cells) for line in lines), default=0)
    for k in range(1, most):
        for group in groups(lines, partial(column_of, k)):
            width = max(sum(map(len, line.cells[:k])) for line in group)
            for line in group:
                line.cells[k - 1] += " " * (width + 1 - sum(map(len, line.cells[:k])))
    for group in groups(lines, lambda line: line.comment_column if line.comment else None):
        column = max(group[0].comment_column, *(last_width(line) + 2 for line in group))
        for line in group:
            line.comment = " " * (column - last_width(line)) + line.comment


def column_of(k: int, line: Line) -> int | None:
    """Where the k-th cell stood; a number of its own for one that has no place in the source."""
    if len(line.cells) <= k:
        return None
    return line.columns[k - 1] if line.columns else -1 - id(line)


def last_width(line: Line) -> int:
    text = "".join(line.cells)
    return len(text.rpartition("\n")[2]) + (0 if "\n" in text else line.indent)


def groups(lines: list[Line], key: Callable[[Line], int | None]) -> Iterator[list[Line]]:
    """Runs of neighbouring lines of one column of the block with one key."""
    run: list[Line] = []
    for line in lines:
        value = key(line)
        if run and (value is None or value != key(run[-1]) or line.blanks or line.indent != run[-1].indent):
            yield run
            run = []
        if value is not None:
            run.append(line)
    if run:
        yield run
