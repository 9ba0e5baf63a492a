"""`impose(e, boundary(S), g)`: a field that is g on a part of the boundary and e elsewhere; `residual(M, u)`:
what is left of a steady equation for a field."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, BoundaryV, HostV, ModelV, Unknown, describe
from ndl.compiler.syntax import tree


def impose(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """A field with given values on a part of the boundary of its domain. Errors: NDL480."""
    field, part, given = args
    if any(isinstance(a, (Unknown, HostV)) for a in args):
        return UNKNOWN
    if not isinstance(part, BoundaryV):
        what = f"`impose` gives values on a part of a boundary, not on {describe(part)}"
        return ev.error("NDL480", what, e.args[1].span, help="write `impose(u, boundary(Omega), g)`")
    v, g = (ev.value(a, x.span) for a, x in zip((field, given), (e.args[0], e.args[2])))
    if isinstance(v, Unknown) or isinstance(g, Unknown):
        return UNKNOWN
    for value, written in ((v, e.args[0]), (g, e.args[2])):
        if value.type.on not in (None, part.domain.name):
            what = f"a field on `{value.type.on}` has no values on `{part.text}`"
            return ev.error("NDL480", what, written.span)
    if ev.checking:
        fields = v.type.on is not None and g.type.on is not None  # of arrays the run knows the axes
        if fields and g.type.rank and g.type.shape != v.type.shape:
            what = f"`{part.text}` is given {g.type}, and the field is {v.type}"
            return ev.error("NDL480", what, e.args[2].span)
        return v
    if ev.fields is not None:
        from ndl.compiler.lower.imposed import impose as lowered

        return lowered(ev.fields, v, part, g, scope, e.span)
    return UNKNOWN if ev.host is None else ev.host.imposed(v, part, g, e.span)


def residual(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """F of the model `0 = F` for a field in the place of its state. Errors: NDL479."""
    model, field = args
    if isinstance(model, (Unknown, HostV)) or isinstance(field, (Unknown, HostV)):
        return UNKNOWN
    target = getattr(model, "source", None) or model
    if not isinstance(target, ModelV):
        what = f"`residual` is of a model's equations, and this is {describe(model)}"
        return ev.error("NDL479", what, e.args[0].span, help="write `residual(Poisson, u)`")
    from ndl.compiler.check.applications import parts_of

    parts = parts_of(ev, target.decl)
    if len(parts.states) != 1 or parts.rates or not (parts.zeros or parts.energies):
        return ev.error(
            "NDL479",
            f"`{target.decl.name}` is no steady equation of one state",
            e.args[0].span,
            notes=("`residual(M, u)` is what `0 = …` leaves for u",),
            help="of equations in time, write the residual of a step as a steady model",
        )
    v = ev.value(field, e.args[1].span)
    if isinstance(v, Unknown) or ev.checking:
        return v
    if ev.host is None or ev.fields is not None:
        return ev.not_lowered("`residual` inside of a model", e.span)
    return ev.host.residual_of(model, target, next(iter(parts.states)), v, e.span)
