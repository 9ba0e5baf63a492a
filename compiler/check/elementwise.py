"""Functions of one value, component by component; those of numbers are worked out at once."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import Map, as_map
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    HostV,
    Unknown,
    is_number,
)
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

Known = Callable[[Any], Any]


def _real(
    name: str, real: Callable[[float], float], other: Callable[[complex], complex] | None = None
) -> Known:
    def fold(x: Any) -> Any:
        return other(x) if isinstance(x, complex) and other is not None else real(x)

    fold.__name__ = name
    return fold


FOLDED: dict[str, Known] = {
    "exp": _real("exp", math.exp, cmath.exp),
    "log": _real("log", math.log, cmath.log),
    "sqrt": _real("sqrt", math.sqrt, cmath.sqrt),
    "sin": _real("sin", math.sin, cmath.sin),
    "cos": _real("cos", math.cos, cmath.cos),
    "tan": _real("tan", math.tan, cmath.tan),
    "asin": _real("asin", math.asin),
    "acos": _real("acos", math.acos),
    "atan": _real("atan", math.atan),
    "sinh": _real("sinh", math.sinh),
    "cosh": _real("cosh", math.cosh),
    "tanh": _real("tanh", math.tanh),
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "sign": lambda x: (x > 0) - (x < 0),
    "erf": math.erf,
    "log1p": math.log1p,
    "expm1": math.expm1,
    "lgamma": math.lgamma,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
    "relu": lambda x: max(x, 0),
}
UNARY = (
    *FOLDED,
    *("gelu", "silu", "softplus", "elu", "isfinite", "stop_gradient", "conj", "real", "imag"),
)


def unary(name: str) -> Callable[..., Any]:
    """The handler of an elementwise function of one value."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return unary_value(ev, name, args[0], e.span, e.args[0].value)

    return handler


def unary_value(ev: Evaluator, name: str, x: Any, span: Span, expr: tree.Expr | None = None) -> Any:
    if isinstance(x, (Unknown, HostV)):
        return UNKNOWN
    if is_number(x) and name in FOLDED:
        try:
            return FOLDED[name](x)
        except (ValueError, OverflowError, TypeError):
            return (
                math.inf
                if name in ("exp", "sinh", "cosh")
                else ev.error("NDL343", f"`{name}` is not defined at {x}", span)
            )
    if is_number(x) and name == "stop_gradient":
        return x
    if name == "exp" and (inner := as_map(x)) is not None:
        return Map("exp", inner)
    return ev.elementwise(name, [x], span, [expr] if expr is not None else [])


def composite(make: Callable[[Evaluator, Any, Span], Any]) -> Callable[..., Any]:
    """A function of one value made of others."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return UNKNOWN if isinstance(args[0], (Unknown, HostV)) else make(ev, args[0], e.span)

    return handler


def scaled_log(base: float) -> Callable[[Evaluator, Any, Span], Any]:
    def make(ev: Evaluator, x: Any, span: Span) -> Any:
        if is_number(x) and x > 0:
            return math.log2(x) if base == 2 else math.log10(x)
        return ev.binary("/", unary_value(ev, "log", x, span), math.log(base), span)

    return make


def angle(ev: Evaluator, x: Any, span: Span) -> Any:
    """`arg(z)`, in (-pi, pi]."""
    if is_number(x):
        return cmath.phase(x)
    parts = [unary_value(ev, name, x, span) for name in ("imag", "real")]
    return ev.elementwise("atan2", parts, span)
