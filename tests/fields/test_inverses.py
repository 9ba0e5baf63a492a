"""`lap^-1 @ w` and inverses of other maps that are diagonal in Fourier space."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ndl
from ndl import NDLError

TEXT = """
domain Torus = periodic(x in 0..2*pi, y in 0..1)
domain Rod = interval(x in 0..1)

model M:
    param a = {start}
    state u: R on {domain} = a*({field})
    u' = 0*u
    v = {map}^-1 @ u
    size = integral(v^2)

solve M as run:
    span   = 0..1
    grid   = {grid}
    method = rk4(h=0.5)
    save   = end

"""
FIELD = "sin(x)*cos(2*pi*y) + 3 + cos(2*x)"


def text(map_: str, domain: str = "Torus", field: str = FIELD, grid: str = "fourier(12, 8)") -> str:
    return TEXT.format(map=map_, domain=domain, field=field, grid=grid, start=1.5)


def solved(map_: str, **more: str) -> Any:
    return ndl.loads(text(map_, **more)).run("run")[0]


def test_of_the_laplacian_without_a_mean() -> None:
    s = solved("lap")
    x, y = s.grid.x, s.grid.y
    first = torch.sin(x) * torch.cos(2 * torch.pi * y) / (1 + 4 * torch.pi**2)
    assert (s.final.v + 1.5 * (first + torch.cos(2 * x) / 4)).abs().max() < 1e-13


def test_of_a_formula() -> None:
    s = solved("(q -> 2*q - 0.1*dxx(q))")
    x, y = s.grid.x, s.grid.y
    wanted = torch.sin(x) * torch.cos(2 * torch.pi * y) / 2.1 + 1.5 + torch.cos(2 * x) / 2.4
    assert (s.final.v - 1.5 * wanted).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("map_", "why"),
    [
        ("(q -> q^2)", "not linear"),
        ("(q -> lap(q) + u)", "not linear"),
    ],
)
def test_what_is_not_linear_is_refused(map_: str, why: str) -> None:
    with pytest.raises(NDLError, match=why):
        solved(map_)


def test_other_grids_want_conditions() -> None:
    with pytest.raises(NDLError, match="NDL590"):
        solved("lap", domain="Rod", field="x", grid="uniform(17)")


def test_gradients_are_those_of_finite_differences() -> None:
    def size(a: float, gradient: str) -> tuple[torch.Tensor, Any]:
        words = f"""
domain Ring = periodic(x in 0..2*pi)
model M:
    param a = {a}
    state u: R on Ring = sin(a*sin(x))
    u' = (q -> q - 0.3*dxx(q) + 0.2*dx(q))^-1 @ (u^2)
solve M as run:
    span = 0..1
    grid = fourier(16)
    method = rk4(h=0.05)
    save = end
    gradient = {gradient}
"""
        (s,) = ndl.loads(words).run("run")
        return (s.final.u**2 * torch.cos(s.grid.x) + s.final.u**3).sum(), s.model

    value, model = size(0.7, "discrete")
    (slope,) = torch.autograd.grad(value, [dict(model.named_parameters())["a"]])
    wanted = float(size(0.7001, "none")[0] - size(0.6999, "none")[0]) / 2e-4
    assert abs(wanted) > 1e-3
    assert abs(float(slope) - wanted) < 1e-6 * abs(wanted)
