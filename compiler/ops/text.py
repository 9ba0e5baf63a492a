"""Python expression texts that know how tightly they bind, so that few parentheses are printed."""

from __future__ import annotations

import re
from collections.abc import Sequence

OR, AND, NOT, COMPARE, BIT_OR, BIT_AND, SUM, PRODUCT, NEGATIVE, POWER, ATOM = range(11)


class Text(str):
    """An expression with the level of its outermost operator; a plain `str` counts as an atom."""

    level: int

    def __new__(cls, text: str, level: int = ATOM) -> Text:
        self = super().__new__(cls, text)
        self.level = level
        return self


def level(text: str) -> int:
    return text.level if isinstance(text, Text) else ATOM


def at(text: str, least: int) -> str:
    """The text, in parentheses when it binds more loosely than `least`."""
    return str(text) if level(text) >= least else f"({text})"


def infix(symbol: str, left: str, right: str, binds: int) -> Text:
    """`left symbol right`, associating to the left. Products hug: `a*b`, sums breathe: `a + b`."""
    gap = "" if binds >= PRODUCT else " "
    return Text(f"{at(left, binds)}{gap}{symbol}{gap}{at(right, binds + 1)}", binds)


def power(base: str, exponent: str) -> Text:
    """`base**exponent`, which binds tighter on its left than a minus sign."""
    return Text(f"{at(base, ATOM)}**{at(exponent, NEGATIVE)}", POWER)


def prefix(symbol: str, operand: str, binds: int = NEGATIVE) -> Text:
    return Text(f"{symbol}{at(operand, binds)}", binds)


def call(function: str, *arguments: str) -> Text:
    return Text(f"{function}({', '.join(arguments)})")


def method(operand: str, rest: str) -> Text:
    """`operand.rest` or `operand[rest]`, `rest` starting with its dot or bracket."""
    return Text(at(operand, ATOM) + rest)


def items(values: Sequence[str]) -> str:
    """A tuple's text."""
    return f"({', '.join(values)}{',' if len(values) == 1 else ''})"


NUMBER = re.compile(r"[0-9][0-9_]*(\.[0-9]*)?(e[+-]?[0-9]+)?j?")


def is_number(text: str) -> bool:
    """Is it a Python literal rather than a tensor? Some torch functions take only tensors."""
    stripped = text.strip("()-")
    return NUMBER.fullmatch(stripped) is not None or stripped in ("True", "False", "math.inf", "math.nan")
