"""The coefficients of the kernels' elementary functions: `python tests/kernels/fits.py` prints the module
`compiler/kernels/math/coefficients.py`.

A function is matched at Chebyshev nodes by a polynomial or by a ratio of polynomials (its denominator
begins with 1): within a small factor of the best possible. Every function is written to be near a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from mpmath import mp, mpf

mp.dps = 60

HALF_LN2 = mp.log(2) / 2
SMALL_S2 = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mpf("1.0001")
"""s² at most, s = (m - 1)/(m + 1) for m up to sqrt 2."""


@dataclass(frozen=True)
class Fit:
    """`degrees` are those of numerator and denominator for f64 and for f32."""

    name: str
    about: str
    function: Callable[[mpf], mpf]
    low: mpf
    high: mpf
    f64: tuple[int, int] | None
    f32: tuple[int, int] | None
    high32: mpf | None = None
    """Where f32's interval ends, if not at `high`."""
    crowd: int = 1
    """The nodes' power: larger crowds them to `low`, where the function matters more."""

    def single(self) -> Fit:
        return self if self.high32 is None else replace(self, high=self.high32)


def root(function: Callable[[mpf], mpf]) -> Callable[[mpf], mpf]:
    return lambda z: function(mp.sqrt(z))


def exp_tail(r: mpf) -> mpf:
    return mp.fsum(r**k / mp.factorial(k + 2) for k in range(40))


def stirling_rest(w: mpf) -> mpf:
    return mp.loggamma(w) - (w - mpf("0.5")) * (mp.log(w) - 1) - (mp.log(2 * mp.pi) - 1) / 2


FITS = [
    Fit("EXP", "(exp r - 1 - r)/r^2, |r| <= log(2)/2", exp_tail,
        -HALF_LN2 * mpf("1.001"), HALF_LN2 * mpf("1.001"), (9, 0), (4, 0)),
    Fit("LOG", "(2 atanh(s)/s - 2)/z, z = s^2, |s| <= 0.1716",
        root(lambda s: (2 * mp.atanh(s) / s - 2) / s**2), mpf(0), SMALL_S2, (6, 0), (2, 0)),
    Fit("LOG_TAIL", "(2 atanh(s)/s - 2 - 2z/3)/z^2, z = s^2",
        root(lambda s: (2 * mp.atanh(s) / s - 2 - 2 * s**2 / 3) / s**4), mpf(0), SMALL_S2, (7, 0), (3, 0)),
    Fit("SIN", "(sin(r)/r - 1)/z, z = r^2, |r| <= pi/4", root(lambda r: (mp.sin(r) / r - 1) / r**2),
        mpf(0), mpf("0.80") ** 2, (5, 0), (2, 0)),
    Fit("COS", "(cos(r) - 1 + z/2)/z^2, z = r^2, |r| <= pi/4",
        root(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4), mpf(0), mpf("0.80") ** 2, (5, 0), (2, 0)),
    Fit("ATAN", "(atan(t)/t - 1)/z, z = t^2, |t| <= tan(pi/8)", root(lambda t: (mp.atan(t) / t - 1) / t**2),
        mpf(0), mpf("0.4143") ** 2, (10, 0), (4, 0)),
    Fit("ASIN", "(asin(t)/t - 1)/z, z = t^2 <= 1/4", root(lambda t: (mp.asin(t) / t - 1) / t**2),
        mpf(0), mpf("0.25"), (12, 0), (4, 0)),
    Fit("ERF", "(-log(erfc x)/x - 2/sqrt(pi))/x, x <= 5.95 (f32: 3.95)",
        lambda x: (-mp.log(mp.erfc(x)) / x - 2 / mp.sqrt(mp.pi)) / x,
        mpf(0), mpf("5.95"), (9, 9), (3, 3), mpf("3.95"), crowd=2),
    Fit("LGAMMA", "w (lgamma(w) - (w - 1/2)(log w - 1) - log(2 pi)/2 + 1/2), z = 1/w^2 <= 1/64 (f32: 1/16)",
        root(lambda v: stirling_rest(1 / v) / v), mpf(0), mpf(1) / 64, (6, 0), (2, 0), mpf(1) / 16),
    Fit("DIGAMMA", "(log w - 1/(2w) - digamma(w))/z, z = 1/w^2 <= 1/64 (f32: 1/16)",
        root(lambda v: (mp.log(1 / v) - v / 2 - mp.digamma(1 / v)) / v**2),
        mpf(0), mpf(1) / 64, (6, 0), (2, 0), mpf(1) / 16),
]  # fmt: skip


def fit(f: Fit, top: int, bottom: int) -> tuple[list[mpf], list[mpf]]:
    """Numerator and denominator, ascending, that agree with the function at Chebyshev nodes."""
    count = top + bottom + 1
    unit = [(1 + mp.cos(mp.pi * (2 * i + 1) / (2 * count))) / 2 for i in range(count)]
    nodes = [f.low + (f.high - f.low) * u**f.crowd for u in unit]
    matrix, right = mp.matrix(count, count), mp.matrix(count, 1)
    for i, x in enumerate(nodes):
        value = f.function(x)
        for j in range(top + 1):
            matrix[i, j] = x**j
        for j in range(1, bottom + 1):
            matrix[i, top + j] = -value * x**j
        right[i] = value
    found = list(mp.lu_solve(matrix, right))
    return found[: top + 1], [mpf(1), *found[top + 1 :]]


def error(f: Fit, numerator: list[mpf], denominator: list[mpf]) -> float:
    """The largest difference from the function, on a fine grid."""
    points = [f.low + (f.high - f.low) * (i + mpf("0.5")) / 400 for i in range(400)]
    return float(
        max(
            abs(mp.polyval(numerator[::-1], x) / mp.polyval(denominator[::-1], x) - f.function(x))
            for x in points
        )
    )


def _tuple(numbers: list[mpf], single: bool) -> str:
    rounded = [str(np.float32(float(n))) if single else repr(float(n)) for n in numbers]
    return "".join(f"        {r},\n" for r in rounded)


def _entry(name: str, f: Fit, bottom: bool) -> str:
    text = f"{name} = {{\n"
    for precision, made, degrees in (("f64", f, f.f64), ("f32", f.single(), f.f32)):
        if degrees is not None:
            numbers = fit(made, *degrees)[bottom]
            text += f'    "{precision}": (\n{_tuple(numbers, precision == "f32")}    ),\n'
    return text + "}\n"


def render() -> str:
    """The module's text."""
    text = '"""Coefficients, ascending, by precision. Made by `tests/kernels/fits.py`; not to be edited."""\n'
    for f in FITS:
        rational = any(d is not None and d[1] for d in (f.f64, f.f32))
        text += f"\n# {f.about}\n" + _entry(f.name, f, False)
        if rational:
            text += _entry(f"{f.name}_BELOW", f, True)
    return text


if __name__ == "__main__":
    print(render(), end="")
