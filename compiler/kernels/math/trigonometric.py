"""sin, cos and tan.

x = n pi/2 + r, |r| <= pi/4: sin r and cos r by a polynomial each, chosen and signed by n's last bits. The
multiple of pi/2 is subtracted in three full parts by fma (Cody and Waite 1980, chapter 8), the first exactly.
sin and cos of one argument share all but the choice. Beyond `BOUND` the argument is replaced by 0 (nan for
inf).
"""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import PI
from ndl.compiler.kernels.math.format import flip, format_of, polynomial, shift_round, whole

BOUND = {"f64": 2.0**45, "f32": 2.0**17}
"""The reductions are good to here: n is found from x in one rounding, wrong by 1/128 at most."""


def bounded(code: Code, x: Value) -> Value:
    """x where it can be reduced, else x - x: 0, or nan for inf and nan."""
    inside = code.op("le", code.op("abs", x), BOUND[code.precision])
    return code.op("select", inside, x, code.op("sub", x, x))


def bit_as_sign(code: Code, pattern: Value, bit: int) -> Value:
    """The pattern of -0.0 where that bit is set, else 0."""
    fmt = format_of(code)
    moved = code.op("shl", pattern, whole(code, fmt.width - 1 - bit))
    return moved if bit == 0 else code.op("bit_and", moved, whole(code, fmt.sign))


def quarter(code: Code, r: Value) -> tuple[Value, Value]:
    """sin r and cos r for |r| <= pi/4."""
    z = code.op("mul", r, r)
    high = polynomial(code, z, table.COS[code.precision])
    cosine = code.op("fma", z, code.op("fma", z, high, -0.5), 1.0)
    series = polynomial(code, z, table.SIN[code.precision])
    return code.op("fma", code.op("mul", r, z), series, r), cosine


def reduce(code: Code, x: Value) -> tuple[Value, Value, Value]:
    """sin r, cos r and a pattern with n in its low bits, of x = n pi/2 + r."""
    x = bounded(code, x)
    n, pattern = shift_round(code, x, 2 / math.pi)
    for part in PI[code.precision]:
        x = code.op("fma", n, -part / 2, x)
    return *quarter(code, x), pattern


def choose(code: Code, sine: Value, cosine: Value, n: Value, cos: bool) -> Value:
    """sin, or cos, of n quarter turns more than the angle of `sine` and `cosine`."""
    swap = code.op("lt", bit_as_sign(code, n, 0), whole(code, 0))
    if not cos:
        return flip(code, code.op("select", swap, cosine, sine), bit_as_sign(code, n, 1))
    sign = bit_as_sign(code, code.op("add", n, whole(code, 1)), 1)
    return flip(code, code.op("select", swap, sine, cosine), sign)


def sin(code: Code, x: Value) -> Value:
    sine, cosine, n = reduce(code, x)
    return code.op("select", code.op("eq", x, 0.0), x, choose(code, sine, cosine, n, cos=False))


def cos(code: Code, x: Value) -> Value:
    sine, cosine, n = reduce(code, x)
    return choose(code, sine, cosine, n, cos=True)


def tan(code: Code, x: Value) -> Value:
    """sin r/cos r for even n, -cos r/sin r for odd."""
    sine, cosine, n = reduce(code, x)
    sign = bit_as_sign(code, n, 0)
    swap = code.op("lt", sign, whole(code, 0))
    above, below = code.op("select", swap, cosine, sine), code.op("select", swap, sine, cosine)
    found = flip(code, code.op("div", above, below), sign)
    return code.op("select", code.op("eq", x, 0.0), x, found)
