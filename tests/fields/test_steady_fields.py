"""Steady problems and energies against closed forms; sparse systems against dense ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from field_problems import errors, order, solved
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.colouring import library
from ndl.runtime.sparse import Multigrid

import ndl

PI = math.pi

PLATE = """
domain Plate = interval(x in 0..1, y in 0..1)

model M:
    param k = 1.0
    state u: R on Plate = 0
    0 = lap(u) - k*u + (k + 2*pi^2)*sin(pi*x)*sin(pi*y)
    on boundary(Plate): u = 0
"""

ROD = "domain Rod = interval(x in 0..1)\n"


def sines(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.sin(PI * x) * torch.sin(PI * y)


@pytest.mark.parametrize("method", ["direct()", "multigrid(tol=1e-9)", "cg(tol=1e-9)", "newton(tol=1e-9)"])
def test_linear_solvers_agree(method: str) -> None:
    found = errors(PLATE, ["uniform(17, 17)", "uniform(33, 33)"], sines, method=method, span="0..1")
    assert 1.9 < order(found) < 2.1, found
    exact = solved(PLATE, "uniform(17, 17)", method="direct()")
    s = solved(PLATE, "uniform(17, 17)", method=method)
    torch.testing.assert_close(s.final.u, exact.final.u, rtol=0, atol=1e-8)


def test_fourth_order_and_spectral() -> None:
    found = errors(PLATE, [f"uniform({n}, {n}, order=4)" for n in (17, 33)], sines, method="direct()")
    assert order(found) > 3.6, found
    assert errors(PLATE, ["chebyshev(14, 14)"], sines, method="direct()")[0] < 1e-9


def test_a_nonlinear_equation_by_newton() -> None:
    """The Bratu equation: u = -2 log(cosh((x - 1/2) q/2)/cosh(q/4)) with q = sqrt(2) cosh(q/4)."""
    text = f"""{ROD}
model M:
    state u: R on Rod = 0
    0 = dxx(u) + exp(u)
    on boundary(Rod): u = 0
"""
    q = 1.5
    for _ in range(200):
        q = math.sqrt(2) * math.cosh(q / 4)
    exact = lambda x: -2 * torch.log(torch.cosh((x - 0.5) * q / 2) / math.cosh(q / 4))  # noqa: E731
    found = errors(text, ["uniform(65)", "uniform(129)"], exact, method="newton(tol=1e-9)")
    assert 1.9 < order(found) < 2.1, found
    assert errors(text, ["chebyshev(20)"], exact, method="newton(tol=1e-9)")[0] < 1e-9


@pytest.mark.parametrize("method", ["direct()", "multigrid(tol=1e-9)", "cg(tol=1e-9)"])
def test_a_ring_and_slopes(method: str) -> None:
    text = """
domain Channel = periodic(x in 0..2*pi) * interval(y in 0..1)

model M:
    state u: R on Channel = 0
    0 = dxx(u) + dyy(u) - u + (2 + pi^2)*sin(x)*cos(pi*y)
    on boundary(Channel): dn(u) = 0
"""
    exact = lambda x, y: torch.sin(x) * torch.cos(PI * y)  # noqa: E731
    found = errors(text, ["uniform(16, 17)", "uniform(32, 33)"], exact, method=method)
    assert 1.9 < order(found) < 2.1, found


def test_two_fields_at_once() -> None:
    """-dxx(v) = w, dxx(w) = ... : a clamped beam as two equations of second order."""
    text = f"""{ROD}
model M:
    state v: R on Rod = 0
    state w: R on Rod = 0
    0 = dxx(v) + w
    0 = dxx(w) + pi^4*sin(pi*x)
    on boundary(Rod):
        v = 0
        w = 0
"""
    exact = lambda x: torch.sin(PI * x)  # noqa: E731
    found = errors(text, ["uniform(65)", "uniform(129)"], exact, state="v", method="direct()")
    assert 1.9 < order(found) < 2.1, found


def test_an_energy_with_a_coefficient_and_a_free_end() -> None:
    """-((1 + x) u')' = 1, u(0) = 0 and the natural (1 + x) u' = 0 at 1: u = 2 log(1 + x) - x."""
    text = f"""{ROD}
model M:
    state u: R on Rod = 0
    minimize integral(0.5*(1 + x)*dx(u)^2 - u, x in Rod)
    on left(Rod): u = 0
"""
    exact = lambda x: 2 * torch.log(1 + x) - x  # noqa: E731
    found = errors(text, ["uniform(65)", "uniform(129)"], exact, method="newton(tol=1e-10)")
    assert order(found) > 1.8, found
    assert errors(text, ["chebyshev(20)"], exact, method="newton(tol=1e-10)")[0] < 1e-9


def test_a_minimal_surface() -> None:
    """Scherk's surface, log(cos(y)/cos(x)), minimises the area between its own edges."""
    text = """
domain Patch = interval(x in -0.5..0.5, y in -0.5..0.5)

model M:
    state u: R on Patch = x^2/2 - y^2/2
    minimize integral(sqrt(1 + norm(grad(u))^2), [x, y] in Patch)
    on boundary(Patch): u = log(cos(y)/cos(x))
"""
    exact = lambda x, y: torch.log(torch.cos(y) / torch.cos(x))  # noqa: E731
    found = errors(text, ["uniform(17, 17)", "uniform(33, 33)"], exact, method="newton(tol=1e-10)")
    assert order(found) > 1.7, found


def test_gradients_by_the_implicit_function() -> None:
    """d u(1/2) / d k of the plate, by adjoint systems, against difference quotients."""
    for method in ("direct()", "multigrid(tol=1e-11)"):
        for gradient in ("adjoint", "discrete"):
            s = solved(PLATE, "uniform(17, 17)", method=method, gradient=gradient)
            value = (s.final.u**2).mean()
            (found,) = torch.autograd.grad(value, [p for p in s.model.parameters() if p.requires_grad])
            ends = []
            for k in (0.999, 1.001):
                t = solved(PLATE.replace("k = 1.0", f"k = {k}"), "uniform(17, 17)", method="direct()")
                ends.append(float((t.final.u**2).mean()))
            quotient = (ends[1] - ends[0]) / 0.002
            assert float(found) == pytest.approx(quotient, rel=1e-6)


def test_the_cycles_of_multigrid_do_not_grow_with_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    cycle, counts = Multigrid.cycle, []

    def counted(self: Multigrid, b: np.ndarray, level: int = 0) -> np.ndarray:
        counts[-1] += level == 0
        return cycle(self, b, level)

    monkeypatch.setattr(Multigrid, "cycle", counted)
    text = PLATE.replace("(k + 2*pi^2)*sin(pi*x)*sin(pi*y)", "exp(3*x*y)")
    for n in (17, 33, 65):
        counts.append(0)
        solved(text, f"uniform({n}, {n})", method="multigrid(tol=1e-8)")
    assert counts[-1] <= counts[0] + 2 and max(counts) <= 16


def test_conjugate_gradients_know_a_symmetric_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given values at the boundary do not hide that the rest is symmetric."""
    linalg = library().linalg
    monkeypatch.setattr(linalg, "gmres", None)
    found = solved(PLATE, "uniform(17, 17)", method="cg(tol=1e-9)")
    exact = solved(PLATE, "uniform(17, 17)", method="direct()")
    torch.testing.assert_close(found.final.u, exact.final.u, rtol=0, atol=1e-8)


@pytest.mark.parametrize("n", [17, 129])
def test_a_field_without_a_level_is_named(n: int) -> None:
    text = """
domain Rod = interval(x in 0..1)

model Open:
    state u: R on Rod = 0
    0 = lap(u) + 1
    on boundary(Rod): dn(u) = 0
"""
    with pytest.raises(NDLError) as trouble:
        ndl.solve(ndl.loads(text).models["Open"], grid=f"uniform({n})", method="newton()")
    assert "a constant can be added to `u`" in trouble.value.diagnostics[0].message
