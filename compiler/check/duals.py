"""Waves of fields: `dual(S, m)`, `fft(v, m)` and `ifft(c)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.fields import is_field
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import by_coordinate, domain_of
from ndl.compiler.check.values import UNKNOWN, DomainV, DualV, HostV, Unknown, Value, describe
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


def _modes(ev: Evaluator, value: Any, domain: DomainV, span: Span) -> tuple[int, ...] | Unknown | None:
    """How far wavenumbers go along each coordinate; None where that is not known yet."""
    found, count = by_coordinate(ev, value, domain), len(domain.coordinates)
    if found is None:
        return None
    if any(not isinstance(i, int) or isinstance(i, bool) or i < 0 for i in found) or (
        count and len(found) != count
    ):
        unknown: Unknown = ev.error(
            "NDL491",
            f"the wavenumbers of `{domain.name}` go up to a whole number, or one for each coordinate",
            span,
            help=f"write `dual({domain.name}, 16)` or `dual({domain.name}, [16, 8])`",
        )
        return unknown
    return tuple(found)


def dual_of(ev: Evaluator, domain: DomainV, modes: Any, span: Span) -> Any:
    """The wavenumbers of a domain up to `modes`."""
    ends = [c for c, p in zip(domain.coordinates, domain.periodic) if not p]
    if ends or domain.shape is not None:
        what = f"`{ends[0]}` of `{domain.name}` is not periodic" if ends else f"`{domain.name}` is no torus"
        return ev.error(
            "NDL491",
            f"fields have waves around a torus, and {what}",
            span,
            help="declare the domain `periodic(…)`; `resample` and `convolve` serve others",
        )
    found = _modes(ev, modes, domain, span)
    return UNKNOWN if isinstance(found, Unknown) else DualV(domain, found)


def _dual(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    domain, modes = args
    if isinstance(domain, (Unknown, HostV)):
        return UNKNOWN
    if not isinstance(domain, DomainV):
        what = f"`dual` is of a domain, not of {describe(domain)}"
        return ev.error("NDL491", what, e.span, help="write `dual(Omega, 16)`")
    return dual_of(ev, domain, modes, e.span)


def _fft(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`fft(v, m)`: the coefficients of a real field on `dual(S, m)`."""
    v = ev.value(args[0], e.args[0].span)
    if isinstance(v, Unknown):
        return UNKNOWN
    domain = domain_of(ev, v, scope)
    if domain is None or not is_field(ev, v):
        what = f"`fft` is of a field, and this is {v.type}"
        return ev.error("NDL492", what, e.args[0].span, help="declare it `R on Omega`")
    if v.type.kind == "C":
        return ev.not_lowered("`fft` of a complex field", e.span)
    dual = dual_of(ev, domain, args[1], e.span)
    if not isinstance(dual, DualV):
        return UNKNOWN
    if ev.checking:
        return Value(Tensor("C", v.type.shape, dual.name))
    if dual.modes is None:
        return ev.error("NDL491", "how many waves there are must be known when compiling", e.args[1].span)
    from ndl.compiler.lower.duals import coefficients

    return coefficients(ev.fields, v, dual, e.span)


def _ifft(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`ifft(c)`: the real function with these coefficients."""
    c = ev.value(args[0], e.args[0].span)
    if isinstance(c, Unknown):
        return UNKNOWN
    if ev.checking:
        on = c.type.on or ""
        if not on.startswith("dual("):
            what = f"`ifft` is of a field on wavenumbers, and this is {c.type}"
            return ev.error("NDL492", what, e.args[0].span, help="write `ifft(K @ fft(v, 16))`")
        return Value(replace(c.type, kind="R", on=on.removeprefix("dual(").partition(", ")[0]))
    if ev.fields is None:
        return ev.error("NDL492", "`ifft` is of a field on wavenumbers", e.span)
    from ndl.compiler.lower.duals import function

    return function(ev.fields, c, e.span)


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, tuple[str, ...]]] = {
    "dual": (_dual, 2, ()),
    "fft": (_fft, 2, ()),
    "ifft": (_ifft, 1, ()),
}
"""By name: handler, number of arguments, options."""
