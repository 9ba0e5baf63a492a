"""atan, atan2, asin and acos."""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import PI
from ndl.compiler.kernels.math.format import flip, polynomial, sign_bit, whole


def atan(code: Code, x: Value) -> Value:
    return flip(code, _angle(code, code.op("abs", x), code.const(1.0)), sign_bit(code, x))


def atan2(code: Code, y: Value, x: Value) -> Value:
    """The angle of (x, y). Large numbers are scaled down, lest their sum overflow."""
    up, along = code.op("abs", y), code.op("abs", x)
    down = code.op("select", code.op("gt", code.op("add", up, along), 1.0), 0.25, 1.0)
    found = _angle(code, code.op("mul", up, down), code.op("mul", along, down))
    edge = code.op("select", code.op("gt", up, 0.0), math.pi / 4, 0.0)
    found = code.op("select", code.op("eq", up, along), edge, found)
    high, low = PI[code.precision][:2]
    left = code.op("lt", code.op("bits_of", x), whole(code, 0))
    beyond = code.op("sub", high, code.op("sub", found, low))
    return flip(code, code.op("select", left, beyond, found), sign_bit(code, y))


def _angle(code: Code, y: Value, x: Value) -> Value:
    """atan(y/x) for y, x >= 0, as 0, pi/4 or pi/2 and atan t with |t| <= tan(pi/8)."""
    far = code.op("gt", y, code.op("mul", x, 1 + math.sqrt(2)))
    middle = code.op("gt", y, code.op("mul", x, math.sqrt(2) - 1))

    def either(one: Value | float, two: Value | float, three: Value | float) -> Value:
        return code.op("select", far, one, code.op("select", middle, two, three))

    above = either(code.op("neg", x), code.op("sub", y, x), y)
    t = code.op("div", above, either(y, code.op("add", y, x), x))
    high, low = PI[code.precision][:2]
    z = code.op("mul", t, t)
    series = polynomial(code, z, table.ATAN[code.precision])
    rest = code.op("fma", code.op("mul", t, z), series, either(low / 2, low / 4, 0.0))
    return code.op("add", either(high / 2, high / 4, 0.0), code.op("add", t, rest))


def _arc(code: Code, x: Value) -> tuple[Value, Value]:
    """Whether |x| > 1/2, and asin|x| if not, else asin sqrt((1 - |x|)/2)."""
    size = code.op("abs", x)
    big = code.op("gt", size, 0.5)
    z = code.op("select", big, code.op("fma", size, -0.5, 0.5), code.op("mul", size, size))
    s = code.op("select", big, code.op("sqrt", z), size)
    series = polynomial(code, z, table.ASIN[code.precision])
    return big, code.op("fma", code.op("mul", s, z), series, s)


def asin(code: Code, x: Value) -> Value:
    """asin|x| = pi/2 - 2 asin sqrt((1 - |x|)/2) above 1/2."""
    big, arc = _arc(code, x)
    high, low = PI[code.precision][:2]
    far = code.op("sub", high / 2, code.op("fma", arc, 2.0, -low / 2))
    return flip(code, code.op("select", big, far, arc), sign_bit(code, x))


def acos(code: Code, x: Value) -> Value:
    """pi/2 - asin x; 2 asin sqrt((1 - x)/2) above 1/2, pi less the same of -x below -1/2."""
    big, arc = _arc(code, x)
    high, low = PI[code.precision][:2]
    arc = code.op("mul", flip(code, arc, sign_bit(code, x)), code.op("select", big, -2.0, 1.0))
    left = code.op("lt", x, 0.0)

    def base(part: float) -> Value:
        return code.op("select", big, code.op("select", left, part, 0.0), part / 2)

    return code.op("sub", base(high), code.op("sub", arc, base(low)))
