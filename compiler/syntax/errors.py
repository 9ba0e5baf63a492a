"""Syntax errors in the user's words: what an unexpected token most likely means.

`unexpected` tries the guesses below in order; each is a small function that knows one mistake. The codes are
explained by `ndl explain`.
"""

from __future__ import annotations

from collections.abc import Callable

from ndl.compiler.diagnostics import Diagnostic, near
from ndl.compiler.source import Source
from ndl.compiler.syntax.declared import DECLARING, elsewhere, late_bound
from ndl.compiler.syntax.stumble import CLOSERS, Stumble, clip
from ndl.compiler.syntax.tokens import FILE_WORDS, LINE_WORDS, RESERVED, Token, words

__all__ = ["FOREIGN_WORDS", "unexpected"]

OPERANDS = frozenset(["NAME", "WORD", "NUMBER", "STRING"])
CONDITIONS = frozenset(["assert", "require", "until", "when", "return", "if"])
TWO_SIDED = words("+ - * / // @ ^ < <= > >= == != = ~ <- -> .. and or not in by then else if : ,")
FOREIGN_WORDS = {
    "def": "a function is declared with `fn`: `fn f(x) = e`",
    "function": "a function is declared with `fn`: `fn f(x) = e`",
    "func": "a function is declared with `fn`: `fn f(x) = e`",
    "lambda": "a map is written `x -> e`",
    "class": "a model is declared with `model`, a learnable map with `operator`",
    "import": "another file is used with `use path: name`",
    "from": "another file is used with `use path: name`",
    "include": "another file is used with `use path: name`",
    "let": "a definition is written `name = e`",
    "var": "a definition is written `name = e`, a changing quantity is a `state`",
    "if": "a choice is an expression: `x = if c then a else b`",
    "elif": "a choice is an expression: `if c then a else if d then b else e`",
    "else": "a choice is an expression: `x = if c then a else b`",
    "while": "there are no loops of unknown length: a solver says `until`, an event `when`",
    "print": "a derived quantity `y = e` is recorded, and `ndl run` shows it",
    "pass": "a block has at least one statement",
    "begin": "blocks are made by a colon and indentation",
    "equation": "an equation stands on a line of its own: `x' = e`",
    "parameter": "a parameter is declared with `param`",
    "variable": "an unknown is declared with `state`",
    "event": "an event is `when falling(e): x <- …`",
    "fit": "a model is fitted by a block `train Model:`",
    "simulate": "a model is run by a block `solve Model:`",
    "init": "a state's initial value stands with it: `state x = 1`",
}


Guess = Callable[[Stumble], Diagnostic | None]


def unexpected(source: Source, tokens: list[Token], at: int, expected: frozenset[str]) -> Diagnostic:
    """The diagnostic for a token that the grammar does not allow where it stands."""
    first = at
    row = tokens[at].row
    while (
        first and tokens[first - 1].row == row and tokens[first - 1].kind not in ("_INDENT", "_DEDENT", "_NL")
    ):
        first -= 1
    nested = sum((k.kind == "_INDENT") - (k.kind == "_DEDENT") for k in tokens[:first])
    here = Stumble(source, tokens[first:at], tokens[at], tokens[at + 1 : at + 3], expected, nested)
    for guess in GUESSES:
        if found := guess(here):
            return found
    return Diagnostic("NDL100", f"{here.shown} cannot stand here", here.span(), help=what_stands(expected))


def what_stands(expected: frozenset[str]) -> str | None:
    """The few things that may stand there, when they are few."""
    names = {"NAME": "a name", "NUMBER": "a number", "STRING": "a string", "_NL": "the end of the line"}
    listed = [
        names.get(e, f"`{e}`") for e in sorted(expected) if e not in ("ERROR", "_INDENT", "_DEDENT", "$END")
    ]
    if not listed or len(listed) > 5:
        return None
    return "here stands " + " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


# ---------------------------------------------------------------- guesses, the first that knows wins


def doc_string(s: Stumble) -> Diagnostic | None:
    if s.token.kind != "DOC":
        return None
    message = "a doc string stands first in a file or a block"
    if s.row:
        message = "a text in triple quotes is a doc string, not a value"
    return Diagnostic("NDL118", message, s.span(), help='elsewhere write comments, and values in single `"`')


def end_word(s: Stumble) -> Diagnostic | None:
    if s.first.text != "end" or len(s.row) > 1 or not (s.ends or not s.row):
        return None
    return Diagnostic(
        "NDL123", "`end` closes nothing here", s.span(s.first), help="blocks end with their indentation"
    )


def foreign_word(s: Stumble) -> Diagnostic | None:
    """`def f(x):`, `if x > 0:`, `elif`, …"""
    word = s.first
    begins = word.text in FOREIGN_WORDS and (len(s.row) <= 1 or word.text in RESERVED)
    before = s.before
    if begins and not (s.row and s.token.kind in ("=", ".", "(")):
        return Diagnostic(
            "NDL130", f"`{word.text}` begins no statement", s.span(word), help=FOREIGN_WORDS[word.text]
        )
    if before is not None and before.text == "lambda" and s.token.kind in OPERANDS:
        return Diagnostic(
            "NDL130", "`lambda` is only a name here", s.span(before), help=FOREIGN_WORDS["lambda"]
        )
    if s.token.kind in ("if", "else") and s.row and "NAME" not in s.expected:
        message = f"`{s.token.kind}` cannot follow a value here"
        return Diagnostic("NDL130", message, s.span(), help=FOREIGN_WORDS["else"])
    return None


def wrong_level(s: Stumble) -> Diagnostic | None:
    """A `param` at file level, a `model` inside a block."""
    word = s.first
    if len(s.row) > 1:
        return None
    if not s.nested and "model" in s.expected and not s.row:
        if word.text in LINE_WORDS:
            where = f"`{word.text}` belongs to a block, such as a model's"
            return Diagnostic("NDL133", where, s.span(word), help="indent it under a line that ends in `:`")
        known = near(word.text, FILE_WORDS) if word.kind in ("NAME", "WORD") else None
        if known and s.following and s.following[0].kind in OPERANDS:
            return misspelt(s, word, known)
        return Diagnostic(
            "NDL133",
            f"{s.shown} begins no declaration",
            s.span(word),
            help="at file level stand `const`, `fn`, `model`, `operator`, `solve`, `train`, `test`, …",
        )
    if s.nested and s.row and word.text in FILE_WORDS and s.token.kind in OPERANDS:
        message = f"`{word.text}` begins in the first column"
        return Diagnostic("NDL133", message, s.span(word), help="take it out of the block above")
    return None


def misspelt(s: Stumble, word: Token, known: str) -> Diagnostic:
    return Diagnostic(
        "NDL135", f"`{word.text}` begins no statement", s.span(word), help=f"did you mean `{known}`?"
    )


def misspelt_word(s: Stumble) -> Diagnostic | None:
    """`parm k = 1`: a name behind a name, the first close to a keyword."""
    if len(s.row) != 1 or s.first.kind not in ("NAME", "WORD") or s.token.kind not in OPERANDS:
        return None
    known = near(s.first.text, LINE_WORDS)
    return misspelt(s, s.first, known) if known and known != s.first.text else None


def equals_sign(s: Stumble) -> Diagnostic | None:
    """`=` in a condition, `==` in a definition."""
    if s.token.kind == "==" and "=" in s.expected:
        return Diagnostic(
            "NDL124", "`==` asks whether two values are equal", s.span(), help="a definition has one `=`"
        )
    conditional = s.first.text in CONDITIONS or any(k.kind in ("if", "not", "and", "or") for k in s.row)
    repeated = any(k.kind == "=" for k in s.row)
    if s.token.kind == "=" and s.row and (conditional or repeated or s.brackets()):
        if s.before and s.before.kind in TWO_SIDED:
            return None
        return Diagnostic(
            "NDL128", "`=` defines, it does not compare", s.span(), help="equality is written `a == b`"
        )
    return None


def reset_sign(s: Stumble) -> Diagnostic | None:
    if s.token.kind != "<-":
        return None
    advice = "a comparison with a negative number is `x < -1`"
    return Diagnostic("NDL122", "`<-` is the sign of a reset", s.span(), help=advice)


def reserved_name(s: Stumble) -> Diagnostic | None:
    """`param by = 2`, `step = 3` at the start of a line."""
    after = s.following[0].kind if s.following else ""
    if s.token.kind in RESERVED and "NAME" in s.expected:
        named = (s.first.text in LINE_WORDS and len(s.row) == 1) or after in ("=", "~", "'", ":")
        if named and s.token.kind not in ("if", "not"):
            message = f"`{s.token.text}` is a reserved word"
            return Diagnostic("NDL131", message, s.span(), help="choose another name")
    if len(s.row) == 1 and s.first.text in LINE_WORDS and s.token.kind in ("=", "<-", "~", ".", "["):
        message = f"`{s.first.text}` begins a statement of its own, and is no name here"
        return Diagnostic("NDL131", message, s.span(s.first), help="choose another name")
    return None


def missing_colon(s: Stumble) -> Diagnostic | None:
    if not s.ends or ":" not in s.expected or not s.before or s.before.kind in TWO_SIDED:
        return None
    if s.first.text not in LINE_WORDS or "NAME" in s.expected:
        return None
    message = f"a `{s.first.text}` line that opens a block ends in `:`"
    return Diagnostic(
        "NDL104", message, s.span(s.before), "`:` is missing after this", help="write `:` and a block"
    )


def loose_comprehension(s: Stumble) -> Diagnostic | None:
    if s.token.kind != "for" or not s.row or "NAME" in s.expected:
        return None
    if s.first.text in ("solve", "train", "test"):
        message = f"`for` has no place in the first line of a `{s.first.text}`"
        help = "write `solve M:` and below it, indented, `span = 0..10`" if s.first.text == "solve" else None
        return Diagnostic("NDL136", message, s.span(), help=help)
    message = "`for` after a value stands in square brackets"
    return Diagnostic("NDL136", message, s.span(), help="write `[e for i in S]`, or `sum(e, i in S)`")


def missing_value(s: Stumble) -> Diagnostic | None:
    """`y = 2*`, `f(a, )*`, `x' =`, `y = |x|`."""
    if s.token.kind == "|" and "NUMBER" in s.expected:
        return Diagnostic(
            "NDL100", "`|` cannot stand here", s.span(), help="a size is written `abs(x)`, `norm(x)`"
        )
    if "NAME" not in s.expected or not s.before or s.token.kind in OPERANDS:
        return None
    word = s.before.text if s.before.text in LINE_WORDS and len(s.row) == 1 else s.before.kind
    if "NUMBER" in s.expected:
        what = "a value is missing"
    elif s.token.kind in RESERVED:
        return Diagnostic(
            "NDL131", f"`{s.token.text}` is a reserved word", s.span(), help="choose another name"
        )
    else:
        what = "a name is missing"
    shown = s.before.text or word
    at = s.span(s.before) if s.ends else s.span()
    return Diagnostic("NDL132", f"{what} after `{clip(s.before) or shown}`", at)


def two_values(s: Stumble) -> Diagnostic | None:
    before = s.before
    if before is None or s.token.kind not in OPERANDS | {"(", "[", "{"}:
        return None
    if before.kind not in OPERANDS | CLOSERS or "NAME" in s.expected or "*" not in s.expected:
        return None
    pair = f"`{clip(before)}` and {s.shown}"
    if s.first.text == "when" and before.kind == ")" and not s.brackets():
        return Diagnostic(
            "NDL104", "the condition of a `when` ends in `:`", s.span(before), help="write `:` after it"
        )
    advice = "separate items by a comma, factors by `*`" if s.brackets() else "a product is written `a*b`"
    if before.kind == "NUMBER" and s.first.text in DECLARING and not s.brackets():
        advice = f"a unit stands in the type: `{s.first.text} {clip(s.row[1])}: R{{m/s}} = {clip(before)}`"
    elif s.token.text == "to":
        advice = f"an interval is written `a..b`: `{clip(before)}..…`"
    return Diagnostic("NDL134", f"a sign is missing between {pair}", s.span(before).to(s.span()), help=advice)


def lone_sign(s: Stumble) -> Diagnostic | None:
    """Signs that stand only in a few places."""
    places = {
        "|": "`|` stands in `{ x | condition }` and in tableaux",
        ";": "`;` stands between the data and the options of a header; a line has one statement",
        "~": "`name ~ law` draws a random value for one name",
        "->": "`x -> e` is a map, `R[n] -> R[m]` its type",
        "{": "braces hold units, `{Rod: grid}` and `{ x | condition }`; a block follows a colon",
        "..": "an interval is `a..b`",
        "TABLEAU": "a tableau stands in a solver",
    }
    advice = places.get(s.token.kind)
    return Diagnostic("NDL100", f"{s.shown} cannot stand here", s.span(), help=advice) if advice else None


GUESSES: tuple[Guess, ...] = (
    doc_string,
    end_word,
    foreign_word,
    wrong_level,
    misspelt_word,
    elsewhere,
    equals_sign,
    late_bound,
    reset_sign,
    reserved_name,
    missing_colon,
    loose_comprehension,
    missing_value,
    two_values,
    lone_sign,
)
