"""Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011) in kernels, and uniforms and normals of its words.

The integers are those of `ndl.runtime.philox`, the uniforms its too; normals in double agree with it to a few
units in the last place, normals in single with those rounded.
"""

from __future__ import annotations

import math

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.constants import PI
from ndl.compiler.kernels.math.format import shift_round, whole
from ndl.compiler.kernels.math.logarithm import log_normal, log_of_sum
from ndl.compiler.kernels.math.trigonometric import choose, quarter
from ndl.compiler.kernels.ops import wrap

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

Words = tuple[Value, Value, Value, Value]


def word(code: Code, number: int) -> Value:
    """A 32-bit word, given unsigned."""
    return code.const(int(wrap(number, np.int32)), "i32")


def philox(code: Code, counter: Words, key: tuple[Value, Value]) -> Words:
    """The four output words (i32, read as unsigned) of a counter under a key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = (word(code, m) for m in MULTIPLIERS)
    for turn in range(ROUNDS):
        if turn:
            k0, k1 = code.op("add", k0, word(code, WEYL[0])), code.op("add", k1, word(code, WEYL[1]))
        high0, high1 = code.op("mulhi", c0, m0), code.op("mulhi", c2, m1)
        low0, low1 = code.op("mul", c0, m0), code.op("mul", c2, m1)
        c0 = code.op("bit_xor", code.op("bit_xor", high1, c1), k0)
        c2 = code.op("bit_xor", code.op("bit_xor", high0, c3), k1)
        c1, c3 = low1, low0
    return c0, c1, c2, c3


def uniform53(code: Code, high: Value, low: Value) -> Value:
    """u = (53 bits + 1/2)/2^53, from all of `high` and the upper 21 bits of `low`, rounded once.

    In single precision u may round to 1.
    """
    return _uniform_double(code, high, low) if code.precision == "f64" else _uniform_single(code, high, low)


def normal_pair(code: Code, words: Words) -> tuple[Value, Value]:
    """Two independent standard normals by Box and Muller (1958): r cos(2 pi u2) and r sin(2 pi u2) with
    r = sqrt(-2 log u1), u1 of the first two words, u2 of the last two."""
    if code.precision == "f64":
        log = log_normal(code, uniform53(code, words[0], words[1]))
        cosine, sine = _circle_double(code, words[2], words[3])
    else:
        log = _log_single(code, words[0], words[1])
        cosine, sine = _circle_single(code, words[2], words[3])
    radius = code.op("sqrt", code.op("mul", -2.0, log))
    return code.op("mul", radius, cosine), code.op("mul", radius, sine)


def normals(code: Code, *words: Value) -> tuple[Value, Value]:
    """The two normals of a counter (four words) under a key (two)."""
    c0, c1, c2, c3, k0, k1 = words
    return normal_pair(code, philox(code, (c0, c1, c2, c3), (k0, k1)))


def normal_cos(code: Code, *words: Value) -> Value:
    """The first of the two."""
    return normals(code, *words)[0]


def normal_sin(code: Code, *words: Value) -> Value:
    """The second of the two."""
    return normals(code, *words)[1]


# ---------------------------------------------------------------- double


def _uniform_double(code: Code, high: Value, low: Value) -> Value:
    """The bits are set below those of 2^20 and 1/2, whose last places are 2^-32 and 2^-53."""
    upper = code.op("bit_and", code.op("widen", high), whole(code, 0xFFFFFFFF))
    lower = code.op("widen", code.op("shr", low, code.const(11, "i32")))
    a = code.op("real_of", code.op("bit_or", upper, whole(code, _bits(2.0**20))))
    b = code.op("real_of", code.op("bit_or", lower, whole(code, _bits(0.5))))
    return code.op("add", code.op("sub", a, 2.0**20), code.op("sub", b, 0.5 - 2.0**-54))


def _bits(x: float) -> int:
    return int(np.float64(x).view(np.int64))


def _circle_double(code: Code, high: Value, low: Value) -> tuple[Value, Value]:
    """cos and sin of the double nearest to 2 pi u."""
    u = uniform53(code, high, low)
    n, pattern = shift_round(code, u, 4.0)
    angle = code.op("mul", u, 2 * math.pi)
    for part in PI["f64"][:2]:
        angle = code.op("fma", n, -part / 2, angle)
    sine, cosine = quarter(code, angle)
    return choose(code, sine, cosine, pattern, True), choose(code, sine, cosine, pattern, False)


# ---------------------------------------------------------------- single


def _fraction(code: Code, upper: Value, low: Value) -> Value:
    """(upper + (the upper 21 bits of low + 1/2)/2^21)/2^32 for a signed `upper`, to a unit in the last place
    however small it is."""
    bits = code.op("to_real", code.op("shr", low, code.const(11, "i32")))
    rest = code.op("mul", code.op("add", bits, 0.5), 2.0**-53)
    return code.op("fma", code.op("to_real", upper), 2.0**-32, rest)


def _uniform_single(code: Code, high: Value, low: Value) -> Value:
    upper = code.op("to_real", code.op("shr", high, code.const(16, "i32")))
    return code.op("fma", upper, 2.0**-16, _fraction(code, code.op("bit_and", high, word(code, 0xFFFF)), low))


def _log_single(code: Code, high: Value, low: Value) -> Value:
    """log u: from w = 1 - u where u > 1/2, by the words' complements, else from w = u."""
    above = code.op("lt", high, word(code, 0))
    mask = code.op("select", above, word(code, 0xFFFFFFFF), word(code, 0))
    w = _fraction(code, code.op("bit_xor", high, mask), code.op("bit_xor", low, mask))
    u = code.op("select", above, code.op("sub", 1.0, w), w)
    lost = code.op("select", above, code.op("sub", code.op("sub", 1.0, u), w), 0.0)
    return log_of_sum(code, u, lost)


def _circle_single(code: Code, high: Value, low: Value) -> tuple[Value, Value]:
    """cos and sin of 2 pi u: the nearest quarter of a turn is taken off in integers."""
    moved = code.op("add", high, word(code, 1 << 29))
    rest = code.op("sub", code.op("bit_and", moved, word(code, (1 << 30) - 1)), word(code, 1 << 29))
    angle = code.op("mul", _fraction(code, rest, low), 2 * math.pi)
    sine, cosine = quarter(code, angle)
    n = code.op("widen", code.op("shr", moved, code.const(30, "i32")))
    return choose(code, sine, cosine, n, True), choose(code, sine, cosine, n, False)
