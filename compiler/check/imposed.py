"""`impose(e, boundary(S), g)`: a field that is g on a part of the boundary and e elsewhere; `residual(M, u)`:
what is left of a steady equation for a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, BoundaryV, Closure, HostV, ModelV, TupleV, Unknown, describe
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

        return lowered(ev.fields, v, part, g, e, scope)
    return UNKNOWN if ev.host is None else ev.host.imposed(v, part, g, e.span)


def residual(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """F of the model `0 = F` for fields in the place of its states, a tuple of several; of a model with
    rates, `residual(M, t -> u, t)`, u' less the rate. Errors: NDL479."""
    model, *given = args
    if any(isinstance(a, (Unknown, HostV)) for a in args):
        return UNKNOWN
    target = getattr(model, "source", None) or model
    if not isinstance(target, ModelV):
        what = f"`residual` is of a model's equations, and this is {describe(model)}"
        return ev.error("NDL479", what, e.args[0].span, help="write `residual(Poisson, u)`")
    from ndl.compiler.check.applications import parts_of

    parts = parts_of(ev, target.decl)
    names, timed = list(parts.states), bool(parts.rates)
    wrong = _without_residual(target.decl.name, parts, len(given) - timed)
    if wrong is not None:
        steps = "of a path, `residual(M, t -> u, t)`" if timed else "of fields, `residual(M, u)`"
        return ev.error("NDL479", wrong, e.args[0].span, notes=(f"it is {steps}",), help=_asked(names, timed))
    if timed:
        *fields, time = given
        if any(not isinstance(f, Closure) for f in fields):
            what = "a model with rates has a residual along functions of time"
            return ev.error("NDL479", what, e.args[1].span, help=_asked(names, timed))
        values: list[Any] = [*fields, ev.value(time, e.args[-1].span)]
    else:
        values = [ev.value(f, a.span) for f, a in zip(given, e.args[1:])]
    if any(isinstance(v, Unknown) for v in values) or (ev.checking and timed):
        return UNKNOWN
    if ev.checking:
        return values[0] if len(values) == 1 else TupleV(tuple(values))
    if ev.host is None or ev.fields is not None:
        return ev.not_lowered("`residual` inside of a model", e.span)
    if "grid" in options:
        from ndl.compiler.check.grids import grid_choice

        options = {"grid": grid_choice(ev, options["grid"], e.span)}
    time = values.pop() if timed else None
    found = ev.host.residual_of(model, target, names, values, time, options.get("grid"), e.span)
    return found[0] if len(found) == 1 else TupleV(tuple(found))


def _without_residual(name: str, parts: Any, count: int) -> str | None:
    """Why these equations have no residual for so many fields."""
    if not parts.states or not (parts.rates or parts.zeros or parts.energies):
        return f"`{name}` has no equations for states"
    if parts.noises or any(parts.order(s) > 1 for s in parts.rates):
        return f"`{name}` has noise, or second derivatives in time: it has no residual"
    many = len(parts.states)
    if parts.rates and count == many - 1:
        return f"`{name}` changes in time: its residual is along functions of time, at a time"
    if count != many:
        return f"`{name}` has {many} state{'s' * (many > 1)}, and is given {count} values"
    return None


def _asked(names: Sequence[str], timed: bool) -> str:
    """What to write."""
    each = [f"t -> {n}" if timed else n for n in names]
    return f"write `residual(M, {', '.join(each)}{', t' if timed else ''})`"
