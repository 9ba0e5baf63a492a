"""Gradients of projections: by viscosity, density and initial field, against difference quotients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

FLOW = """
domain S = DOMAIN

model M:
    param nu = 0.05
    param rho = 1.3
    state v: R[2] on S = START
    state p: R on S = 0
    term spread = nu*lap(v)
    term rest = -v[0]*dx(v) - v[1]*dy(v) - grad(p)/rho + [cos(t), 0]
    v' = spread + rest
    0 = div(v)
"""
VORTICES = FLOW.replace("DOMAIN", "periodic(x in 0..1, y in 0..1)").replace(
    "START", "[sin(2*pi*x)*cos(2*pi*y) + 0.3, 0.2*sin(4*pi*x) - cos(2*pi*x)*sin(2*pi*y)]"
)
CAVITY = (
    FLOW.replace("DOMAIN", "interval(x in 0..1, y in 0..1)").replace("START", "[sin(pi*x)*y*(1 - y), 0]")
    + "    on boundary(S): v = 0\n"
)

EXACT = "projection(tsit5(rtol=1e-9, atol=1e-11))"
IMPLICIT = "projection(ars222(spread: implicit_euler, rest: euler, h=0.02))"
CASES = {
    "explicit steps, by transforms": (VORTICES, "fourier(6)", "projection(rk4(h=0.01))", "discrete"),
    "explicit steps, by a matrix": (CAVITY, "uniform(6)", "projection(rk4(h=0.01))", "checkpoint(2)"),
    "implicit steps, by transforms": (VORTICES, "uniform(10)", IMPLICIT, "discrete"),
    "implicit steps, by a matrix": (CAVITY, "uniform(6)", IMPLICIT, "discrete"),
    "adjoint, by transforms": (VORTICES, "fourier(6)", EXACT, "adjoint"),
    "implicit steps, by factors": (CAVITY, "uniform(14)", IMPLICIT, "discrete"),
    "adjoint, by a matrix": (CAVITY, "uniform(6)", EXACT, "adjoint"),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_against_difference_quotients(case: str) -> None:
    text, grid, method, gradient = CASES[case]
    model = ndl.loads(text).models["M"].on(grid)()
    start = model.initial_state()[: 2 * len(model.initial_state()) // 3].reshape(model.state("v").shape)
    bump = torch.randn(start.shape, dtype=start.dtype, generator=torch.Generator().manual_seed(3)) * 0.2
    if text is CAVITY:  # what is given on the boundary stays
        bump[[0, -1]] = bump[:, [0, -1]] = 0
    values = {"nu": torch.tensor(0.05), "rho": torch.tensor(1.3), "v": start + bump}
    values = {k: v.double() for k, v in values.items()}

    def loss(values: dict[str, Any], gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(
            model.bind(**values), span=(0, 0.04), method=method, save=[0.02, 0.04], gradient=gradient
        )
        weights = torch.linspace(-1, 2, s.v.numel(), dtype=s.v.dtype).reshape(s.v.shape)
        found: torch.Tensor = (weights * s.v**2).sum() + (s.p[:, 1:4] ** 2).sum()
        return found

    free = {k: v.clone().requires_grad_() for k, v in values.items()}
    found = torch.autograd.grad(loss(free, gradient), list(free.values()))
    for (name, value), slope in zip(values.items(), found, strict=True):
        way = bump if name == "v" else torch.tensor(1.0).double()
        long = 1e-2 if name == "v" else 1e-3  # shorter ones lose the digits that solving for the pressure has
        wide, narrow = (
            float(loss({**values, name: value + h * way}) - loss({**values, name: value - h * way})) / (2 * h)
            for h in (long, long / 2)
        )
        quotient = (4 * narrow - wide) / 3
        assert float((slope * way).sum()) == pytest.approx(quotient, rel=1e-6), name


def test_members_that_end_their_steps_at_other_times() -> None:
    """Each member of a family has a Schur complement of its own, and goes on when others have arrived."""
    model = ndl.loads(CAVITY).models["M"].on("uniform(6)")()
    how: Any = {"span": (0, 0.1), "method": "projection(tsit5(rtol=1e-6, atol=1e-8))", "save": "end"}
    rho = torch.tensor([0.5, 1.3, 4.0], dtype=torch.float64)
    nu = torch.tensor([0.05, 2.0, 0.3], dtype=torch.float64, requires_grad=True)
    found = ndl.solve(model.bind(rho=rho, nu=nu), gradient="adjoint", **how).final
    slopes = torch.autograd.grad((found.v**2).sum(), nu)[0]
    for k in range(3):
        one = nu[k].detach().clone().requires_grad_()
        alone = ndl.solve(model.bind(rho=rho[k], nu=one), gradient="adjoint", **how).final
        assert torch.allclose(found.v[k], alone.v, rtol=0, atol=1e-12)
        assert torch.allclose(found.p[k], alone.p, rtol=0, atol=1e-9)
        assert float(torch.autograd.grad((alone.v**2).sum(), one)[0]) == pytest.approx(float(slopes[k]))


def test_no_adjoint_of_implicit_terms() -> None:
    model = ndl.loads(CAVITY).models["M"].on("uniform(6)")()
    with pytest.raises(NDLError, match="no terms for"):
        ndl.solve(model, span=(0, 0.1), method=IMPLICIT, gradient="adjoint")
