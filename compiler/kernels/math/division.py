"""mod and floordiv, with the sign of the divisor as in Python.

q = round(a/b) leaves the remainder a - q b, which one fma gives exactly while |a/b| < 2^53 (2^24 in single).
Beyond, mod is 0.
"""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.format import sign_bit


def _nearest(code: Code, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """q = round(a/b), the remainder, and whether the floor is one lower: the remainder's sign is not b's."""
    q = code.op("round", code.op("div", a, b))
    rest = code.op("fma", code.op("neg", q), b, a)
    rest = code.op("select", code.op("eq", q, 0.0), a, rest)
    lower = code.op("lt", code.op("select", code.op("lt", b, 0.0), code.op("neg", rest), rest), 0.0)
    return q, rest, lower


def mod(code: Code, a: Value, b: Value) -> Value:
    """In [0, b) or (b, 0]; a zero has b's sign."""
    _, rest, lower = _nearest(code, a, b)
    rest = code.op("select", lower, code.op("add", rest, b), rest)
    zero = code.op("real_of", sign_bit(code, b))
    none = code.op("or", code.op("eq", rest, 0.0), code.op("gt", code.op("abs", rest), code.op("abs", b)))
    return code.op("select", none, zero, rest)


def floordiv(code: Code, a: Value, b: Value) -> Value:
    """floor(a/b), nan for an infinite a."""
    q, _, lower = _nearest(code, a, b)
    found = code.op("select", lower, code.op("sub", q, 1.0), q)
    endless = code.op("and", code.op("eq", code.op("abs", a), math.inf), code.op("ne", b, 0.0))
    return code.op("select", endless, math.nan, found)
