"""log and log1p.

x = 2^k m with sqrt(1/2) <= m < sqrt 2; with f = m - 1 and s = f/(2 + f), log m = 2 atanh(s) is summed as
f - f²/2 + s (f²/2 + z P(z)), z = s²: the leading terms are exact or nearly so (the arrangement of K. C. Ng's
FDLIBM, 1993; coefficients our own).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import LN2
from ndl.compiler.kernels.math.format import format_of, polynomial, whole


class Split(NamedTuple):
    """x = 2^k m; `exponent` is the pattern of 2^k."""

    k: Value
    m: Value
    exponent: Value


def sqrt_half(code: Code) -> int:
    """The pattern of sqrt(1/2), cut to 20 bits of mantissa."""
    return {"f64": 0x3FE6A09E00000000, "f32": 0x3F3504F0}[code.precision]


def split(code: Code, x: Value, more: Value | float = 0.0) -> Split:
    """x = 2^k m of a normal positive x, with sqrt(1/2) <= m < sqrt 2 and `more` added to k.

    The exponent's field becomes a real by setting it below the bits of 2^mantissa.
    """
    fmt = format_of(code)
    base = sqrt_half(code)
    moved = code.op("add", code.op("bits_of", x), whole(code, fmt.one - base))
    field = code.op("shr", moved, whole(code, fmt.mantissa))
    real = code.op(
        "real_of", code.op("bit_or", field, whole(code, (fmt.mantissa + fmt.bias) << fmt.mantissa))
    )
    k = code.op("sub", real, code.op("add", 2.0**fmt.mantissa + fmt.bias, more))
    rest = code.op("bit_and", moved, whole(code, (1 << fmt.mantissa) - 1))
    m = code.op("real_of", code.op("add", rest, whole(code, base)))
    exponent = code.op("bit_and", moved, whole(code, -1 << fmt.mantissa))
    return Split(k, m, exponent)


def normal(code: Code, x: Value) -> tuple[Value, Value]:
    """A positive x made normal by a power of two, and the power."""
    fmt = format_of(code)
    small, power = code.op("lt", x, fmt.tiny), fmt.mantissa + 2
    scaled = code.op("select", small, code.op("mul", x, 2.0**power), x)
    return scaled, code.op("select", small, float(power), 0.0)


def log_sum(code: Code, f: Value, k: Value) -> Value:
    """log(1 + f) + k log 2."""
    high, low = LN2[code.precision]
    s = code.op("div", f, code.op("add", f, 2.0))
    z = code.op("mul", s, s)
    series = code.op("mul", z, polynomial(code, z, table.LOG[code.precision]))
    half = code.op("mul", code.op("mul", 0.5, f), f)
    small = code.op("fma", s, code.op("add", half, series), code.op("mul", k, low))
    return code.op("fma", k, high, code.op("sub", f, code.op("sub", half, small)))


def outside(code: Code, x: Value, found: Value, pole: float) -> Value:
    """`found` where pole < x < inf; -inf at the pole, nan below, inf and nan for themselves."""
    found = code.op("select", code.op("lt", x, math.inf), found, x)
    edge = code.op("select", code.op("eq", x, pole), -math.inf, math.nan)
    return code.op("select", code.op("le", x, pole), edge, found)


def log(code: Code, x: Value) -> Value:
    scaled, power = normal(code, x)
    return outside(code, x, log_normal(code, scaled, power), 0.0)


def log_normal(code: Code, x: Value, power: Value | float = 0.0) -> Value:
    """log(x 2^-power) of a normal positive x."""
    parts = split(code, x, power)
    return log_sum(code, code.op("sub", parts.m, 1.0), parts.k)


def log_of_sum(code: Code, u: Value, lost: Value) -> Value:
    """log(u + lost) of a normal positive u and a `lost` below its last place, which is scaled as m is."""
    fmt = format_of(code)
    parts = split(code, u)
    twice = whole(code, (2 * fmt.bias + 1) << fmt.mantissa)
    inverse = code.op("real_of", code.op("sub", twice, parts.exponent))
    f = code.op("fma", code.op("mul", lost, 0.5), inverse, code.op("sub", parts.m, 1.0))
    return log_sum(code, f, parts.k)


def log1p_inside(code: Code, x: Value) -> Value:
    """log(1 + x) for -1 < x < inf, not -0: what the sum 1 + x loses is found after Dekker (1971)."""
    u = code.op("add", x, 1.0)
    small = code.op("lt", x, 1.0)
    larger, smaller = code.op("select", small, 1.0, x), code.op("select", small, x, 1.0)
    return log_of_sum(code, u, code.op("sub", smaller, code.op("sub", u, larger)))


def log1p(code: Code, x: Value) -> Value:
    found = outside(code, x, log1p_inside(code, x), -1.0)
    linear = code.op("lt", code.op("abs", x), 2.0 ** -(format_of(code).mantissa + 2))
    return code.op("select", linear, x, found)
