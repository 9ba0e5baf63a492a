"""Fields on meshes at any place: polynomials that the elements have are met exactly, with derivatives by the
place and by the field."""

from __future__ import annotations

import pytest
import torch
from field_problems import solved

import ndl

DISC = "domain Disc = { x, y | x^2 + y^2 < 1 }\n"
MODEL = f"""{DISC}
model M:
    param a = 0.3
    param w: R on Disc = x + 2*y
    const v: R[2] on Disc = [x^2, x*y]
    state t0 = 0
    state u: R on Disc = 0
    t0' = 0
    u' = 0*u
    q = w(a, 0.2)
    v2 = v([a, 0.1])
    line = w(0.5*x, 0.5*y)
    ref = x + 2*y
"""


@pytest.mark.parametrize("grid", ["fem(size=0.3)", "fem(order=2, size=0.4)"])
def test_values_and_derivatives_at_a_place(grid: str) -> None:
    """u = x + 2 y, and of order 2 v = [x^2, x y], at places inside."""
    model = ndl.loads(MODEL).models["M"].on(grid)(a=0.31)
    s = ndl.solve(model, span=(0, 1), method="rk4(h=0.5)", save="end", gradient="discrete").final
    assert abs(float(s.q.detach()) - 0.71) < 1e-12
    torch.testing.assert_close(s.line.detach(), 0.5 * s.ref.detach(), rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(s.q, model.a, retain_graph=True)
    assert abs(float(slope) - 1) < 1e-12
    (share,) = torch.autograd.grad(s.q, model.w, retain_graph=True)
    assert abs(float(share.sum()) - 1) < 1e-12 and int((share.abs() > 1e-14).sum()) <= 6
    if "order=2" in grid:
        wanted = torch.tensor([0.31**2, 0.31 * 0.1], dtype=torch.float64)
        torch.testing.assert_close(s.v2.detach(), wanted, rtol=0, atol=1e-12)
        (bend,) = torch.autograd.grad(s.v2.sum(), model.a)
        assert abs(float(bend) - (2 * 0.31 + 0.1)) < 1e-12


def test_a_mean_over_moved_places() -> None:
    """The integral of x u(x/2, y) with u = x + 2 y over the disc is pi/8, up to the straight edges."""
    s = solved(
        f"""{DISC}
model M:
    state u: R on Disc = x + 2*y
    u' = 0*u
    total = integral(u(0.5*x, y)*x, [x, y] in Disc)
""",
        "fem(size=0.1)",
        method="rk4(h=0.5)",
    )
    assert abs(float(s.final.total) - torch.pi / 8) < 0.01 * torch.pi / 8


@pytest.mark.parametrize("method", ["direct()", "newton(tol=1e-10)"])
def test_an_equation_that_reads_the_middle(method: str) -> None:
    """lap u = u(0) - 1 with u = 0 on the circle: u = (1 - c)(1 - r^2)/4 with c = u(0) = 1/5. The Jacobian
    reads one place from everywhere."""
    text = f"""{DISC}
model M:
    state u: R on Disc = 0
    0 = lap(u) + 1 - u(0, 0)
    on boundary(Disc): u = 0
    middle = u(0, 0)
"""
    errors = [
        abs(float(solved(text, f"fem(size={h})", method=method).final.middle) - 0.2) for h in (0.2, 0.1)
    ]
    assert errors[1] < 1e-3 and errors[1] < errors[0] / 2.5, errors
