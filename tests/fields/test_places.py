"""Fields as functions and sets as values: any point, kernels, parts of domains, boundaries, balls."""

from __future__ import annotations

import math

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from torch import Tensor

import ndl

RING = """
domain Ring = periodic(x in 0..1)

model Wave:
    param p = 0.3, a = 1.0
    state u: R on Ring = a*sin(2*pi*x)
    u' = 0*u
    {formulas}
"""
BOX = """
domain Box = interval(x in 0..1, y in 0..2)

model Flat:
    param p = 0.3
    state u: R on Box = x^2*y
    u' = 0*u
    {formulas}
"""


def final(text: str, grid: str, *formulas: str, **settings: object) -> ndl.Solution:
    program = ndl.loads(text.format(formulas="\n    ".join(formulas)))
    (model,) = program.models.values()
    return ndl.solve(model, span=(0, 1), grid=grid, method="euler(h=1.0)", save="end", **settings).final


def waves(s: object, phase: float = 0.0, n: int = 24) -> Tensor:
    x = torch.arange(n, dtype=torch.float64) / n
    return torch.sin(2 * math.pi * (x + phase))


@pytest.mark.parametrize(("grid", "tol"), [("fourier(24)", 1e-12), ("uniform(24, order=6)", 1e-7)])
def test_a_field_at_any_point(grid: str, tol: float) -> None:
    s = final(RING, grid, "q = u(p)", "beyond = u(1 + p)", "moved = u(x + 0.1)", "same = u(x)")
    assert float(s.q) == pytest.approx(math.sin(2 * math.pi * 0.3), abs=tol)
    assert float(s.beyond) == pytest.approx(float(s.q), abs=1e-12)
    assert float((s.moved - waves(s, 0.1)).abs().max()) < tol
    assert torch.equal(s.same, s.u)


@pytest.mark.parametrize("order", [2, 4])
def test_the_order_between_points(order: int) -> None:
    errors = []
    for n in (32, 64):
        q = final(RING, f"uniform({n}, order={order})", "q = u(0.3)").q
        errors.append(abs(float(q) - math.sin(0.6 * math.pi)))
    assert math.log2(errors[0] / errors[1]) > order + 1.5


@pytest.mark.parametrize(
    "grid", ["uniform(9, 9)", "uniform(9, 9, at=cells)", "chebyshev(6)", "[chebyshev(6), uniform(9)]"]
)
def test_two_coordinates_give_polynomials_exactly(grid: str) -> None:
    s = final(BOX, grid, "a = u(p, 1.2)", "b = u([p, 1.2])", "c = u(y/2, 2*x)", "d = u(p, y)")
    assert float(s.a) == pytest.approx(0.09 * 1.2, abs=1e-12)
    assert float(s.b) == pytest.approx(float(s.a), abs=1e-14)
    (model,) = ndl.loads(BOX.format(formulas="")).models.values()
    g = ndl.solve(model, span=(0, 1), grid=grid, method="euler(h=1.0)", save="end").grid
    assert float((s.c - (g.y / 2) ** 2 * 2 * g.x).abs().max()) < 1e-12
    assert float((s.d - 0.09 * g.y).abs().max()) < 1e-12


def test_gradients_by_the_place() -> None:
    (model,) = ndl.loads(RING.format(formulas="q = u(p)")).models.values()
    made = model.on("fourier(24)")(p=0.3, a=2.0)
    s = ndl.solve(made, span=(0, 1), method="euler(h=1.0)", save="end")
    (slope,) = torch.autograd.grad(s.final.q, [made.p])
    assert float(slope) == pytest.approx(4 * math.pi * math.cos(0.6 * math.pi), rel=1e-10)


def test_a_kernel_is_an_integral_over_another_point() -> None:
    """The convolution of waves, and a constant of the other point."""
    s = final(
        RING,
        "fourier(24)",
        "K = integral(cos(2*pi*(x - y))*u(y), y in Ring)",
        "A = integral(u(y)^2, y in Ring)",
        "far = max(u(y) - u, y in Ring)",
    )
    assert float((s.K - waves(s) / 2).abs().max()) < 1e-12
    assert float(s.A.reshape(-1)[0]) == pytest.approx(0.5, abs=1e-12)
    assert float((s.far - (1 - waves(s))).abs().max()) < 1e-12


def test_the_coordinate_s_own_name_is_the_same_point() -> None:
    s = final(RING, "fourier(24)", "q = integral(u^2, x in Ring)", "r = integral(u^2, z in Ring)")
    assert float(s.q) == pytest.approx(0.5, abs=1e-12)
    assert float(s.r) == pytest.approx(0.5, abs=1e-12)


def test_parts_of_an_axis_and_conditions() -> None:
    s = final(
        RING,
        "fourier(24)",
        "half = integral(u, x in 0..0.5)",
        "some = integral(1 + u, x in Ring if x < 0.5)",
        "upper = mean(u, x in Ring if u > 1e-9)",
    )
    assert float(s.half) == pytest.approx(1 / math.pi, abs=1e-12)
    assert float(s.some) == pytest.approx(0.5 + sum(waves(s)[:12].tolist()) / 24, abs=1e-12)
    assert float(s.upper) == pytest.approx(sum(waves(s)[1:12].tolist()) / 11, abs=1e-12)
    s = final(
        BOX,
        "chebyshev(6)",
        "line = integral(u, x in 0..p)",
        "area = integral(integral(u, x in 0..p), y in 1..2)",
    )
    assert float(s.area.reshape(-1)[0]) == pytest.approx(0.3**3 / 3 * 1.5, abs=1e-12)


@pytest.mark.parametrize("grid", ["uniform(17, 17, order=4)", "chebyshev(7)", "uniform(16, 16, at=cells)"])
def test_integrals_along_boundaries(grid: str) -> None:
    s = final(
        BOX,
        grid,
        "east = integral(u, [x, y] in right(Box))",
        "flux = integral(dn(u), [x, y] in right(Box))",
        "length = integral(1.0, [x, y] in boundary(Box))",
        "middle = mean(y, [x, y] in left(Box))",
    )
    close = {"abs": 1e-10 if "cells" not in grid else 0.05}
    assert float(s.east) == pytest.approx(2, **close)
    assert float(s.flux) == pytest.approx(4, **close)
    assert float(s.length) == pytest.approx(6, abs=1e-12)
    assert float(s.middle) == pytest.approx(1, abs=1e-12)


def test_the_divergence_theorem() -> None:
    s = final(BOX, "chebyshev(8)", "inside = integral(lap(u^2), [x, y] in Box)",
              "outside = integral(dn(u^2), [x, y] in boundary(Box))")  # fmt: skip
    assert float(s.inside) == pytest.approx(float(s.outside), rel=1e-10)


def test_balls_reach_across_a_periodic_end() -> None:
    s = final(
        RING,
        "uniform(20)",
        "m = mean(u(y), y in ball(x, 0.1))",
        "one = integral(1.0, y in ball(x, 0.1))",
        "first = integral(1.0, y in ball(0.0, 0.125))",
    )
    u = waves(s, n=20)
    wanted = sum(torch.roll(u, k) for k in range(-2, 3)) / 5
    assert float((s.m - wanted).abs().max()) < 1e-12
    assert float((s.one - 0.25).abs().max()) < 1e-12
    assert float(s.first.reshape(-1)[0]) == pytest.approx(0.25)


def test_a_nonlocal_rate_runs_like_its_closed_form() -> None:
    """u' = K*u - u with K = cos: each mode has its own rate."""
    text = RING.replace("u' = 0*u", "u' = integral(cos(2*pi*(x - y))*u(y), y in Ring) - u")
    (model,) = ndl.loads(text.format(formulas="")).models.values()
    s = ndl.solve(
        model, span=(0, 1), grid="fourier(24)", method="tsit5(rtol=1e-9, atol=1e-11)", save="end"
    ).final
    assert float((s.u - math.exp(-0.5) * waves(s)).abs().max()) < 1e-8


@pytest.mark.parametrize(
    ("formula", "code"),
    [("q = u(0.1, 0.2)", "NDL322"), ("q = sum(u, x in Ring)", "NDL490")],
)
def test_what_has_no_meaning_says_so(formula: str, code: str) -> None:
    with pytest.raises(NDLError, match=code):
        final(RING, "fourier(8)", formula)
