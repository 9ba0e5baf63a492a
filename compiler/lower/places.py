"""Fields as functions and sets as values: a field at any point, and what is added up over parts of a domain.

The value at a point is the sum over the grid of values times cardinal functions (`ops/families/
interpolation.py`): by Fourier series and on Chebyshev points that of the function that the grid stands for,
on evenly spaced points by polynomials two orders above that of the differences. At the points of its own
grid a field is itself. A name that a binder gives to the points of a domain runs over axes of its own where
the body speaks of other points too, as in `integral(K(x, y)*u(y), y in Omega)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import reduce_axes, to_tensor
from ndl.compiler.check.point_sets import refuse_points
from ndl.compiler.check.values import UNKNOWN, Axis, BallV, BoundaryV, DomainV, ListV, Unknown, Value
from ndl.compiler.lower.clouds import SUMS, Clouds
from ndl.compiler.lower.duals import waves_at
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.ir.grid import GridAxis
    from ndl.compiler.lower.fields import Fields
    from ndl.compiler.lower.mesh_space import MeshSpace

CLOSE = 1e-12
"""By which part a radius is stretched, so that points at its very end are inside."""

PIECE = 4
"""Nodes of Gauss and Legendre in each piece of a part of an axis."""


class Places:
    """What is asked of fields away from their grids, in one function of a model."""

    def __init__(self, fields: Fields) -> None:
        self.fields, self.ev, self.space = fields, fields.ev, fields.space
        self.clouds = Clouds(self)
        self.side: tuple[Axis, str] | None = None
        """The part of a boundary of which the body of an integral speaks."""

    # ------------------------------------------------------------ at a point

    def at(self, v: Value, args: Sequence[Any], span: Span) -> Any:
        """`u(p)`, `u(x + 0.1, y)`: a field at a point given by its coordinates or as a vector."""
        domain = self.space.domain_of(v.axes)
        assert domain is not None
        if domain in self.space.meshes:
            return self._on_mesh(v, self.space.meshes[domain], args, span)
        axes = self.space.axes_of(domain, v.axes)
        given = self._apart(args, len(self.space.domains[domain].coordinates), span)
        if given is None or any(isinstance(p, Unknown) for p in given):
            return UNKNOWN
        known = self.clouds.at(v, domain, given, span)
        if known is not None:
            return known
        if v.ref.id in self.fields.waves and any(self._own(p, a) is None for p, a in zip(given, axes)):
            return waves_at(self.fields, self.fields.waves[v.ref.id], given, span)
        moved: list[tuple[Axis, Value]] = []
        names: dict[Axis, Axis] = {}
        for axis, p in zip(axes, given):
            if axis not in v.axes:
                continue
            own = self._own(p, axis)
            if own is None:
                moved.append((axis, p))
            else:
                names[axis] = own
        flat = to_tensor(self.ev, v, [a for a, _ in moved], span)
        found: Any = replace(flat, axes=tuple(names.get(a, a) for a in flat.axes))
        for axis, p in moved:
            found = self.contracted(self.cardinal(p, axis, span), found, span)
        return found

    def _on_mesh(self, v: Value, mesh: MeshSpace, args: Sequence[Any], span: Span) -> Any:
        """A stored field on a mesh at any place, by the functions of its nodes."""
        given = self._apart(args, len(mesh.domain.coordinates), span)
        point = UNKNOWN if given is None else self.ev.value(ListV(tuple(given)), span)
        stored, _ = self.fields.weak.values.get(v.ref.id, (v, ""))
        if isinstance(point, Unknown):
            return UNKNOWN
        if mesh.axes["node"] not in stored.axes:
            return self.ev.not_lowered("what is no stored field, on a mesh at a point", span)
        form = {"mesh": mesh.key, "by": (), "size": len(mesh.elements.nodes)}
        rows = self.ev.op("mesh_cardinal", [point], span, (), **form)
        return self.contracted(rows, to_tensor(self.ev, stored, [mesh.axes["node"]], span), span)

    def _apart(self, args: Sequence[Any], count: int, span: Span) -> list[Any] | None:
        """The coordinates of a point."""
        if len(args) == 1 and count > 1:
            (point,) = args
            v = self.ev.value(point, span)
            if isinstance(v, Unknown):
                return None
            if v.type.rank == 1 and v.type.shape[0].constant == count:
                if isinstance(point, ListV):
                    return [self.ev.value(p, span) for p in point.items]
                return [self.ev.op("index", [v], span, axis=0, at=k) for k in range(count)]
        if len(args) != count:
            what = f"a point of this domain has {count} coordinates, and {len(args)} are given"
            self.ev.error("NDL322", what, span)
            return None
        return [self.ev.value(p, span) for p in args]

    def _own(self, p: Value, axis: Axis) -> Axis | None:
        """The axis along which p runs over the points of an axis in turn."""
        if self.fields.coordinates.get(p.ref.id) is axis and len(p.axes) == 1:
            return p.axes[0]
        return None

    def cardinal(self, p: Value, axis: Axis, span: Span) -> Any:
        """The cardinal functions of an axis at a place, on a new last axis."""
        grid = self.space.grid_axis(axis)
        width = min(max(grid.order + 2, 4), grid.n) if grid.kind == "uniform" else grid.n
        form = {"layout": grid.layout, "way": grid.kind, "width": width, "degree": 0}
        return self.ev.op("cardinal", [p], span, (), **form)

    def contracted(self, weights: Any, v: Any, span: Span) -> Any:
        """The first axis of v summed with weights."""
        if isinstance(weights, Unknown) or isinstance(v, Unknown):
            return UNKNOWN
        letters = "abcdefghijklmnop"[: v.type.rank]
        equation = f"{letters[0]},{letters}->{letters[1:]}"
        return self.ev.op("einsum", [weights, v], span, equation=equation)

    # ------------------------------------------------------------ over a set

    def meshed(self, found: DomainV | BoundaryV | BallV, span: Span) -> bool:
        """Whether a set is one of a mesh, where finite elements have it."""
        domain = found.domain if isinstance(found, BoundaryV) else found
        if isinstance(domain, BallV):
            return False
        self.space.add(self.ev, domain, span)
        return domain.name in self.space.meshes

    def over(
        self,
        name: str,
        found: DomainV | BoundaryV | BallV,
        names: Sequence[str],
        apart: bool,
        body: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        span: Span,
    ) -> Any:
        """A reduction over a set. `body` gives its value and condition (or None) for the names of a point;
        `apart` says that the point is another one than that of the fields outside."""
        if isinstance(found, BoundaryV):
            return self._along_boundary(name, found, names, body, span)
        domain = found if isinstance(found, DomainV) else (found.domain or self._around(found))
        if domain is None:
            return self.ev.error("NDL344", "the centre of this ball is a point of no domain", span)
        near = self.clouds.table(found, domain, span) if isinstance(found, BallV) else None
        if near is not None:
            return self.clouds.over(name, near, names, body, span)
        whole = apart or isinstance(found, BallV)
        axes = self.space.copy(self.ev, domain, span) if whole else self.space.add(self.ev, domain, span)
        points, bound = self._points(domain, axes, names, span)
        if bound is None:
            return UNKNOWN
        value, cond = body(bound)
        if isinstance(found, BallV):
            inside = self._inside(found, points, domain, span)
            cond = inside if cond is None else self.ev.both("and", cond, inside, span)
        return self._reduced(name, value, cond, axes, span)

    def _points(
        self, domain: DomainV, axes: Sequence[Axis], names: Sequence[str], span: Span
    ) -> tuple[list[Any], dict[str, Any] | None]:
        """The coordinates along some axes, and what a binder's names stand for."""
        count = len(domain.coordinates)
        pairs = zip(domain.coordinates, axes if len(axes) == count else [*axes] * count)
        points = [self.fields.coordinate(domain.name, c, span, axis) for c, axis in pairs]
        if not names or len(names) == len(points):
            return points, dict(zip(names, points))
        if len(names) == 1:
            return points, {names[0]: ListV(tuple(points))}
        what = f"`{domain.name}` has {len(points)} coordinates, and this binds {len(names)}"
        self.ev.error("NDL337", what, span)
        return points, None

    def _reduced(self, name: str, value: Any, cond: Any, axes: Sequence[Axis], span: Span) -> Any:
        """An integral, mean, maximum or minimum along axes, of the points where a condition holds."""
        ev, fields = self.ev, self.fields
        if any(map(self.space.scattered, axes)):
            return self._over_points(name, value, cond, axes, span)
        if name in ("integral", "mean"):
            share = self._share(cond, span)
            total = fields.integral(value if cond is None else ev.binary("*", share, value, span), axes, span)
            if name == "integral":
                return total
            return ev.binary("/", total, fields.integral(share, axes, span), span)
        if name in ("var", "std"):
            return self._spread(name, value, cond, axes, span)
        if name not in ("max", "min"):
            return ev.not_lowered(f"`{name}` over a domain", span)
        if cond is not None:
            value = ev.elementwise("select", [cond, value, -math.inf if name == "max" else math.inf], span)
        found = ev.value(value, span)
        if isinstance(found, Unknown):
            return UNKNOWN
        return reduce_axes(ev, "amax" if name == "max" else "amin", found, axes, span)

    def _spread(self, name: str, value: Any, cond: Any, axes: Sequence[Axis], span: Span) -> Any:
        """The variance along axes, or its root."""
        ev = self.ev
        gap = ev.value(ev.binary("-", value, self._reduced("mean", value, cond, axes, span), span), span)
        found = self._reduced("mean", ev.binary("*", gap, gap, span), cond, axes, span)
        return found if name == "var" else ev.elementwise("sqrt", [found], span)

    def _over_points(self, name: str, value: Any, cond: Any, axes: Sequence[Axis], span: Span) -> Any:
        """A sum, mean, maximum or minimum over a set of points."""
        ev = self.ev
        if name == "integral":
            domain = self.space.domains[self.space.owner[self.space.copies.get(axes[0], axes[0])][0]]
            refuse_points(domain, "which has no volume", span, SUMS)
        if name in ("var", "std"):
            return self._spread(name, value, cond, axes, span)
        if name not in ("sum", "mean", "max", "min"):
            return ev.not_lowered(f"`{name}` over a set of points", span)
        if name in ("max", "min"):
            if cond is not None:
                rest = -math.inf if name == "max" else math.inf
                value = ev.elementwise("select", [cond, value, rest], span)
            found: Any = ev.value(value, span)
            return reduce_axes(ev, "amax" if name == "max" else "amin", found, axes, span)
        share: Any = ev.value(self._share(cond, span), span)
        summed: Any = ev.value(ev.binary("*", share, value, span), span)
        total = reduce_axes(ev, "sum", summed, axes, span)
        if name == "sum":
            return total
        return ev.binary("/", total, reduce_axes(ev, "sum", share, axes, span), span)

    def _share(self, cond: Any, span: Span) -> Any:
        """1 where a condition holds, else 0."""
        return 1.0 if cond is None else self.ev.elementwise("select", [cond, 1.0, 0.0], span)

    # ------------------------------------------------------------ parts of a domain

    def part(self, v: Any, axis: Axis, low: Any, high: Any, span: Span) -> Any:
        """The integral along an axis from one place to another, of the function that the grid stands for."""
        found = self.ev.value(v, span)
        if isinstance(found, Unknown):
            return UNKNOWN
        length = self.ev.binary("-", high, low, span)
        if axis not in found.axes:
            return self.ev.binary("*", found, length, span)
        nodes, weights = _pieces(self.space.grid_axis(axis))
        extent = Dim.of(len(nodes))
        s = self.ev.builder.const(nodes, Tensor("R", (extent,)), span)
        w = self.ev.builder.const(weights, Tensor("R", (extent,)), span)
        start = self.ev.value(low, span)
        if isinstance(start, Unknown):
            return UNKNOWN
        first = self.ev.spread(start, (extent,), span)
        p = self.ev.binary("+", first, self.ev.binary("*", length, s, span), span)
        rows = self.cardinal(p, axis, span)
        shares = self.ev.op("einsum", [w, rows], span, equation="q,qn->n")
        flat = to_tensor(self.ev, found, [axis], span)
        return self.ev.binary("*", length, self.contracted(shares, flat, span), span)

    def _along_boundary(
        self,
        name: str,
        found: BoundaryV,
        names: Sequence[str],
        body: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        span: Span,
    ) -> Any:
        """Over sides: the function on a side is that in the domain, at its end."""
        if name not in ("integral", "mean") or found.where:
            return self.ev.not_lowered(f"`{name}` over this part of a boundary", span)
        axes = self.space.add(self.ev, found.domain, span)
        points, bound = self._points(found.domain, axes, names, span)
        if bound is None:
            return UNKNOWN
        total: Any = 0.0
        measure: Any = 0.0
        for number, end in found.faces:
            axis, grid = axes[number], self.space.grid_axis(axes[number])
            rest = [a for a in axes if a is not axis]
            before, self.side = self.side, (axis, end)
            try:
                value, cond = body(bound)
            finally:
                self.side = before
            place = [*points]
            place[number] = self.ev.value(grid.lower if end == "low" else grid.upper, span)
            share = self._share(cond, span)
            for k, part in enumerate((self.ev.binary("*", share, value, span), share)):
                there = self._restricted(part, place, span)
                there = self.fields.integral(there, rest, span) if rest else there
                if k == 0:
                    total = self.ev.binary("+", total, there, span)
                else:
                    measure = self.ev.binary("+", measure, there, span)
        return total if name == "integral" else self.ev.binary("/", total, measure, span)

    def _restricted(self, part: Any, place: Sequence[Any], span: Span) -> Any:
        v = self.ev.value(part, span)
        if isinstance(v, Unknown) or self.space.domain_of(v.axes) is None:
            return v
        return self.at(v, place, span)

    # ------------------------------------------------------------ balls

    def _around(self, ball: BallV) -> DomainV | None:
        """The domain of a ball: that of its centre, or the only one there is."""
        for c in ball.centre:
            if isinstance(c, Value) and self.space.domain_of(c.axes) is not None:
                return self.space.domains[str(self.space.domain_of(c.axes))]
        fitting = [d for d in self.space.domains.values() if len(d.coordinates) == len(ball.centre)]
        return fitting[0] if len(fitting) == 1 else None

    def _inside(self, ball: BallV, points: Sequence[Any], domain: DomainV, span: Span) -> Any:
        """Whether points are at most a radius from the centre, across periodic ends too."""
        ev = self.ev
        square: Any = 0.0
        grids = self.space.grids[domain.name].axes
        for p, c, grid in zip(points, ball.centre, grids):
            gap = ev.binary("-", p, c, span)
            if grid.periodic:
                length = grid.upper - grid.lower
                turns = ev.elementwise("round", [ev.binary("/", gap, length, span)], span)
                gap = ev.binary("-", gap, ev.binary("*", length, turns, span), span)
            square = ev.binary("+", square, ev.binary("*", gap, gap, span), span)
        reach = ev.binary("*", ev.binary("^", ball.radius, 2, span), 1 + CLOSE, span)
        return ev.compare("<=", square, reach, span, ())


def _pieces(grid: GridAxis) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes in 0..1 and weights of a rule that sees as much as the grid."""
    import numpy as np

    z, w = np.polynomial.legendre.leggauss(PIECE)
    count = max(8, -(-grid.n // 2))
    starts = np.arange(count) / count
    nodes = starts[:, None] + (z + 1) / (2 * count)
    weights = np.tile(w / (2 * count), count)
    return tuple(map(float, nodes.reshape(-1))), tuple(map(float, weights))
