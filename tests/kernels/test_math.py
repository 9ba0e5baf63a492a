"""The expansions of mathematics against mpmath, in units in the last place, and at special points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fits
import mpmath
import numpy as np
import pytest
from lanes import evaluate, straight
from mpmath import mpf
from ndl.compiler.kernels import math as kernel_math
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.math import coefficients
from ndl.compiler.kernels.math.functions import FUNCTIONS
from ndl.compiler.kernels.ops import REAL, TABLE
from samples import everywhere

PRECISIONS = ("f64", "f32")
COUNT = 1200


def near(low: float, high: float) -> Callable[[str], Any]:
    """Points spread evenly."""
    return lambda precision: np.random.default_rng(1).uniform(low, high, COUNT).astype(REAL[precision])


def wide(low: float, high: float) -> Callable[[str], Any]:
    """Points spread evenly by order of magnitude, of both signs when `low` is negative (its size then)."""

    def points(precision: str) -> Any:
        random = np.random.default_rng(2)
        sizes = np.exp(random.uniform(np.log(abs(low)), np.log(high), COUNT))
        signs = random.choice([-1.0, 1.0], COUNT) if low < 0 else 1.0
        return (sizes * signs).astype(REAL[precision])

    return points


@dataclass(frozen=True)
class Case:
    name: str
    exact: Callable[..., mpf]
    most: float
    """The largest error allowed, in units in the last place."""
    points: tuple[Callable[[str], Any], ...]


def ulps(got: Any, exact: list[mpf], precision: str) -> Any:
    """|got - exact| in units in the last place of a result of that size."""
    info = np.finfo(REAL[precision])
    lowest = info.minexp - info.nmant
    found = []
    for g, e in zip(got, exact):
        if e == 0 or not np.isfinite(g):
            within = g == 0 if e == 0 else abs(e) > mpf(float(info.max))
            found.append(0.0 if within else np.inf)
            continue
        exponent = max(int(mpmath.floor(mpmath.log(abs(e), 2))) - info.nmant, lowest)
        found.append(float(abs(mpf(float(g)) - e) / mpf(2) ** exponent))
    return np.array(found)


def largest(name: str, exact: Callable[..., mpf], precision: str, *arguments: Any) -> float:
    block = straight(precision, FUNCTIONS[name], ["real"] * len(arguments))
    got = evaluate(block, precision, *arguments)[0]
    with mpmath.workdps(40):
        want = [exact(*(mpf(float(a)) for a in point)) for point in zip(*arguments)]
        return float(ulps(got, want, precision).max())


EXPONENTS = (near(-745, 709), near(-100, 88), near(-1, 1), wide(-1e-20, 1))
UNIT = (near(-1, 1), near(0.999, 1), near(-1, -0.999), wide(-1e-30, 1))
CASES = [
    Case("exp", mpmath.exp, 1.5, EXPONENTS),
    Case("expm1", mpmath.expm1, 1.5, EXPONENTS),
    Case("log", mpmath.log, 1.5, (wide(1e-37, 1e37), near(0.5, 2), near(0.999, 1.001))),
    Case("log1p", mpmath.log1p, 1.5, (wide(1e-37, 1e37), near(-0.99, 1), wide(-1e-20, 0.9))),
    Case("sin", mpmath.sin, 1.5, (near(-7, 7), wide(-1e-20, 1e5))),
    Case("cos", mpmath.cos, 1.5, (near(-7, 7), wide(-1e-20, 1e5))),
    Case("tan", mpmath.tan, 3, (near(-7, 7), wide(-1e-20, 1e5))),
    Case("sinh", mpmath.sinh, 3, EXPONENTS),
    Case("cosh", mpmath.cosh, 3, EXPONENTS),
    Case("tanh", mpmath.tanh, 3, (near(-20, 20), *EXPONENTS[2:])),
    Case("asin", mpmath.asin, 3, UNIT),
    Case("acos", mpmath.acos, 3, UNIT),
    Case("atan", mpmath.atan, 3, (near(-4, 4), wide(-1e-30, 1e30))),
    Case("erf", mpmath.erf, 3, (near(-6, 6), wide(-1e-30, 1))),
    Case("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x)), 3, EXPONENTS),
    Case("silu", lambda x: x / (1 + mpmath.exp(-x)), 3.5, (near(-80, 80), *EXPONENTS[2:])),
    Case("softplus", lambda x: mpmath.log1p(mpmath.exp(x)), 3, EXPONENTS),
    Case("elu", lambda x: x if x > 0 else mpmath.expm1(x), 1.5, EXPONENTS),
    Case(
        "gelu", lambda x: x / 2 * (1 + mpmath.erf(x / mpmath.sqrt(2))), 3.5, (near(-0.7, 9), wide(1e-20, 1))
    ),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_errors(case: Case, precision: str) -> None:
    points = np.concatenate([make(precision) for make in case.points])
    assert largest(case.name, case.exact, precision, points) <= case.most


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pow(precision: str) -> None:
    x = np.concatenate([wide(1e-37, 1e37)(precision), near(0.5, 2)(precision), near(0.99, 1.01)(precision)])
    y = np.concatenate([near(-1, 1)(precision), near(-30, 30)(precision), near(-3000, 3000)(precision)])
    assert largest("pow", lambda a, b: a**b, precision, x, y) <= 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_atan2(precision: str) -> None:
    y = np.concatenate([wide(-1e-30, 1e30)(precision), near(-1, 1)(precision)])
    x = np.concatenate([np.roll(y[:COUNT], 1), np.roll(y[COUNT:], 1)])
    assert largest("atan2", mpmath.atan2, precision, y, x) <= 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mod_and_floordiv_are_exact(precision: str) -> None:
    """The remainder to half a unit, the quotient's floor without error."""
    a, b = near(-1e4, 1e4)(precision), near(-3, 3)(precision)[::-1]
    assert largest("mod", lambda a, b: a - b * mpmath.floor(a / b), precision, a, b) <= 0.5
    assert largest("floordiv", lambda a, b: mpmath.floor(a / b), precision, a, b) == 0


def away(name: str, x: Any) -> Any:
    """Where |lgamma| or |digamma| is more than a twentieth of its scale."""
    return x[np.abs(oracle(name, x)) > 0.05 * np.maximum(1, np.log(np.abs(x)))]


@pytest.mark.parametrize(("precision", "most"), [("f64", 1e-13), ("f32", 3e-5)])
@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions_away_from_their_zeros(name: str, precision: str, most: float) -> None:
    exact = (lambda x: mpmath.log(abs(mpmath.gamma(x)))) if name == "lgamma" else mpmath.digamma
    x = np.concatenate([near(-10, 20)(precision)[:600], wide(1e-30, 1e3)(precision)[:600]])
    x = away(name, x)
    got = evaluate(straight(precision, FUNCTIONS[name], ["real"]), precision, x)[0]
    worst = max(abs(float(g) / exact(mpf(float(a))) - 1) for g, a in zip(got, x))
    assert worst <= most


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_far_arguments(name: str) -> None:
    exact = getattr(mpmath, name)
    assert largest(name, exact, "f64", wide(-1e6, 2.0**45)("f64")) <= (3 if name == "tan" else 1.5)
    assert largest(name, exact, "f32", wide(-1e3, 2.0**17)("f32")) <= (3 if name == "tan" else 1.5)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_beyond_the_bound_the_argument_counts_as_zero(name: str) -> None:
    block = straight("f64", FUNCTIONS[name], ["real"])
    found = evaluate(block, "f64", np.array([2.0**46, np.inf]))[0]
    assert found[0] == TABLE[name].compute(0.0)
    assert np.isnan(found[1])


def special(precision: str) -> Any:
    """Points where formats or functions end."""
    info = np.finfo(REAL[precision])
    least = [info.tiny, info.tiny / 3, info.smallest_subnormal, info.smallest_subnormal * 5, 1e-20, 1e-9]
    sizes = [
        0.0,
        0.5,
        1,
        2,
        2.5,
        3,
        4,
        9,
        80,
        87.5,
        88.6,
        88.8,
        89.3,
        89.5,
        100,
        700,
        709.7,
        709.8,
        710.4,
        740,
    ]
    points = [*least, *sizes, 745.2, 1e4, np.inf, np.nan]
    return np.array([sign * p for p in points for sign in (1, -1)], REAL[precision])


def oracle(name: str, *arguments: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.array([TABLE[name].compute(*point) for point in zip(*arguments)])


def alike(got: Any, want: Any, units: float = 6) -> Any:
    """Equal to a few units in the last place, and in sign and kind."""
    with np.errstate(all="ignore"):
        close = (got == want) | (np.abs(got - want) <= units * np.spacing(np.abs(want)))
    return (np.isnan(got) & np.isnan(want)) | (close & (np.signbit(got) == np.signbit(want)))


LOOSE = {"lgamma", "digamma", "gelu", "relu"}
"""Compared at special points by size alone: gamma's functions have zeros, and NumPy's gelu cancels."""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if len(TABLE[n].operands) == 1])
def test_special_points(name: str, precision: str) -> None:
    x = special(precision)
    got = evaluate(straight(precision, FUNCTIONS[name], ["real"]), precision, x)[0]
    want = oracle(name, x)
    fine = alike(got, want)
    if name in LOOSE:
        with np.errstate(invalid="ignore"):
            fine |= np.abs(got - want) <= 40 * np.finfo(REAL[precision]).eps * np.maximum(1, np.abs(want))
    if name in ("sigmoid", "silu"):  # NumPy's exp(-x) overflows there
        fine |= x < -80
    assert not [(a, g, w) for a, g, w, ok in zip(x, got, want, fine) if not ok]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["mod", "floordiv", "atan2"])
def test_special_pairs(name: str, precision: str) -> None:
    a, b = (v.ravel() for v in np.meshgrid(special(precision), special(precision)))
    if name != "atan2":
        with np.errstate(all="ignore"):
            far = np.isfinite(a) & (np.abs(a / b) > 2.0 ** np.finfo(REAL[precision]).nmant) & (b != 0)
        a, b = a[~far], b[~far]
    got = evaluate(straight(precision, FUNCTIONS[name], ["real", "real"]), precision, a, b)[0]
    want = oracle(name, a, b)
    assert not [(x, y, g, w) for x, y, g, w, ok in zip(a, b, got, want, alike(got, want)) if not ok]


def test_a_remainder_out_of_reach_is_zero() -> None:
    block = straight("f64", FUNCTIONS["mod"], ["real", "real"])
    found = evaluate(block, "f64", np.array([1e300, -1e300]), np.array([3e-7, 3e-7]))[0]
    np.testing.assert_array_equal(np.abs(found) < 3e-7, True)


def test_coefficients_are_those_of_the_fits() -> None:
    with mpmath.workdps(60):  # other tests of the process may have set another
        assert fits.render() == Path(coefficients.__file__).read_text()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_special_powers(precision: str) -> None:
    x, y = (a.ravel() for a in np.meshgrid(special(precision), special(precision)))
    keep = np.abs(y) != 0.5  # NumPy takes roots there, against the standard at -0 and -inf
    x, y = x[keep], y[keep]
    got = evaluate(straight(precision, FUNCTIONS["pow"], ["real", "real"]), precision, x, y)[0]
    want = oracle("pow", x, y)
    assert not [(a, b, g, w) for a, b, g, w, ok in zip(x, y, got, want, alike(got, want)) if not ok]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_expanded_kernels_compute_the_same_from_primitives(precision: str) -> None:
    kernel = everywhere(precision)
    expanded = kernel_math.expand(kernel)
    ops = {i.op for _, block in expanded.blocks() for i in block.walk()} & set(TABLE)
    assert all(TABLE[op].primitive for op in ops)
    x = np.linspace(-2, 2, 5).astype(REAL[precision])
    found = []
    for k in (kernel, expanded):
        y = np.zeros_like(x)
        run(k, {"x": x, "y": y}, len(x))
        found.append(y)
    np.testing.assert_allclose(found[1], found[0], rtol=20 * np.finfo(REAL[precision]).eps)
