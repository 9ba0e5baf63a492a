"""exp and expm1.

x = n log 2 + r with |r| <= log(2)/2 (Cody and Waite 1980, chapter 6; with fma, log 2 in two full parts: the
first difference is exact). A polynomial gives exp(r), the exponent's bits the rest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import LN2
from ndl.compiler.kernels.math.format import (
    at_least,
    at_most,
    format_of,
    polynomial,
    power_of_two,
    shift_round,
    whole,
)

LOG2_E = 1 / math.log(2)

RANGE = {"f64": (-746.0, 710.0), "f32": (-104.0, 89.0)}
"""Beyond these exp is 0 and inf."""


class Reduced(NamedTuple):
    """x = n log 2 + r + tail; `pattern` holds n in its low bits."""

    n: Value
    r: Value
    tail: Value
    pattern: Value


def reduce(code: Code, x: Value) -> Reduced:
    high, low = LN2[code.precision]
    n, pattern = shift_round(code, x, LOG2_E)
    first = code.op("fma", n, -high, x)
    r = code.op("fma", n, -low, first)
    tail = code.op("fma", n, -low, code.op("sub", first, r))
    return Reduced(n, r, tail, pattern)


def above_linear(code: Code, r: Value, tail: Value | None = None) -> Value:
    """exp(r) - 1 - r for a reduced r, and `tail` added."""
    q = polynomial(code, r, table.EXP[code.precision])
    square = code.op("mul", r, r)
    return code.op("mul", square, q) if tail is None else code.op("fma", square, q, tail)


def exp_reduced(code: Code, r: Value) -> Value:
    """exp(r) for a reduced r."""
    q = polynomial(code, r, table.EXP[code.precision])
    return code.op("add", 1.0, code.op("fma", code.op("mul", r, r), q, r))


def scale(code: Code, x: Value, pattern: Value, less: int = 0) -> Value:
    """x * 2^(n - less) for n of -2 bias to 2 bias in the low bits of `pattern`, by two factors: neither the
    factors nor their first product overflow, and a subnormal result is rounded once."""
    fmt = format_of(code)
    biased = code.op("add", pattern, whole(code, 2 * fmt.bias - less))
    half = code.op("shr", biased, whole(code, 1))
    first = power_of_two(code, half)
    second = power_of_two(code, code.op("sub", biased, half))
    return code.op("mul", code.op("mul", x, first), second)


def scale_near(code: Code, x: Value, pattern: Value) -> Value:
    """x * 2^n where x, nonzero, and the result are normal."""
    shifted = code.op("shl", pattern, whole(code, format_of(code).mantissa))
    return code.op("real_of", code.op("add", code.op("bits_of", x), shifted))


def exp(code: Code, x: Value) -> Value:
    low, high = RANGE[code.precision]
    x = at_least(code, at_most(code, x, high), low)
    reduced = reduce(code, x)
    return scale(code, exp_reduced(code, reduced.r), reduced.pattern)


def exp_negative(code: Code, x: Value) -> Value:
    """exp(x) for x <= 0."""
    reduced = reduce(code, at_least(code, x, RANGE[code.precision][0]))
    return scale(code, exp_reduced(code, reduced.r), reduced.pattern)


def half_exp(code: Code, x: Value) -> Value:
    """exp(x)/2 for x >= 0."""
    reduced = reduce(code, at_most(code, x, RANGE[code.precision][1] + 1))
    return scale(code, exp_reduced(code, reduced.r), reduced.pattern, less=1)


def scaled_expm1(code: Code, x: Value, factor: float) -> Value:
    """factor * (exp(x) - 1) for a power of two `factor` and x within `expm1`'s clamp.

    With s = factor * 2^n it is s (exp(r) - 1) + (s - factor); r's linear term joins the second bracket first.
    """
    fmt = format_of(code)
    reduced = reduce(code, x)
    biased = code.op("add", reduced.pattern, whole(code, fmt.bias + round(math.log2(factor))))
    s = power_of_two(code, biased)
    line = code.op("fma", s, reduced.r, code.op("sub", s, factor))
    return code.op("fma", s, above_linear(code, reduced.r, reduced.tail), line)


def expm1(code: Code, x: Value) -> Value:
    """Half of it first, for exp(x) may be as large as 2^(bias + 1)."""
    fmt = format_of(code)
    clamped = at_least(code, at_most(code, x, RANGE[code.precision][1]), -(fmt.mantissa + 2.0))
    found = code.op("mul", scaled_expm1(code, clamped, 0.5), 2.0)
    linear = code.op("lt", code.op("abs", x), 2.0 ** -(fmt.mantissa + 2))
    return code.op("select", linear, x, found)
