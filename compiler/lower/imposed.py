"""`impose(e, boundary(S), g)` on the grids and meshes of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, BoundaryV, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.shapes import implicit
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields


def no_points(part: BoundaryV, span: Span) -> NDLError:
    """The error of a grid without points on the boundary."""
    return fail(
        "NDL481",
        f"the grid has no points on `{part.text}`",
        span,
        help="take `uniform(65)`, which has both ends, or state a condition, `on boundary(S): u = …`",
    )


def impose(fields: Fields, v: Value, part: BoundaryV, g: Value, call: tree.Call, scope: Scope) -> Value:
    """A field that is `g` at the points of a part of the boundary. Raises `NDLError` (NDL480, NDL481)."""
    space, span = fields.space, call.span
    axes = space.add(fields.ev, part.domain, span)
    mesh = space.meshes.get(part.domain.name)
    if mesh is not None:
        return _at_nodes(fields, mesh, part, call, scope)
    axes = space.axes_of(part.domain.name, (*v.axes, *g.axes)) or axes
    v = _wide(fields, v, axes, span)
    _fits(v, part, g, span)
    for k, side in part.faces:
        if space.grid_axis(axes[k]).cells:
            raise no_points(part, span)
        v = _at_end(fields, v, axes[k], side, part, g, scope, span)
    return v


def _wide(fields: Fields, v: Value, axes: Sequence[Axis], span: Span) -> Value:
    """A value along all axes of a domain."""
    missing = [a for a in axes if a not in v.axes]
    if not missing:
        return v
    wide = sorted((*v.axes, *missing), key=lambda a: math.inf if a.place is None else a.place)
    return split(aligned(fields.ev, v, tuple(wide), span), tuple(wide))


def _fits(v: Value, part: BoundaryV, g: Value, span: Span) -> None:
    if g.type.rank and g.type.shape != v.type.shape:
        what = f"`{part.text}` is given {g.type}, and the field is {v.type}"
        raise fail("NDL480", what, span, help="give a number, or a field with the same components")


def _at_nodes(fields: Fields, mesh: MeshSpace, part: BoundaryV, call: tree.Call, scope: Scope) -> Value:
    """On a mesh: the field whose nodes on the part have the values `g`, at the present place."""
    weak, ev, span = fields.weak, fields.ev, call.span
    nodes = mesh.at_nodes(mesh.part(span, replace(part, where=()), scope, part.faces))
    for cond in part.where:
        nodes &= implicit(cond, mesh.domain.coordinates, scope).holds(mesh.points("node"))
    if not nodes.any():
        raise fail("NDL481", f"no node of the mesh lies on `{part.text}`", span, help="take a smaller `size`")
    bound = _bound(fields, call, scope)
    with weak.at("node"):
        scope = scope.child({name: weak.coordinate(mesh, k) for name, k in bound.items()})
        v, g = (_nodal(fields, call.args[k].value, scope) for k in (0, 2))
        if any({mesh.axes["cell"], mesh.axes["facet"]} & {*x.axes} for x in (v, g)):
            what = "`impose` on a mesh gives values at nodes, and this reads points inside of elements"
            raise fail("NDL480", what, span, help="name it outside of the integral: `w = impose(…)`")
        v = _wide(fields, v, (mesh.axes["node"],), span)
        _fits(v, part, g, span)
        if g.type.rank < v.type.rank:
            g = ev.spread(g, v.type.shape, span)
        kept = ev.binary("*", v, weak.marks(mesh, f"nodes off {part.text}", ~nodes, "node"), span)
        put = ev.binary("*", g, weak.marks(mesh, f"nodes on {part.text}", nodes, "node"), span)
        found = ev.binary("+", kept, put, span)
    assert isinstance(found, Value)
    return weak.field(found)


def _bound(fields: Fields, call: tree.Call, scope: Scope) -> dict[str, int]:
    """The names in a call that an integral binds to coordinates of its points, each with its number."""
    found = {}
    for e in walk(call):
        if isinstance(e, tree.Name) and not e.primes:
            ref = getattr(scope.find(e.id), "ref", None)
            if ref is not None and ref.id in fields.weak.coordinates:
                found[e.id] = fields.weak.coordinates[ref.id]
    return found


def _nodal(fields: Fields, e: tree.Expr, scope: Scope) -> Value:
    """An expression at the nodes of a mesh."""
    ev = fields.ev
    found = fields.weak.quantity(lambda: ev.value(ev.eval(e, scope), e.span), e.span)
    assert isinstance(found, Value)
    return found


def _at_end(
    fields: Fields, v: Value, axis: Axis, side: str, part: BoundaryV, g: Value, scope: Scope, span: Span
) -> Value:
    """The values at one end of an axis."""
    conditions, grid = fields.conditions, fields.space.grid_axis(axis)
    end: Any = conditions.restricted(g, axis, side)
    if part.where:
        before = conditions.restricted(v, axis, side)
        inner = scope.child({axis.name: grid.lower if side == "low" else grid.upper})
        for cond in part.where:
            end = fields.ev.choose(fields.ev.known(fields.ev.eval(cond, inner)), end, before, cond.span)
    at = v.axes.index(axis)
    flat = conditions.shaped(end, [a for a in v.axes if a is not axis], v.type, span)
    kept = fields.op("mask", full(v), span, axis=at, low=side == "low", high=side == "high")
    put = fields.op("lift", flat, span, axis=at, n=grid.n, side=side, weights=(1.0,), scale=1.0)
    found = fields.ev.binary("+", split(kept, v.axes), split(put, v.axes), span)
    assert isinstance(found, Value)
    return found
