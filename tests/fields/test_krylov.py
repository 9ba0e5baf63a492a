"""Newton–Krylov methods: products of the Jacobian instead of the Jacobian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from field_problems import solved
from ndl.runtime.krylov import KrylovInverse
from ndl.runtime.model import Model
from test_steady_fields import PLATE, sines

TORUS = """
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)

model M:
    param k = 1.0
    state u: R on Torus = 0
    0 = lap(u) - k*u - u^3 + 3*sin(x)*cos(y) + (sin(x)*cos(y))^3
"""
BRATU = """
domain Square = interval(x in 0..1, y in 0..1)

model M:
    state u: R on Square = 0
    0 = lap(u) + 5*exp(u)
    on boundary(Square): u = 0
"""


def no_matrix(self: Any, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    raise AssertionError("a Jacobian was made")


@pytest.mark.parametrize("method", ["gmres(tol=1e-12)", "bicgstab(tol=1e-12)"])
@pytest.mark.parametrize("grid", ["fourier(16)", "chebyshev(14, 14)", "uniform(33, 33)"])
def test_solutions(method: str, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Series are exact for these waves; differences give what factors of the matrix give."""
    monkeypatch.setattr(Model, "jacobian", no_matrix)
    s = solved(TORUS if grid[0] == "f" else PLATE, grid, method=method)
    x, y = s.grid.x, s.grid.y
    if grid[0] == "u":
        exact = solved(PLATE, grid, method="direct()").final.u
        assert float((s.final.u - exact).abs().max()) < 1e-9
    else:
        exact = torch.sin(x) * torch.cos(y) if grid[0] == "f" else sines(x, y)
        assert float((s.final.u - exact).abs().max()) < 1e-9


@pytest.mark.parametrize("method", ["gmres(tol=1e-11)", "bicgstab(tol=1e-11)"])
def test_gradients_are_those_of_differences(method: str) -> None:
    def loss(k: float, gradient: str = "none") -> tuple[torch.Tensor, Any]:
        s = solved(TORUS.replace("k = 1.0", f"k = {k}"), "fourier(8)", method=method, gradient=gradient)
        return (s.final.u**4).mean(), s.model

    value, model = loss(1.0, "adjoint")
    (found,) = torch.autograd.grad(value, [dict(model.named_parameters())["k"]])
    quotient = float(loss(1.001)[0] - loss(0.999)[0]) / 0.002
    assert float(found) == pytest.approx(quotient, rel=1e-5)


def test_products_for_many_unknowns_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nonlinear equation with 4,000 unknowns: incomplete factors leave a handful of products a system."""
    made: list[KrylovInverse] = []
    plain = KrylovInverse.__init__

    def noted(self: KrylovInverse, *args: Any) -> None:
        plain(self, *args)
        made.append(self)

    monkeypatch.setattr(KrylovInverse, "__init__", noted)
    s = solved(BRATU, "uniform(65, 65)", method="gmres()")
    (inverse,) = made
    assert int(s.stats.steps) < 10 and inverse.products < 20 * int(s.stats.steps)
    exact = solved(BRATU, "uniform(65, 65)", method="newton()")
    assert float((s.final.u - exact.final.u).abs().max()) < 1e-9


def test_members_have_systems_of_their_own() -> None:
    text = TORUS.replace("solve M", "solve M(k=[1.0, 2.0])")
    import ndl

    method, grid = "gmres()", "fourier(8)"
    run = f"\nsolve M(k=[1.0, 2.0]) as run:\n    grid = {grid}\n    method = {method}\n    save = end\n"
    (s,) = ndl.loads(text + run).run("run")
    for member, k in enumerate((1.0, 2.0)):
        one = solved(TORUS.replace("k = 1.0", f"k = {k}"), grid, method="direct()")
        assert float((s.final.u[member] - one.final.u).abs().max()) < 1e-9
