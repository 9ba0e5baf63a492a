"""Gradients by coefficients and initial fields against difference quotients."""

from __future__ import annotations

import pytest
import torch
from field_problems import solved

TEXTS = {
    "uniform(9)": """
domain Rod = interval(x in 0..1)

model M:
    param nu = 0.1
    param a = 0.3
    state u: R on Rod = a*sin(pi*x) + x
    u' = nu*lap(u) - u*dx(u)
    on left(Rod): u = 0
    on right(Rod): dn(u) = 1 - a*u
""",
    "uniform(12, order=4)": """
domain Ring = periodic(x in 0..1)

model M:
    param nu = 0.1
    param a = 0.3
    state u: R on Ring = a*sin(2*pi*x)
    u' = nu*lap(u) - u*dx(u)
""",
}
TEXTS |= {
    "fourier(12)": TEXTS["uniform(12, order=4)"],
    "chebyshev(9)": TEXTS["uniform(9)"],
    "uniform(9, at=cells)": TEXTS["uniform(9)"].replace("1 - a*u", "1 - a"),
}


def loss(text: str, grid: str, method: str, gradient: str = "none") -> tuple[torch.Tensor, object]:
    s = solved(text, grid, span="0..0.2", method=method, gradient=gradient)
    return (s.final.u**3).mean() + s.final.u[2], s.model


@pytest.mark.parametrize("grid", TEXTS)
@pytest.mark.parametrize("gradient", ["discrete", "adjoint"])
def test_gradients_by_coefficients(grid: str, gradient: str) -> None:
    """Of the diffusivity and of the size of the initial field, which is in a condition too."""
    text, method = TEXTS[grid], "tsit5(rtol=1e-11, atol=1e-12)"
    value, model = loss(text, grid, method, gradient)
    weights = dict(model.named_parameters())  # type: ignore[attr-defined]
    found = torch.autograd.grad(value, [weights["nu"], weights["a"]])
    for name, at, g in (("nu", 0.1, found[0]), ("a", 0.3, found[1])):
        e = 1e-4
        ends = [
            loss(text.replace(f"param {name} = {at}", f"param {name} = {at + s * e}"), grid, method)[0]
            for s in (1, -1)
        ]
        quotient = float(ends[0] - ends[1]) / (2 * e)
        assert float(g) == pytest.approx(quotient, rel=1e-6, abs=1e-7), name


def test_gradients_past_an_exponential_integrator() -> None:
    text, method = TEXTS["fourier(12)"], "etdrk4(h=0.01)"
    value, model = loss(text, "fourier(12)", method, "discrete")
    weights = dict(model.named_parameters())  # type: ignore[attr-defined]
    found = torch.autograd.grad(value, [weights["nu"], weights["a"]])
    for name, at, g in (("nu", 0.1, found[0]), ("a", 0.3, found[1])):
        e = 1e-4
        ends = [
            loss(text.replace(f"param {name} = {at}", f"param {name} = {at + s * e}"), "fourier(12)", method)[
                0
            ]
            for s in (1, -1)
        ]
        assert float(g) == pytest.approx(float(ends[0] - ends[1]) / (2 * e), rel=1e-6, abs=1e-7), name


def test_gradients_by_a_coefficient_at_each_point() -> None:
    """A coefficient that is a field, its start along one coordinate alone; one of its values moved."""
    text = """
domain Plate = interval(x in 0..1, y in 0..1)

model M:
    param k: R on Plate = 0.1 + 0.1*x
    state u: R on Plate = sin(pi*x)*sin(pi*y)
    u' = div(k*grad(u))
    on boundary(Plate): u = 0
"""
    settings = {"span": "0..0.1", "method": "rk4(h=0.005)"}
    s = solved(text, "uniform(9, 9)", gradient="discrete", **settings)
    (found,) = torch.autograd.grad((s.final.u**2).sum(), [dict(s.model.named_parameters())["k"]])
    assert found.shape == (9, 9)
    ends = []
    for sign in (1, -1):
        bump = f"0.1 + 0.1*x + {sign * 1e-4}*(if abs(x - 0.25) + abs(y - 0.5) < 0.01 then 1 else 0)"
        moved = solved(text.replace("0.1 + 0.1*x", bump), "uniform(9, 9)", **settings)
        ends.append(float((moved.final.u**2).sum()))
    assert float(found[2, 4]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-6)
