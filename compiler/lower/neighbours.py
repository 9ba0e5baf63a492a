"""What stands k places further along an axis, beyond its ends by the conditions there.

Around a ring it is the value there. Beyond an end with a value other than 0, an inflow, stands that value
where the end lies between points, and where it is a point the mirror image through it, 2 u0 - u; beyond one
with the value 0 the mirror image with the other sign, a wall; with a slope the mirror image and what the
slope adds; with no condition the last value, an outflow. A formula there is the formula of the states there;
coordinates and coefficients keep their values at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.boundaries import SLOPE, VALUE, Condition
from ndl.compiler.check.values import Axis, is_number
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields
    from ndl.compiler.lower.models import Slot

REDUCTIONS = ("sum", "mean", "amax", "amin", "einsum", "matmul", "prod")


class Neighbours:
    """The neighbours along one axis of a grid; `leaves` are states and sources that vary along it, with the
    place of the axis in each."""

    def __init__(
        self,
        fields: Fields,
        axis: Axis,
        leaves: dict[int, int],
        slots: dict[int, Slot],
        extents: tuple[int, ...],
    ) -> None:
        self.fields, self.axis, self.leaves, self.slots = fields, axis, leaves, slots
        self.p = Pointwise(fields.ev.lowering.graph)
        self.grid, self.extents = fields.space.grid_axis(axis), extents
        self.images: dict[int, dict[int, Node]] = {}
        self.moved: dict[tuple[int, int], Node] = {}

    def at(self, node: Node, place: int, k: int) -> Node:
        """The value k places further, `place` that of the axis in it."""
        if k == 0:
            return node
        if self.grid.periodic:
            key = (node.id, k)
            if key not in self.moved:
                self.moved[key] = self._stencil(node, place, k, (), ())
            return self.moved[key]
        return self.replaced(node, self._image(k))

    def replaced(self, node: Node, image: dict[int, Node]) -> Node:
        """A formula of other states; what is one number for the whole field stays."""
        graph, count = self.p.graph, len(self.extents)
        kept = {}
        for n in graph.needed([node]):
            if n.op in REDUCTIONS:
                wide = any(_starts(o, self.extents) for o in graph.operands(n))
                kept[n.id] = wide and not _starts(n, self.extents) and count > 0
        return self.p.replaced(node, image, kept)

    def _image(self, k: int) -> dict[int, Node]:
        if k not in self.images:
            graph = self.p.graph
            self.images[k] = {i: self._leaf(graph[i], place, k) for i, place in self.leaves.items()}
        return self.images[k]

    def image(self, k: int, states: dict[int, Node]) -> dict[int, Node]:
        """Replacements for formulas k places further, of these states there."""
        found = dict(states)
        for i, place in self.leaves.items():
            if i not in found and k:
                found[i] = self.at(self.p.graph[i], place, k)
        return found

    def _leaf(self, node: Node, place: int, k: int) -> Node:
        slot = self.slots.get(node.id)
        if slot is None:
            return self._beyond(node, place, k, None)
        return self._beyond(node, place, k, Subject(slot.frame.prefix, slot.name))

    def _beyond(self, node: Node, place: int, k: int, s: Subject | None) -> Node:
        """A state, or a component of one, k places further."""
        conditions, rank = self.fields.conditions, len(self.extents)
        ends: tuple[Condition | None, Condition | None] = (None, None)
        if s is not None:
            if conditions.apart(s.prefix, s.name, self.axis, s.component):
                graph, count = self.p.graph, shape_of(node)[rank].constant or 0
                parts = [graph.add("index", [node], axis=rank, at=j) for j in range(count)]
                moved = [self._beyond(part, place, k, s.at(j)) for j, part in enumerate(parts)]
                return graph.add("stack", moved, axis=rank)
            ends = conditions.at_ends(s.prefix, s.name, self.axis, s.component)
        end = ends[0 if k < 0 else 1]
        n, kind = abs(k), self._kind(end, s)
        # row j is that of the point j places from the end; its neighbour stands n - j places beyond
        rows = [self._row(kind, n - j) for j in range(n)]
        width = max(map(len, rows))
        rows = [r + [0.0] * (width - len(r)) for r in rows]
        low = tuple(map(tuple, rows)) if k < 0 else ()
        high = tuple(tuple(reversed(r)) for r in reversed(rows)) if k > 0 else ()
        found = self._stencil(node, place, k, low, high)
        known = kind == "slope" or (kind == "inflow" and self.grid.cells)
        if s is None or end is None or not known:
            return found
        weights = tuple(self._share(kind, n - j, k > 0) for j in range(n))
        return self._with(found, end, s, place, weights, "low" if k < 0 else "high")

    def _kind(self, end: Condition | None, s: Subject | None) -> str:
        if end is None or s is None:
            return "outflow"
        if end.kind == SLOPE:
            return "slope"
        datum = self.fields.conditions.data(end, s.prefix, 0, s.component)
        return "wall" if is_number(datum) and datum == 0 else "inflow"

    def _row(self, kind: str, beyond: int) -> list[float]:
        """The weights of the points from the end on that give what stands so many places beyond it."""
        mirror = beyond - 1 if self.grid.cells else beyond
        if kind == "inflow" and self.grid.cells:
            return [0.0]
        if kind == "inflow":
            return [2.0] + [0.0] * (mirror - 1) + [-1.0]
        if kind == "outflow":
            return [1.0]
        return [0.0] * mirror + [1.0 if kind == "slope" else -1.0]

    def _share(self, kind: str, beyond: int, upper: bool) -> float:
        """The weight of what is known at the end."""
        if kind == "inflow":
            return 1.0
        gap = (2 * beyond - 1 if self.grid.cells else 2 * beyond) * self.grid.step
        return gap if upper else -gap

    def _stencil(
        self,
        node: Node,
        place: int,
        offset: int,
        low: Any,
        high: Any,
        center: tuple[float, ...] = (1.0,),
        scale: float = 1.0,
    ) -> Node:
        attrs: dict[str, Any] = {"axis": place, "offset": offset, "center": center, "scale": scale}
        ring = self.grid.periodic
        return self.p.graph.add(
            "stencil", [node], low=low, high=high, periodic=ring, transposed=False, **attrs
        )

    def _with(
        self, found: Node, end: Condition, s: Subject, place: int, weights: tuple[float, ...], side: str
    ) -> Node:
        conditions, span = self.fields.conditions, Span()
        datum = conditions.data(end, s.prefix, 0, s.component)
        if is_number(datum) and datum == 0:
            return found
        axes = self.fields.space.axes[self.fields.space.owner[self.axis][0]]
        rest = tuple(a for a in axes if a is not self.axis)
        assert isinstance(found.type, Tensor)
        like = replace(found.type, shape=found.type.shape[len(axes) :])
        flat = conditions.shaped(datum, rest, like, span)
        attrs = {"axis": place, "n": self.grid.n, "side": side, "weights": weights, "scale": 1.0}
        share = self.fields.op("lift", flat, span, **attrs)
        return self.p.add(found, share.ref)

    def difference(self, upper: Callable[[int], Node], place: int) -> Node:
        """What leaves each point through its faces, per length; upper(k) is the face k places further."""
        h = self.grid.step
        if self.grid.periodic:
            return self._stencil(upper(0), place, -1, (), (), (-1.0, 1.0), 1 / h)
        return self.p.times(1 / h, self.p.sub(upper(0), upper(-1)))


def _starts(node: Node, extents: tuple[int, ...]) -> bool:
    return tuple(n.constant for n in shape_of(node))[: len(extents)] == extents


__all__ = ["VALUE", "Neighbours"]
