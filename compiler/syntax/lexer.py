"""Text → tokens: words, literals, layout, brackets; and the errors that show before any grammar.

The lexer repairs what it reports (a missing colon is put in, an unclosed bracket closed, `**` read
as `^`), so that the parser does not stumble over the same place again; lines with an error are in
`bad_rows`. Its output always has balanced brackets and balanced _INDENT/_DEDENT.
"""

from __future__ import annotations

import re
import unicodedata

from ndl.compiler.syntax.brackets import MAX_BRACKETS, Brackets
from ndl.compiler.syntax.foreign import Foreign
from ndl.compiler.syntax.layout import Layout
from ndl.compiler.syntax.reader import INDENT
from ndl.compiler.syntax.tableau import read_tableau
from ndl.compiler.syntax.tokens import (
    LINE_WORDS,
    PREFIX_WORDS,
    RESERVED,
    SOFT_WORDS,
    Token,
    is_name,
    name_part,
    name_start,
)

MAX_DIGITS = 400  # in a number

WORDS = re.compile(
    r"""(?P<space>[ ]+)
    |(?P<name>[^\W\d][^\W]*(?:[^\x00-\x7f][^\W]*)*)
    |(?P<number>\d(?:_?\d)*(?:\.(?:\d(?:_?\d)*|(?![.\w])))?(?:[eE][+-]?\d+)?(?:i(?!\w))?)
    |(?P<newline>\r?\n)
    |(?P<comment>\#[^\n]*)
    |(?P<doc>\"{3})
    |(?P<string>"(?:[^"\\\r\n]|\\[^\r\n])*")
    |(?P<alien>\*\*|:=|&&|\|\||===|=>|\.\.\.|[-+*/]=)
    |(?P<op><-|->|<=|>=|==|!=|//|\.\.|[-+*/@^<>=~:;,|.])
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<foreign>.)""",
    re.X | re.S,
)
USE_PATH = re.compile(r"[ ]+([^\s:#\"',;()]+)")
TABLEAU = re.compile(r"tableau[ ]*:[ ]*(#[^\n]*)?\r?(?=\n|$)")
AFTER_PREFIX = re.compile(r"[ ]+(?:(\d)|([^\W\d]\w*))")


class Lexer(Layout, Brackets, Foreign):
    """One pass over a text: logical lines, and the words of each."""

    def run(self) -> None:
        at, size = 0, len(self.text)
        while at < size:
            blanks = INDENT.match(self.text, at)
            assert blanks is not None
            stop = blanks.end()
            rest = self.text[stop : stop + 2]
            if not rest or rest[0] == "\n" or rest == "\r\n":
                at = self.text.find("\n", stop) + 1 or size
            elif rest[0] == "#":
                at = self.comment(stop)
            else:
                if "\t" in blanks.group():
                    self.tabs.append(at + blanks.group().index("\t"))
                self.begin(len(blanks.group().expandtabs(4)), stop)
                at = self.finish(self.special(stop) or self.scan(stop))
        self.begin(0, size, last=True)
        if self.tabs:
            self.report_tabs()
        self.emit("$END", size, size)

    def finish(self, at: int) -> int:
        """End the logical line; `at` is where the next one starts."""
        if self.line.first is not None:
            end = self.line.last.end if self.line.last else at
            self.emit("_NL", end, end)
        return at

    def special(self, at: int) -> int | None:
        """A tableau or an import, which have words of their own; None for all other lines."""
        if self.text.startswith("tableau", at) and (head := TABLEAU.match(self.text, at)):
            if head.group(1):
                self.comment(head.start(1))
            start = self.text.rfind("\n", 0, at) + 1
            table = read_tableau(self.source, at, head.end(), at - start)
            self.found.extend(table.found)
            self.comments.extend(table.comments)
            token = self.emit("TABLEAU", at, table.last, (table.stages, table.outputs))
            self.line.first = self.line.last = token
            return table.end
        if self.text.startswith("use", at) and (path := USE_PATH.match(self.text, at + 3)):
            if path.group(1)[0] in "=<~" or self.line.column:
                return None
            self.line.first = self.emit("WORD", at, at + 3, 0)
            self.line.last = self.emit("PATH", path.start(1), path.end(1))
            return self.scan(path.end())
        return None

    def scan(self, at: int) -> int:
        """Tokens from `at` to the end of the logical line; the offset behind it."""
        text, line = self.text, self.line
        open_: list[Token] = []
        match = WORDS.match
        while found := match(text, at):
            kind, start, at = found.lastgroup, found.start(), found.end()
            if kind == "space":
                continue
            if kind == "newline":
                if not open_:
                    return at
                if self.breaks_off(at):
                    return self.unclosed(open_, at)
                continue
            if kind == "comment":
                self.comment(start)
                continue
            if kind == "name":
                at = self.word(start, at)
            elif kind == "op":
                line.last = self.emit(found.group(), start, at)
                if not open_:
                    line.colon |= line.last.kind == ":"
                    line.equals |= line.last.kind == "="
            elif kind == "number":
                self.number(found.group(), start, at)
            elif kind == "open":
                if found.group() == "{" and not open_ and self.brace_block(start):
                    continue
                if len(open_) >= MAX_BRACKETS:
                    return self.too_deep(open_, start)
                line.last = self.emit(found.group(), start, at)
                open_.append(line.last)
            elif kind == "close":
                self.close(open_, found.group(), start)
            elif kind == "string":
                line.last = self.emit("STRING", start, at, self.unescape(start, at))
            elif kind == "doc":
                at = self.doc(start)
            else:
                at = self.foreign(found.group(), start, at)
            if line.first is None and self.tokens and self.tokens[-1].row == line.row:
                line.first = self.tokens[-1] if self.tokens[-1].kind[0] != "_" else None
        if open_:
            return self.unclosed(open_, len(text))
        return at

    def word(self, start: int, end: int) -> int:
        text = self.text
        raw = text[start:end]
        name = raw
        if not raw.isascii():
            if not name_start(raw[0]):
                return self.foreign(raw[0], start, start + 1)
            size = next((i for i, c in enumerate(raw) if not name_part(c)), len(raw))
            end = start + size
            name = unicodedata.normalize("NFKC", raw[:size])
            if not is_name(name):
                self.error("NDL111", f"`{raw[:size]}` is not a name", start, end)
                name = "_"
        after = end
        while text[after : after + 1] == "'":
            after += 1
        primes = after - end
        before = self.line.last
        if before is not None and before.kind == "NUMBER" and before.end == start:
            self.missing_product(before, start, end)
        kind = "WORD"
        if name in RESERVED:
            kind = name
            if before is not None and (
                before.kind == "." or (before.kind in "(,;" and self.peek(after) == "=")
            ):
                kind = "NAME"
        elif name in PREFIX_WORDS:
            kind = "WORD" if self.prefixes(after) else "NAME"
        elif before is not None and (before.kind == "." or name not in LINE_WORDS | SOFT_WORDS):
            kind = "NAME"
        self.line.last = self.emit(kind, start, after, primes, name)
        return after

    def peek(self, at: int) -> str:
        """The next character that is no blank, where `==` counts as another one than `=`."""
        while self.text[at : at + 1] == " ":
            at += 1
        return self.text[at : at + 1] if self.text[at : at + 2] != "==" else "=="

    def prefixes(self, at: int) -> bool:
        """Whether a number or a name follows, which makes `every` and `initial` words."""
        if self.text[at : at + 1] != " ":
            return False
        found = AFTER_PREFIX.match(self.text, at)
        return found is not None and (
            bool(found[1]) or found[2] not in RESERVED | {"per", "as", "wrt", "except"}
        )

    def missing_product(self, number: Token, start: int, end: int) -> None:
        name = self.text[start:end]
        self.error(
            "NDL112",
            f"a number runs into the name `{name}`",
            number.start,
            end,
            help=f"a product needs its sign: `{number.text}*{name}`",
        )
        self.emit("*", start, start, text="*")

    def number(self, raw: str, start: int, end: int) -> None:
        digits = raw.rstrip("i").replace("_", "")
        before = self.line.last
        if before is not None and before.kind == "." and before.end == start:
            self.tokens.pop()
            self.error("NDL113", "a number begins with a digit", start - 1, end, help=f"write `0.{raw}`")
        if len(digits) > MAX_DIGITS:
            self.error(
                "NDL113", f"a number of {len(digits)} digits", start, end, help="write it as `1.5e300`"
            )
            digits = "0"
        value = int(digits) if digits.isdigit() else float(digits)
        self.line.last = self.emit("NUMBER", start, end, (value, raw.endswith("i")))

    def unescape(self, start: int, end: int) -> str:
        """The value of a string; escapes are `\\"`, `\\\\`, `\\n` and `\\t`."""
        inner = self.text[start + 1 : end - 1]
        if "\\" not in inner:
            return inner
        known = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}

        def replace(found: re.Match[str]) -> str:
            if found[1] not in known:
                at = start + 1 + found.start()
                self.error(
                    "NDL114", f"`{found[0]}` is no escape", at, at + 2, help="write a backslash as `\\\\`"
                )
            return known.get(found[1], found[1])

        return re.sub(r"\\(.)", replace, inner)

    def doc(self, start: int) -> int:
        end = self.text.find('"""', start + 3)
        if end < 0:
            self.error(
                "NDL108", 'this `"""` is never closed', start, start + 3, help='end the text with `"""`'
            )
            stop = self.line_end(start)
            self.line.last = self.emit("DOC", start, stop, self.text[start + 3 : stop])
            return stop
        self.line.last = self.emit("DOC", start, end + 3, self.text[start + 3 : end].replace("\r\n", "\n"))
        return end + 3
