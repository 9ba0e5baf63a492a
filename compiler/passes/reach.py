"""How far rates and residuals of fields read along each axis of their grid, for sparse Jacobians."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.mesh_reach import mesh_reach
from ndl.compiler.types import Tensor

EVERYWHERE = -1
"""Along this axis a value may depend on every point."""


@dataclass(frozen=True)
class Reach:
    """Of one value: the distance for each axis of the grid, and which of them its array still has."""

    distance: tuple[int, ...]
    axes: tuple[int, ...]
    side: str = ""
    """The end at which an axis was read."""

    def wider(self, axis: int, by: int) -> Reach:
        known = self.distance[axis]
        now = EVERYWHERE if EVERYWHERE in (known, by) else known + by
        return replace(self, distance=(*self.distance[:axis], now, *self.distance[axis + 1 :]))


def with_reach(model: ModelIR) -> ModelIR:
    """The model with `reach` on its grid, when all states are fields on that grid."""
    if model.drift is None or len(model.grids) != 1:
        return model
    (grid,) = model.grids
    count = len(grid.axes)
    if any(s.type.extents[: len(grid.shape)] != grid.shape for s in model.states):
        return model
    if grid.mesh is not None and grid.mesh.alone:
        return model
    if grid.mesh is not None:
        return replace(model, grids=(replace(grid, reach=(mesh_reach(model),)),))
    found: dict[int, Reach] = {}
    graph, outputs = model.drift.graph, [n for _, n in model.drift.outputs]
    names = {s.name for s in model.states}
    for node in graph.needed(outputs):
        if node.op == "input" and node.attr("name") in names:
            found[node.id] = Reach((0,) * count, tuple(range(count)))
            continue
        known = [found[i] for i in node.inputs if i in found]
        if known:
            found[node.id] = _of(graph, node, known, count)
    total = joined([found[n.id] for n in outputs if n.id in found], count).distance
    return replace(model, grids=(replace(grid, reach=total),))


def joined(several: list[Reach], count: int) -> Reach:
    """What reads several values."""
    distance = []
    for k in range(count):
        each = [r.distance[k] for r in several]
        distance.append(EVERYWHERE if EVERYWHERE in each else max(each, default=0))
    return replace(several[0], distance=tuple(distance)) if several else Reach(tuple(distance), ())


def _of(graph: Graph, node: Node, known: list[Reach], count: int) -> Reach:
    """The reach of one operation on values whose reach is known."""
    far = Reach((EVERYWHERE,) * count, known[0].axes)
    if any(r.axes != known[0].axes for r in known):
        return far
    reach, grids = joined(known, count), len(known[0].axes)
    if node.op in ("mask", "neg") or lookup(node.op).scalar is not None:
        return reach
    if node.op == "stencil" and node.attr("axis") < grids:
        axis = reach.axes[node.attr("axis")]
        rows = [*node.attr("low"), *node.attr("high")]
        width = max(-node.attr("offset"), node.attr("offset") + len(node.attr("center")) - 1)
        return reach.wider(axis, max([width, *(len(r) - 1 for r in rows)]))
    if node.op in ("multiplier", "truncate"):
        for at in node.attr("axes"):
            reach = reach.wider(reach.axes[at] if at < grids else 0, EVERYWHERE)
        return reach
    if node.op == "index":
        return _read(node, reach, grids)
    if node.op == "lift" and len(reach.axes) < count:
        return _spread(node, reach, count)
    if node.op == "expand" and tuple(node.attr("axes"))[:grids] == tuple(range(grids)):
        return reach
    if node.op in ("sum", "mean") and isinstance(node.type, Tensor):
        inner = node.attr("axes")
        return reach if inner is not None and min(inner, default=0) >= grids else far
    if node.op == "stack" and node.attr("axis") >= grids:
        return reach
    return far


def _read(node: Node, reach: Reach, grids: int) -> Reach:
    """A component, or the field at one end of an axis."""
    place = node.attr("axis")
    if place >= grids:
        return reach
    side = "low" if node.attr("at") == 0 else "high"
    return Reach(reach.distance, (*reach.axes[:place], *reach.axes[place + 1 :]), side)


def _spread(node: Node, reach: Reach, count: int) -> Reach:
    """What is known at an end, back along its axis."""
    (missing, *more) = [k for k in range(count) if k not in reach.axes]
    axes = tuple(sorted((*reach.axes, missing)))
    again = Reach(reach.distance, axes)
    if more or node.attr("axis") != axes.index(missing) or node.attr("side") != reach.side:
        return again.wider(missing, EVERYWHERE)
    return again.wider(missing, len(node.attr("weights")) - 1)
