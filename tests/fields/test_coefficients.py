"""Diffusion with a coefficient that differs from point to point."""

from __future__ import annotations

import math

import pytest
import torch
from field_problems import EXPLICIT, errors, order, solved

PI = math.pi
ROD = "domain Rod = interval(x in 0..1)\n"
PLATE = "domain Plate = interval(x in 0..1, y in 0..1)\n"
SOURCE = "pi^2*(1 + x)*sin(pi*x) - pi*cos(pi*x)"


@pytest.mark.parametrize("flux", ["div((1 + x)*grad(u))", "dx((1 + x)*dx(u))"])
@pytest.mark.parametrize("accuracy", [2, 4])
def test_a_rod_that_conducts_better_at_one_end(flux: str, accuracy: int) -> None:
    text = f"""{ROD}
model M:
    state u: R on Rod = 0
    0 = {flux} + {SOURCE}
    on boundary(Rod): u = 0
"""
    grids = [f"uniform({n}, order={accuracy})" for n in (33, 65)]
    found = errors(text, grids, lambda x: torch.sin(PI * x), method="direct()")
    assert order(found) > accuracy - 0.3, found
    assert errors(text, ["chebyshev(16)"], lambda x: torch.sin(PI * x), method="direct()")[0] < 1e-10


def test_flow_through_ground() -> None:
    """Darcy's law, the coefficient along one coordinate alone, slopes given on two sides."""
    text = f"""{PLATE}
model M:
    k = exp(x)
    state u: R on Plate = 0
    0 = div(k*grad(u)) + (2*pi^2*sin(pi*x) - pi*cos(pi*x))*k*cos(pi*y)
    on left(Plate): u = 0
    on right(Plate): u = 0
    on bottom(Plate): dn(u) = 0
    on top(Plate): dn(u) = 0
"""
    exact = lambda x, y: torch.sin(PI * x) * torch.cos(PI * y)  # noqa: E731
    found = errors(text, ["uniform(17, 17)", "uniform(33, 33)"], exact, method="direct()")
    assert order(found) > 1.7, found


@pytest.mark.parametrize("accuracy", [2, 6])
def test_what_flows_is_conserved(accuracy: int) -> None:
    text = """
domain Ring = periodic(x in 0..1)

model M:
    state u: R on Ring = 1 + sin(2*pi*x)
    u' = 0.1*dx((1.5 + cos(2*pi*x) + u^2)*dx(u))
    mass = integral(u)
"""
    s = solved(text, f"uniform(16, order={accuracy})", method=EXPLICIT)
    assert float(s.final.mass) == pytest.approx(1.0, abs=1e-12)
    assert float(s.final.u.max() - s.final.u.min()) < 1.0


@pytest.mark.parametrize("flux", ["dx((2 + sin(2*pi*x))*dx(u))", "div((2 + sin(2*pi*x))*grad(u))"])
def test_neighbours_are_not_skipped(flux: str) -> None:
    """A zigzag from point to point, which a difference of a difference would not see, decays as it should:
    by the balance of fluxes half-way between neighbours."""
    text = f"""
domain Ring = periodic(x in 0..1)

model M:
    state u: R on Ring = cos(16*pi*x)
    u' = {flux}
"""
    s = solved(text, "uniform(16)", span="0..0.001", method="rk4(h=0.001)")
    x = torch.arange(16, dtype=torch.float64) / 16
    k, u = 2 + torch.sin(2 * PI * x), torch.cos(16 * PI * x)

    def rate(u: torch.Tensor) -> torch.Tensor:
        flows = (k + k.roll(-1)) / 2 * (u.roll(-1) - u) * 16
        return (flows - flows.roll(1)) * 16

    h, f = 0.001, rate
    k1 = f(u)
    k2 = f(u + h / 2 * k1)
    k3 = f(u + h / 2 * k2)
    k4 = f(u + h * k3)
    torch.testing.assert_close(s.final.u, u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), rtol=0, atol=1e-12)
