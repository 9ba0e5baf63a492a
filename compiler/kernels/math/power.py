"""pow, by a logarithm in two floats.

log|x| is summed as high + low to 2^-63 of itself (double; 2^-34 single), for y log|x| may be 745 and its
absolute error is the result's relative one. Sums and products in two floats after Dekker (1971), with fma.
"""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math import coefficients as table
from ndl.compiler.kernels.math.constants import LN2_SPLIT, TWO_THIRDS
from ndl.compiler.kernels.math.exponential import RANGE, above_linear, reduce, scale
from ndl.compiler.kernels.math.format import at_least, at_most, flip, polynomial, sign_bit, whole
from ndl.compiler.kernels.math.logarithm import normal, split

Pair = tuple[Value, Value]
"""high + low, |low| at most half a unit in the last place of high."""


def product(code: Code, a: Value, b: Value) -> Pair:
    high = code.op("mul", a, b)
    return high, code.op("fma", a, b, code.op("neg", high))


def ordered_sum(code: Code, a: Value, b: Value) -> Pair:
    """a + b exactly, where |a| >= |b| or a is 0."""
    high = code.op("add", a, b)
    return high, code.op("sub", b, code.op("sub", high, a))


def log_pair(code: Code, x: Value) -> Pair:
    """log x of a positive finite x: 2s + s z (2/3 + z P(z)) + k log 2, with s = (m - 1)/(m + 1), z = s²."""
    scaled, power = normal(code, x)
    parts = split(code, scaled, power)
    s, s_low = _quotient(code, parts.m)
    z = code.op("mul", s, s)
    z_low = code.op("fma", s, s, code.op("neg", z))
    z_low = code.op("fma", code.op("add", s, s), s_low, z_low)
    c_high, c_low = TWO_THIRDS[code.precision]
    tail = code.op("fma", z, polynomial(code, z, table.LOG_TAIL[code.precision]), c_low)
    c, c_rest = ordered_sum(code, code.const(c_high), tail)
    p = code.op("mul", z, c)
    p_low = code.op("fma", z, c, code.op("neg", p))
    p_low = code.op("fma", z, c_rest, code.op("fma", z_low, c, p_low))
    q = code.op("mul", s, p)
    q_low = code.op("fma", s, p, code.op("neg", q))
    q_low = code.op("fma", s, p_low, code.op("fma", s_low, p, q_low))
    return _collect(code, parts.k, (code.op("add", s, s), code.op("add", s_low, s_low)), (q, q_low))


def _quotient(code: Code, m: Value) -> Pair:
    """(m - 1)/(m + 1); the difference is exact."""
    f, below = code.op("sub", m, 1.0), code.op("add", m, 1.0)
    below_low = code.op("sub", m, code.op("sub", below, 1.0))
    s = code.op("div", f, below)
    rest = code.op("fma", code.op("neg", s), below, f)
    rest = code.op("fma", code.op("neg", s), below_low, rest)
    return s, code.op("div", rest, below)


def _collect(code: Code, k: Value, twice: Pair, cubic: Pair) -> Pair:
    """k log 2 + 2s + the rest; each sum's larger term is its first or k is 0."""
    exact, rest = LN2_SPLIT[code.precision]
    high, low = ordered_sum(code, code.op("mul", k, exact), twice[0])
    high, more = ordered_sum(code, high, cubic[0])
    low = code.op("add", low, more)
    low = code.op("add", low, code.op("add", twice[1], cubic[1]))
    low = code.op("fma", k, rest, low)
    return ordered_sum(code, high, low)


def pow(code: Code, x: Value, y: Value) -> Value:
    size = code.op("abs", x)
    found = _positive(code, size, y)
    one = code.op("or", code.op("eq", y, 0.0), code.op("eq", x, 1.0))
    return code.op("select", one, 1.0, _signed(code, x, y, _edges(code, size, y, found)))


def _positive(code: Code, x: Value, y: Value) -> Value:
    """x^y for 0 < x < inf and finite y."""
    low, high = RANGE[code.precision]
    log_high, log_low = log_pair(code, x)
    product_high, product_low = product(code, y, log_high)
    product_low = code.op("fma", y, log_low, product_low)
    clamped = at_least(code, at_most(code, product_high, high), low)
    reduced = reduce(code, clamped)
    inside = code.op("eq", clamped, product_high)
    tail = code.op("select", inside, code.op("add", reduced.tail, product_low), 0.0)
    square_on = above_linear(code, reduced.r)
    tail = code.op("fma", tail, code.op("add", reduced.r, square_on), tail)
    found = code.op("add", reduced.r, code.op("add", square_on, tail))
    return scale(code, code.op("add", 1.0, found), reduced.pattern)


def _edges(code: Code, size: Value, y: Value, found: Value) -> Value:
    """0 or inf for |x| of 0 or inf and for infinite y; nan for nan."""
    endless = code.op("eq", code.op("abs", y), math.inf)
    edge = code.op("or", code.op("eq", size, 0.0), code.op("or", code.op("eq", size, math.inf), endless))
    grows = code.op("gt", code.op("mul", code.op("sub", size, 1.0), y), 0.0)
    limit = code.op("select", grows, math.inf, 0.0)
    limit = code.op("select", code.op("and", endless, code.op("eq", size, 1.0)), 1.0, limit)
    found = code.op("select", edge, limit, found)
    numbers = code.op("and", code.op("eq", size, size), code.op("eq", y, y))
    return code.op("select", numbers, found, math.nan)


def _signed(code: Code, x: Value, y: Value, size: Value) -> Value:
    """The sign of x for odd y; nan for a finite negative x and a y that is not whole."""
    half = code.op("mul", y, 0.5)
    is_whole = code.op("eq", code.op("floor", y), y)
    is_odd = code.op("and", is_whole, code.op("ne", code.op("floor", half), half))
    sign = code.op("select", is_odd, sign_bit(code, x), whole(code, 0))
    wrong = code.op("and", code.op("lt", x, 0.0), code.op("gt", x, -math.inf))
    wrong = code.op("and", wrong, code.op("not", is_whole))
    return code.op("select", wrong, math.nan, flip(code, size, sign))
