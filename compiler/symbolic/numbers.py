"""Literals as exact rationals, and back."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import sympy as sp

LONGEST = 2000
"""Bits of the longest integer that symbolic work may make; more is left to floats."""

UNREAL = (sp.I, sp.zoo, sp.oo, -sp.oo, sp.nan)


def exact(value: Any) -> Any | None:
    """The rational that a literal was written as (`0.1` is 1/10), None for what is not finite.

    The shortest decimal that reads back as the float stands for it, so that `number` returns the
    very float.
    """
    if isinstance(value, (bool, complex)) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        if math.pi == value:
            return sp.pi
        if not math.isfinite(value):
            return None
        fraction = Fraction(repr(value))
        result = sp.Rational(fraction.numerator, fraction.denominator)
    else:
        result = sp.Integer(value)
    return result if bits(result) <= LONGEST else None


def bits(expr: Any) -> int:
    """Length of the longest number inside."""
    return max((n.p.bit_length() + n.q.bit_length() for n in expr.atoms(sp.Rational)), default=0)


def number(expr: Any) -> float | int | None:
    """The float nearest to an expression without symbols; an int for integers; None if it is not real."""
    if expr.is_Integer:
        value = int(expr)
        return value if abs(value) < 2**53 else float(value)
    if expr.is_Rational:
        return float(Fraction(int(expr.p), int(expr.q)))
    value = sp.N(expr, 25)
    return float(value) if value.is_Float and math.isfinite(float(value)) else None


def decimal(expr: Any) -> bool:
    """Does a rational end after a few decimals, so that a reader prefers them to a fraction?"""
    q = int(expr.q)
    for p in (2, 5):
        while q % p == 0:
            q //= p
    return q == 1
