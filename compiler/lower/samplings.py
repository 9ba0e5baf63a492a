"""Samplings of fields on the grids of a model: their values as arrays and back, other numbers of points,
stencils of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split, to_tensor
from ndl.compiler.check.values import Axis, DomainV, Unknown, Value
from ndl.compiler.ir.grid import GridAxis
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields


def _domain(fields: Fields, v: Value, span: Span) -> str:
    """The domain of a field, whose points are those of a box."""
    name = fields.space.domain_of(v.axes)
    assert name is not None
    if name in fields.space.meshes:
        fields.ev.not_lowered("the sampling of a field on a mesh", span)
    return name


def values(fields: Fields, v: Value, span: Span) -> Any:
    """The values of a field as an array, components first."""
    return to_back(fields, v, fields.space.axes_of(_domain(fields, v, span), v.axes), span)


def to_back(fields: Fields, v: Value, axes: Sequence[Axis], span: Span) -> Any:
    """Bound axes as the last axes of an ordinary tensor."""
    others = tuple(a for a in v.axes if a not in axes)
    whole = aligned(fields.ev, v, (*others, *axes), span)
    first, many = len(others), len(axes)
    behind = range(first + many, whole.type.rank)
    order = (*range(first), *behind, *range(first, first + many))
    return split(fields.op("permute", whole, span, axes=order), others)


def as_field(fields: Fields, v: Value, domain: DomainV, span: Span) -> Any:
    """The field with these values at the points of a domain; how many there are the array tells."""
    space = fields.space
    space.add(fields.ev, domain, span)
    if domain.name in space.meshes:
        return fields.ev.not_lowered("the values of a field on a mesh", span)
    many = len(space.axes[domain.name])
    points = v.type.extents[v.type.rank - many :]
    return _placed(fields, v, space.at(domain.name, points), span)


def _placed(fields: Fields, v: Value, axes: tuple[Axis, ...], span: Span) -> Value:
    """The last axes of an array as those of points."""
    whole = full(v)
    first, inner = len(v.axes), v.type.rank - len(axes)
    behind = range(first + inner, whole.type.rank)
    made = fields.op("permute", whole, span, axes=(*range(first), *behind, *range(first, first + inner)))
    found = split(made, (*v.axes, *axes))
    wide = tuple(sorted(found.axes, key=lambda a: math.inf if a.place is None else a.place))
    return split(aligned(fields.ev, found, wide, span), wide)


# ---------------------------------------------------------------- other numbers of points


def resampled_points(grid: GridAxis, ratio: Fraction) -> int | None:
    """How many points a grid of the same kind with `ratio` times the steps has; None where it has a part of
    one."""
    steps = (grid.n if grid.periodic or grid.cells else grid.n - 1) * ratio
    if steps.denominator != 1:
        return None
    return int(steps) + (0 if grid.periodic or grid.cells else 1)


def resample(fields: Fields, v: Value, ratios: Sequence[Fraction], span: Span) -> Any:
    """The same function at other points: of waves exactly, else what the grid takes the field for."""
    ev, space = fields.ev, fields.space
    name = _domain(fields, v, span)
    axes = space.axes_of(name, v.axes)
    points = []
    for axis, ratio in zip(axes, ratios):
        n = resampled_points(space.grid_axis(axis), ratio)
        if n is None or n < 2:
            count = axis.extent
            what = f"{ratio} times {count} points along `{axis.name}` are no grid"
            return ev.error("NDL493", what, span, help="take a grid whose steps the ratio divides")
        points.append(n)
    new = space.at(name, points)
    if new == axes:
        return v
    if v.ref.id in fields.waves:
        from ndl.compiler.lower.duals import function

        return function(fields, fields.waves[v.ref.id], span, new)
    found: Any = v
    for old, axis in zip(axes, new):
        if old is axis or old not in v.axes:
            continue
        layout = space.grid_axis(axis).layout
        p = split(fields.source("grid_points", span, layout=layout), (axis,))
        rows = fields.places.cardinal(p, old, span)
        flat = to_tensor(ev, found, [old], span)
        # while some axes are old and some new, the field stands on a product of both
        found = fields.places.contracted(rows, flat, span)
    return found


# ---------------------------------------------------------------- stencils of weights


def convolve(
    fields: Fields, K: Value, v: Value, domain: DomainV, options: dict[str, Any], e: tree.Call
) -> Any:
    """Windows around each point, or each `stride`-th, times a kernel. Periodic coordinates go around, at
    others the field goes on with zeros or as `border` says."""
    from ndl.compiler.check.convolving import border_of, bordered, numbers

    ev, space = fields.ev, fields.space
    axes = space.axes_of(domain.name, v.axes)
    grids, count = [space.grid_axis(a) for a in axes], len(axes)
    stride = numbers(ev, options.get("stride", 1), count, "stride", 1, e.span)
    dilation = numbers(ev, options.get("dilation", 1), count, "dilation", 1, e.span)
    (groups,) = numbers(ev, options.get("groups", 1), 1, "groups", 1, e.span)
    points = []
    for grid, s in zip(grids, stride):
        n = resampled_points(grid, Fraction(1, s))
        if n is None:
            what = f"a stride of {s} does not go over {grid.n} points along `{grid.coordinate}` without rest"
            return ev.error("NDL493", what, e.span, help="take a grid whose steps the stride divides")
        points.append(n)
    reach = [(k - 1) * d for k, d in zip(K.type.extents[2:], dilation)]
    pads = [(r // 2, r - r // 2) for r in reach]
    array = values(fields, v, e.span)
    border = border_of(ev, options, e.span)
    around = [p if g.periodic else (0, 0) for p, g in zip(pads, grids)]
    beyond = [(0, 0) if g.periodic else p for p, g in zip(pads, grids)]
    array, _ = bordered(ev, array, around, "periodic", e.span)
    array, rest = bordered(ev, array, beyond, border, e.span)
    exprs = [a.value for a in e.args[:2]]
    geometry = {"stride": stride, "dilation": dilation, "pad": tuple(rest)}
    made = ev.op("convolve", [K, array], e.span, exprs, **geometry, groups=groups)
    if isinstance(made, Unknown):
        return made
    return _placed(fields, made, space.at(domain.name, points), e.span)
