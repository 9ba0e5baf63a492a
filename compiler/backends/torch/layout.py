"""Breaking long lines of generated code: at the commas of the outermost brackets, or before the
loosest operators. A line of which nothing can be broken stays long."""

from __future__ import annotations

import re
from itertools import pairwise

WIDTH = 100
OPENING, CLOSING = "([{", ")]}"


def broken(line: str) -> list[str]:
    """A line of code, over several lines when it is too long."""
    if len(line) <= WIDTH:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    head, text = split_head(line.strip())
    if text.endswith(":") or text.startswith(("class ", "@", '"', "#")):
        return [line]
    return [indent + found for found in layout(head, text, "", len(indent))]


def split_head(text: str) -> tuple[str, str]:
    """`return ` or `name = ` in front of an expression."""
    found = re.match(r"(return |[\w, ]+ = )(?=\S)", text)
    return (found.group(1), text[found.end() :]) if found else ("", text)


def layout(head: str, text: str, tail: str, indent: int) -> list[str]:
    """`head` + expression + `tail` within the width, broken as little as possible."""
    if indent + len(head) + len(text) + len(tail) <= WIDTH:
        return [head + text + tail]
    commas = pieces(text, ", ")
    if len(commas) > 1 and not head.endswith(("(", "[", "{")):
        return within(head + "(", ")" + tail, text, indent)
    start = outermost(text)
    if start is not None:
        return within(head + text[: start + 1], text[-1] + tail, text[start + 1 : -1], indent)
    terms = operators(text)
    if len(terms) > 1:
        lines = [terms[0], *terms[1:]]
        return [f"{head}(", *(f"    {line}" for line in lines), ")" + tail]
    return [head + text + tail]


def within(opening: str, closing: str, inside: str, indent: int) -> list[str]:
    """What stands in brackets, on a line of its own or an entry on each line."""
    entries = pieces(inside, ", ")
    if len(entries) == 1 and indent + 4 + len(inside) <= WIDTH:
        return [opening, f"    {inside}", closing]
    lines = []
    for entry in entries:
        comma = "," if len(entries) > 1 or inside.endswith(",") else ""
        key = re.match(r'"[^"]*": ', entry)  # of a dictionary
        head = key[0] if key else ""
        lines += [f"    {line}" for line in layout(head, entry[len(head) :].rstrip(","), comma, indent + 4)]
    return [opening, *lines, closing]


def depths(text: str) -> list[int]:
    """Bracket depth at each character, those within strings counted as deep."""
    found, depth, quote = [], 0, ""
    for i, c in enumerate(text):
        if quote:
            found.append(depth + 1)
            quote = "" if c == quote and text[i - 1] != "\\" else quote
            continue
        if c in "\"'":
            quote = c
            found.append(depth + 1)
            continue
        depth -= c in CLOSING
        found.append(depth)
        depth += c in OPENING
    return found


def pieces(text: str, separator: str) -> list[str]:
    """The text cut at a separator outside of brackets."""
    level = depths(text)
    found, start = [], 0
    for i in range(len(text) - len(separator) + 1):
        if level[i] == 0 and text.startswith(separator, i):
            found.append(text[start:i])
            start = i + len(separator)
    return [*found, text[start:]]


def outermost(text: str) -> int | None:
    """Where the bracket opens that the text ends with, if the text is one call, list or tuple."""
    if not text or text[-1] not in CLOSING:
        return None
    level = depths(text)
    start = max((i for i, c in enumerate(text[:-1]) if level[i] == 0 and c in OPENING), default=None)
    if start is None or (operators(text[:start]) if start else [""])[1:]:
        return None
    return start if re.fullmatch(r"[\w.]*", text[:start]) else None


def operators(text: str) -> list[str]:
    """The terms of a sum, or of a comparison or logical operation, each with the operator before it."""
    level = depths(text)
    for symbols in ((" | ",), (" & ",), (" < ", " <= ", " > ", " >= ", " == ", " != "), (" + ", " - ")):
        cuts = [i for i in range(len(text)) if level[i] == 0 and text.startswith(symbols, i)]
        if cuts:
            bounds = [0, *cuts, len(text)]
            return [text[a:b].strip() for a, b in pairwise(bounds)]
    return [text]
