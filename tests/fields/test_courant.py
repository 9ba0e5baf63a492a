"""Steps of a Courant number: what diffusion, dispersion and several states add to the speed of waves."""

from __future__ import annotations

import pytest
import torch
from field_problems import solved

TEXT = """
domain Ring = periodic(x in 0..1)
domain Torus = periodic(x in 0..1, y in 0..1)

model M:
    state u: R on Ring = 2 + sin(2*pi*x)
    state w: R on Ring = 1
"""
N = 32
D2 = 2.0 * N**2

CASES = {
    "u' = -dx(u^2/2) + 0.1*dxx(u)": lambda u: u * N + 0.1 * D2,
    "u' = -dx(u^2/2) + dx((0.1 + x)*dx(u))": lambda u: u * N + (0.1 + torch.arange(N).double() / N) * D2,
    "u' = -u*dx(u) + lap(u^2)": lambda u: u * N + 2 * u * D2,
    "u' = div((1 + u^2)*grad(u))": lambda u: (1 + u**2) * D2,
    "u' = -lap(0.1*u + 1e-3*lap(u))": lambda u: 0.1 * D2 + 1e-3 * 8 * N**4 + 0 * u,
    "u' = -dx(u) + 1e-3*dxxx(u)": lambda u: N + 1e-3 * 3 * N**3 + 0 * u,
}


@pytest.mark.parametrize("rate", CASES)
def test_a_step_counts_derivatives_of_higher_order(rate: str) -> None:
    """0.5 over the largest of what each point wants."""
    text = TEXT.replace("    state w: R on Ring = 1\n", "") + f"    {rate}\n"
    s = solved(text, f"uniform({N}, scheme=upwind)", "0..0.01", "euler(cfl=0.5)", save="steps")
    found, wanted = 0.5 / float(s.t[1] - s.t[0]), float(CASES[rate](s.u[0]).max())
    assert abs(found - wanted) < 1e-9 * wanted


def test_states_and_coordinates_add_up() -> None:
    text = TEXT + "    u' = -dx(u) + 0.01*dxx(u) - 0.03*dxx(w)\n    w' = 0.05*dxx(w)\n"
    s = solved(text, f"uniform({N}, scheme=upwind)", "0..0.1", "euler(cfl=0.5)", save="steps")
    assert abs(0.5 / float(s.t[1]) - max(N + 0.04 * D2, 0.05 * D2)) < 1e-6
    plane = """
domain Torus = periodic(x in 0..1, y in 0..1)

model M:
    state v: R[2] on Torus = [3, 2]
    v' = 0.01*lap(v) - v[0]*dx(v) - v[1]*dy(v) + 0.02*grad(div(v))
"""
    s = solved(plane, "uniform(16, 16, scheme=upwind)", "0..0.1", "euler(cfl=0.5)", save="steps")
    # first differences of first differences: half the square of 1/width each, two in each of two rows
    assert abs(0.5 / float(s.t[1]) - (5 * 16 + 2 * 0.01 * 2 * 256 + 4 * 0.02 * 128)) < 1e-6


@pytest.mark.parametrize(
    ("method", "above"), [("euler(cfl=1)", False), ("ssprk54(cfl=1.5)", False), ("euler(cfl=1.3)", True)]
)
def test_no_new_extrema_up_to_the_limit(method: str, above: bool) -> None:
    """Upwind differences and diffusion of a jump: monotone up to the Courant number of the method."""
    text = TEXT.replace("2 + sin(2*pi*x)", "1 + (if abs(x - 0.5) < 0.2 then 1 else 0)")
    text = text.replace("    state w: R on Ring = 1\n", "") + "    u' = -dx(u^2/2) + 0.02*dxx(u)\n"
    s = solved(text, "uniform(64, scheme=upwind)", "0..0.05", method, save="steps")
    over = max(float(s.u.max()) - 2, 1 - float(s.u.min()))
    assert (over > 1e-3) is above, over
