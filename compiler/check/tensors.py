"""Builtins of vectors and matrices, of their entries and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ndl.compiler.check import binders
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import norm_by
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    HostV,
    ListV,
    TupleV,
    Unknown,
    Value,
    describe,
    is_number,
)
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, Dim, Tensor

Handler = Callable[..., Any]


def _norm(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if len(args) == 2:
        v = ev.value(args[0], e.span)
        if isinstance(v, Unknown) or isinstance(args[1], Unknown):
            return UNKNOWN
        return norm_by(ev, v, args[1], e.span)
    if isinstance(args[0], (Unknown, HostV)):
        return UNKNOWN
    if is_number(args[0]):
        return abs(args[0])
    own = getattr(args[0], "norm", None)
    if own is not None:
        return own(ev, e.span)
    v = ev.value(args[0], e.args[0].value.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    square: Value | Unknown
    if v.type.kind == "C":
        size = ev.op("abs", [v], e.span)
        square = size if isinstance(size, Unknown) else ev.value(ev.binary("^", size, 2, e.span), e.span)
    else:
        square = ev.op("mul", [v, v], e.span)
    if isinstance(square, Unknown):
        return UNKNOWN
    total = binders.reduce_components(ev, "sum", square, e.span)
    return ev.elementwise("sqrt", [total], e.span)


def _dot(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if any(isinstance(a, (Unknown, HostV)) for a in args):
        return UNKNOWN
    product = ev.binary("*", args[0], args[1], e.span, [a.value for a in e.args])
    v = ev.value(product, e.span)
    return UNKNOWN if isinstance(v, Unknown) else binders.reduce_components(ev, "sum", v, e.span)


def _outer(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    a, b = (ev.value(x, e.span) for x in args)
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return UNKNOWN
    if a.type.rank != 1 or b.type.rank != 1:
        return ev.error("NDL344", f"`outer` wants two vectors, not {a.type} and {b.type}", e.span)
    return ev.op("einsum", [a, b], e.span, equation="a,b->ab")


def _linalg(op: str) -> Callable[..., Any]:
    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else ev.op(op, [v], e.span, [e.args[0].value])

    return handler


def _trace(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = ev.value(args[0], e.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    return ev.op("einsum", [v], e.span, [e.args[0].value], equation="aa->")


def _concat(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    values = [ev.value(a, e.span) for a in args]
    good = [v for v in values if isinstance(v, Value)]
    if len(good) < len(values):
        return UNKNOWN
    good = [ev.op("reshape", [v], e.span, shape=(1,)) if v.type.rank == 0 else v for v in good]  # type: ignore[misc]
    return ev.op("concat", good, e.span, [a.value for a in e.args], axis=int(options.get("axis", 0)))


def _reshape(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = ev.value(args[0], e.span)
    given = args[1].items if len(args) == 2 and isinstance(args[1], ListV) else args[1:]
    shape = [ev.known(a) for a in given]
    if isinstance(v, Unknown) or any(isinstance(a, Unknown) for a in given):
        return UNKNOWN
    if any(not isinstance(s, int) for s in shape):
        if ev.checking:  # a generic dimension, not yet a number
            return UNKNOWN
        wanted = "whole numbers known when compiling: `reshape(v, 8, 4)`"
        return ev.error("NDL345", f"the extents of `reshape` are {wanted}", e.span)
    return ev.op("reshape", [v], e.span, shape=tuple(shape))


def _linspace(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    a, b, n = (ev.known(x) for x in args)
    for x, given in zip((a, b), e.args, strict=False):
        if not is_number(x) and not isinstance(x, Value | Unknown):
            return ev.error("NDL311", f"an end of `linspace` must be a number, not {describe(x)}", given.span)
    if not all(is_number(x) for x in (a, b)) or not isinstance(n, int):
        return UNKNOWN
    if not 2 <= n <= 10_000_000:
        return ev.error("NDL345", f"`linspace` needs at least 2 points, not {n}", e.span)
    if ev.checking:
        return Value(Tensor("R", (Dim.of(n),)))
    step = (b - a) / (n - 1)
    return ev.builder.const(
        (*(a + step * k for k in range(n - 1)), float(b)), Tensor("R", (Dim.of(n),)), e.span
    )


def _identity(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    n = ev.known(args[0])
    if not isinstance(n, int):
        return UNKNOWN
    rows = tuple(tuple(float(i == j) for j in range(n)) for i in range(n))
    return ev.builder.const(rows, Tensor("R", (Dim.of(n), Dim.of(n))), e.span)


def _filled(value: float) -> Callable[..., Any]:
    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        shape = [ev.known(a) for a in args]
        if any(not isinstance(n, int) for n in shape):
            return UNKNOWN
        start = ev.builder.const(value, Tensor(), e.span)
        return ev.spread(start, tuple(Dim.of(n) for n in shape), e.span) if shape else start

    return handler


def _len(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = args[0]
    if isinstance(v, (ListV, TupleV)):
        return len(v.items)
    if isinstance(v, Value) and v.type.rank:
        found = v.type.shape[0]
        return Value(INTEGER, found) if found.constant is None else found.constant
    return UNKNOWN


def _shape(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`shape(x)`: the extents, whole numbers that are known when compiling."""
    if isinstance(args[0], (Unknown, HostV)):
        return UNKNOWN
    v = ev.value(args[0], e.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    return ListV(tuple(Value(INTEGER, d) if d.constant is None else d.constant for d in v.type.shape))


def _append(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if isinstance(args[0], (ListV, TupleV)):
        return ListV((*args[0].items, args[1]))
    return UNKNOWN


def _spread(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`spread(v, n, m)`: `v` repeated along new last axes; the extents follow from the use when left out."""
    v = ev.value(args[0], e.span)
    shape = [ev.known(a) for a in args[1:]]
    if isinstance(v, Unknown) or not shape or any(not isinstance(n, int) for n in shape):
        return UNKNOWN if ev.checking else ev.not_lowered("`spread` without extents", e.span)
    full = (*(d.constant if d.constant is not None else d for d in v.type.shape), *shape)
    return ev.op("expand", [v], e.span, shape=full, axes=tuple(range(v.type.rank)))


def _atan2(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if all(is_number(a) for a in args):
        return math.atan2(*args)
    return ev.elementwise("atan2", args, e.span, [a.value for a in e.args])


def _mod(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if all(is_number(a) for a in args) and args[1]:
        return args[0] % args[1]
    return ev.elementwise("mod", args, e.span, [a.value for a in e.args])


def _smooth(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`smooth(e)`: its discontinuities are not located."""
    mark = getattr(ev.builder, "smooth", None)
    return mark(args[0]) if mark is not None else args[0]


FUNCTIONS: dict[str, tuple[Handler, int, int | None, tuple[str, ...]]] = {
    "norm": (_norm, 1, 2, ()),
    "dot": (_dot, 2, 2, ()),
    "outer": (_outer, 2, 2, ()),
    **{
        op: (_linalg(op), 1, 1, ())
        for op in (
            *("inv", "det", "expm", "cholesky", "logdet"),
            *("batch_mean", "batch_var", "batch_sum", "batch_size"),
        )
    },
    "trace": (_trace, 1, 1, ()),
    "concat": (_concat, 1, None, ("axis",)),
    "reshape": (_reshape, 2, None, ()),
    "linspace": (_linspace, 3, 3, ()),
    "eye": (_identity, 1, 1, ()),
    "zeros": (_filled(0.0), 0, None, ()),
    "ones": (_filled(1.0), 0, None, ()),
    "len": (_len, 1, 1, ()),
    "shape": (_shape, 1, 1, ()),
    "append": (_append, 2, 2, ()),
    "spread": (_spread, 1, None, ()),
    "atan2": (_atan2, 2, 2, ()),
    "mod": (_mod, 2, 2, ()),
    "smooth": (_smooth, 1, 1, ()),
}
"""By name: handler, least and most arguments, options."""
