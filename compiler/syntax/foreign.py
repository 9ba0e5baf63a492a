"""Signs of other languages and of typography: reported, and read as what was meant."""

from __future__ import annotations

import re

from ndl.compiler.syntax.reader import Reader

INSTEAD = {  # what people of other languages type → what it is read as, the message, the help
    "**": ("^", "`**` is not an operator", "a power is written `x^2`"),
    ":=": ("=", "`:=` is not an operator", "a definition is written `x = e`, a reset `x <- e`"),
    "&&": ("and", "`&&` is not an operator", "write `a and b`"),
    "&": ("and", "`&` is not an operator", "write `a and b`"),
    "||": ("or", "`||` is not an operator", "write `a or b`"),
    "!": ("not", "`!` is not an operator", "write `not a`"),
    "===": ("==", "`===` is not an operator", "equality is written `a == b`"),
    "=>": ("->", "`=>` is not an operator", "a map is written `x -> e`, at least `>=`"),
    "...": ("..", "`...` is not an operator", "an interval is written `a..b`"),
    "+=": ("=", "`+=` is not an operator", "a reset says the new value in full: `x <- x + e`"),
    "-=": ("=", "`-=` is not an operator", "a reset says the new value in full: `x <- x - e`"),
    "*=": ("=", "`*=` is not an operator", "a reset says the new value in full: `x <- x*e`"),
    "/=": ("=", "`/=` is not an operator", "a reset says the new value in full: `x <- x/e`"),
    "%": ("*", "`%` is not an operator", "a remainder is written `mod(a, b)`, a comment begins with `#`"),
    "×": ("*", "`×` is not an operator", "a product is written `a*b`"),
    "·": ("*", "`·` is not an operator", "a product is written `a*b`"),
    "−": ("-", "`−` is a typographic minus", "write the ASCII `-`"),
    "–": ("-", "`–` is a typographic dash", "write the ASCII `-`"),
    "÷": ("/", "`÷` is not an operator", "a quotient is written `a/b`"),
    "≤": ("<=", "`≤` is not an operator", "write `<=`"),
    "≥": (">=", "`≥` is not an operator", "write `>=`"),
    "≠": ("!=", "`≠` is not an operator", "write `!=`"),
    "→": ("->", "`→` is not an operator", "write `->`"),
    "∈": ("in", "`∈` is not an operator", "write `in`"),
}
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
QUOTED = re.compile(r"'([^'\n]*)'")


class Foreign(Reader):
    """Reads the characters that no token of NDL begins with."""

    def foreign(self, raw: str, start: int, end: int) -> int:
        """Report characters that no token begins with, and read them as what was meant."""
        if raw == "\t":
            self.tabs.append(start)
            return end
        if raw in INSTEAD:
            meant, message, advice = INSTEAD[raw]
            code = "NDL110" if raw.isascii() else "NDL111"
            self.error(code, message, start, end, help=advice)
            self.line.last = self.emit(meant, start, end, text=meant)
            return end
        if raw == "'":
            return self.apostrophe(start)
        if raw == '"':
            stop = self.line_end(start)
            self.error(
                "NDL108", "this string is never closed", start, stop, help='end it with `"` on the same line'
            )
            value = self.text[start + 1 : stop]
            self.line.last = self.emit("STRING", start, stop, value)
            return stop
        if raw in SUPERSCRIPTS:
            digit = SUPERSCRIPTS.index(raw)
            self.error(
                "NDL111", f"`{raw}` is not an operator", start, end, help=f"a power is written `x^{digit}`"
            )
            self.emit("^", start, start, text="^")
            self.line.last = self.emit("NUMBER", start, end, (digit, False), str(digit))
            return end
        if raw == "\\":
            advice = "a line goes on inside brackets, without a sign"
        elif raw in "“”„‘’«»":
            advice = 'strings stand in straight double quotes: `"text"`'
        elif raw == "√":
            advice = "a root is written `sqrt(x)`"
        elif raw == ";":
            advice = "a line has one statement"
        else:
            advice = "remove it"
        shown = raw if raw.isprintable() and not raw.isspace() else f"U+{ord(raw):04X}"
        self.error("NDL111", f"unexpected character `{shown}`", start, end, help=advice)
        return end

    def apostrophe(self, start: int) -> int:
        before = self.line.last
        if before is not None and before.end == start and before.kind in (")", "]", "NUMBER", "STRING"):
            end = start
            while self.text[end : end + 1] == "'":
                end += 1
            self.error(
                "NDL115",
                "an apostrophe belongs to a name",
                start,
                end,
                help="name the expression and derive the name: `y = …`, then `y'`; or write `diff(e, t)`",
            )
            return end
        found = QUOTED.match(self.text, start)
        if found is None:
            self.error(
                "NDL115",
                "an apostrophe belongs to a name",
                start,
                start + 1,
                help="write `x'` without a blank",
            )
            return start + 1
        self.error(
            "NDL114",
            "strings stand in double quotes",
            start,
            found.end(),
            help=f'write `"{found[1]}"`: the apostrophe is the time derivative',
        )
        self.line.last = self.emit("STRING", start, found.end(), found[1])
        return found.end()
