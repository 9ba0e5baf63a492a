"""What limits explicit steps besides waves: derivatives of second and higher order.

A difference of degree d with weights w_k/h^d multiplies no wave by more than sum |w_k|/h^d. For even d, as in
diffusion, a step of forward Euler bears half of that, 2 nu/h^2 for the usual three points. The factor before
a derivative of a state is taken from the rate at each point, through formulas of the state and derivatives
of derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, prod
from typing import TYPE_CHECKING

from ndl.compiler.check.values import Axis
from ndl.compiler.ir.autodiff import pushforward
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.transport import DERIVATIVES
from ndl.compiler.ops.adjoint import shape as shape_of

if TYPE_CHECKING:
    from ndl.compiler.lower.models import Slot
    from ndl.compiler.lower.schemes import Schemes

DEEPEST = 4
"""Derivatives of derivatives that are followed."""


@dataclass(frozen=True)
class Term:
    """A share `factor * bound` of a rate's derivative by an entry of a state, through derivatives of a total
    degree along an axis. A factor that is None is 1."""

    state: tuple[int, tuple[int, ...]]
    axis: Axis | None = None
    degree: int = 0
    bound: float = 1.0
    factor: Node | None = None


class Diffusive:
    """The terms of second and higher degree in the rates of fields with schemes."""

    def __init__(self, schemes: Schemes) -> None:
        self.schemes, self.p = schemes, schemes.p
        self.states = {n.id for n in schemes.inputs.values()}

    def paces(self, slot: Slot, rest: Node) -> Iterator[tuple[Axis, Node]]:
        """Reciprocals of steps at each point, by the axes along which derivatives limit them."""
        grids = len(slot.axes)
        rows: dict[Axis, list[Node]] = {}
        for index in entries(rest, grids):
            sums: dict[tuple[tuple[int, tuple[int, ...]], Axis, int], Node] = {}
            row = self.p.component(rest, index, grids)
            for t in self._terms(row, slot, Term((0, ())), 0):
                if t.axis is None or t.degree < 2 or t.factor is None:
                    continue
                key, share = (t.state, t.axis, t.degree), self.p.times(t.bound, t.factor)
                sums[key] = self.p.add(sums[key], share) if key in sums else share
            for axis in dict.fromkeys(a for _, a, _ in sums):
                sizes = [
                    self.p.times(0.5 if degree % 2 == 0 else 1.0, self.p.op("abs", total))
                    for (_, a, degree), total in sums.items()
                    if a is axis
                ]
                rows.setdefault(axis, []).append(self.p.add(*sizes))
        for axis, found in rows.items():
            yield axis, self.p.most(*found)

    def present(self, rest: Node) -> bool:
        """Whether there may be such terms."""
        nodes = [n for n in self.p.graph.needed([rest]) if n.op in DERIVATIVES]
        return len(nodes) > 1 or any(_degree(n) > 1 for n in nodes)

    def _terms(self, row: Node, slot: Slot, so_far: Term, depth: int) -> Iterator[Term]:
        """The terms of a number at each point, times what has been found so far."""
        if depth > DEEPEST:
            return
        graph, grids = self.p.graph, len(slot.axes)
        leaves = self._leaves(row)
        none: dict[int, Node | None] = {n.id: None for n in leaves}
        for leaf in leaves:
            if leaf.id in self.states and not so_far.degree:
                continue
            if shape_of(leaf)[:grids] != shape_of(row):
                continue
            for index in entries(leaf, grids):
                seeds = none | {leaf.id: unit(self.p, leaf, index, grids)}
                slope = leaf if row is leaf else pushforward(graph, row, seeds, ())  # type: ignore[arg-type]
                if slope is None:
                    continue
                factor = None if row is leaf else slope
                if factor is not None and so_far.factor is not None:
                    factor = self.p.mul(so_far.factor, factor)
                factor = so_far.factor if factor is None else factor
                if leaf.id in self.states:
                    yield Term((leaf.id, index), so_far.axis, so_far.degree, so_far.bound, factor)
                    continue
                axis, degree, bound = self._derivative(leaf, slot, grids)
                (inner,) = graph.operands(leaf)
                deeper = Term(
                    (0, ()), so_far.axis or axis, so_far.degree + degree, so_far.bound * bound,
                    self.p.number(1.0, row) if factor is None else factor,
                )  # fmt: skip
                yield from self._terms(self.p.component(inner, index, grids), slot, deeper, depth + 1)

    def _leaves(self, row: Node) -> list[Node]:
        """The states and the derivatives that a value reads, not what these are of."""
        found, seen, waiting = [], set(), [row]
        while waiting:
            node = waiting.pop()
            if node.id in seen:
                continue
            seen.add(node.id)
            if node.id in self.states or (node.op in DERIVATIVES and len(node.inputs) == 1):
                found.append(node)
            else:
                waiting += self.p.graph.operands(node)
        return sorted(found, key=lambda n: n.id)

    def _derivative(self, node: Node, slot: Slot, grids: int) -> tuple[Axis | None, int, float]:
        """Along which axis a derivative is, its degree and what it multiplies waves by at most."""
        if node.op == "stencil":
            axis = slot.axes[node.attr("axis")]
            return axis, _degree(node), abs(node.attr("scale")) * sum(map(abs, node.attr("center")))
        if node.op == "multiplier":
            extents = [shape_of(node)[a].constant or 0 for a in node.attr("axes")]
            highest = [pi * n / length for n, length in zip(extents, node.attr("lengths"))]
            bound = sum(abs(c) * prod(k**d for k, d in zip(highest, ds)) for c, ds in node.attr("terms"))
            return slot.axes[node.attr("axes")[0]], _degree(node), float(bound)
        return None, 0, 1.0


def _degree(node: Node) -> int:
    """How many derivatives an op takes: the first moment of its weights that is not 0."""
    if node.op == "stencil":
        weights, offset = node.attr("center"), node.attr("offset")
        size = sum(map(abs, weights))
        for degree in range(len(weights)):
            terms = [w * (k + offset) ** degree for k, w in enumerate(weights)]
            if abs(sum(terms)) > 1e-9 * max(size, sum(map(abs, terms))):
                return degree
        return 0
    return max((sum(d) for _, d in node.attr("terms")), default=0) if node.op == "multiplier" else 2


def entries(node: Node, grids: int) -> list[tuple[int, ...]]:
    """The indices of the components of a field."""
    found: list[tuple[int, ...]] = [()]
    for n in shape_of(node)[grids:]:
        found = [(*i, j) for i in found for j in range(n.constant or 0)]
    return found


def unit(p: Pointwise, like: Node, index: tuple[int, ...], grids: int) -> Node:
    """1 in a component of a field at each point, 0 in the others."""
    if not index:
        return p.number(1.0, like)
    shape = tuple(n.constant or 0 for n in shape_of(like))
    inner, at = shape[grids:], 0
    for n, i in zip(inner, index):
        at = at * n + i
    flat = p.graph.add("const", value=tuple(float(j == at) for j in range(prod(inner))))
    if len(inner) > 1:
        flat = p.graph.add("reshape", [flat], shape=inner)
    return p.graph.add("expand", [flat], shape=shape, axes=tuple(range(grids, len(shape))))


__all__ = ["Diffusive", "entries", "unit"]
