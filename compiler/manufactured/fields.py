"""A model's formulas at one point: fields are expressions in the coordinates, derivatives are sympy's.

The model is elaborated as it is when it is lowered, into a graph whose nodes are read by sympy; where the
lowering puts a difference, there stands a node whose expression is the derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import UNKNOWN, DomainV, ListV, Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.weights import Weights
from ndl.compiler.manufactured.complexes import image
from ndl.compiler.manufactured.exact import TIME, coordinate
from ndl.compiler.source import Span
from ndl.compiler.symbolic.bridge import Budget, Cells, Reader
from ndl.compiler.types import Tensor, tensor

Ends = Mapping[str, tuple[Any, Any]]


def refused(what: str, span: Span, help: str | None = None) -> Exception:
    """A model that has no manufactured solution."""
    return fail("NDL449", f"no solution can be manufactured: {what}", span, help=help)


class PointReader(Reader):
    """Reads every expression whole, and knows nodes that were given theirs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, Budget(size=10**9, components=4096, total=10**9))

    def give(self, node: Node, cells: Cells) -> None:
        self._cells[node.id] = cells

    def _visit(self, node: Node) -> Cells | None:
        if not any(is_complex(n) for n in (node, *self.graph.operands(node))):
            return super()._visit(node)
        operands = [self._cells[i] for i in node.inputs]
        read = [cells for cells in operands if cells is not None]
        return image(node.op, read, dict(node.attrs)) if len(read) == len(operands) else None

    def _bounded(self, node: Node, place: tuple[int, ...], expr: Any) -> Any:
        return expr


def is_complex(node: Node) -> bool:
    return isinstance(node.type, Tensor) and node.type.kind == "C"


class PointBuilder(GraphBuilder):
    """A graph in which some nodes stand for expressions."""

    def __init__(self) -> None:
        super().__init__(Graph(), Weights())
        self.reader = PointReader(self.graph)
        self.count = 0

    def given(self, cells: Cells, span: Span) -> Value:
        """A value with these components."""
        self.count += 1
        type_ = tensor(*cells.shape, kind="C" if any(e.has(sp.I) for e in cells.flat) else "R")
        node = self.add("input", [], span, type=type_, name=f"given{self.count}")
        self.reader.give(node, cells)
        return Value(type_, node)

    def cells(self, v: Value, span: Span) -> Cells:
        """The expressions of a value."""
        found = self.reader.read(self.node(v))
        if found is None:
            raise refused("an operation here cannot be read, or a tensor is too large", span)
        return found

    def along_solution(self, elaboration: Any, value: Value) -> Any:
        """d y/dt along the solution, which is known."""
        span = self.node(value).span
        return self.given(mapped(self.cells(value, span), lambda e: sp.diff(e, TIME)), span)


def mapped(cells: Cells, f: Callable[[Any], Any]) -> Cells:
    found = np.empty(cells.shape, dtype=object)
    for place in np.ndindex(cells.shape):
        found[place] = f(cells[place])
    return found


class PointFields:
    """What derivatives of fields are: those of their expressions."""

    def __init__(
        self, ev: Evaluator, builder: PointBuilder, domains: Mapping[str, DomainV], ends: Ends
    ) -> None:
        self.ev, self.builder, self.domains, self.ends = ev, builder, domains, ends
        self.places = PointPlaces(self)
        self.space = NoAxes()
        self.normal: tuple[str, int] | None = None
        """While a condition is read: the coordinate along the normal, and whether it points up or down."""

    def coordinate(self, domain: str, name: str, span: Span) -> Value:
        cells = np.empty((), dtype=object)
        cells[()] = coordinate(name)
        return self.builder.given(cells, span)

    def points(self, domain: DomainV, names: Sequence[str], span: Span) -> dict[str, Any]:
        found = [self.coordinate(domain.name, c, span) for c in domain.coordinates]
        if len(names) == len(found):
            return dict(zip(names, found))
        return {names[0]: self.ev.value(ListV(tuple(found)), span)}

    # ------------------------------------------------------------ derivatives

    def _cells(self, v: Any, span: Span) -> Cells | None:
        found = self.ev.value(v, span)
        return None if isinstance(found, Unknown) else self.builder.cells(found, span)

    def _coordinates(self, cells: Cells, span: Span) -> tuple[str, ...]:
        """Those of the domain on which a value is a field."""
        read = {s.name for e in cells.flat for s in e.free_symbols}
        for d in self.domains.values():
            if read & set(d.coordinates):
                return d.coordinates
        if len(self.domains) == 1:
            return next(iter(self.domains.values())).coordinates
        raise refused("this is the same number everywhere, on no domain", span)

    def _made(self, cells: Any, span: Span) -> Value:
        return self.builder.given(np.asarray(cells, dtype=object), span)

    def partial(self, v: Any, letters: str, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        by = [coordinate(c) for c in letters]
        return self._made(mapped(cells, lambda e: sp.diff(e, *by)), span)

    def lap(self, v: Any, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        by = [coordinate(c) for c in self._coordinates(cells, span)]
        return self._made(mapped(cells, lambda e: sp.Add(*(sp.diff(e, x, 2) for x in by))), span)

    def grad(self, v: Any, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        by = [coordinate(c) for c in self._coordinates(cells, span)]
        return self._made(np.stack([slope(cells, x) for x in by], axis=-1), span)

    def div(self, v: Any, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        by = [coordinate(c) for c in self._coordinates(cells, span)]
        parts = [slope(np.asarray(cells[..., j], dtype=object), x) for j, x in enumerate(by)]
        return self._made(sum(parts[1:], parts[0]), span)

    def curl(self, v: Any, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        x = [coordinate(c) for c in self._coordinates(cells, span)]
        if cells.shape == ():
            return self._made([sp.diff(cells[()], x[1]), -sp.diff(cells[()], x[0])], span)

        def cross(i: int, j: int) -> Any:
            return sp.diff(cells[j], x[i]) - sp.diff(cells[i], x[j])

        return self._made(cross(0, 1) if len(x) == 2 else [cross(1, 2), cross(2, 0), cross(0, 1)], span)

    def dn(self, v: Any, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None or self.normal is None:
            return UNKNOWN
        name, sign = self.normal
        return self._made(mapped(cells, lambda e: sign * sp.diff(e, coordinate(name))), span)

    # ------------------------------------------------------------ over domains

    def integral(self, v: Any, axes: Sequence[Any], span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        return self._over(cells, self._coordinates(cells, span), span)

    def _over(self, cells: Cells, names: Sequence[str], span: Span) -> Value:
        def whole(e: Any) -> Any:
            found = sp.expand(sp.expand_trig(e)) if e.has(sp.sin, sp.cos) else sp.expand(e)
            for c in names:
                found = sp.integrate(found, (coordinate(c), *self.ends[c]))
            if found.has(sp.Integral):
                raise refused(f"`{span.text}` has no closed form", span)
            return found

        return self._made(mapped(cells, whole), span)

    def reduce(self, name: str, v: Any, domain: DomainV, span: Span) -> Any:
        cells = self._cells(v, span)
        if cells is None:
            return UNKNOWN
        if name not in ("integral", "mean"):
            raise refused(f"`{name}` over a domain has no derivative", span)
        found = self._over(cells, domain.coordinates, span)
        size = sp.Mul(*(self.ends[c][1] - self.ends[c][0] for c in domain.coordinates))
        if name == "integral":
            return found
        return self._made(mapped(self.builder.cells(found, span), lambda e: e / size), span)

    def inverse(self, map_: Callable[[Value], Any], v: Value, span: Span) -> Any:
        raise refused("it has the inverse of a map", span)


class PointPlaces:
    """Values of fields elsewhere, and reductions over sets."""

    def __init__(self, fields: PointFields) -> None:
        self.fields = fields

    def meshed(self, found: Any, span: Span) -> bool:
        return False

    def over(
        self,
        name: str,
        found: Any,
        names: Sequence[str],
        apart: bool,
        body: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        span: Span,
    ) -> Any:
        if apart or not isinstance(found, DomainV):
            raise refused(f"`{span.text}` is an integral over other points", span)
        value, cond = body(self.fields.points(found, names, span))
        if cond is not None:
            raise refused(f"`{span.text}` is over a part of a domain", span)
        return self.fields.reduce(name, value, found, span)

    def at(self, v: Value, args: Sequence[Any], span: Span) -> Any:
        raise refused(f"`{span.text}` is a field at another point", span)

    def part(self, v: Value, axis: Any, low: Any, high: Any, span: Span) -> Any:
        raise refused(f"`{span.text}` is a part of a field", span)


class NoAxes:
    """At one point no value has axes of a grid."""

    owner: Mapping[Any, Any] = {}

    def domain_of(self, axes: Any) -> None:
        return None


def slope(cells: Cells, x: Any) -> Cells:
    return mapped(cells, lambda e: sp.diff(e, x))
