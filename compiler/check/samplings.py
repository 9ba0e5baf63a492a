"""Fields at the points of their grids, said openly: `values(v)`, `field(T, S)`, `resample(v, ratio)`, and
`convolve(K, v)` of a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.fields import is_field
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import by_coordinate, domain_of
from ndl.compiler.check.values import UNKNOWN, DomainV, HostV, Unknown, Value, describe, is_number
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim

LARGEST = 1024
"""The largest denominator of a ratio of samplings."""


def _field(ev: Evaluator, value: Any, e: tree.Call, scope: Scope) -> tuple[Value, DomainV] | None:
    """A field and its domain; None after an error, or where the checker does not know."""
    v = ev.value(value, e.args[0].span)
    if isinstance(v, Unknown):
        return None
    domain = domain_of(ev, v, scope)
    if domain is None or not is_field(ev, v):
        name = e.func.span.text
        what = f"`{name}` is of a field, and this is {v.type}"
        ev.error("NDL492", what, e.args[0].span, help="declare it `R on Omega`")
        return None
    return v, domain


def points_of(ev: Evaluator, domain: DomainV) -> tuple[Dim, ...]:
    """How many points the sampling of a field has along each coordinate, while it is only checked."""
    names = enumerate(domain.coordinates)
    return tuple(ev.points.get((domain.name, k), Dim.of(f"points({domain.name}.{c})")) for k, c in names)


def _values(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`values(v)`: the values of R[c] on S at its points, an array R[c, n, m]."""
    found = _field(ev, args[0], e, scope)
    if found is None:
        return UNKNOWN
    v, domain = found
    if ev.checking:
        many = points_of(ev, domain)
        return Value(replace(v.type, shape=(*v.type.shape, *many), on=None)) if many else UNKNOWN
    from ndl.compiler.lower.samplings import values

    return values(ev.fields, v, e.span)


def _as_field(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`field(T, S)`: the field with these values."""
    domain = args[1]
    if isinstance(domain, (Unknown, HostV)) or isinstance(args[0], (Unknown, HostV)):
        return UNKNOWN
    if not isinstance(domain, DomainV):
        what = f"`field` makes an array a field on a domain, and this is {describe(domain)}"
        return ev.error("NDL492", what, e.args[1].span, help="write `field(T, Omega)`")
    v = ev.value(args[0], e.args[0].span)
    count = len(domain.coordinates)
    if isinstance(v, Unknown) or not count:
        return UNKNOWN
    if v.type.rank < count or domain_of(ev, v, scope) is not None:
        what = f"the last {count} axes of an array are points of `{domain.name}`, and this is {v.type}"
        return ev.error("NDL492", what, e.args[0].span)
    if ev.checking:
        return Value(replace(v.type, shape=v.type.shape[: v.type.rank - count], on=domain.name))
    if ev.fields is None:
        return ev.error("NDL440", f"a field on `{domain.name}` needs a grid", e.span)
    from ndl.compiler.lower.samplings import as_field

    return as_field(ev.fields, v, domain, e.span)


def _ratios(ev: Evaluator, value: Any, domain: DomainV, span: Span) -> tuple[Fraction, ...] | Unknown:
    """A ratio for each coordinate."""
    found, count = by_coordinate(ev, value, domain), len(domain.coordinates)
    if found is None:
        return UNKNOWN
    if any(not is_number(i) or isinstance(i, complex) or i <= 0 for i in found) or (
        count and len(found) != count
    ):
        unknown: Unknown = ev.error(
            "NDL493",
            "the ratio of two samplings is a number above 0, or one for each coordinate",
            span,
            help="write `resample(v, 1/2)` or `resample(v, [2, 1])`",
        )
        return unknown
    return tuple(Fraction(i).limit_denominator(LARGEST) for i in found)


def _resample(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`resample(v, ratio)`: the same function at `ratio` times as many points."""
    found = _field(ev, args[0], e, scope)
    if found is None:
        return UNKNOWN
    v, domain = found
    ratios = _ratios(ev, args[1], domain, e.args[1].span)
    if ev.checking:
        return v
    if isinstance(ratios, Unknown):
        return ev.error("NDL493", "this ratio must be known when compiling", e.args[1].span)
    from ndl.compiler.lower.samplings import resample

    return resample(ev.fields, v, ratios, e.span)


def convolve_field(
    ev: Evaluator, K: Value, v: Value, options: dict[str, Any], e: tree.Call, scope: Scope
) -> Any:
    """`convolve(K, v; stride, dilation, groups, border)` of R[in] on S, for K: R[out, in, *size] with a size
    for each coordinate."""
    domain = domain_of(ev, v, scope)
    assert domain is not None
    count = len(domain.coordinates) or K.type.rank - 2
    if "pad" in options:
        return ev.error(
            "NDL345",
            "a field is continued as its domain says, so that `pad` is not taken",
            e.span,
            help="coordinates with ends take `border=zeros`, `reflect` or `replicate`",
        )
    if K.type.rank != count + 2 or v.type.rank != 1:
        what = (
            f"a kernel on `{domain.name}` is R[out, in, …] with {count} sizes, for R[in] on `{domain.name}`"
        )
        return ev.error("NDL301", f"{what}, and these are {K.type} and {v.type}", e.span)
    if ev.checking:
        groups = ev.known(options.get("groups", 1))
        if isinstance(groups, int):
            taken, given = K.type.shape[1] * groups, v.type.shape[0]
            if taken != given and taken.constant is not None and given.constant is not None:
                what = f"this kernel takes {taken} components, and the field has {given}"
                return ev.error("NDL301", what, e.span)
        return Value(replace(v.type, shape=(K.type.shape[0],)))
    from ndl.compiler.lower.samplings import convolve

    return convolve(ev.fields, K, v, domain, options, e)


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, tuple[str, ...]]] = {
    "values": (_values, 1, ()),
    "field": (_as_field, 2, ()),
    "resample": (_resample, 2, ()),
}
"""By name: handler, number of arguments, options."""
