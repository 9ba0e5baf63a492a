"""Draws: a random value as an input of the functions that read it.

Where a law's arguments are known when compiling, the run draws from that law. Where they are computed, the
run draws from the law's standard form and the graph carries the number through the law, so that gradients
reach the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import split
from ndl.compiler.check.covariances import covariance_of
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.operators import draw_value
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, DistV, ListV, RangeV, Unknown, Value
from ndl.compiler.check.varied import Varied
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.lower.builder import GraphBuilder, constant_of
from ndl.compiler.lower.field_waves import Place
from ndl.compiler.lower.random_fields import random_field
from ndl.compiler.lower.regions import known_law
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.sites import GraphSite

Carry = Callable[[Evaluator, Any, list[Any], Span], Any]


def _affine(ev: Evaluator, z: Any, args: list[Any], span: Span) -> Any:
    shift, scale = _two(args)
    return ev.binary("+", shift, ev.binary("*", scale, z, span), span)


def _between(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    low, high = _two(args)
    return ev.binary("+", low, ev.binary("*", ev.binary("-", high, low, span), u, span), span)


def _lognormal(ev: Evaluator, z: Any, args: list[Any], span: Span) -> Any:
    return ev.elementwise("exp", [_affine(ev, z, args, span)], span)


def _exponential(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    rate = args[0] if args else 1.0
    return ev.binary("/", ev.elementwise("neg", [ev.elementwise("log", [u], span)], span), rate, span)


def _bernoulli(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    inside = ev.compare("<", u, args[0] if args else 0.5, span, ())
    return ev.choose(inside, 1.0, 0.0, span)


def _two(args: list[Any]) -> tuple[Any, Any]:
    return (args[0] if args else 0.0), (args[1] if len(args) > 1 else 1.0)


CARRIED: dict[str, tuple[str, Carry]] = {
    "normal": ("normal", _affine),
    "lognormal": ("normal", _lognormal),
    "laplace": ("laplace", _affine),
    "cauchy": ("cauchy", _affine),
    "uniform": ("uniform", _between),
    "exponential": ("uniform", _exponential),
    "bernoulli": ("uniform", _bernoulli),
}
"""Laws as functions of a draw from a standard law."""


def drawn(site: GraphSite, owner: Elaboration, stmt: tree.Draw, found: Any) -> Any:
    """`z: T ~ law [per step]` of a model."""
    if not isinstance(found, Value):
        raise fail("NDL490", f"the draw `{stmt.name}` is not yet lowered", stmt.span)
    law = owner.ev.eval(stmt.law, owner.scope)
    name, per = owner.prefix + stmt.name, stmt.per or "sample"
    axes = site.lowering.axes(owner, found.type, stmt.span)
    return on_grid(site.builder, owner, stmt.name, name, law, found.type, axes, stmt.span, per)


def on_grid(
    builder: GraphBuilder,
    owner: Elaboration,
    name: str,
    shown: str,
    law: Any,
    type_: Tensor,
    axes: Sequence[Axis],
    span: Span,
    per: str = "sample",
) -> Any:
    """A draw in the shape of a field where it has `axes`; a law without a covariance map gives the point of a
    grid numbers of their own."""
    if not axes:
        return draw_of(builder, owner.ev, shown, law, type_, span, per)
    if covariance_of(law) is not None:
        place = Place(tuple(axes), owner.prefix, name, Tensor(type_.kind, type_.shape))
        return random_field(builder, owner.ev, shown, law, place, span, per)
    plain = Tensor(type_.kind, (*(a.extent for a in axes), *type_.shape))
    return split(draw_of(builder, owner.ev, shown, law, plain, span, per), tuple(axes))


def fresh_draw(owner: Elaboration, stmt: tree.Draw, scope: Scope, event: int) -> Any:
    """A draw in a `when`: a new one for each firing."""
    found = draw_value(owner.ev, stmt, scope)
    if not isinstance(found, Value):
        raise fail("NDL490", f"the draw `{stmt.name}` is not yet lowered", stmt.span)
    law = owner.ev.eval(stmt.law, scope)
    name = f"{owner.prefix}{stmt.name} of event {event}"
    site: Any = owner.site
    return draw_of(site.builder, owner.ev, name, law, found.type, stmt.span, "firing", event)


def operator_draw(ev: Evaluator, stmt: tree.Draw, scope: Scope) -> Any:
    """`keep: R[c] ~ bernoulli(1 - p)` in an operator: one for each sample and application."""
    found = draw_value(ev, stmt, scope)
    if not isinstance(found, Value) or any(d.constant is None for d in found.type.shape):
        raise fail("NDL490", f"the draw `{stmt.name}` is not yet lowered", stmt.span)
    if stmt.per is not None:
        raise fail("NDL490", f"a draw per {stmt.per} in an operator is not yet lowered", stmt.span)
    builder: Any = ev.builder
    name = stmt.name
    while name in builder.weights.draws:
        name += "_"  # a turn of a `for` draws anew
    return draw_of(builder, ev, name, ev.eval(stmt.law, scope), found.type, stmt.span)


def member_of(site: GraphSite, owner: Elaboration, name: str, one: Varied, type_: Tensor) -> Any:
    """What a name of a part is in one instance of its family. The names of a drawn instance share the
    stream of their part, so that they are those of one member of a listed family."""
    builder = site.builder
    shown, value = owner.prefix + name, one.get()
    axes = site.lowering.axes(owner, type_, one.span)
    plain, per = Tensor(type_.kind, type_.shape), "sample" if one.drawn else "member"
    if not one.listed:
        return on_grid(builder, owner, name, shown, value, plain, axes, one.span, per)
    listed = constant_of(
        ListV(tuple(owner.ev.integers(value, one.span) or ())) if isinstance(value, RangeV) else value
    )
    if not isinstance(listed, tuple) or not listed:
        raise fail(
            "NDL512",
            f"the members of `{shown}` are not a list that is known when compiling",
            one.span,
            help=f"draw from a law, `{name} ~ …`, or write the members as numbers",
        )
    plain = Tensor(type_.kind, (*(a.extent for a in axes), *type_.shape))
    builder.weights.draws[shown] = DrawSpec(shown, plain, "members", (listed,), per, stream=owner.prefix)
    return split(builder.drawn(shown, plain, one.span), axes)


def draw_of(
    builder: GraphBuilder,
    ev: Evaluator,
    name: str,
    law: Any,
    type_: Tensor,
    span: Span,
    per: str = "sample",
    event: int | None = None,
) -> Any:
    """A draw's value in the graph; what the run is to draw is noted among the weights."""
    if not isinstance(law, DistV):
        raise fail("NDL328", f"`{name}` is not drawn from a distribution", span)
    if covariance_of(law) is not None:
        raise fail("NDL586", f"`{name}` is no field of the model, and its law has a covariance map", span)
    law = known_law(ev, law, span)
    known = tuple(a if isinstance(a, str) else constant_of(a) for a in law.args)
    if all(a is not None for a in known):
        builder.weights.draws[name] = DrawSpec(name, type_, law.law, known, per, event)
        return builder.drawn(name, type_, span)
    if law.law not in CARRIED:
        raise fail("NDL349", f"the arguments of `{law.law}` must be known when compiling", span)
    standard, carry = CARRIED[law.law]
    builder.weights.draws[name] = DrawSpec(name, type_, standard, (0.0, 1.0), per, event)
    value = ev.value(carry(ev, builder.drawn(name, type_, span), list(law.args), span), span)
    if isinstance(value, Unknown):
        raise fail("NDL490", f"the draw `{name}` is not yet lowered", span)
    return value
