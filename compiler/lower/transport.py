"""First derivatives that carry fields, found in right-hand sides: rate = rest + sum of d(flux)/dx + a dw/dx.

A flux is a function of states, without derivatives of them, whose derivative is taken times what does not
vary along its axis; otherwise the derivative is a slope, carried by its factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ndl.compiler.check.values import Axis
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.adjoint import zeros

DERIVATIVES = frozenset({"stencil", "multiplier", "chebyshev"})


@dataclass
class Carried:
    """What a value is: `rest` plus the derivatives of `fluxes` plus `slopes` (factor, of what, axis)."""

    rest: Node | None = None
    fluxes: dict[Axis, Node] = field(default_factory=dict)
    slopes: list[tuple[Node, Node, Axis]] = field(default_factory=list)

    @property
    def moves(self) -> bool:
        return bool(self.fluxes or self.slopes)


class Transport:
    """Takes values of one graph apart."""

    def __init__(
        self,
        graph: Graph,
        marked: Mapping[int, tuple[Node, Axis]],
        states: Sequence[Node],
        varies: Callable[[Node, Axis], bool],
    ) -> None:
        self.graph, self.p, self.varies = graph, Pointwise(graph), varies
        self.states = {n.id for n in states}
        self.marked = {k: v for k, v in marked.items() if self._is_flux(v[0])}
        self.live, self.asked = set(self.marked), set(self.marked)
        self.left: list[Node] = []
        """Values that hold derivatives of fluxes in another form, which stay central."""

    def _is_flux(self, node: Node) -> bool:
        nodes = self.graph.needed([node])
        moved = any(n.id in self.states for n in nodes)
        return moved and not any(n.op in DERIVATIVES for n in nodes)

    def take(self, node: Node) -> Carried:
        """A value apart."""
        for n in self.graph.needed([node]):
            self._alive(n)
        return self._take(node)

    def _take(self, node: Node) -> Carried:
        if node.id in self.marked:
            flux, axis = self.marked[node.id]
            return Carried(None, {axis: flux})
        if not self._alive(node):
            return Carried(node)
        operands = self.graph.operands(node)
        if node.op in ("add", "sub"):
            a, b = map(self._take, operands)
            return self._sum(a, self._mapped("neg", b) if node.op == "sub" else b)
        if node.op in ("mul", "div"):
            alive = [self._alive(o) for o in operands]
            if alive == [True, False]:
                return self._scaled(self._take(operands[0]), operands[1], node.op)
            if alive == [False, True] and node.op == "mul":
                return self._scaled(self._take(operands[1]), operands[0], "mul")
            return self._kept(node)
        if node.op in ("neg", "expand", "index", "slice"):
            return self._mapped(node.op, self._take(operands[0]), **dict(node.attrs))
        if node.op == "stack":
            return self._stacked([self._take(o) for o in operands], shape_of(operands[0]), node.attr("axis"))
        if node.op == "einsum" and len(operands) == 2:
            return self._contracted(node, operands)
        return self._kept(node)

    def _alive(self, node: Node) -> bool:
        """Whether a value holds a derivative of a flux; nodes that were added since are asked for."""
        if node.id not in self.asked:
            self.asked.add(node.id)
            if any(self._alive(o) for o in self.graph.operands(node)):
                self.live.add(node.id)
        return node.id in self.live

    def _kept(self, node: Node) -> Carried:
        self.left.append(node)
        return Carried(node)

    def _sum(self, a: Carried, b: Carried) -> Carried:
        rest = a.rest or b.rest if a.rest is None or b.rest is None else self.p.add(a.rest, b.rest)
        fluxes = dict(a.fluxes)
        for axis, flux in b.fluxes.items():
            fluxes[axis] = self.p.add(fluxes[axis], flux) if axis in fluxes else flux
        return Carried(rest, fluxes, a.slopes + b.slopes)

    def _mapped(self, op: str, c: Carried, **attrs: Any) -> Carried:
        """A linear operation on each part; of a product, `neg` is one of the factor."""

        def on(n: Node) -> Node:
            return self.graph.add(op, [n], **attrs)

        slopes = [(on(a), w if op == "neg" else on(w), axis) for a, w, axis in c.slopes]
        return Carried(
            None if c.rest is None else on(c.rest), {k: on(f) for k, f in c.fluxes.items()}, slopes
        )

    def _scaled(self, c: Carried, factor: Node, op: str) -> Carried:
        found = Carried(None if c.rest is None else self.p.op(op, c.rest, factor))
        for axis, flux in c.fluxes.items():
            if self._even(factor, axis):
                found.fluxes[axis] = self.p.op(op, flux, factor)
            else:
                a = factor if op == "mul" else self.p.div(self.p.number(1.0, factor), factor)
                found.slopes.append((a, flux, axis))
        found.slopes += [(self.p.op(op, a, factor), w, axis) for a, w, axis in c.slopes]
        return found

    def _even(self, factor: Node, axis: Axis) -> bool:
        """Whether a factor depends on no state and does not vary along an axis."""
        return not any(n.id in self.states or self.varies(n, axis) for n in self.graph.needed([factor]))

    def _stacked(self, parts: list[Carried], shape: Sequence[Any], axis: int) -> Carried:
        def whole(nodes: Sequence[Node | None]) -> Node:
            each = [n if n is not None else zeros(self.graph, shape) for n in nodes]
            return self.graph.add("stack", each, axis=axis)

        rests = [c.rest for c in parts]
        along = dict.fromkeys(a for c in parts for a in c.fluxes)
        fluxes = {a: whole([c.fluxes.get(a) for c in parts]) for a in along}
        slopes = []
        for k, c in enumerate(parts):
            for a, w, where in c.slopes:
                places = [[x if j == k else None for j in range(len(parts))] for x in (a, w)]
                slopes.append((whole(places[0]), whole(places[1]), where))
        return Carried(whole(rests) if any(r is not None for r in rests) else None, fluxes, slopes)

    def _contracted(self, node: Node, operands: Sequence[Node]) -> Carried:
        """`grad(v) @ a`: the sum over coordinates of a slope times a component."""
        terms, result = node.attr("equation").replace(" ", "").split("->")
        letters = terms.split(",")
        alive = [self._alive(o) for o in operands]
        if alive == [True, True]:
            return self._kept(node)
        k = alive.index(True)
        slopes, other = operands[k], operands[1 - k]
        inner, outer = letters[k], letters[1 - k]
        summed = [c for c in inner if c not in result]
        if len(summed) != 1 or inner.replace(summed[0], "") != result or summed[0] not in outer:
            return self._kept(node)
        (letter,) = summed
        rest = outer.replace(letter, "")
        places = tuple(result.find(c) for c in rest)
        if -1 in places or list(places) != sorted(places):
            return self._kept(node)
        total, at = Carried(), inner.index(letter)
        for j in range(shape_of(slopes)[at].constant or 0):
            slope = self.p.component(slopes, (j,), at)
            entry = self.graph.add("index", [other], axis=outer.index(letter), at=j)
            shape = tuple(n.constant for n in shape_of(slope))
            wide = entry if rest == result else self.graph.add("expand", [entry], shape=shape, axes=places)
            total = self._sum(total, self._scaled(self._take(slope), wide, "mul"))
        return total
