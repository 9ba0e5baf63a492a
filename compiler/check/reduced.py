"""Reductions over bound indices, with the members left out that a condition excludes."""

from __future__ import annotations

import math
from typing import Any

from ndl.compiler.check.axes import reduce_axes, to_tensor
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import UNKNOWN, Axis, Unknown, Value
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Tensor

REDUCTIONS = {
    "sum": "sum",
    "mean": "mean",
    "prod": "prod",
    "max": "amax",
    "min": "amin",
    "all": "all",
    "any": "any",
}

NEUTRAL: dict[str, Any] = {
    "sum": 0.0,
    "mean": 0.0,
    "prod": 1.0,
    "max": -math.inf,
    "min": math.inf,
    "all": True,
    "any": False,
    "softmax": -math.inf,
    "argmax": -math.inf,
    "argmin": math.inf,
}
"""What a member that is left out counts as."""


def finish(ev: Evaluator, name: str, v: Value, axes: list[Axis], conds: list[Any], span: Span) -> Any:
    """Reduce bound axes; a condition leaves members out."""
    if name in ("var", "std"):
        mean = finish(ev, "mean", v, axes, conds, span)
        gap = ev.binary("-", v, mean, span)
        square = ev.value(ev.binary("*", gap, gap, span), span)
        found = UNKNOWN if isinstance(square, Unknown) else finish(ev, "mean", square, axes, conds, span)
        return found if name == "var" or isinstance(found, Unknown) else ev.elementwise("sqrt", [found], span)
    if not conds:
        return _reduce(ev, name, v, axes, span)
    mask = conds[0]
    for c in conds[1:]:
        mask = ev.both("and", mask, c, span)
    kept = ev.value(ev.choose(mask, v, NEUTRAL[name], span), span)
    if isinstance(kept, Unknown):
        return UNKNOWN
    if name != "mean":
        return _reduce(ev, name, kept, axes, span)
    ones = ev.value(ev.choose(mask, 1.0, 0.0, span), span)
    if isinstance(ones, Unknown):
        return UNKNOWN
    return ev.binary(
        "/", reduce_axes(ev, "sum", kept, axes, span), reduce_axes(ev, "sum", ones, axes, span), span
    )


def _reduce(ev: Evaluator, name: str, v: Value, axes: list[Axis], span: Span) -> Any:
    if name in REDUCTIONS:
        return reduce_axes(ev, REDUCTIONS[name], v, axes, span)
    if name == "softmax":
        return _softmax(ev, v, axes, span)
    return _place(ev, name, v, axes, span)


def _softmax(ev: Evaluator, v: Value, axes: list[Axis], span: Span) -> Any:
    """The shares of all members, its indices first as in a comprehension."""
    if len(axes) == 1:
        return ev.op("softmax", [to_tensor(ev, v, axes, span)], span, axis=0)
    top = ev.elementwise("exp", [ev.binary("-", v, reduce_axes(ev, "amax", v, axes, span), span)], span)
    if not isinstance(top, Value):
        return UNKNOWN
    shares = ev.value(ev.binary("/", top, reduce_axes(ev, "sum", top, axes, span), span), span)
    return UNKNOWN if isinstance(shares, Unknown) else to_tensor(ev, shares, axes, span)


def _place(ev: Evaluator, name: str, v: Value, axes: list[Axis], span: Span) -> Any:
    """`argmax`, `argmin`: the index, of several indices a vector of them, of the first one in order."""
    several, shape = len(axes) > 1, v.type.shape
    if ev.checking:
        rest = tuple(a for a in v.axes if a not in axes)
        return Value(Tensor("Z", (*([Dim.of(len(axes))] if several else []), *shape)), None, rest)
    extents = [d.constant or 0 for d in (a.extent for a in axes)]
    flat = (math.prod(extents), *v.type.extents)
    line = ev.op("reshape", [to_tensor(ev, v, axes, span)], span, shape=flat)
    at = ev.op(name, [line], span, axis=0) if isinstance(line, Value) else UNKNOWN
    if not several or not isinstance(at, Value):
        return at
    places: list[Any] = []
    for k, n in enumerate(extents):
        below = math.prod(extents[k + 1 :])
        place = ev.binary("//", at, below, span) if below > 1 else at
        places.append(ev.elementwise("mod", [place, n], span) if k else place)
    return ev.op("stack", places, span, axis=0)
