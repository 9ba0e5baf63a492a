"""Finite elements against closed forms: orders under refinement, conditions of each kind, decay in time."""

from __future__ import annotations

import math

import pytest
import torch
from field_problems import order, solved
from ndl.compiler.diagnostics import NDLError

DISC = "domain Disc = { x, y | x^2 + y^2 < 1 }\n"
RING = "domain Ring = { x, y | 0.25 < x^2 + y^2 < 1 }\n"

POISSON = f"""{DISC}
model M:
    state u: R on Disc = 0
    0 = lap(u) + 1
    on boundary(Disc): u = 0
    error = sqrt(integral((u - (1 - x^2 - y^2)/4)^2, [x, y] in Disc))
    slopes = sqrt(integral((dx(u) + x/2)^2 + (dy(u) + y/2)^2, [x, y] in Disc))
"""


def found(text: str, name: str, grids: list[str], **settings: str) -> list[float]:
    """A derived quantity at the end of a run for each grid."""
    return [float(solved(text, grid, **settings).final[name]) for grid in grids]


def sizes(*values: float, **more: object) -> list[str]:
    options = "".join(f", {k}={v}" for k, v in more.items())
    return [f"fem(size={v}{options})" for v in values]


def test_poisson_on_a_disc_has_order_two_and_its_gradient_order_one() -> None:
    """u = (1 - r^2)/4."""
    runs = [solved(POISSON, grid, method="direct()") for grid in sizes(0.2, 0.1, 0.05)]
    assert 1.8 < order([float(s.final.error) for s in runs]) < 2.3
    assert 0.9 < order([float(s.final.slopes) for s in runs]) < 1.2
    assert float(runs[-1].final.error) < 4e-4


@pytest.mark.parametrize("method", ["cg(tol=1e-11)", "newton(tol=1e-9)"])
def test_methods_for_steady_problems_agree(method: str) -> None:
    a, b = (solved(POISSON, "fem(size=0.2)", method=m).final.u for m in ("direct()", method))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_a_disc_that_is_found_dense() -> None:
    """Few values: the Jacobian is a dense matrix."""
    s = solved(POISSON, "fem(size=0.4)", method="direct()")
    assert len(s.final.u) <= 64 and float(s.final.error) < 0.03


def test_laplace_on_an_annulus() -> None:
    """u = log(2r)/log 2 between the circles of radius 1/2 and 1."""
    text = f"""{RING}
model M:
    state u: R on Ring = 0
    0 = lap(u)
    on boundary(Ring) if x^2 + y^2 < 0.5: u = 0
    on boundary(Ring) if x^2 + y^2 > 0.5: u = 1
    error = sqrt(integral((u - log(2*sqrt(x^2 + y^2))/log(2))^2, [x, y] in Ring))
    inflow = integral(dn(u), [x, y] in boundary(Ring) if x^2 + y^2 > 0.5)
"""
    errors = found(text, "error", sizes(0.2, 0.1, 0.05), method="direct()")
    assert 1.7 < order(errors) < 2.4, errors
    (inflow,) = found(text, "inflow", sizes(0.05), method="direct()")
    assert abs(inflow - 2 * math.pi / math.log(2)) < 0.03 * inflow


def test_a_corner_that_points_inwards_spoils_the_order() -> None:
    """r^(2/3) sin(2 theta/3) in an L: the error in L2 falls as h^(4/3), in a convex domain as h^2
    (Strang and Fix, An Analysis of the Finite Element Method, 1973, chapter 8)."""
    text = """
domain L = { x, y | max(abs(x) - 1, abs(y) - 1) < 0 and not (x > 0 and y < 0) }
fn angle(x, y) = if atan2(y, x) < -1e-9 then atan2(y, x) + 2*pi else atan2(y, x)
fn exact(x, y) = (x^2 + y^2)^(1/3)*sin(2/3*angle(x, y))

model M:
    state u: R on L = 0
    0 = lap(u)
    on boundary(L): u = exact(x, y)
    error = sqrt(integral((u - exact(x, y))^2, [x, y] in L))
    area = integral(1, [x, y] in L)
"""
    runs = [solved(text, grid, method="direct()") for grid in sizes(0.2, 0.1, 0.05)]
    assert abs(float(runs[0].final.area) - 3) < 1e-12
    assert 1.1 < order([float(s.final.error) for s in runs]) < 1.6


@pytest.mark.parametrize(
    "grid", ["fem(size=0.1)", "fem(size=0.1, mass=consistent)", "fem(order=2, size=0.2)"]
)
def test_heat_on_a_disc_decays_by_the_first_zero_of_bessel(grid: str) -> None:
    """u = J0(j r) exp(-j^2 t), j = 2.404825557695773."""
    j = 2.404825557695773
    factors = [(-1) ** k / math.factorial(k) ** 2 * (j / 2) ** (2 * k) for k in range(14)]
    terms = " + ".join(f"({c!r})*(x^2 + y^2)^{k}" for k, c in enumerate(factors) if k)
    text = f"""{DISC}
model M:
    state u: R on Disc = 1 + {terms}
    u' = lap(u)
    on boundary(Disc): u = 0
    heat = integral(u, [x, y] in Disc)
"""
    s = solved(text, grid, span="0..0.2", method="tsit5(rtol=1e-6, atol=1e-9)", save="[0, 0.2]")
    rate = -math.log(float(s.heat[-1] / s.heat[0])) / 0.2
    assert abs(rate / j**2 - 1) < 0.02


def test_robin_condition() -> None:
    """lap u = -4 with u + dn(u) = 0 on the circle: u = 3 - r^2."""
    text = f"""{DISC}
model M:
    state u: R on Disc = 0
    0 = lap(u) + 4
    on boundary(Disc): u + dn(u) = 0
    error = sqrt(integral((u - (3 - x^2 - y^2))^2, [x, y] in Disc))
"""
    errors = found(text, "error", sizes(0.2, 0.1), method="cg(tol=1e-11)")
    assert 1.8 < order(errors) < 2.2, errors


def test_coefficients_advection_and_slopes_on_a_rectangle() -> None:
    """div((1 + x) grad u) - y dx(u) - u = f for u = sin(pi x) cos(y), a slope given at two sides."""
    text = """
domain Plate = interval(x in 0..1, y in 0..1)
model M:
    state u: R on Plate = 0
    0 = div((1 + x)*grad(u)) - y*dx(u) - u - f
    f = pi*cos(pi*x)*cos(y) - (1 + x)*(pi^2 + 1)*sin(pi*x)*cos(y) - y*pi*cos(pi*x)*cos(y) - sin(pi*x)*cos(y)
    on left(Plate): u = 0
    on right(Plate): dn(u) = -pi*cos(y)
    on bottom(Plate): dn(u) = 0
    on top(Plate): u = sin(pi*x)*cos(1)
    error = sqrt(integral((u - sin(pi*x)*cos(y))^2, [x, y] in Plate))
"""
    first = found(text, "error", sizes(0.1, 0.05), method="direct()")
    second = found(text, "error", sizes(0.2, 0.1, order=2), method="direct()")
    assert 1.8 < order(first) < 2.2, first
    assert 2.7 < order(second) < 3.4, second


def test_a_product_with_a_laplacian_takes_the_product_rule() -> None:
    """(1 + x) lap u is no divergence: the weak form has the gradient of its factor."""
    text = """
domain Plate = interval(x in 0..1, y in 0..1)
model M:
    state u: R on Plate = 0
    0 = (1 + x)*lap(u) + (1 + x)*2*pi^2*sin(pi*x)*sin(pi*y)
    on boundary(Plate): u = 0
    error = sqrt(integral((u - sin(pi*x)*sin(pi*y))^2, [x, y] in Plate))
"""
    errors = found(text, "error", sizes(0.1, 0.05), method="direct()")
    assert 1.8 < order(errors) < 2.2, errors


def test_an_interval_and_a_block() -> None:
    """The same elements on a line, where linear ones are exact at the nodes, and on tetrahedra."""
    line = """
domain Rod = interval(x in 0..2)
model M:
    state u: R on Rod = 0
    0 = dxx(u) + 6*x
    on left(Rod): u = 0
    on right(Rod): u + dn(u) = 0
"""
    s = solved(line, "fem(size=0.2, mass=consistent)", method="direct()")
    x = s.grid.x
    torch.testing.assert_close(s.final.u, 20 / 3 * x - x**3, rtol=0, atol=1e-10)
    block = """
domain Block = interval(x in 0..1, y in 0..1, z in 0..1)
model M:
    state u: R on Block = 0
    0 = lap(u) + 3*pi^2*sin(pi*x)*sin(pi*y)*sin(pi*z)
    on boundary(Block): u = 0
    error = sqrt(integral((u - sin(pi*x)*sin(pi*y)*sin(pi*z))^2, [x, y, z] in Block))
"""
    errors = found(block, "error", sizes(0.25, 0.125), method="direct()")
    assert 1.6 < order(errors) < 2.3, errors


def test_the_minimiser_of_an_energy_solves_its_equation() -> None:
    energy = f"""{DISC}
model M:
    state u: R on Disc = 0
    minimize integral(0.5*norm(grad(u))^2 - u, [x, y] in Disc)
    on boundary(Disc): u = 0
"""
    a = solved(energy, "fem(size=0.2)", method="newton(tol=1e-10)")
    b = solved(POISSON, "fem(size=0.2)", method="direct()")
    torch.testing.assert_close(a.final.u, b.final.u, rtol=0, atol=1e-10)


@pytest.mark.parametrize("grid", ["fem(size=0.5)", "uniform(5)"])
@pytest.mark.parametrize("slope", ["dn(u) = 1", "u + dn(u) = 0"])
def test_an_energy_has_its_own_slope(grid: str, slope: str) -> None:
    text = f"""
domain Rod = interval(x in 0..1)
model M:
    state u: R on Rod = 0
    minimize integral(0.5*norm(grad(u))^2 - u, x in Rod)
    on left(Rod): u = 0
    on right(Rod): {slope}
"""
    with pytest.raises(NDLError) as trouble:
        solved(text, grid, method="newton()")
    (problem,) = trouble.value.diagnostics
    assert problem.code == "NDL574" and problem.span.text == slope
    s = solved(text.replace(slope, "dn(u) = 0"), grid, method="newton(tol=1e-10)")
    assert float(s.final.u.max()) == pytest.approx(0.5)


def test_a_minimal_surface_by_newton() -> None:
    """The catenoid z = arcosh(r) between r = 5/4 and 2: an energy that is not quadratic."""
    text = """
domain Ring = { x, y | 1.5625 < x^2 + y^2 < 4 }
model M:
    state u: R on Ring = log(2) + 0.8*(sqrt(x^2 + y^2) - 1.25)
    minimize integral(sqrt(1 + norm(grad(u))^2), [x, y] in Ring)
    on boundary(Ring) if x^2 + y^2 < 2: u = log(2)
    on boundary(Ring) if x^2 + y^2 > 2: u = log(2 + sqrt(3))
    area = integral(sqrt(1 + norm(grad(u))^2), [x, y] in Ring)
"""
    areas = found(text, "area", sizes(0.2, 0.1), method="newton(tol=1e-8)")
    exact = math.pi * (2 * math.sqrt(3) - 1.25 * 0.75 + math.log(2 + math.sqrt(3)) - math.log(2))
    errors = [abs(a - exact) for a in areas]
    assert errors[1] < 0.003 * exact and order(errors) > 1.7, errors


def test_two_fields_react_and_diffuse() -> None:
    """u' = lap(u) + v - u, v' = 0.5 lap(v) + u - v without flux: u + v is conserved, u - v decays."""
    text = f"""{DISC}
model M:
    state u: R on Disc = 1
    state v: R on Disc = 0
    term spread = [lap(u), 0.5*lap(v)]
    term reaction = [v - u, u - v]
    u', v' = spread + reaction
    on boundary(Disc): dn(u) = 0
    on boundary(Disc): dn(v) = 0
"""
    s = solved(text, "fem(size=0.4)", span="0..1", method="rodas5(rtol=1e-8, atol=1e-10)")
    gap = math.exp(-2) / 2
    for u, exact in ((s.final.u, 0.5 + gap), (s.final.v, 0.5 - gap)):
        torch.testing.assert_close(u, torch.full_like(u, exact), rtol=0, atol=1e-6)


def test_integrals_over_parts() -> None:
    """The half of a disc on which x > 0, and its part of the circle."""
    text = f"""{DISC}
model M:
    state u: R on Disc = x
    u' = 0*u
    half = integral(u, [x, y] in Disc if x > 0)
    arc = integral(x, [x, y] in boundary(Disc) if x > 0)
    middle = mean(u, [x, y] in Disc)
"""
    s = solved(text, "fem(size=0.05)", method="rk4(h=0.25)")
    assert abs(float(s.final.half) - 2 / 3) < 0.01
    assert abs(float(s.final.arc) - 2) < 0.01
    assert abs(float(s.final.middle)) < 1e-3


@pytest.mark.parametrize("grid", ["fem(size=0.4, mass=consistent)", "fem(order=2, size=0.6)"])
def test_values_that_move_in_time(grid: str) -> None:
    """u = y sin t, v = [x, y] exp(-t): linear in space: only the steps in time err (a lumped mass
    would as well, as h^2)."""
    text = f"""{DISC}
model M:
    state u: R on Disc = 0
    state v: R[2] on Disc = [x, y]
    u' = lap(u) + y*cos(t)
    v' = 0.1*lap(v) - v
    on boundary(Disc): u = y*sin(t)
    on boundary(Disc): v = [x, y]*exp(-t)
"""
    s = solved(text, grid, span="0..0.5", method="rk4(h=0.002)")
    x, y = s.grid.x, s.grid.y
    torch.testing.assert_close(s.final.u, y * math.sin(0.5), rtol=0, atol=1e-8)
    torch.testing.assert_close(s.final.v, torch.stack([x, y], -1) * math.exp(-0.5), rtol=0, atol=1e-8)


def test_waves_on_a_square() -> None:
    """cos(sqrt(2) pi t) sin(pi x) sin(pi y) comes back after a period."""
    text = """
domain Square = interval(x in 0..1, y in 0..1)
model M:
    state u: R on Square = sin(pi*x)*sin(pi*y)
    state u' = 0
    u'' = lap(u)
    on boundary(Square): u = 0
    error = sqrt(integral((u - sin(pi*x)*sin(pi*y))^2, [x, y] in Square))
"""
    span = f"0..{math.sqrt(2)!r}"
    errors = found(text, "error", sizes(0.2, 0.1), span=span, method="rk4(steps=200)")
    assert errors[1] < 0.01 and 1.8 < order(errors) < 2.3, errors


def test_what_is_not_lowered_says_so() -> None:
    text = f"{DISC}\nmodel M:\n    state u: R on Disc = x\n    u' = EQUATION\n    on boundary(Disc): u = 0\n"
    for equation, words in {
        "-lap(lap(u))": "a derivative of a second derivative",
        "abs(lap(u))": "not linear in its second derivatives",
        "integral(lap(u)^2, [x, y] in Disc)": "an integral of second derivatives",
    }.items():
        with pytest.raises(NDLError) as trouble:
            solved(text.replace("EQUATION", equation), "fem(size=0.5)", method="rk4(h=0.25)")
        (only,) = trouble.value.diagnostics
        assert only.code == "NDL490" and words in only.message, only


@pytest.mark.parametrize("condition", ["dn(u) = 0.1*lap(u)", "dn(u) = 1 - dx(u)", "u = v^2", "u = lap(v)"])
def test_conditions_that_their_fields_decide(condition: str) -> None:
    text = f"""{DISC}
model M:
    state u: R on Disc = x
    state v: R on Disc = y
    u' = lap(u)
    v' = lap(v)
    on boundary(Disc): {condition}
    on boundary(Disc): v = 0
"""
    with pytest.raises(NDLError, match="NDL482"):
        solved(text, "fem(size=0.5)", method="rk4(h=0.25)")
