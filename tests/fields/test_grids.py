"""Points, weights of differences and quadrature against sympy and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import sympy as sp
import torch
from ndl.compiler.ir.grid import FREE, SLOPE, VALUE, central, end_weights, stencil
from ndl.compiler.ops.families.fields import stencil_matrix
from ndl.runtime import grids

ZERO, HALF = Fraction(0), Fraction(-1, 2)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
def test_central_differences_are_those_of_sympy(degree: int, accuracy: int) -> None:
    offset, found = central(degree, accuracy)
    points = list(range(offset, offset + len(found)))
    wanted = sp.finite_diff_weights(degree, points, 0)[degree][-1]
    assert [sp.Rational(w.numerator, w.denominator) for w in found] == wanted


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
def test_one_sided_differences_are_those_of_sympy(degree: int, accuracy: int) -> None:
    s = stencil(degree, accuracy, False, ZERO, FREE, FREE)
    for i, row in enumerate(s.low):
        wanted = sp.finite_diff_weights(degree, list(range(len(row))), i)[degree][-1]
        assert [sp.Rational(w.numerator, w.denominator) for w in row] == wanted
    sign = (-1) ** degree
    assert [tuple(sign * w for w in reversed(row)) for row in reversed(s.low)] == list(s.high)


def test_ghost_points_of_second_order() -> None:
    s = stencil(2, 2, False, ZERO, SLOPE, SLOPE)
    assert (s.low, s.low_data, s.high_data) == (((-2, 2),), (-2,), (2,))
    cells = stencil(2, 2, False, HALF, VALUE, VALUE)
    assert cells.low == ((-4, Fraction(4, 3)),) and cells.low_data == (Fraction(8, 3),)


@pytest.mark.parametrize("first", [ZERO, HALF])
@pytest.mark.parametrize(("low", "high"), [(FREE, SLOPE), (SLOPE, VALUE), (VALUE, FREE)])
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("accuracy", [2, 4, 6])
def test_differences_are_exact_for_polynomials(
    accuracy: int, degree: int, low: str, high: str, first: Fraction
) -> None:
    """Every row of a difference with what is known at the ends, of a polynomial of the degree that it
    promises."""
    n, top = 16, degree + accuracy - 2
    x = torch.arange(n, dtype=torch.float64)
    s = stencil(degree, accuracy, False, first, low, high)
    rows = {"low": s.low, "high": s.high, "center": s.center}
    floats = {k: _floats(v) for k, v in rows.items()}
    matrix = stencil_matrix(n, offset=s.offset, scale=1.0, periodic=False, transposed=False, **floats)
    start, end = float(first), n - 1 - float(first)

    def p(z: torch.Tensor, k: int) -> torch.Tensor:
        return math.perm(top, k) * (z / n - 0.3) ** (top - k) / n**k if k <= top else 0 * z

    found = matrix @ p(x, 0)
    for side, known, data in (("low", low, s.low_data), ("high", high, s.high_data)):
        place = torch.tensor(start if side == "low" else end, dtype=torch.float64)
        datum = p(place, 1 if known == SLOPE else 0)
        for j, w in enumerate(data):
            found[j if side == "low" else n - 1 - j] += float(w) * datum
    torch.testing.assert_close(found, p(x, degree), rtol=0, atol=1e-11)


def _floats(value: object) -> object:
    return tuple(map(_floats, value)) if isinstance(value, tuple) else float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("accuracy", [2, 4, 6, 8])
def test_quadrature_converges_with_the_order_of_the_grid(accuracy: int, cells: bool) -> None:
    found = []
    for n in (20, 40):
        layout = ("cells" if cells else "nodes", n, 0.0, 1.0)
        w = grids.grid_weights(layout, [float(e) for e in end_weights(accuracy, cells)])
        x = grids.grid_points(layout)
        found.append(abs(float(w @ torch.exp(2 * x)) - (math.exp(2) - 1) / 2))
    assert math.log2(found[0] / found[1]) > accuracy - 0.35


def test_clenshaw_and_curtis() -> None:
    for n in (12, 13):
        layout = ("chebyshev", n, -1.0, 2.0)
        x, w = grids.grid_points(layout), grids.grid_weights(layout, ())
        assert float(w @ x**5) == pytest.approx((2**6 - 1) / 6, rel=1e-14)
        assert float(w @ torch.exp(x)) == pytest.approx(math.exp(2) - math.exp(-1), rel=1e-9)


def test_chebyshev_matrices_differentiate_polynomials() -> None:
    layout = ("chebyshev", 10, 0.0, 3.0)
    x = grids.grid_points(layout)
    for degree in (1, 2, 3):
        found = grids.chebyshev(layout, degree, ()) @ x**6
        wanted = math.perm(6, degree) * x ** (6 - degree)
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-9)
