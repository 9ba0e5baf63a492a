"""The waves of a random field: eigenfunctions of the Laplacian that fit its conditions, with 0 in the place
of what they give.

On a grid they are products of waves along its axes; where a condition is about value and slope, dn(u) + b u,
those of b. On a mesh they are those of its elements (`ndl.compiler.geometry.modes`), and b may vary along the
boundary. Components with conditions of their own have waves of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.axes import full, split
from ndl.compiler.check.boundaries import SLOPE, VALUE, Component, Condition
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, Builtin, ListV, Unknown, Value, is_number
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.geometry.modes import kept_modes
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.grid import wave_count
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.ops.adjoint import extents
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.lower.fields import Fields

STORED = "stored"
"""The layout of waves that are no formulas, as in `ndl.runtime.waves`."""


@dataclass(frozen=True)
class Place:
    """The axes of a random field, the name whose conditions it takes, and the type of its components."""

    axes: tuple[Axis, ...]
    prefix: str
    name: str
    components: Tensor


@dataclass(frozen=True)
class Line:
    """Axes of the grid, mostly one, the waves along them as another axis, and the attributes of their ops."""

    grid: tuple[Axis, ...]
    waves: Axis
    attrs: dict[str, Any]

    @property
    def known(self) -> tuple[Any, ...]:
        """What `ndl.runtime.random_fields.Line` takes."""
        shape = tuple(a.extent.constant or 0 for a in self.grid)
        return (*self.attrs.values(), *([shape] if len(shape) > 1 else []))

    def basis(self, fields: Fields, span: Span) -> Value:
        """The waves at the points, with the axes of the grid and that of the waves."""
        found = fields.source("eigenbasis", span, **self.attrs)
        axes = (*self.grid, self.waves)
        if len(self.grid) > 1:
            found = fields.op("reshape", found, span, shape=tuple(a.extent.constant for a in axes))
        return split(found, axes)


def stored_line(axes: tuple[Axis, ...], key: str, count: int, points: str = "") -> Line:
    """Waves that the store has under a key; `points` names the mesh that they are on."""
    size = 1
    for a in axes:
        size *= a.extent.constant or 1
    attrs = {"layout": (STORED, size, key, points), "ends": ("", ""), "count": count}
    return Line(axes, Axis("wave", Dim.of(count)), attrs)


def coordinates_of(fields: Fields, axes: Sequence[Axis], span: Span) -> list[Value]:
    """The coordinates at the points of a grid or mesh."""
    domain, mesh = fields.space.owner[axes[0]][0], fields.on_mesh(axes)
    whole = fields.space.domains[domain] if mesh is None else mesh.domain
    return [fields.coordinate(domain, name, span) for name in whole.coordinates]


def components_of(fields: Fields, place: Place) -> list[Component]:
    """The components that have waves of their own, all of them where one does; [()] where none does."""
    domain = fields.space.owner[place.axes[0]][0]
    if not fields.conditions.split(place.prefix, place.name, domain, None):
        return [()]
    return list(itertools.product(*(range(d.constant or 0) for d in place.components.shape)))


def lines_of(fields: Fields, place: Place, span: Span, component: Component = ()) -> list[Line]:
    """The axes of a field's grid with the waves along each, of one component. Raises `NDLError`."""
    mesh = fields.on_mesh(place.axes)
    if mesh is not None:
        return [_on_mesh(fields, place, mesh, component)]
    found = []
    for axis in place.axes:
        grid = fields.space.grid_axis(axis)
        ends = ("", "") if grid.periodic else _ends(fields, place, axis, component)
        count = wave_count(grid.layout, ends)
        attrs = {"layout": grid.layout, "ends": ends, "count": count}
        found.append(Line((axis,), Axis(f"wave of {axis.name}", Dim.of(count)), attrs))
    return found


def waves_of(fields: Fields, place: Place) -> tuple[tuple[tuple[Any, ...], ...], ...]:
    """For each component with waves of its own, or all together, and each axis what
    `ndl.runtime.random_fields.Line` takes; nothing where a field has no waves."""
    if not place.axes:
        return ()
    try:
        every = [lines_of(fields, place, Span(), c) for c in components_of(fields, place)]
    except NDLError:
        return ()
    return tuple(tuple(line.known for line in lines) for lines in every)


# ---------------------------------------------------------------- conditions


def _on_mesh(fields: Fields, place: Place, mesh: MeshSpace, component: Component) -> Line:
    conditions, e = fields.weak.conditions, mesh.elements
    s = Subject(place.prefix, place.name, 0, component)
    robin = np.zeros(e.facet.weights.size)
    with fields.weak.at("facet"):
        for c, facets in conditions.of(mesh, s):
            if c.kind == SLOPE and _mixes(c, place.name):
                scope = fields.conditions.frame(place.prefix).scope
                factor = _factor(fields, c, place, component, scope, robin.shape)
                robin = np.where(mesh.at_points(facets), factor, robin)
    given = conditions.value_marks(mesh, s)
    key, count = kept_modes(e, robin.reshape(e.facet.weights.shape), given)
    return stored_line(place.axes, key, count, mesh.key)


def _ends(fields: Fields, place: Place, axis: Axis, component: Component) -> tuple[str | float, str | float]:
    """What vanishes at the ends of an axis: what the conditions of the field are about; where it has none its
    slope."""
    low, high = fields.conditions.at_ends(place.prefix, place.name, axis, component)
    return _end(fields, low, place, axis, component), _end(fields, high, place, axis, component)


def _end(fields: Fields, c: Condition | None, place: Place, axis: Axis, component: Component) -> str | float:
    if c is None:
        return SLOPE
    if c.kind == VALUE or not _mixes(c, place.name):
        return c.kind
    grid = fields.space.grid_axis(axis)
    here = {axis.name: grid.lower if c.side == "low" else grid.upper}
    scope = fields.conditions.frame(place.prefix).scope.child(here)
    factor = float(_factor(fields, c, place, component, scope, ()))
    return factor or SLOPE


def _mixes(c: Condition, name: str) -> bool:
    """Whether a condition about the slope reads the field besides."""
    inside = [n for e in (c.left, c.right) for n in walk(e) if isinstance(n, tree.Name) and n.id == name]
    return len(inside) > 1


def _factor(
    fields: Fields, c: Condition, place: Place, component: Component, scope: Scope, shape: tuple[int, ...]
) -> np.ndarray:
    """b of dn(u) + b u = 0, of `shape` along the boundary. Raises `NDLError` where it is not known, negative
    or no number, and where the condition is not linear."""
    ev = fields.ev

    def residual(value: float, slope: float) -> Any:
        own = _with_component(value, component, place.components)
        names = {place.name: own, "dn": Builtin("dn", lambda *_: slope, 1, 1)}
        inner = scope.child(names)
        return ev.binary("-", ev.eval(c.left, inner), ev.eval(c.right, inner), c.span)

    zero = residual(0.0, 0.0)
    by_value, by_slope, twice = (
        _numbers(ev, ev.binary("-", residual(*at), zero, c.span), c.span)
        for at in ((1.0, 0.0), (0.0, 1.0), (2.0, 0.0))
    )
    many = any(n is not None and n.size > 1 for n in (by_value, by_slope))
    if by_value is None or by_slope is None or twice is None or (not shape and many):
        raise _not_known(c, bool(shape))
    if np.any(np.abs(twice - 2 * by_value) > 1e-9 * np.abs(twice)):
        what = f"the waves of a random field fit a condition that is linear, and that on `{c.place}` is not"
        raise fail("NDL571", what, c.span, help=f"write `a*{c.subject} + b*dn({c.subject}) = 0`")
    found: np.ndarray = np.broadcast_to(by_value / by_slope, shape)
    if np.any(found < 0):
        what = (
            f"the condition on `{c.place}` feeds the field: dn({c.subject}) = {-found.min():.3g} {c.subject}"
        )
        hint = "write it as `b*u + dn(u) = 0` with b > 0"
        raise fail("NDL571", f"{what}, of which the waves of a random field grow", c.span, help=hint)
    return found


def _not_known(c: Condition, on_mesh: bool) -> NDLError:
    where = "" if on_mesh else ", the same all along it"
    what = f"the factors of the condition on `{c.place}` are not numbers that are known when compiling{where}"
    hint = "write numbers or constants of the file in their places"
    if not on_mesh:
        hint += "; on a mesh, `fem(size=…)`, they may read coordinates"
    return fail(
        "NDL571", what, c.span, notes=("the waves of a random field there depend on them",), help=hint
    )


def _with_component(value: float, component: Component, type_: Tensor) -> Any:
    """A field with a number in one component and 0 in others; just the number without a component."""
    if not component:
        return value
    count = type_.shape[0].constant or 0
    inner = Tensor(type_.kind, type_.shape[1:])
    zero: Any = 0.0
    for d in reversed(inner.shape):
        zero = ListV((zero,) * (d.constant or 0))
    own = _with_component(value, component[1:], inner)
    return ListV(tuple(own if j == component[0] else zero for j in range(count)))


def _numbers(ev: Evaluator, value: Any, span: Span) -> np.ndarray | None:
    """The numbers that a value is, whatever states, times and parameters are; None where these matter."""
    if is_number(value):
        return np.array(float(value))
    v = ev.value(value, span)
    if isinstance(v, Unknown):
        return None
    import torch
    from ndl.compiler.ir.interpret import interpret

    graph, ref = ev.lowering.graph, full(v).ref
    needed = graph.needed([ref])
    if any(n.op in ("call", "path", "apply") for n in needed):
        return None
    draw = torch.Generator().manual_seed(0)
    function, found = Function("numbers", graph, (), (("v", ref),), ()), []
    for _ in range(2):
        inputs, params = (
            {n.attr("name"): torch.rand(extents(n), generator=draw).double() for n in needed if n.op == op}
            for op in ("input", "param")
        )
        found.append(interpret(function, inputs, params)["v"].double().numpy())
    first, second = found
    if not np.allclose(first, second, rtol=1e-9, atol=1e-12):
        return None
    return first.flat[:1].reshape(()) if np.ptp(first) == 0 else first


__all__ = [
    "STORED",
    "Line",
    "Place",
    "components_of",
    "coordinates_of",
    "lines_of",
    "stored_line",
    "waves_of",
]
