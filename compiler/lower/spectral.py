"""Functions of linear maps of fields, `exp(t*lap) @ u`, `(identity - a*lap)^-1 @ u`, by their eigenvectors.

On Fourier grids these are the waves, of any map with constant coefficients. On others they are those of the
second derivative along each axis with the homogeneous conditions of the state, of maps made of `lap`, `dxx`
and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.boundaries import SLOPE, VALUE, Condition
from ndl.compiler.check.linearized import model_maps
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import UNKNOWN, Axis, Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.grid import FREE, stencil
from ndl.compiler.lower.map_functions import by_products, of_argument
from ndl.compiler.lower.map_matrices import by_matrix
from ndl.compiler.ops.families.spectra import many
from ndl.compiler.passes.fourier import diagonal
from ndl.compiler.source import Span

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields

Basis = tuple[Any, ...]


def by_modes(fields: Fields, map_: Map, v: Value, span: Span) -> Any:
    """A function of maps of a field."""
    axes = tuple(a for a in v.axes if a in fields.space.owner)
    if not v.axes and v.type.rank <= 1:
        return by_matrix(fields.ev, map_, v, span)
    if not axes:
        return fields.ev.not_lowered("a function of a map of what is no field", span)
    if fields.on_mesh(axes) is not None:
        return by_products(fields, map_, v, span)
    try:
        return _diagonal_one(fields, map_, v, axes, span)
    except NotDiagonal:
        return by_products(fields, map_, v, span)


class NotDiagonal(Exception):
    """The map has no eigenvectors that are known from the grid."""


def _diagonal_one(fields: Fields, map_: Map, v: Value, axes: Sequence[Axis], span: Span) -> Any:
    if any(_varies(m) for m in _numbers(map_)):
        raise NotDiagonal
    if all(fields.space.grid_axis(a).kind == "fourier" for a in axes):
        return _by_waves(fields, map_, v, axes, span)
    if any(True for _ in model_maps(map_)):
        raise NotDiagonal
    conditions, s = fields.conditions, fields.conditions.subject(v)
    if s and any(conditions.apart(s.prefix, s.name, a, s.component) for a in axes):
        return conditions.each(v, lambda _, part: by_modes(fields, map_, part, span), span)
    return _by_eigenvectors(fields, map_, v, axes, span)


# ------------------------------------------------------------ Fourier grids


def _by_waves(fields: Fields, map_: Map, v: Value, axes: Sequence[Axis], span: Span) -> Any:
    ev = fields.ev
    grids = [fields.space.grid_axis(a) for a in axes]
    shape, lengths = tuple(g.n for g in grids), tuple(g.upper - g.lower for g in grids)
    places = tuple(v.axes.index(a) for a in axes)
    whole = {"whole": True} if v.type.kind == "C" or map_.complex else {}

    def base(leaf: Map) -> Any:
        terms: Any = ((1.0, (0,) * len(axes)),)
        if leaf.op == "base":
            made = _diagonal(fields, lambda probe: leaf.on(ev, probe, span), v, span)
            if made is None:
                raise NotDiagonal
            if not whole and any(isinstance(c, complex) for c, _ in made[2]):
                what = "this map makes a real field complex, and is not yet lowered: apply it to `u + 0i`,"
                return ev.not_lowered(what, span)
            terms = tuple((c, tuple(dict(zip(made[0], d)).get(p, 0) for p in places)) for c, d in made[2])
        found = fields.source("symbol", span, shape=shape, lengths=lengths, terms=terms, **whole)
        turned = any(sum(degrees) % 2 or isinstance(c, complex) for c, degrees in terms)
        return found if turned else fields.op("real", found, span)

    s = ev.value(map_.symbol(ev, base, span), span)
    if isinstance(s, Unknown):
        return UNKNOWN
    return split(ev.builder.op("modal", [full(v), s], span, {"axes": places, **whole}), v.axes)


def _diagonal(fields: Fields, map_: Callable[[Value], Any], v: Value, span: Span) -> Any:
    """What a map multiplies the modes of a field by: axes, lengths and terms, or None."""
    # a value of its own: what the map reads besides its argument may be `v` as well
    probe = split(fields.op("stop_gradient", full(v), span), v.axes)
    found = fields.ev.value(map_(probe), span)
    if not isinstance(found, Value) or found.axes != v.axes:
        return None
    return diagonal(fields.ev.lowering.graph, found.ref, probe.ref)


# ------------------------------------------------------------ other grids


def _by_eigenvectors(fields: Fields, map_: Map, v: Value, axes: Sequence[Axis], span: Span) -> Any:
    ev = fields.ev
    bases = tuple(_basis(fields, v, a, span) for a in axes)
    shape = tuple(map(many, bases))
    letters = {a.name: k for k, a in enumerate(axes)}

    def along(k: int) -> Value:
        values = fields.source("axis_spectrum", span, basis=bases[k])
        return fields.op("expand", values, span, shape=shape, axes=(k,)) if len(shape) > 1 else values

    def base(leaf: Map) -> Any:
        if leaf.op == "identity":
            return fields.op("expand", fields.source("const", span, value=1.0), span, shape=shape, axes=())
        if leaf.name == "lap":
            total: Any = along(0)
            for k in range(1, len(shape)):
                total = ev.binary("+", total, along(k), span)
            return total
        if len(leaf.name) == 2 and leaf.name[0] == leaf.name[1] and leaf.name[0] in letters:
            return along(letters[leaf.name[0]])
        inner = of_argument(fields, leaf, span)
        if inner is None or any(_varies(m) for m in _numbers(inner)):
            raise NotDiagonal
        return inner.symbol(ev, base, span)

    s = ev.value(map_.symbol(ev, base, span), span)
    if isinstance(s, Unknown):
        return UNKNOWN
    places = tuple(v.axes.index(a) for a in axes)
    return split(ev.builder.op("eigenmodes", [full(v), s], span, {"axes": places, "bases": bases}), v.axes)


def _numbers(map_: Map) -> list[Any]:
    """The numbers in a map."""
    return [x for m in map_.of for x in (_numbers(m) if isinstance(m, Map) else [m])]


def _varies(number: Any) -> bool:
    return isinstance(number, Value) and bool(number.axes or number.type.rank)


def _basis(fields: Fields, v: Value, axis: Axis, span: Span) -> Basis:
    """The second derivative along an axis, as `ops/families/spectra.py` describes it."""
    grid = fields.space.grid_axis(axis)
    if grid.kind == "fourier":
        return ("fourier", grid.n, grid.upper - grid.lower, (False, False))
    kinds = (FREE, FREE) if grid.periodic else _ends(fields, v, axis, span)
    pinned = (kinds[0] == VALUE and not grid.cells, kinds[1] == VALUE and not grid.cells)
    if grid.kind == "chebyshev":
        slopes = tuple(side for kind, side in zip(kinds, ("low", "high")) if kind == SLOPE)
        return ("chebyshev", grid.n, (grid.layout, slopes), pinned)
    from ndl.compiler.lower.fields import floats

    s = stencil(2, grid.order, grid.periodic, grid.first, *kinds)
    what = {"periodic": grid.periodic, "transposed": False, "scale": grid.step**-2, **floats(s)}
    return ("stencil", grid.n, tuple(sorted(what.items())), pinned)


def _ends(fields: Fields, v: Value, axis: Axis, span: Span) -> tuple[str, str]:
    """The kinds of the conditions at both ends: those of the field, or those on which all fields of the
    domain agree."""
    conditions, domain = fields.conditions, fields.space.owner[axis][0]
    own = conditions.of(v, axis)
    found = [("", own)] if any(own) else []
    if not found:
        for prefix, several in conditions.by_part.items():
            names = dict.fromkeys(c.field for c in several if c.domain.name == domain)
            for name in names:
                parts = {c.component for c in several if c.field == name}
                found += [(prefix, conditions.at_ends(prefix, name, axis, part)) for part in parts]
    kinds = {tuple(None if c is None else c.kind for c in pair) for _, pair in found}
    if len(kinds) != 1 or None in next(iter(kinds)):
        what = "none" if not kinds else "several" if len(kinds) > 1 else "none at one end"
        raise fail(
            "NDL590",
            f"a function of this map takes the state's conditions along `{axis.name}`, and there are {what}",
            span,
            help=f"apply it to a field that has a value or a slope on both sides of `{domain}`",
        )
    prefix, pair = found[0]
    for c in pair:
        if c is not None and c.kind == SLOPE and _reads_itself(fields, c, prefix):
            raise NotDiagonal
    low, high = next(iter(kinds))
    return str(low), str(high)


def _reads_itself(fields: Fields, c: Condition, prefix: str) -> bool:
    """Whether a slope depends on the field itself."""
    datum = fields.conditions.data(c, prefix, 0)
    if not isinstance(datum, Value):
        return False
    nodes = fields.ev.lowering.graph.needed([datum.ref])
    return any(n.op == "input" and n.attr("name") == prefix + c.field for n in nodes)
