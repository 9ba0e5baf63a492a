"""Derivatives of expressions; series, phi functions and linear parts of right-hand sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ndl.compiler.check import fields
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    Unknown,
    Value,
    is_number,
)
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Dim, Tensor, Type

Handler = Callable[..., Any]

WORKED_OUT = (tree.Num, tree.Unary, tree.Binary, tree.Compare, tree.Conditional, tree.Call, tree.Index)
"""What has a value of its own, on which nothing else depends: a derivative by it would be 0."""


def _diff(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`diff(e, x, y, …)`: partial derivatives, one after the other."""
    return _derive(ev, e, scope, "diff")


def _jac(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`jac(e, x)`: the axes of e, then those of x."""
    return _derive(ev, e, scope, "jac")


def _jacobian_call(e: tree.Expr) -> tree.Call | None:
    """The call behind `jac(e, x)` or `jac(e, x).T`."""
    call = e.value if isinstance(e, tree.Attr) and e.name == "T" and not e.primes else e
    named = isinstance(call, tree.Call) and isinstance(call.func, tree.Name) and call.func.id == "jac"
    return call if named and isinstance(call, tree.Call) and len(call.args) == 2 else None


def is_jacobian(e: tree.Expr, scope: Scope) -> bool:
    """Whether an expression is written `jac(e, x)` or `jac(e, x).T`."""
    found = scope.find("jac") if _jacobian_call(e) is not None else None
    return isinstance(found, Builtin) and found.name == "jac"


def product_with_jacobian(ev: Evaluator, e: tree.Expr, right: Any, scope: Scope, span: Any) -> Any:
    """`jac(e, x) @ v`, `jac(e, x).T @ v` in a compiled formula as a derivative along v, or a pullback, and in
    one of fields for the checker; None where the Jacobian is wanted as it is."""
    call, v = _jacobian_call(e), ev.value(right, span)
    assert call is not None
    if isinstance(v, Unknown):
        return None
    if ev.checking:
        if v.type.on in (None, "time"):
            return None
        value = ev.eval(call.args[0].value, scope)
        ev.eval(call.args[1].value, scope)
        return value if isinstance(value, Value) and not isinstance(e, tree.Attr) else v
    along = getattr(ev.builder, "along_vector", None)
    if along is None:
        return None
    turned = isinstance(e, tree.Attr)
    return along(ev, call.args[0].value, call.args[1].value, v, scope, turned, span)


def _grad(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`grad(u)` of a field; `grad(e, x)` by a vector; `grad(e, model.params)`."""
    if len(e.args) == 1:
        return fields.gradient(ev, ev.eval(e.args[0].value, scope), e, scope)
    return _derive(ev, e, scope, "grad")


def _series(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`series(f, x, t, p)` in a step: coefficients 0, …, p of the solution of x' = f(x, t) through x at t."""
    f, x, t, order = args
    if not isinstance(order, int) or order < 1:
        if isinstance(order, Unknown):
            return UNKNOWN
        return ev.error("NDL313", "the order of a series must be a whole number known when compiling", e.span)
    make = getattr(f, "series", None)
    if make is None:
        what = "`series` is of the right-hand side that a step is given"
        return ev.error("NDL351", what, e.args[0].span, help="write `series(f, x, t, order)`")
    return make(ev, x, t, order, e.span)


def _phi(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`phi(f, k, h, v)` in a step: phi_k(h L) v for the linear part L of f; phi_0 is the exponential."""
    f, order, h, v = args
    if isinstance(order, Unknown):
        return UNKNOWN
    if not isinstance(order, int) or order < 0:
        what = "the number of a phi function must be a whole number known when compiling"
        return ev.error("NDL313", what, e.args[1].span)
    make = getattr(f, "phi", None)
    return _no_linear_part(ev, e) if make is None else make(ev, order, h, v, e.span)


def _linear_part(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`linear_part(f, v)` in a step: L v for the linear part L of f that is known as a formula."""
    make = getattr(args[0], "linear_part", None)
    return _no_linear_part(ev, e) if make is None else make(ev, args[1], e.span)


def _no_linear_part(ev: Evaluator, e: tree.Call) -> Any:
    what = f"`{e.func.span.text}` is of the right-hand side that a step is given"
    return ev.error("NDL351", what, e.args[0].span, help="its first argument is the step's `f`")


def _derive(ev: Evaluator, e: tree.Call, scope: Scope, kind: str) -> Any:
    by = [a.value for a in e.args[1:]]
    worked = next((b for b in by if isinstance(b, WORKED_OUT)), None)
    if worked is not None:
        help = f"write a function, `fn g(z) = {e.func.span.text}(…, z)`, and `g({worked.span.text})`"
        if isinstance(worked, tree.Index):
            x, k = worked.value.span.text, ", ".join(i.span.text for i in worked.items)
            help = f"write `jac({e.args[0].value.span.text}, {x})[{k}]`"
        return ev.error("NDL353", "derivatives are by names", worked.span, help=help)
    if ev.checking:
        v = ev.eval(e.args[0].value, scope)
        stored = _stored(ev, e.args[0].value, by)
        if stored is not None:
            letters = "".join(b.span.text for b in by)
            what = f"`{kind}` by a coordinate is of a formula, and `{stored}` is a field known by its values"
            return ev.error("NDL554", what, e.span, help=f"write `d{letters}({e.args[0].value.span.text})`")
        found = [ev.eval(b, scope) for b in by]
        if not isinstance(v, Value):
            v = ev.value(v, e.span) if is_number(v) else UNKNOWN
        shape: tuple[Dim, ...] = v.type.shape if isinstance(v, Value) else ()
        for x in found:
            if is_number(x):
                continue
            if not isinstance(x, Value) or not isinstance(v, Value):
                return UNKNOWN
            if kind == "grad" and v.type.rank:
                return ev.error("NDL346", f"`grad` is of a scalar, not of {v.type}", e.span, help="use `jac`")
            shape = (*shape, *x.type.shape) if kind != "diff" or not v.type.rank else shape
        return Value(Tensor("R", shape)) if isinstance(v, Value) else UNKNOWN
    return ev.worker.derive(ev, e.args[0].value, by, scope, kind, e.span)


def _stored(ev: Evaluator, e: tree.Expr, by: list[tree.Expr]) -> str | None:
    """A field that an expression reads, where it is differentiated by a coordinate."""
    coordinates = getattr(ev.context, "coordinates", {})
    if not any(isinstance(b, tree.Name) and b.id in coordinates for b in by):
        return None
    parts, seen, waiting = ev.context.parts, set(), [e]
    while waiting:
        for n in walk(waiting.pop()):
            if not isinstance(n, tree.Name) or n.id in seen:
                continue
            seen.add(n.id)
            if n.id in parts.derived:
                waiting.append(parts.derived[n.id].value)
            elif n.id in {**parts.states, **parts.params, **parts.consts, **parts.inputs}:
                found = ev.context.lookup(n.id, 0)
                if isinstance(found, Value) and found.type.on not in (None, "time"):
                    return n.id
    return None


FUNCTIONS: dict[str, tuple[Handler, int, int | None, tuple[str, ...]]] = {
    "series": (_series, 4, 4, ()),
    "phi": (_phi, 4, 4, ()),
    "linear_part": (_linear_part, 2, 2, ()),
}
"""By name: handler, least and most arguments, options."""

RAW: dict[str, tuple[Handler, int, int | None]] = {
    "diff": (_diff, 2, None),
    "jac": (_jac, 2, 2),
    "grad": (_grad, 1, 2),
}
"""Those that read their arguments' syntax."""
