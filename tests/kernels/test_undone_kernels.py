"""`gradient = reversible` without noise by kernels: no tape, and the gradient of what torch computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.paths_in_time import hermite

import ndl

SOURCE = """
model Swing:
    param k = 1.5
    state x = 1.0, v = 0.0
    x' = v
    v' = -k*sin(x) + 0.1*cos(t)

model Rotor:
    param k = 1.0
    state x = 1.0, y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x, k*sin(x) + 0.1*cos(t)]
    x', y' = spin + push

model Bounded:
    param k = 1.5
    state x > 0 = 1.0
    x' = -k*x

model Learned(d = 3):
    input X: R[2] on time
    net f: R[d] -> R[d, 2] = MLP(width=20)
    state z: R[d] = ones(d)
    dz = f(z) @ dX

solver implicit_midpoint for ode order 2:
    step(f, x, t, h):
        return root(z -> z - x - h*f((x + z)/2, t + h/2), x + h*f(x, t))
"""
COUNT = 5


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def slope(program: Any, name: str, backend: str, gradient: str, **settings: Any) -> list[torch.Tensor]:
    """The gradient of a number that looks at all saved values, by a parameter of each member."""
    k = torch.linspace(0.8, 1.6, COUNT, dtype=torch.float64, requires_grad=True)
    s = ndl.solve(getattr(program, name)().bind(k=k), backend=backend, gradient=gradient, **settings)
    loss = sum((s[n].values ** 2).sum() + s.final[n].sin().sum() for n in s.names())
    return [loss.detach(), torch.autograd.grad(loss, k)[0]]


@pytest.mark.parametrize(
    ("name", "method", "span", "save"),
    [
        ("Swing", "reversible_heun(h=0.05)", (0, 2), "every 0.13"),
        ("Swing", "yoshida4(h=0.1)", (1, -0.5), "end"),
        ("Swing", "implicit_midpoint(h=0.1)", (0, 1), "end"),
        ("Rotor", "strang(spin: exact, push: implicit_midpoint, h=0.15)", (0, 1), "steps"),
    ],
)
def test_steps_undone_give_the_gradient(program: Any, name: str, method: str, span: Any, save: str) -> None:
    settings = {"method": method, "span": span, "save": save}
    wanted = slope(program, name, "torch", "discrete", **settings)
    for gradient in ("reversible", "discrete"):
        for a, b in zip(wanted, slope(program, name, "cpu", gradient, **settings), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_nets_and_paths(program: Any) -> None:
    """By the weights of a net whose products stay whole, and by the values of a path of each member."""
    ts, found = torch.arange(4.0), []
    for backend, gradient in (("torch", "discrete"), ("cpu", "discrete"), ("cpu", "reversible")):
        xs = torch.arange(COUNT * 8.0, dtype=torch.float64).sin().reshape(COUNT, 4, 2).requires_grad_(True)
        model = program.Learned(seed=1).bind(X=hermite(ts, xs, family=True))
        leaves = [xs, *(p for p in model.parameters() if p.requires_grad)]
        s = ndl.solve(model, span=(0, 3), method="reversible_heun(h=0.25)", save="every 0.6", backend=backend,
                      gradient=gradient)  # fmt: skip
        found.append(torch.autograd.grad((s.z.values**2).sum(), leaves))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "method", "why"),
    [
        ("Swing", "rk4(h=0.1)", "cannot be undone"),
        ("Swing", "tsit5()", "is torch's"),
        ("Bounded", "reversible_heun(h=0.1)", "what must hold"),
    ],
)
def test_what_is_not_undone_says_why(program: Any, name: str, method: str, why: str) -> None:
    with pytest.raises(NDLError, match=why):
        slope(program, name, "cpu", "reversible", method=method, span=(0, 1))
