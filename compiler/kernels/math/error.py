"""erf."""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.exponential import scaled_expm1
from ndl.compiler.kernels.math.format import at_most, flip, polynomial, sign_bit

ONE = {"f64": 5.95, "f32": 3.95}
"""erf is 1 from here on."""


def erf(code: Code, x: Value) -> Value:
    """1 - exp(-g(|x|)) with g(x) = -log erfc(x) = x (2/sqrt(pi) + x R(x)), R a ratio of polynomials: one
    formula without cancellation."""
    size = at_most(code, code.op("abs", x), ONE[code.precision])
    above = polynomial(code, size, table.ERF[code.precision])
    below = polynomial(code, size, table.ERF_BELOW[code.precision])
    slope = code.op("fma", size, code.op("div", above, below), 2 / math.sqrt(math.pi))
    e = scaled_expm1(code, code.op("neg", code.op("mul", size, slope)), 1.0)
    return flip(code, code.op("abs", e), sign_bit(code, x))
