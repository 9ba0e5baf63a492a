"""Arithmetic on nodes of one graph that have the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ops.adjoint import number, plain
from ndl.compiler.ops.adjoint import shape as shape_of


class Pointwise:
    """Formulas at each point of a grid, as nodes of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def op(self, name: str, *operands: Node) -> Node:
        return self.graph.add(name, list(operands))

    def number(self, value: float, like: Node) -> Node:
        return number(self.graph, value, like)

    def add(self, *terms: Node) -> Node:
        total = terms[0]
        for term in terms[1:]:
            total = self.op("add", total, term)
        return total

    def sub(self, a: Node, b: Node) -> Node:
        return self.op("sub", a, b)

    def mul(self, a: Node, b: Node) -> Node:
        return self.op("mul", a, b)

    def div(self, a: Node, b: Node) -> Node:
        return self.op("div", a, b)

    def times(self, factor: float, a: Node) -> Node:
        return a if factor == 1.0 else self.mul(self.number(factor, a), a)

    def weighted(self, weights: Sequence[float], terms: Sequence[Node]) -> Node:
        return self.add(*(self.times(w, t) for w, t in zip(weights, terms) if w))

    def square(self, a: Node) -> Node:
        return self.mul(a, a)

    def most(self, *values: Node) -> Node:
        """The largest at each point."""
        found = values[0]
        for v in values[1:]:
            found = self.op("maximum", found, v)
        return found

    def least(self, *values: Node) -> Node:
        found = values[0]
        for v in values[1:]:
            found = self.op("minimum", found, v)
        return found

    def positive(self, a: Node) -> Node:
        return self.most(a, self.number(0.0, a))

    def negative(self, a: Node) -> Node:
        return self.least(a, self.number(0.0, a))

    def wide(self, a: Node, like: Node) -> Node:
        """A value at each point repeated for the components of another."""
        shape, rank = shape_of(like), len(shape_of(a))
        if rank == len(shape):
            return a
        return self.graph.add("expand", [a], shape=tuple(map(plain, shape)), axes=tuple(range(rank)))

    def component(self, a: Node, index: Sequence[int], grids: int) -> Node:
        """An entry of a value at each point; of a list, what stands there."""
        for at in index:
            a = self._entry(a, grids, at)
        return a

    def _entry(self, a: Node, axis: int, at: int) -> Node:
        operands = self.graph.operands(a)
        if a.op == "stack" and a.attr("axis") % len(shape_of(a)) == axis:
            return operands[at]
        if a.op in ("neg", "add", "sub"):
            return self.graph.add(a.op, [self._entry(o, axis, at) for o in operands])
        return self.graph.add("index", [a], axis=axis, at=at)

    def replaced(self, node: Node, image: dict[int, Node], kept: Mapping[int, bool]) -> Node:
        """A copy of what a node computes, in which `image` stands for some of its sources; nodes that
        `kept` marks stay as they are. `image` is filled in."""
        for n in self.graph.needed([node]):
            if n.id in image:
                continue
            inputs = self.graph.operands(n)
            if kept.get(n.id) or all(image[i.id] is i for i in inputs):
                image[n.id] = n
                continue
            moved = [image[i.id] for i in inputs]
            image[n.id] = self.graph.add(n.op, moved, type=n.type, span=n.span, **dict(n.attrs))
        return image[node.id]
