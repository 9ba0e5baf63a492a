"""`impose(e, boundary(S), g)` on the grids of a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, BoundaryV, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span

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


def impose(fields: Fields, v: Value, part: BoundaryV, g: Value, scope: Scope, span: Span) -> Value:
    """A field that is `g` at the points of a part of the boundary. Raises `NDLError` (NDL481)."""
    space = fields.space
    axes = space.add(fields.ev, part.domain, span)
    if part.domain.name in space.meshes:
        raise fail("NDL490", "`impose` on a mesh is not yet lowered", span, help="state a condition")
    axes = space.axes_of(part.domain.name, (*v.axes, *g.axes)) or axes
    missing = [a for a in axes if a not in v.axes]
    if missing:
        wide = sorted((*v.axes, *missing), key=lambda a: math.inf if a.place is None else a.place)
        v = split(aligned(fields.ev, v, tuple(wide), span), tuple(wide))
    if g.type.rank and g.type.shape != v.type.shape:
        what = f"`{part.text}` is given {g.type}, and the field is {v.type}"
        raise fail("NDL480", what, span, help="give a number, or a field with the same components")
    for k, side in part.faces:
        if space.grid_axis(axes[k]).cells:
            raise no_points(part, span)
        v = _at_end(fields, v, axes[k], side, part, g, scope, span)
    return v


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
