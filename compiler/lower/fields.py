"""Fields on grids while a model is lowered.

A field is a value whose bound axes are those of its domain's grid, in the order of the coordinates, so that
what acts at each point is the same text as for numbers. Derivatives and integrals become the ops of
`ops/families/fields.py`; `Space` holds the grids of a model, `Fields` writes into one of its functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.axes import aligned, full, reduce_axes, split
from ndl.compiler.check.boundaries import Condition
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import UNKNOWN, Axis, BoundaryV, DomainV, ListV, Unknown, Value, is_number
from ndl.compiler.ir.grid import FREE, SLOPE, VALUE, Stencil, end_weights, stencil
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.conditions import Conditions
from ndl.compiler.lower.constraints import compact
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.parted import combined
from ndl.compiler.lower.places import Places
from ndl.compiler.lower.space import Space
from ndl.compiler.lower.spectral import by_modes
from ndl.compiler.lower.weak import Weak
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration

Closures = tuple["Condition | None", "Condition | None"]


class Fields:
    """What derivatives and integrals are in one function of a model."""

    def __init__(
        self,
        space: Space,
        el: Elaboration,
        conditions: Mapping[str, list[Condition]],
        paths: Mapping[str, Any],
    ) -> None:
        self.space, self.el, self.ev = space, el, el.ev
        self.conditions = Conditions(self, el, conditions, paths)
        self.gradients: dict[int, Value] = {}
        self.slopes: dict[int, tuple[Value, Axis]] = {}
        """First derivatives by the node that they are: of what, along which axis."""
        self.coordinates: dict[int, Axis] = {}
        self.waves: dict[int, Value] = {}
        """The coefficients of the fields that are known by them, by the node that the field is."""
        self.places = Places(self)
        self.weak = Weak(self)
        self.multipliers: frozenset[tuple[str, str]] = frozenset()
        """(prefix, name) of the states that no equation of their own holds: they make others hold."""
        self.tracing = False
        """While a map is read that is proved to be linear by what it becomes."""
        self.constraining = False
        """While the equations are read that multipliers make hold."""

    # ------------------------------------------------------------ meshes

    def on_mesh(self, axes: Sequence[Axis]) -> MeshSpace | None:
        """The mesh of a value with these axes."""
        return next((m for a in axes if (m := self.space.mesh_of(a)) is not None), None)

    def leaf(self, v: Value, state: str) -> Value:
        """A stored field where a formula is read. In a steady equation it has the values that conditions
        give."""
        mesh = self.on_mesh(v.axes)
        if mesh is None or self.weak.place == "node":
            return v
        if state:
            s = self.weak.conditions.owner(state)
            if s.name in self.conditions.frame(s.prefix).parts.algebraic():
                v = self.weak.conditions.imposed(v, mesh, s.prefix, s.name)
        return self.weak.field(v, state)

    def op(self, name: str, v: Value | None, span: Span, **attrs: Any) -> Value:
        """An op on a value whose axes are all ordinary ones."""
        return self.ev.builder.op(name, [] if v is None else [v], span, attrs)

    def source(self, name: str, span: Span, **attrs: Any) -> Value:
        return self.op(name, None, span, **attrs)

    # ------------------------------------------------------------ points

    def coordinate(self, domain: str, name: str, span: Span, along: Axis | None = None) -> Value:
        """A coordinate as a field, along the axis of its grid or a copy of that."""
        if domain in self.space.meshes:
            mesh = self.space.meshes[domain]
            return self.weak.coordinate(mesh, mesh.domain.coordinates.index(name))
        if domain in self.space.clouds:
            axis = self.space.axes[domain][0]
            k = self.space.domains[domain].coordinates.index(name)
            values = np.array(self.space.clouds[domain], dtype=float)[:, k]
            found = self.places.clouds.array(f"{domain} {name}", values, (along or axis,))
            self.coordinates[found.ref.id] = axis
            return found
        axis = next(a for a in self.space.axes[domain] if a.name == name)
        found = self.source("grid_points", span, layout=self.space.grid_axis(axis).layout)
        self.coordinates[found.ref.id] = axis
        return split(found, (along or axis,))

    def points(self, domain: DomainV, names: Sequence[str], span: Span) -> dict[str, Any]:
        """The names that `x in Omega` or `[x, y] in Omega` binds."""
        self.space.add(self.ev, domain, span)
        found = [self.coordinate(domain.name, c, span) for c in domain.coordinates]
        if len(names) == len(found):
            return dict(zip(names, found))
        if len(names) == 1:
            return {names[0]: self.ev.value(ListV(tuple(found)), span)}
        what = f"`{domain.name}` has {len(found)} coordinates, and this binds {len(names)}"
        return dict.fromkeys(names, self.ev.error("NDL337", what, span))

    def whole(self, v: Value, domain: str | None, span: Span) -> Value:
        """A value as an ordinary tensor, the axes of its domain's grid in front."""
        name = domain or self.space.domain_of(v.axes)
        if name is None:
            return v
        axes = self.space.axes_of(name, v.axes)
        rest = tuple(a for a in v.axes if a not in axes)
        return split(aligned(self.ev, v, (*axes, *rest), span), ()) if not rest else v

    # ------------------------------------------------------------ derivatives

    def _value(self, v: Any, span: Span) -> Value | None:
        found = self.ev.value(v, span)
        return None if isinstance(found, Unknown) else found

    def _axes(self, v: Value, span: Span) -> tuple[Axis, ...]:
        """The axes of the domain on which a value is a field."""
        domain = self.space.domain_of(v.axes)
        if domain is None:
            names = {n for n in self.space.axes}
            if len(names) != 1:
                self.ev.error("NDL342", "this is the same number everywhere, on no domain", span)
            domain = names.pop()
        return self.space.axes_of(domain, v.axes)

    def partial(self, v: Any, letters: str, span: Span) -> Any:
        """`dx`, `dxy`, …"""
        if isinstance(v, Map):
            return v.derived(letters)
        found = v = self._value(v, span)
        if found is None:
            return UNKNOWN
        mesh = self.weak.mesh(found)
        if mesh is not None:
            return self._by_letters(found, mesh, letters, span)
        through = self._through(found, letters, span)
        if through is not None:
            return through
        if len(letters) == 1 and (self.constraining or self.conditions.is_one_of(found, self.multipliers)):
            paired = compact(self, found, letters, span)
            if paired is not None:
                return paired
        orders = {c: letters.count(c) for c in dict.fromkeys(letters)}
        axes = {a.name: a for a in found.axes if a in self.space.owner}
        if any(c not in axes for c in orders):
            return 0.0
        fourier = {c: n for c, n in orders.items() if self.space.grid_axis(axes[c]).kind == "fourier"}
        if fourier:
            found = self._multiplied(found, [(1.0, {axes[c]: n for c, n in fourier.items()})], span)
        for c, n in orders.items():
            if c not in fourier:
                found = self.along(found, axes[c], n, span)
        if len(letters) == 1 and isinstance(v, Value):
            self.slopes[found.ref.id] = (v, axes[letters])
        return found

    def _by_letters(self, v: Value, mesh: MeshSpace, letters: str, span: Span) -> Any:
        """`dxy` on a mesh, one coordinate after the other."""
        found: Any = v
        for c in letters:
            found = self.ev.value(
                self.weak.partial(found, mesh, mesh.domain.coordinates.index(c), span), span
            )
            if self.weak.mesh(found) is None:
                break
        return found

    def lap(self, v: Any, span: Span) -> Any:
        """The sum of the second derivatives, those by Fourier series as one op."""
        if isinstance(v, Map):
            return v.derived("lap")
        found = self._value(v, span)
        if found is None:
            return UNKNOWN
        mesh = self.weak.mesh(found)
        if mesh is not None:
            return self.weak.lap(found, mesh, span)
        axes = [a for a in found.axes if a in self.space.owner]
        fourier = [a for a in axes if self.space.grid_axis(a).kind == "fourier"]
        parts: list[Any] = []
        if fourier:
            parts.append(self._multiplied(found, [(1.0, {a: 2}) for a in fourier], span))
        parts += [self.along(found, a, 2, span) for a in axes if a not in fourier]
        return self._total(parts, span)

    def _total(self, parts: Sequence[Any], span: Span) -> Any:
        total: Any = 0.0
        for k, part in enumerate(parts):
            total = part if k == 0 else self.ev.binary("+", total, part, span)
        return total

    def by_modes(self, map_: Map, v: Value, span: Span) -> Any:
        """A function of maps, `exp(t*lap) @ v`."""
        return by_modes(self, map_, v, span)

    def grad(self, v: Any, span: Span) -> Any:
        """One more component for each coordinate."""
        found = self._value(v, span)
        if found is None:
            return UNKNOWN
        mesh = self.weak.mesh(found)
        if mesh is not None:
            return self.weak.gradient(found, mesh, span)
        parts = [self._slope(found, a, span) for a in self._axes(found, span)]
        made = self.ev.op("stack", parts, span, axis=found.type.rank)
        if isinstance(made, Value):
            self.gradients[made.ref.id] = found
        return made

    def _slope(self, v: Value, axis: Axis, span: Span) -> Value:
        """The first derivative, of the shape of the components even where it is 0."""
        found = self.ev.value(self.partial(v, axis.name, span), span)
        assert isinstance(found, Value)
        return found if found.type.rank == v.type.rank else self.ev.spread(found, v.type.shape, span)

    def div(self, v: Any, span: Span) -> Any:
        """The sum of the derivatives of the components on the last axis; of a gradient it is `lap`."""
        found = self._value(v, span)
        if found is None:
            return UNKNOWN
        mesh = self.weak.mesh(found)
        if mesh is not None:
            return self.weak.div(found, mesh, span)
        if found.ref.id in self.gradients:
            return self.lap(self.gradients[found.ref.id], span)
        axes = self._axes(found, span)
        scaled = self._scaled_gradient(found)
        if scaled is not None:
            return self._diffused(*scaled, axes, span)
        last = found.type.rank - 1
        if last < 0 or found.type.shape[-1].constant != len(axes):
            what = f"`div` on {len(axes)} coordinates is of as many components, and this is {found.type}"
            return self.ev.error("NDL342", what, span)
        parts = []
        for j, axis in enumerate(axes):
            parts.append(self.partial(self._component(found, j, span), axis.name, span))
        return self._total(parts, span)

    def _through(self, v: Value, letters: str, span: Span) -> Any:
        """`dx(a*dx(u))` on evenly spaced points, where a difference of a difference would skip neighbours."""
        if len(letters) != 1 or v.ref.op != "mul":
            return None
        for slope, factor in itertools.permutations(self.ev.lowering.graph.operands(v.ref)):
            u, axis = self.slopes.get(slope.id, (None, None))
            if u is None or axis is None or axis.name != letters or u.type.shape != v.type.shape:
                continue
            if self.space.grid_axis(axis).kind == "uniform":
                return self._diffused(split(value_of(factor), v.axes), u, (axis,), span)
        return None

    def _scaled_gradient(self, v: Value) -> tuple[Value, Value] | None:
        """a and u where a value is `a*grad(u)` of numbers, on evenly spaced points."""
        if v.ref.op != "mul" or any(self.space.grid_axis(a).kind != "uniform" for a in v.axes):
            return None
        graph = self.ev.lowering.graph
        for gradient, factor in itertools.permutations(graph.operands(v.ref)):
            u = self.gradients.get(gradient.id)
            if u is None or u.type.rank or factor.op != "expand" or len(v.axes) in factor.attr("axes"):
                continue
            (inner,) = graph.operands(factor)
            shape = tuple(a.extent.constant for a in v.axes)
            attrs = {"shape": shape, "axes": factor.attr("axes")}
            a = self.ev.builder.op("expand", [value_of(inner)], Span(), attrs)
            return split(a, v.axes), u
        return None

    def _diffused(self, a: Value, u: Value, axes: Sequence[Axis], span: Span) -> Any:
        """The divergence of a*grad(u) along some axes as (a*D2(u) + D2(a*u) - u*D2(a))/2. With differences
        of second order that is the balance of fluxes a*du/dx half-way between neighbours, a being their
        mean."""
        product = self._value(self.ev.binary("*", a, u, span), span)
        assert product is not None
        total: Any = 0.0
        for axis in axes:
            second = [self.along(x, axis, 2, span) for x in (u, product, a)]
            left = self.ev.binary("*", a, second[0], span)
            right = self.ev.binary("*", u, second[2], span)
            part = self.ev.binary("-", self.ev.binary("+", left, second[1], span), right, span)
            total = part if total == 0.0 else self.ev.binary("+", total, part, span)
        return self.ev.binary("*", 0.5, total, span)

    def _component(self, v: Value, j: int, span: Span) -> Any:
        return self.ev.op("index", [v], span, axis=v.type.rank - 1, at=j)

    def curl(self, v: Any, span: Span) -> Any:
        """dx(v1) - dy(v0) of a vector in the plane, [dy(v), -dx(v)] of a scalar there; in space a vector."""
        found = self._value(v, span)
        if found is None:
            return UNKNOWN
        mesh = self.weak.mesh(found)
        if mesh is not None:
            return self.weak.curl(found, mesh, span)
        axes = [a.name for a in self._axes(found, span)]
        sub = self.ev.binary
        if len(axes) == 2 and found.type.rank == 0:
            x, y = (self._slope(found, a, span) for a in self._axes(found, span))
            return self.ev.value(ListV((y, self.ev.elementwise("neg", [x], span))), span)
        if found.type.rank != 1 or found.type.shape[0].constant != len(axes) or len(axes) not in (2, 3):
            what = f"`curl` on {len(axes)} coordinates is not defined for {found.type}"
            return self.ev.error("NDL342", what, span)
        u = [self._component(found, j, span) for j in range(len(axes))]

        def cross(i: int, j: int) -> Any:
            return sub("-", self.partial(u[j], axes[i], span), self.partial(u[i], axes[j], span), span)

        if len(axes) == 2:
            return cross(0, 1)
        return self.ev.value(ListV((cross(1, 2), cross(2, 0), cross(0, 1))), span)

    def dn(self, v: Any, span: Span) -> Any:
        """The derivative along the outer normal, in an integral along a boundary."""
        found = self._value(v, span)
        mesh = None if found is None else self.weak.mesh(found)
        if mesh is not None and found is not None:
            return self.weak.dn(found, mesh, span)
        if self.places.side is not None:
            axis, end = self.places.side
            slope = self.partial(v, axis.name, span)
            return slope if end == "high" else self.ev.elementwise("neg", [slope], span)
        return self.ev.error(
            "NDL342",
            "`dn` is the slope at a boundary",
            span,
            help="it stands in `on boundary(Omega): dn(u) = 0` and in integrals along a boundary",
        )

    # ------------------------------------------------------------ one axis

    def _multiplied(self, v: Value, terms: Sequence[tuple[float, Mapping[Axis, int]]], span: Span) -> Value:
        """A sum of derivatives by Fourier series."""
        axes = [a for a in v.axes if any(a in degrees for _, degrees in terms)]
        sizes = [self.space.grid_axis(a) for a in axes]
        made = self.op(
            "multiplier",
            full(v),
            span,
            axes=tuple(v.axes.index(a) for a in axes),
            lengths=tuple(a.upper - a.lower for a in sizes),
            terms=tuple((c, tuple(degrees.get(a, 0) for a in axes)) for c, degrees in terms),
        )
        return split(made, v.axes)

    def truncated(self, v: Value, span: Span) -> Value:
        """A field with the modes that a dealiased grid keeps."""
        on_grids = [a for a in v.axes if a in self.space.owner and self.space.mesh_of(a) is None]
        on_grids = [a for a in on_grids if not self.space.scattered(a)]
        axes = [a for a in on_grids if self.space.grid_axis(a).kept is not None]
        if not axes:
            return v
        kept = tuple(self.space.grid_axis(a).kept for a in axes)
        places = tuple(v.axes.index(a) for a in axes)
        return split(self.op("truncate", full(v), span, axes=places, kept=kept), v.axes)

    def along(self, v: Value, axis: Axis, degree: int, span: Span) -> Value:
        """The derivative along one axis, with what the conditions say at its ends."""
        subject = self.conditions.subject(v)
        if subject and self.conditions.apart(subject.prefix, subject.name, axis, subject.component):
            return self.conditions.each(v, lambda _, part: self.along(part, axis, degree, span), span)
        parted = self.conditions.parts_of(v, axis)
        if parted is None:
            return self._with_ends(v, axis, degree, self.conditions.of(v, axis), span)
        prefix, sides = parted
        return combined(
            self.conditions,
            prefix,
            sides,
            lambda low, high: self._with_ends(v, axis, degree, (low, high), span),
        )

    def _with_ends(self, v: Value, axis: Axis, degree: int, ends: Closures, span: Span) -> Value:
        v = self.conditions.pinned(v, axis, ends, span)
        if self.space.grid_axis(axis).kind == "chebyshev":
            return self._dense(v, axis, degree, ends, span)
        return self._difference(v, axis, degree, ends, span)

    def _difference(self, v: Value, axis: Axis, degree: int, ends: Closures, span: Span) -> Value:
        grid = self.space.grid_axis(axis)
        low, high = (FREE if c is None else SLOPE if c.kind == SLOPE else VALUE for c in ends)
        s = stencil(degree, grid.order, grid.periodic, grid.first, low, high)
        place, h = v.axes.index(axis), grid.step
        made = self.op("stencil", full(v), span, axis=place, periodic=grid.periodic, transposed=False,
                       scale=h**-degree, **floats(s))  # fmt: skip
        total: Any = split(made, v.axes)
        for c, side, row in zip(ends, ("low", "high"), (s.low_data, s.high_data)):
            if c is not None and any(row):
                scale = h ** (1 - degree) if c.kind == SLOPE else h**-degree
                weights = tuple(map(float, row))
                total = self._with_end(total, v, axis, c, span, side=side, weights=weights, scale=scale)
        return total  # type: ignore[no-any-return]

    def _with_end(self, total: Value, v: Value, axis: Axis, c: Condition, span: Span, **attrs: Any) -> Any:
        """A derivative with the share of what is known at one end."""
        datum = self.conditions.datum(c, v)
        if is_number(datum) and datum == 0:
            return total
        rest = tuple(a for a in v.axes if a is not axis)
        flat = self.conditions.shaped(datum, rest, v.type, span)
        place, n = v.axes.index(axis), self.space.grid_axis(axis).n
        share = split(self.op("lift", flat, span, axis=place, n=n, **attrs), v.axes)
        return self.ev.binary("+", total, share, span)

    def _dense(self, v: Value, axis: Axis, degree: int, ends: Closures, span: Span) -> Value:
        """By the matrix of the polynomial through Chebyshev points."""
        grid = self.space.grid_axis(axis)
        sides = [side for c, side in zip(ends, ("low", "high")) if c is not None and c.kind == SLOPE]
        matrix = self.source("chebyshev", span, layout=grid.layout, degree=degree, slopes=tuple(sides))
        place, count = v.axes.index(axis), len(v.axes) + v.type.rank
        letters = "abcdefghklmnopqrst"[:count]
        inside = letters[:place] + "j" + letters[place + 1 :]
        equation = f"ij,{inside}->{inside.replace('j', 'i')}"
        made = self.ev.builder.op("einsum", [matrix, full(v)], span, {"equation": equation})
        total: Any = split(made, v.axes)
        for c, side in zip(ends, ("low", "high")):
            if c is None or side not in sides:
                continue
            if degree == 1:
                total = self._with_end(total, v, axis, c, span, side=side, weights=(1.0,), scale=1.0)
                continue
            datum = self.conditions.datum(c, v)
            if is_number(datum) and datum == 0:
                continue
            first = self.source("chebyshev", span, layout=grid.layout, degree=degree - 1, slopes=())
            column = self.op("index", first, span, axis=1, at=0 if side == "low" else grid.n - 1)
            share = self.ev.binary("*", split(column, (axis,)), datum, span)
            total = self.ev.binary("+", total, share, span)
        return total  # type: ignore[no-any-return]

    # ------------------------------------------------------------ integrals

    def integral(self, v: Any, axes: Sequence[Axis], span: Span) -> Any:
        """The integral over some axes by the quadrature that belongs to their grids."""
        total = self._value(v, span)
        if total is None:
            return UNKNOWN
        mesh = self.on_mesh(axes)
        if mesh is not None:
            return self.weak.integral(total, mesh, span)
        for axis in axes:
            product = self.ev.binary("*", total, self._axis_weights(axis, span), span)
            total = reduce_axes(self.ev, "sum", product, [axis], span)
        return total

    def _axis_weights(self, axis: Axis, span: Span) -> Value:
        """The weights of the quadrature along an axis."""
        grid = self.space.grid_axis(axis)
        plain = grid.periodic or grid.kind == "chebyshev"
        ends = () if plain else tuple(map(float, end_weights(grid.order, grid.cells)))
        return split(self.source("grid_weights", span, layout=grid.layout, ends=ends), (axis,))

    def weights(self, axes: Sequence[Axis], span: Span) -> Any:
        """The weights of the integral over the axes of grids among some; None without any."""
        own = [a for a in axes if a in self.space.owner]
        if self.on_mesh(own) is not None:
            return self.ev.not_lowered("the transpose of a map on a mesh", span)
        total: Any = None
        for axis in own:
            w = self._axis_weights(axis, span)
            total = w if total is None else self.ev.binary("*", total, w, span)
        return total

    def cell_power(self, axes: Sequence[Axis], power: float, span: Span) -> Any:
        """A power of the size of the cell of each point."""
        total: Any = 1.0
        mesh = self.on_mesh(axes)
        if mesh is not None:
            if not mesh.fem.lumped:
                return self.ev.not_lowered("noise with a consistent mass matrix", Span())
            return self.ev.binary("^", self.weak.data(mesh, "weight"), power, Span())
        for axis in axes:
            grid = self.space.grid_axis(axis)
            share: Any = grid.step**power
            if grid.kind == "chebyshev":
                w = split(self.source("grid_weights", span, layout=grid.layout, ends=()), (axis,))
                share = self.ev.binary("^", w, power, span)
            total = self.ev.binary("*", total, share, span)
        return total

    def over(self, found: Any, name: str) -> Any:
        """The context in which the integrand over a mesh or its boundary is read."""
        return self.weak.over(found, name)

    def reduce_boundary(self, name: str, v: Any, part: BoundaryV, scope: Any, span: Span) -> Any:
        """`integral` over a part of the boundary of a mesh."""
        mesh = self.space.meshes[part.domain.name]
        if name != "integral":
            return self.ev.not_lowered(f"`{name}` over a boundary of a mesh", span)
        return self.weak.integral(v, mesh, span, mesh.part(span, part, scope, part.faces))

    def reduce(self, name: str, v: Any, domain: DomainV, span: Span) -> Any:
        """`integral`, `mean`, `max`, `min` over a mesh."""
        axes = self.space.add(self.ev, domain, span)
        if name in ("integral", "mean"):
            found = self.integral(v, axes, span)
            size = float(self.space.meshes[domain.name].elements.lumped.sum())
            return found if name == "integral" else self.ev.binary("/", found, size, span)
        value = self._value(v, span)
        if value is None:
            return UNKNOWN
        if name not in ("max", "min"):
            return self.ev.not_lowered(f"`{name}` over a domain", span)
        return reduce_axes(self.ev, "amax" if name == "max" else "amin", value, axes, span)


def floats(s: Stencil) -> dict[str, Any]:
    """The weights of a stencil as attributes."""
    rows = {"low": s.low, "high": s.high}
    found: dict[str, Any] = {"offset": s.offset, "center": tuple(map(float, s.center))}
    return found | {k: tuple(tuple(map(float, row)) for row in v) for k, v in rows.items()}


def grid_type(type_: Tensor, axes: Sequence[Axis]) -> Tensor:
    """The type of a field as it is stored."""
    return replace(type_, shape=(*(a.extent for a in axes), *type_.shape), on=None, unit=None)
