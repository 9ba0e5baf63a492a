"""Random fields in a model's graph: the run draws a standard normal for each wave, the graph makes of them
the field m + K^(1/2) xi, so that gradients reach what m and K are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.boundaries import Component
from ndl.compiler.check.calls import apply
from ndl.compiler.check.covariances import (
    LAWS,
    covariance_of,
    formula,
    kernel_of,
    negative,
    no_function_of_lap,
)
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import Closure, DistV, FnV, Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.lower.builder import GraphBuilder, constant_of
from ndl.compiler.lower.field_waves import Line, Place, components_of, coordinates_of, lines_of
from ndl.compiler.lower.kernel_fields import RootLine, kernel_line
from ndl.compiler.lower.weights import worked_out
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator

WAVES = "waves"
"""As in `ndl.runtime.draws`."""
RANDOM_FIELD = "random_field"
"""As in `ndl.runtime.weights`."""


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
    with ev.fields.weak.at("node"):
        parts = _parts(ev, covariance, place, law.span or span)
        most = tuple(max(line.waves.extent.constant or 0 for line in each) for each in zip(*parts.values()))
        type_ = Tensor("R", (*map(Dim.of, most), *place.components.shape))
        builder.weights.draws[shown] = DrawSpec(shown, type_, WAVES, (len(most),), per, event)
        normals = builder.drawn(shown, type_, span)

        def made(component: Component) -> Value:
            if component in parts:
                own = _of_component(ev, normals, component, len(most), parts[component], span)
                return coloured(ev, covariance, own, parts[component], law.span or span)
            count = place.components.shape[len(component)].constant or 0
            found = ev.op("stack", [made((*component, j)) for j in range(count)], span, axis=0)
            assert isinstance(found, Value)
            return found

        found = ev.value(ev.binary("+", mean_of(ev, law, place, span), made(()), span), span)
        if law.law == "lognormal":
            found = ev.value(ev.elementwise("exp", [found], span), span)
    if isinstance(found, Unknown):
        raise fail("NDL490", f"the draw `{shown}` is not yet lowered", span)
    read: Value = ev.fields.leaf(found, "")
    return read


def _parts(ev: Evaluator, covariance: Map, place: Place, span: Span) -> dict[Component, list[Line]]:
    """The waves of each component that has its own, or of all together, ()."""
    if kernel_of(covariance) is not None:
        return {(): [kernel_line(ev, covariance, place.axes, span)]}
    fields = ev.fields
    return {c: lines_of(fields, place, span, c) for c in components_of(fields, place)}


def _of_component(
    ev: Evaluator, normals: Value, component: Component, axes: int, lines: Sequence[Line], span: Span
) -> Value:
    """The numbers for the waves of one component: where it has fewer than others, the first ones."""
    found: Any = normals
    for j in component:
        found = ev.op("index", [found], span, axis=axes, at=j)
    for k, line in enumerate(lines):
        count = line.waves.extent.constant
        if found.type.shape[k].constant != count:
            found = ev.op("slice", [found], span, axis=k, start=0, stop=count)
    assert isinstance(found, Value)
    return split(found, tuple(line.waves for line in lines))


def mean_of(ev: Evaluator, law: DistV, place: Place, span: Span) -> Any:
    """The mean of a law; a formula at the points of the grid."""
    if not isinstance(law.args[0], (Closure, FnV)):
        return law.args[0]
    points = coordinates_of(ev.fields, place.axes, span)
    return apply(ev, law.args[0], points, {}, span, None)


def coloured(ev: Evaluator, covariance: Map, normals: Value, lines: Sequence[Line], span: Span) -> Value:
    """K^(1/2) of white noise, whose coefficients by the waves of `lines` are given."""
    if kernel_of(covariance) is not None:
        return at_points(ev, normals, lines, span)
    try:
        spread = spectrum(ev, Map("^", covariance, 0.5), lines, span)
        check_sign(ev, spectrum(ev, covariance, lines, span), span)
        coefficients = ev.value(ev.binary("*", spread, normals, span), span)
        assert isinstance(coefficients, Value)
        return at_points(ev, coefficients, lines, span)
    except NotOfWaves:
        axes = [a for line in lines for a in line.grid]
        meshed = ev.fields.on_mesh(axes) is not None
        if meshed or any(ev.fields.space.grid_axis(a).kind != "fourier" for a in axes):
            raise no_function_of_lap(span) from None
        white = at_points(ev, normals, lines, span)
        found: Value = Map("^", covariance, 0.5).on(ev, white, span)
        return found


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
        basis = full(line.basis(ev.fields, span))
        place, rank = v.axes.index(line.waves), len(line.grid)
        letters = "abcdefghklmnopqrst"[: len(v.axes) + v.type.rank - 1 + rank]
        here, around = letters[place : place + rank], (letters[:place], letters[place + rank :])
        equation = f"{here}j,{around[0]}j{around[1]}->{letters}"
        made = ev.builder.op("einsum", [basis, full(v)], span, {"equation": equation})
        assert isinstance(made, Value)
        v = split(made, (*v.axes[:place], *line.grid, *v.axes[place + 1 :]))
    return v


def starting_field(ev: Evaluator, law: DistV, place: Place, span: Span) -> tuple[str, tuple[Any, ...]]:
    """The law of a weight that is drawn as a field: what `ndl.runtime.random_fields.RandomField` takes, and
    the number of axes of the components. Raises `NDLError`."""
    covariance = covariance_of(law)
    assert covariance is not None

    def number(value: Any) -> float:
        found = constant_of(value)
        if not isinstance(found, (int, float)):
            raise fail("NDL349", f"the arguments of `{law.law}` must be known when compiling", span)
        return float(found)

    with ev.fields.weak.at("node"):
        parts = _parts(ev, covariance, place, law.span or span).values()
        mean = worked_out(ev, mean_of(ev, law, place, span), place.name, span)
    if any(isinstance(line, RootLine) for part in parts for line in part):
        raise fail("NDL349", f"the arguments of `{law.law}` must be known when compiling", span)
    lines = tuple(tuple(line.known for line in part) for part in parts)
    known = (lines, formula(covariance, number, span), mean, law.law == "lognormal")
    return RANDOM_FIELD, (*known, place.components.rank)
