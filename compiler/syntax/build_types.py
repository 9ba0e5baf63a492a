"""Types and units: from the children of a production to a tree node."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ndl.compiler.source import Span
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.build_base import Base, Place, present
from ndl.compiler.syntax.tokens import Token


class Types(Base):
    """One method an action of the grammar."""

    def on_type(self, place: Place, c: list[Any]) -> t.TypeExpr:
        return closed(c[0])

    def on_map_type(self, place: Place, c: list[Any]) -> t.MapType:
        params = c[0].items if isinstance(c[0], Group) else (c[0],)
        return t.MapType(self.span(place), params, closed(c[1]))

    def on_on_type(self, place: Place, c: list[Any]) -> t.FieldType:
        return t.FieldType(self.span(place), closed(c[0]), c[1])

    def on_type_group(self, place: Place, c: list[Any]) -> Group:
        return Group(self.span(place), present(c))

    def on_type_name(self, place: Place, c: list[Any]) -> t.TypeName:
        path, dims, unit, args = c
        return t.TypeName(self.span(place), path, dims or (), unit, args or ())

    def on_type_path(self, place: Place, c: list[Any]) -> str:
        return ".".join(self.plain(word) for word in c)

    def on_dims(self, place: Place, c: list[Any]) -> tuple[t.Expr, ...]:
        return tuple(c)

    def on_unit(self, place: Place, c: list[Any]) -> t.UnitExpr:
        factors: list[tuple[str, Fraction]] = []
        sign = 1
        for part in c:
            if isinstance(part, Token):
                sign = 1 if part.text == "*" else -1
            elif part[0]:
                factors.append((part[0], sign * part[1]))
        return t.UnitExpr(self.span(place), tuple(factors))

    def on_unit_factor(self, place: Place, c: list[Any]) -> tuple[str, Fraction]:
        if c[0].kind == "NUMBER":
            if c[0].data != (1, False):
                self.error("NDL125", "a unit has no number but 1", self.at(c[0]), help="write `1/s`, `m/s^2`")
            return "", Fraction(0)
        return self.plain(c[0]), Fraction(1) if c[1] is None else c[1]

    def on_unit_power(self, place: Place, c: list[Any]) -> Fraction:
        numbers = [k for k in c if k is not None and k.kind == "NUMBER"]
        value = Fraction(1)
        for token, power in zip(numbers, (1, -1)):
            number, imaginary = token.data
            if imaginary or number in (0, float("inf")):
                self.error("NDL125", "a unit's power is a number", self.at(token))
                number = 1
            value *= Fraction(str(number)) ** power
        return -value if any(k is not None and k.kind == "-" for k in c) else value

    def on_set(self, place: Place, c: list[Any]) -> t.Expr:
        result: t.Expr = c[0]
        for factor in c[1:]:
            result = t.Binary(result.span.to(factor.span), "*", result, factor)
        return result


class Group(t.TypeExpr):
    """Types in parentheses, before it is known whether a map's arrow follows."""

    __slots__ = ("items",)
    items: tuple[t.TypeExpr, ...]

    def __init__(self, span: Span, items: tuple[t.TypeExpr, ...]) -> None:
        object.__setattr__(self, "span", span)
        object.__setattr__(self, "items", items)


def closed(type_: t.TypeExpr) -> t.TypeExpr:
    """A parenthesised type on its own: itself when single, else a tuple."""
    if isinstance(type_, Group):
        return type_.items[0] if len(type_.items) == 1 else t.TupleType(type_.span, type_.items)
    return type_
