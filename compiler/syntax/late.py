"""Constraints written after the value: `param a = 1.3 in 0..5` would be a truth value, and is never meant."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ndl.compiler.source import Span
from ndl.compiler.syntax import tree as t

BOUNDS = frozenset(["<", "<=", ">", ">=", "in"])
MISPLACED = "a constraint stands directly after the name"


@dataclass(frozen=True)
class Late:
    """A comparison in the place of a value, taken apart: `1.3 in 0..5`, `1.3 > 0`, `0 < 1.3 < 5`."""

    span: Span
    start: t.Expr
    constraint: t.Constraint
    shown: str


def late_constraint(keyword: str, item: t.DeclItem) -> Late | None:
    """The constraint of a declared item that stands too late.

    A comparison is meant where the item is declared `Bool`, and of a `const` that compares no number."""
    found = _told_apart(item.value or item.law)
    if found is None or (isinstance(item.type, t.TypeName) and item.type.name == "Bool"):
        return None
    meant = keyword == "const" and item.law is None and not _is_number(found.start)
    return None if meant else found


def instead(keyword: str, item: t.DeclItem, late: Late) -> str:
    """What to write instead of a late constraint."""
    if item.constraint is not None:
        return "one constraint bounds both sides: `in lo..hi`"
    name = item.name_span
    between = name.source.text[name.end : late.span.start]
    written = f"write `{keyword} {name.text} {late.shown}{between}{late.start.span.text}`"
    return written if keyword == "param" else f"{written}; a truth value is declared `: Bool`"


def mended(item: t.DeclItem, late: Late) -> t.DeclItem:
    """The item as it was meant."""
    drawn = item.law is not None
    value, law = (None, late.start) if drawn else (late.start, None)
    return replace(item, constraint=item.constraint or late.constraint, value=value, law=law)


def late_in_header(value: t.Expr | None) -> Late | None:
    """A number of a header that is compared."""
    found = _told_apart(value)
    return found if found is not None and _is_number(found.start) else None


def _told_apart(value: t.Expr | None) -> Late | None:
    match value:
        case t.Compare(span, (op,), (start, bound)) if op in BOUNDS:
            return Late(span, start, t.Constraint(bound.span, op, bound), f"{op} {bound.span.text}")
        case t.Compare(span, ("<" | "<=", "<" | "<="), (lo, start, hi)):
            pass
        case t.Compare(span, (">" | ">=", ">" | ">="), (hi, start, lo)):
            pass
        case _:
            return None
    both = t.Constraint(span, "in", t.Range(span, lo, hi))
    return Late(span, start, both, f"in {lo.span.text}..{hi.span.text}")


def _is_number(e: t.Expr) -> bool:
    return isinstance(e, t.Num) or (isinstance(e, t.Unary) and isinstance(e.operand, t.Num))
