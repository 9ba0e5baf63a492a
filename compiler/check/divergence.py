"""`kl(p, q)`: the Kullback–Leibler divergence of two laws of one family, summed over components.

KL(p || q) is the mean of log(p/q) under p. The forms are those of Gil, Alajaji and Linder (2013), Rényi
divergence measures for commonly used univariate continuous distributions, Table 2, at order 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ndl.compiler.check import binders
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, DistV, HostV, Unknown, describe
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree


@dataclass(frozen=True)
class Algebra:
    """Formulas of values at one place of a file."""

    ev: Evaluator
    span: Span

    def __call__(self, left: Any, op: str, right: Any) -> Any:
        return self.ev.binary(op, left, right, self.span)

    def log(self, x: Any) -> Any:
        return self.ev.elementwise("log", [x], self.span)


def normal(f: Algebra, p: list[Any], q: list[Any]) -> Any:
    """log(s1/s0) + (s0^2 + (m0 - m1)^2)/(2 s1^2) - 1/2."""
    (m0, s0), (m1, s1) = p, q
    gap = f(m0, "-", m1)
    top = f(f(s0, "*", s0), "+", f(gap, "*", gap))
    spread = f(top, "/", f(2.0, "*", f(s1, "*", s1)))
    return f(f(f.log(f(s1, "/", s0)), "+", spread), "-", 0.5)


def exponential(f: Algebra, p: list[Any], q: list[Any]) -> Any:
    """log(a/b) + b/a - 1, by rates."""
    (a,), (b,) = p, q
    return f(f(f.log(f(a, "/", b)), "+", f(b, "/", a)), "-", 1.0)


def poisson(f: Algebra, p: list[Any], q: list[Any]) -> Any:
    """a log(a/b) - a + b."""
    (a,), (b,) = p, q
    return f(f(f(a, "*", f.log(f(a, "/", b))), "-", a), "+", b)


def bernoulli(f: Algebra, p: list[Any], q: list[Any]) -> Any:
    """a log(a/b) + (1 - a) log((1 - a)/(1 - b))."""
    (a,), (b,) = p, q
    no, other = f(1.0, "-", a), f(1.0, "-", b)
    return f(f(a, "*", f.log(f(a, "/", b))), "+", f(no, "*", f.log(f(no, "/", other))))


Form = Callable[[Algebra, list[Any], list[Any]], Any]

FORMS: dict[str, tuple[Form, tuple[float, ...]]] = {
    "normal": (normal, (0.0, 1.0)),
    "lognormal": (normal, (0.0, 1.0)),
    "exponential": (exponential, (1.0,)),
    "poisson_law": (poisson, (1.0,)),
    "bernoulli": (bernoulli, (0.5,)),
}
"""By law: its form, and what its arguments are if they are not given."""


def divergence(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`kl(normal(m, s), normal(0, 1))`."""
    for value, place in zip(args, e.args):
        if isinstance(value, (Unknown, HostV)):
            return UNKNOWN
        if not isinstance(value, DistV):
            return ev.error(
                "NDL328", f"`kl` is of two distributions, and this is {describe(value)}", place.value.span
            )
    p, q = args
    if p.law != q.law or p.law not in FORMS:
        known = ", ".join(sorted(name.removesuffix("_law") for name in FORMS))
        return ev.error(
            "NDL365",
            f"there is no closed form of the divergence of `{p.law}` from `{q.law}`",
            e.span,
            help=f"both laws are one of {known}; or take the mean of the difference of their logarithms",
        )
    form, standard = FORMS[p.law]
    if any(isinstance(a, (Unknown, HostV)) for law in args for a in law.args):
        return UNKNOWN
    given = [[*law.args, *standard[len(law.args) :]] for law in args]
    found = ev.value(form(Algebra(ev, e.span), *given), e.span)
    return UNKNOWN if isinstance(found, Unknown) else binders.reduce_components(ev, "sum", found, e.span)
