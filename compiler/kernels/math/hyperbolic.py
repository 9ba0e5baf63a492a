"""sinh, cosh and tanh, from exp and expm1 of |x|."""

from __future__ import annotations

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import LN2
from ndl.compiler.kernels.math.exponential import LOG2_E, RANGE, half_exp, scaled_expm1
from ndl.compiler.kernels.math.format import (
    at_most,
    flip,
    format_of,
    polynomial,
    power_of_two,
    sign_bit,
)

ONE = {"f64": 19.1, "f32": 9.1}
"""tanh is 1 from here on."""


def tanh(code: Code, x: Value) -> Value:
    """h/(h + 1) with h = (exp(2|x|) - 1)/2.

    With |x| = n log(2)/2 + r and s = 2^n it is h = s (r + r^2 q(r)) + (s - 1)/2. One float of log(2)/2 is
    enough: the difference is exact, and what n times the float lacks counts 2^-n in the quotient.
    """
    fmt = format_of(code)
    size = at_most(code, code.op("abs", x), ONE[code.precision])
    shifter = fmt.shifter + fmt.bias  # the low bits of the sum are n, biased
    total = code.op("fma", size, 2 * LOG2_E, shifter)
    s = power_of_two(code, code.op("bits_of", total))
    n = code.op("sub", total, shifter)
    r = code.op("fma", n, -LN2[code.precision][0] / 2, size)
    # exp(2r) = 1 + 2r + (2r)^2 p(2r), p the polynomial of exp
    q = polynomial(code, r, [c * 2.0 ** (k + 1) for k, c in enumerate(table.EXP[code.precision])])
    line = code.op("fma", s, r, code.op("fma", s, 0.5, -0.5))
    h = code.op("fma", s, code.op("mul", code.op("mul", r, r), q), line)
    return flip(code, code.op("div", h, code.op("add", h, 1.0)), sign_bit(code, x))


def sinh(code: Code, x: Value) -> Value:
    """2q + q/(2q + 1/2) with q = expm1(|x|)/4, which stays finite; x itself where it is tiny."""
    size = code.op("abs", x)
    q = scaled_expm1(code, at_most(code, size, RANGE[code.precision][1] + 0.5), 0.25)
    found = code.op("fma", q, 2.0, code.op("div", q, code.op("fma", q, 2.0, 0.5)))
    tiny = code.op("lt", size, 2.0 ** -(format_of(code).mantissa // 2))
    return flip(code, code.op("select", tiny, size, found), sign_bit(code, x))


def cosh(code: Code, x: Value) -> Value:
    """h + 1/(4h) with h = exp(|x|)/2."""
    h = half_exp(code, code.op("abs", x))
    return code.op("add", h, code.op("div", 0.25, h))
