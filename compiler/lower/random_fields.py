"""Random fields in a model's graph: the run draws a standard normal for each wave, the graph makes of them
the field m + K^(1/2) xi, so that gradients reach what m and K are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.boundaries import SLOPE, Condition
from ndl.compiler.check.calls import apply
from ndl.compiler.check.covariances import LAWS, covariance_of, formula, negative, no_function_of_lap
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import Axis, Closure, DistV, FnV, Unknown, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.grid import wave_count
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.lower.builder import GraphBuilder, constant_of
from ndl.compiler.lower.weights import worked_out
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.lower.fields import Fields

WAVES = "waves"
"""As in `ndl.runtime.draws`."""
RANDOM_FIELD = "random_field"
"""As in `ndl.runtime.weights`."""


@dataclass(frozen=True)
class Place:
    """The axes of a random field, the name whose conditions it takes, and the type of its components."""

    axes: tuple[Axis, ...]
    prefix: str
    name: str
    components: Tensor


@dataclass(frozen=True)
class Line:
    """One axis of the grid, the waves along it as another axis, and the attributes of their ops."""

    grid: Axis
    waves: Axis
    attrs: dict[str, Any]


class NotOfWaves(Exception):
    """A map with a leaf that is not `lap`."""


def random_field(
    builder: GraphBuilder,
    ev: Evaluator,
    shown: str,
    law: DistV,
    place: Place,
    span: Span,
    per: str = "sample",
    event: int | None = None,
) -> Value:
    """A draw from `normal(m, K)` or `lognormal(m, K)`. Raises `NDLError`."""
    covariance = covariance_of(law)
    assert covariance is not None and law.law in LAWS
    lines = lines_of(ev.fields, place, span)
    waves = tuple(line.waves for line in lines)
    type_ = Tensor("R", (*(w.extent for w in waves), *place.components.shape))
    builder.weights.draws[shown] = DrawSpec(shown, type_, WAVES, (len(waves),), per, event)
    normals = split(builder.drawn(shown, type_, span), waves)
    centred = coloured(ev, covariance, normals, lines, law.span or span)
    found = ev.value(ev.binary("+", mean_of(ev, law, place, span), centred, span), span)
    if law.law == "lognormal":
        found = ev.value(ev.elementwise("exp", [found], span), span)
    if isinstance(found, Unknown):
        raise fail("NDL490", f"the draw `{shown}` is not yet lowered", span)
    return found


def mean_of(ev: Evaluator, law: DistV, place: Place, span: Span) -> Any:
    """The mean of a law; a formula at the points of the grid."""
    if not isinstance(law.args[0], (Closure, FnV)):
        return law.args[0]
    domain = ev.fields.space.owner[place.axes[0]][0]
    points = [ev.fields.coordinate(domain, axis.name, span) for axis in place.axes]
    return apply(ev, law.args[0], points, {}, span, None)


def coloured(ev: Evaluator, covariance: Map, normals: Value, lines: Sequence[Line], span: Span) -> Value:
    """K^(1/2) of white noise, whose coefficients by the waves of `lines` are given."""
    try:
        spread = spectrum(ev, Map("^", covariance, 0.5), lines, span)
        check_sign(ev, spectrum(ev, covariance, lines, span), span)
        coefficients = ev.value(ev.binary("*", spread, normals, span), span)
        assert isinstance(coefficients, Value)
        return at_points(ev, coefficients, lines, span)
    except NotOfWaves:
        if any(ev.fields.space.grid_axis(line.grid).kind != "fourier" for line in lines):
            raise no_function_of_lap(span) from None
        white = at_points(ev, normals, lines, span)
        found: Value = Map("^", covariance, 0.5).on(ev, white, span)
        return found


def lines_of(fields: Fields, place: Place, span: Span) -> list[Line]:
    """The axes of a field's grid with the waves along each. Raises `NDLError` on a mesh."""
    if fields.on_mesh(place.axes) is not None:
        raise fail("NDL490", "a random field on a mesh is not yet lowered", span, help="take a box")
    found = []
    for axis in place.axes:
        grid = fields.space.grid_axis(axis)
        ends = ("", "") if grid.periodic else _ends(fields, place, axis)
        count = wave_count(grid.layout, ends)
        attrs = {"layout": grid.layout, "ends": ends, "count": count}
        found.append(Line(axis, Axis(f"wave of {axis.name}", Dim.of(count)), attrs))
    return found


def waves_of(fields: Fields, place: Place) -> tuple[tuple[Any, ...], ...]:
    """For each axis what `ndl.runtime.random_fields.Line` takes; nothing where a field has no waves."""
    if fields.on_mesh(place.axes) is not None:
        return ()
    try:
        return tuple(tuple(line.attrs.values()) for line in lines_of(fields, place, Span()))
    except NDLError:
        return ()


def _ends(fields: Fields, place: Place, axis: Axis) -> tuple[str, str]:
    """What vanishes at the ends of an axis: what the conditions of the field are about; where it has none its
    slope."""
    fields.conditions.unsplit(place.prefix, place.name, axis, "a random field")
    pair = fields.conditions.at_ends(place.prefix, place.name, axis)
    return _end(pair[0], place.name), _end(pair[1], place.name)


def _end(c: Condition | None, name: str) -> str:
    if c is None:
        return SLOPE
    inside = [n for e in (c.left, c.right) for n in walk(e) if isinstance(n, tree.Name) and n.id == name]
    if c.kind == SLOPE and len(inside) > 1:
        what = f"a random field whose condition on `{c.place}` has both `{name}` and its slope"
        raise fail("NDL490", f"{what} is not yet lowered", c.span, help=f"give `{name}` or `dn({name})`")
    return c.kind


def spectrum(ev: Evaluator, covariance: Map, lines: Sequence[Line], span: Span) -> Value:
    """What a map multiplies the waves by. Raises `NDLError`."""
    fields = ev.fields
    each = [split(fields.source("eigenvalues", span, **line.attrs), (line.waves,)) for line in lines]
    total: Any = each[0]
    for more in each[1:]:
        total = ev.binary("+", total, more, span)

    def leaf(map_: Map) -> Any:
        if map_.op == "identity":
            return ev.binary("+", ev.binary("*", 0.0, total, span), 1.0, span)
        if map_.name != "lap":
            raise NotOfWaves
        return total

    found = ev.value(covariance.symbol(ev, leaf, span), span)
    if isinstance(found, Unknown):
        raise fail("NDL490", "this covariance is not yet lowered", span)
    return found


def check_sign(ev: Evaluator, v: Value, span: Span) -> None:
    """A spectrum without parameters is looked at now."""
    graph = ev.lowering.graph
    if any(n.op in ("input", "path", "param", "call") for n in graph.needed([v.ref])):
        return
    from ndl.compiler.ir.interpret import interpret

    least = float(interpret(Function("spectrum", graph, (), (("v", v.ref),), ()), {}, {})["v"].min())
    if least < 0:
        raise negative(span, least)


def at_points(ev: Evaluator, v: Value, lines: Sequence[Line], span: Span) -> Value:
    """The sum of waves times coefficients, at the points of the grid."""
    for line in lines:
        basis = ev.fields.source("eigenbasis", span, **line.attrs)
        place, count = v.axes.index(line.waves), len(v.axes) + v.type.rank
        letters = "abcdefghklmnopqrst"[:count]
        inside = letters[:place] + "j" + letters[place + 1 :]
        equation = f"ij,{inside}->{inside.replace('j', 'i')}"
        made = ev.builder.op("einsum", [basis, full(v)], span, {"equation": equation})
        assert isinstance(made, Value)
        v = split(made, tuple(line.grid if a is line.waves else a for a in v.axes))
    return v


def starting_field(ev: Evaluator, law: DistV, place: Place, span: Span) -> tuple[str, tuple[Any, ...]]:
    """The law of a weight that is drawn as a field: what `ndl.runtime.random_fields.RandomField` takes, and
    the number of axes of the components. Raises `NDLError`."""
    covariance = covariance_of(law)
    assert covariance is not None
    lines_of(ev.fields, place, span)  # says why there are none
    lines = waves_of(ev.fields, place)

    def number(value: Any) -> float:
        found = constant_of(value)
        if not isinstance(found, (int, float)):
            raise fail("NDL349", f"the arguments of `{law.law}` must be known when compiling", span)
        return float(found)

    mean = worked_out(ev, mean_of(ev, law, place, span), place.name, span)
    known = (lines, formula(covariance, number, span), mean, law.law == "lognormal")
    return RANDOM_FIELD, (*known, place.components.rank)
