"""What the expansions know of the two float formats, and the moves on bit patterns that they share.

No conversion between 64-bit integers and doubles is used (AVX2 has none): a double is rounded to a whole
number by adding 1.5 * 2^52, whereupon the whole number stands in the low bits of the sum's pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value


@dataclass(frozen=True)
class Format:
    """`mantissa` counts the stored bits, `bias` is the exponent's."""

    mantissa: int
    bias: int

    @property
    def width(self) -> int:
        return self.mantissa + self.bias.bit_length() + 2

    @property
    def shifter(self) -> float:
        """Added to a real it rounds to a whole number, to nearest, ties to even."""
        return 1.5 * 2.0**self.mantissa

    @property
    def sign(self) -> int:
        """The pattern of -0.0, as a signed integer."""
        return -((self.bias + 1) << (self.mantissa + 1))

    @property
    def one(self) -> int:
        """The pattern of 1.0."""
        return self.bias << self.mantissa

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {"f64": Format(52, 1023), "f32": Format(23, 127)}


def format_of(code: Code) -> Format:
    return FORMATS[code.precision]


def whole(code: Code, number: int) -> Value:
    """A constant bit pattern."""
    return code.const(number, "bits")


def polynomial(code: Code, x: Value, coefficients: Sequence[float]) -> Value:
    """c0 + c1 x + …, even and odd powers apart: half the depth of Horner's rule for one product more."""
    if len(coefficients) < 4:
        return _horner(code, x, coefficients)
    square = code.op("mul", x, x)
    even, odd = _horner(code, square, coefficients[::2]), _horner(code, square, coefficients[1::2])
    return code.op("fma", odd, x, even)


def _horner(code: Code, x: Value, coefficients: Sequence[float]) -> Value:
    found = code.const(coefficients[-1])
    for c in coefficients[-2::-1]:
        found = code.op("fma", found, x, c)
    return found


def shift_round(code: Code, x: Value, factor: float) -> tuple[Value, Value]:
    """round(factor * x) as a real, and a pattern with that number in its low `mantissa - 1` bits."""
    shifter = format_of(code).shifter
    sum = code.op("fma", x, factor, shifter)
    return code.op("sub", sum, shifter), code.op("bits_of", sum)


def power_of_two(code: Code, biased: Value) -> Value:
    """2^(b - bias) of a pattern b, whose bits above the exponent's width must be those of a sign 0."""
    return code.op("real_of", code.op("shl", biased, whole(code, format_of(code).mantissa)))


def sign_bit(code: Code, x: Value) -> Value:
    """The sign of x as a pattern: that of -0.0 or 0."""
    return code.op("bit_and", code.op("bits_of", x), whole(code, format_of(code).sign))


def flip(code: Code, x: Value, sign: Value) -> Value:
    """x, negated where the pattern `sign` is that of -0.0."""
    return code.op("real_of", code.op("bit_xor", code.op("bits_of", x), sign))


def at_most(code: Code, x: Value, bound: float) -> Value:
    """min(x, bound); nan stays nan. One instruction where the machine's minimum yields its second operand."""
    return code.op("select", code.op("lt", bound, x), bound, x)


def at_least(code: Code, x: Value, bound: float) -> Value:
    """max(x, bound); nan stays nan."""
    return code.op("select", code.op("gt", bound, x), bound, x)
