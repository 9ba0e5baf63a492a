"""Irrational numbers in unevaluated sums of floats, largest first, by precision."""

from __future__ import annotations

from decimal import Decimal, localcontext

from ndl.compiler.kernels.ops import REAL

LN2_DIGITS = "0.693147180559945309417232121458176568075500134360255254120680009"
PI_DIGITS = "3.14159265358979323846264338327950288419716939937510582097494459"


def parts(digits: str, count: int) -> dict[str, tuple[float, ...]]:
    """A number as `count` floats of each precision, whose sum agrees with it to all their bits."""
    return {precision: _parts(Decimal(digits), count, REAL[precision]) for precision in REAL}


def _parts(number: Decimal, count: int, real: type) -> tuple[float, ...]:
    found: list[float] = []
    with localcontext() as context:
        context.prec = 120
        for _ in range(count):
            found.append(float(real(number)))
            number -= Decimal(found[-1])
    return tuple(found)


def _split_ln2(bits: int) -> tuple[float, float]:
    """log 2 as a multiple of 2^-bits, whose product with an exponent is exact, and the rest."""
    first = int(Decimal(LN2_DIGITS) * 2**bits) / 2.0**bits
    return first, float(Decimal(LN2_DIGITS) - Decimal(first))


LN2 = parts(LN2_DIGITS, 2)
LN2_SPLIT = {"f64": _split_ln2(42), "f32": _split_ln2(16)}
PI = parts(PI_DIGITS, 3)
TWO_THIRDS = parts("0." + 60 * "6" + "7", 2)
