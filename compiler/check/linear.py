"""Diagonal linear maps that are never formed: `identity`, the mass matrix of a solver's step."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.values import UNKNOWN, Object, Unknown, Value


class Diagonal(Object):
    """`scale * identity`, or the matrix with a vector on its diagonal."""

    kind = "diagonal map"

    def __init__(self, entries: Any) -> None:
        self.entries = entries  # a scalar or a vector, known or a Value

    def apply_to(self, ev: Any, right: Any, span: Any) -> Any:
        """`D @ v`, and `D @ M` row by row."""
        if isinstance(right, Unknown) or isinstance(self.entries, Unknown):
            return UNKNOWN
        v = ev.value(right, span)
        if (
            isinstance(self.entries, Value)
            and self.entries.type.rank
            and isinstance(v, Value)
            and v.type.rank == 2
        ):
            return ev.op("einsum", [self.entries, v], span, equation="a,ab->ab")
        return ev.binary("*", self.entries, v, span)

    def solve_to(self, ev: Any, right: Any, span: Any) -> Any:
        """`D^-1 @ v`."""
        return ev.binary("/", right, self.entries, span)

    def attribute(self, ev: Any, name: str, primes: int, span: Any) -> Any:
        return self if name == "T" else super().attribute(ev, name, primes, span)

    def arithmetic(self, ev: Any, op: str, other: Any, span: Any, left: bool) -> Any:
        """`D op other` (`left`) or `other op D`."""
        if isinstance(other, Unknown):
            return UNKNOWN
        if op in ("*", "/") and not isinstance(other, Diagonal):
            if op == "/" and not left:
                return ev.error("NDL317", "a matrix cannot divide", span, help="write `A^-1 @ b`")
            return Diagonal(ev.binary(op, self.entries, other, span))
        if op in ("+", "-"):
            if hasattr(other, "arithmetic") and not isinstance(other, Diagonal):
                return other.arithmetic(ev, op, self, span, not left)
            if isinstance(other, Diagonal):
                a, b = (self.entries, other.entries) if left else (other.entries, self.entries)
                return Diagonal(ev.binary(op, a, b, span))
            matrix = ev.value(other, span)
            if isinstance(matrix, Unknown):
                return UNKNOWN
            dense = self.dense(ev, matrix, span)
            return ev.binary(op, dense, matrix, span) if left else ev.binary(op, matrix, dense, span)
        return ev.error("NDL317", f"`{op}` has no meaning for a linear map", span)

    def dense(self, ev: Any, like: Value, span: Any) -> Any:
        """The matrix, of the shape of another one."""
        if like.type.rank != 2:
            return ev.error("NDL317", f"a linear map and {like.type} cannot be added", span)
        entries = ev.value(self.entries, span)
        if isinstance(entries, Unknown):
            return UNKNOWN
        if entries.type.rank == 0:
            entries = ev.spread(entries, like.type.shape[:1], span)
        return ev.op("diag", [entries], span)
