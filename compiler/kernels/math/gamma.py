"""lgamma and digamma.

Stirling's series from w = 8 on (4 in single); smaller arguments are moved up by the recurrence, those below
1/2 reflected: Gamma(x) Gamma(1 - x) = pi/sin(pi x) (Abramowitz and Stegun 6.1.17, 6.1.40, 6.3.7, 6.3.18).
"""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.format import flip, polynomial, sign_bit
from ndl.compiler.kernels.math.logarithm import log, log_normal
from ndl.compiler.kernels.math.trigonometric import quarter

SHIFT = {"f64": 8, "f32": 4}

TINY = {"f64": 2.0**-60, "f32": 2.0**-30}
"""lgamma(x) is -log|x| below."""


def _reflected(code: Code, x: Value) -> tuple[Value, Value, Value, Value]:
    """Whether x < 1/2; v = 1 - x there, else x; whether v is below the shift; w = v, moved up if so."""
    left = code.op("lt", x, 0.5)
    v = code.op("select", left, code.op("sub", 1.0, x), x)
    small = code.op("lt", v, float(SHIFT[code.precision]))
    return left, v, small, code.op("select", small, code.op("add", v, float(SHIFT[code.precision])), v)


def _half_turn(code: Code, x: Value) -> tuple[Value, Value, Value]:
    """f = x - round(x), and sin(pi f) and cos(pi f); f has the sign of a zero x."""
    f = code.op("select", code.op("eq", x, 0.0), x, code.op("sub", x, code.op("round", x)))
    size = code.op("abs", f)
    far = code.op("gt", size, 0.25)
    near = code.op("select", far, code.op("sub", 0.5, size), size)
    sine, cosine = quarter(code, code.op("mul", near, math.pi))
    sin = code.op("select", far, cosine, sine)
    return f, flip(code, sin, sign_bit(code, f)), code.op("select", far, sine, cosine)


def lgamma(code: Code, x: Value) -> Value:
    """log|Gamma(x)|, inf at the poles; one logarithm serves recurrence and reflection."""
    left, v, small, w = _reflected(code, x)
    rising = v
    for k in range(1, SHIFT[code.precision]):
        rising = code.op("mul", rising, code.op("add", v, float(k)))
    rising = code.op("select", small, rising, 1.0)
    f, sine, _ = _half_turn(code, x)
    factor = code.op("select", left, code.op("div", code.op("abs", sine), rising), rising)
    sum = _stirling(code, w)
    sum = code.op("select", left, code.op("sub", math.log(math.pi), sum), sum)
    size, off = code.op("abs", x), code.op("gt", code.op("abs", f), 0.0)
    tiny = code.op("lt", size, TINY[code.precision])
    sum, factor = code.op("select", tiny, 0.0, sum), code.op("select", tiny, size, factor)
    found = code.op("sub", sum, log(code, factor))
    return code.op("select", code.op("and", left, code.op("not", off)), math.inf, found)


def _stirling(code: Code, w: Value) -> Value:
    """(w - 1/2)(log w - 1) + log(2 pi)/2 - 1/2 + P(1/w^2)/w."""
    inverse = code.op("div", 1.0, w)
    series = polynomial(code, code.op("mul", inverse, inverse), table.LGAMMA[code.precision])
    rest = code.op("fma", inverse, series, (math.log(2 * math.pi) - 1) / 2)
    return code.op("fma", code.op("sub", w, 0.5), code.op("sub", log_normal(code, w), 1.0), rest)


def digamma(code: Code, x: Value) -> Value:
    """The derivative of lgamma; nan at negative whole numbers and -inf."""
    left, v, small, w = _reflected(code, x)
    inverse = code.op("div", 1.0, w)
    z = code.op("mul", inverse, inverse)
    series = polynomial(code, z, table.DIGAMMA[code.precision])
    high = code.op("sub", log_normal(code, w), code.op("fma", z, series, code.op("mul", inverse, 0.5)))
    high = code.op("select", code.op("lt", w, math.inf), high, w)
    found = code.op("sub", high, code.op("select", small, _reciprocals(code, v), 0.0))
    f, sine, cosine = _half_turn(code, x)
    cotangent = code.op("mul", code.op("div", cosine, sine), math.pi)
    found = code.op("sub", found, code.op("select", left, cotangent, 0.0))
    pole = code.op("and", code.op("eq", f, 0.0), code.op("lt", x, 0.0))
    return code.op("select", pole, math.nan, found)


def _reciprocals(code: Code, v: Value) -> Value:
    """1/v + 1/(v + 1) + …, as many as the shift, by one division."""
    above, below = code.const(1.0), v
    for k in range(1, SHIFT[code.precision]):
        factor = code.op("add", v, float(k))
        above, below = code.op("fma", above, factor, below), code.op("mul", below, factor)
    return code.op("div", above, below)
