"""Functions of linear maps of numbers and vectors, `exp(t*A) @ v` for `A = linearize(M, x)`, by the matrix of
the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import Map, power_of
from ndl.compiler.check.values import Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.autodiff import jacobian
from ndl.compiler.lower.builder import value_of
from ndl.compiler.source import Span


def by_matrix(ev: Evaluator, map_: Map, v: Value, span: Span) -> Any:
    """f(A) v of a number or a vector. Raises `NDLError` (NDL471, NDL472)."""
    M = Matrices(ev, v, span).of(map_)
    return ev.matmul(M, v, span) if v.type.rank else ev.binary("*", M, v, span)


class Matrices:
    """The matrices of maps of vectors like v; of numbers what they multiply these by."""

    def __init__(self, ev: Evaluator, v: Value, span: Span) -> None:
        self.ev, self.v, self.span = ev, v, span
        self.made: dict[int, tuple[Map, Value]] = {}

    def of(self, map_: Map) -> Value:
        """As it is made of others, so that symmetric ones are seen to be."""
        if id(map_) not in self.made:
            self.made[id(map_)] = map_, self._value(self._of(map_))
        return self.made[id(map_)][1]

    def _of(self, map_: Map) -> Any:
        ev, span, one = self.ev, self.span, not self.v.type.rank
        if map_.op == "base":
            return self._leaf(map_)
        if map_.op == "matrix":
            return map_.of[0]
        if map_.op == "identity":
            return 1.0 if one else self._op("diag", [ev.spread(self._value(1.0), self.v.type.shape, span)])
        if map_.op == "*":
            return ev.binary("*", map_.of[0], self.of(map_.of[1]), span)
        if map_.op == "^":
            A = self.of(map_.of[0])
            return ev.binary("^", A, map_.of[1], span) if one else power_of(ev, A, map_.of[1], span)
        inner = [self.of(m) for m in map_.of]
        if map_.op == "exp":
            return ev.elementwise("exp", inner, span) if one else self._op("expm", inner)
        if map_.op == "T":
            return inner[0] if one else ev.op("permute", inner, span, axes=(1, 0))
        if map_.op == "@":
            return ev.binary("*", inner[0], inner[1], span) if one else ev.matmul(inner[0], inner[1], span)
        return ev.binary(map_.op, inner[0], inner[1], span)

    def _leaf(self, leaf: Map) -> Any:
        """By its derivative along each direction."""
        ev, graph = self.ev, self.ev.lowering.graph
        probe = ev.builder.op("stop_gradient", [self.v], self.span, {})
        image = self._value(leaf.on(ev, probe, self.span))
        if image.axes or image.type.shape != self.v.type.shape:
            what = f"this map gives {image.type} of {self.v.type}, and not what it takes"
            raise fail("NDL471", what, self.span)
        found = jacobian(graph, image.ref, probe.ref, ev.lowering.weights.parts)
        ev.lowering.adopt()
        return value_of(found)

    def _op(self, name: str, of: Sequence[Any]) -> Any:
        return self.ev.op(name, of, self.span)

    def _value(self, v: Any) -> Value:
        found = self.ev.value(v, self.span)
        if isinstance(found, Unknown):
            raise fail("NDL471", "this map has no matrix here", self.span)
        return found


__all__ = ["by_matrix"]
