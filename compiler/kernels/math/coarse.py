"""Logarithms and powers to three digits, for step sizes: the twins of `ndl.runtime.stepping.coarse`."""

from __future__ import annotations

import math

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.format import at_least, at_most, format_of, power_of_two, shift_round, whole

LOG2 = (1.4228653753659204, -0.5820855645527687, 0.15922018918684828)
EXP2 = (0.9999280778506029, 0.6932609373184284, 0.24261113093780257, 0.05517187895310009)


def log2_coarse(code: Code, x: Value) -> Value:
    """log2 of a normal x > 0: the exponent and a cubic in the mantissa; error below 9e-4."""
    fmt = format_of(code)
    bits = code.op("bits_of", x)
    field = code.op("shr", bits, whole(code, fmt.mantissa))
    # the exponent as the low bits of a real
    ones = whole(code, (fmt.mantissa + fmt.bias) << fmt.mantissa)
    above = code.op("real_of", code.op("bit_or", field, ones))
    exponent = code.op("sub", above, 2.0**fmt.mantissa + fmt.bias)
    rest = code.op("bit_and", bits, whole(code, (1 << fmt.mantissa) - 1))
    m = code.op("sub", code.op("real_of", code.op("bit_or", rest, whole(code, fmt.one))), 1.0)
    return code.op("fma", m, _cubic(code, m, LOG2), exponent)


def log2_of(number: float) -> float:
    """`log2_coarse` of a number that is known."""
    half, exponent = math.frexp(number)
    a, b, c = LOG2
    m = 2 * half - 1
    return exponent - 1 + m * (a + m * (b + m * c))


def exp2_coarse(code: Code, x: Value) -> Value:
    """2^x where that is a normal number, relative error below 8e-5."""
    fmt = format_of(code)
    n, pattern = shift_round(code, x, 1.0)
    power = power_of_two(code, code.op("add", pattern, whole(code, fmt.bias)))
    f = code.op("sub", x, n)
    return code.op("mul", code.op("fma", f, _cubic(code, f, EXP2[1:]), EXP2[0]), power)


def coarse_power(code: Code, x: Value, exponent: Value) -> Value:
    """x^exponent of normal numbers x > 0: of 0 the limit, nan of what is infinite or below 0."""
    fmt = format_of(code)
    log = code.op("select", code.op("gt", x, 0.0), log2_coarse(code, x), math.nan)
    log = code.op("select", code.op("eq", x, 0.0), -math.inf, log)
    log = code.op("add", log, code.op("sub", x, x))  # nan of what is infinite
    bounded = at_least(code, code.op("mul", exponent, log), 1.0 - fmt.bias)
    return exp2_coarse(code, at_most(code, bounded, float(fmt.bias)))


def _cubic(code: Code, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The three coefficients of x, x^2, x^3, over x."""
    a, b, c = coefficients
    return code.op("fma", x, code.op("fma", x, c, b), a)
