"""sinh, cosh and tanh, from exp and expm1 of |x|."""

from __future__ import annotations

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.exponential import RANGE, half_exp, scaled_expm1
from ndl.compiler.kernels.math.format import at_most, flip, format_of, sign_bit

ONE = {"f64": 19.1, "f32": 9.1}
"""tanh is 1 from here on."""


def tanh(code: Code, x: Value) -> Value:
    """e/(e + 2) with e = expm1(2|x|)."""
    size = at_most(code, code.op("abs", x), ONE[code.precision])
    e = scaled_expm1(code, code.op("add", size, size), 1.0)
    return flip(code, code.op("div", e, code.op("add", e, 2.0)), sign_bit(code, x))


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
