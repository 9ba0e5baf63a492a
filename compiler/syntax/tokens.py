"""Tokens, and the words that mean something to the grammar somewhere."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any


def words(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


LINE_WORDS = words(
    """edition use const extern fn operator domain model solver solve train test net param state input
    noise term observe require calculus when on for return assert stop minimize maximize phase step
    until"""
)
"""Words with a meaning where a line begins; names elsewhere."""

RESERVED = words("if then else and or not in for by")
"""Words that are never names, except after a dot and before `=` in an argument list."""

SOFT_WORDS = words("as per wrt except order every initial")
"""Words with a meaning in one place of a line; names elsewhere."""

CONSTANTS = frozenset(["true", "false", "pi", "e", "inf", "nan"])

KEYWORDS = LINE_WORDS | RESERVED | SOFT_WORDS

BLOCK_WORDS = words("fn operator model solver solve train test when on for phase minimize maximize step")
"""Line words whose line may end in a colon and have a block."""

FILE_WORDS = words("edition use const extern fn operator domain model solver solve train test net")
"""Line words that stand at file level."""

PREFIX_WORDS = frozenset(["every", "initial"])
"""Soft words only when a number or a name follows directly."""


class Token:
    """A word of the text: `kind` is a terminal of the grammar (a literal stands for itself).

    A WORD becomes a keyword or a NAME when the parser meets it. `row` numbers logical lines;
    `data` has the value of a literal or the apostrophes of a name.
    """

    __slots__ = ("data", "end", "kind", "row", "start", "text")

    def __init__(self, kind: str, text: str, start: int, end: int, row: int, data: Any = None) -> None:
        self.kind, self.text, self.start, self.end, self.row, self.data = kind, text, start, end, row, data

    def __repr__(self) -> str:
        return f"{self.kind}:{self.text!r}"


SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"


@lru_cache(maxsize=4096)
def name_part(c: str) -> bool:
    """Whether a character may continue a name: a letter, digit (also subscript), `_`, combining mark."""
    return (
        c == "_" or unicodedata.category(c)[0] in "LM" or unicodedata.category(c) == "Nd" or c in SUBSCRIPTS
    )


def name_start(c: str) -> bool:
    """Whether a character may begin a name: a letter or `_`."""
    return c == "_" or unicodedata.category(c)[0] == "L"


def is_name(text: str) -> bool:
    """Whether a whole text is a name, apart from being reserved."""
    return bool(text) and name_start(text[0]) and all(map(name_part, text))
