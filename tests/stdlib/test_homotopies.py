"""Equilibria and flows to them: orders of homotopies, implicit gradients, special cases of HomoODE.

Ding, Cui, Wang, Shi (2023), arXiv:2310.09583.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

import ndl

TEXT = """
const b = linspace(-0.5, 0.7, 20)

model Fixed:
    param w: R[20, 20] = 0
    state z: R[20] = 0
    0 = tanh(w @ z + b) - z

model Newton:
    param w: R[20, 20] = 0
    state z: R[20] = 0
    z' = -inv(jac(z - tanh(w @ z + b), z)) @ (-tanh(b))

model Straight:
    param w: R[20, 20] = 0
    state z: R[20] = 0
    z' = -inv(t*jac(z - tanh(w @ z + b), z) + (1 - t)*eye(20)) @ (z - tanh(w @ z + b) - z)

model Steered(x: R[3]):
    net F: (R[4], R[4]) -> R[4] = MLP(width=8, depth=1)
    net g: R[3] -> R[4] = Linear()
    state z: R[4] = 0.1
    z' = F(z, g(x))
"""


@cache
def program() -> Any:
    return ndl.loads(TEXT)


def matrix() -> Tensor:
    w = torch.randn(20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return 0.8 * w / torch.linalg.matrix_norm(w, 2)


def test_homotopies_have_the_order_of_their_steps() -> None:
    """Of 20 dimensions and a matrix of norm 0.8: errors of RK4 with 8 to 32 steps."""
    w = matrix()
    root = ndl.solve(program().Fixed(w=w), method="newton(tol=1e-14)").final["z"]
    for model, most in (("Newton", 1e-7), ("Straight", 2e-6)):
        made = program().models[model](w=w)
        e = []
        for n in (8, 16, 32):
            end = ndl.solve(made, span=(0, 1), method=f"rk4(steps={n})", save="end", backend="torch").final[
                "z"
            ]
            e.append(float((end - root).norm()))
        assert e[0] < most
        assert abs(torch.log2(torch.tensor(e[0] / e[1])) - 4) < 0.25
        assert abs(torch.log2(torch.tensor(e[1] / e[2])) - 4) < 0.15


def test_the_implicit_gradient_is_that_of_differences_and_not_that_of_one_step() -> None:
    w = matrix().requires_grad_()
    made = program().Fixed().bind(w=w)
    z = ndl.solve(made, method="newton(tol=1e-14)", gradient="adjoint").final["z"]
    c = torch.linspace(-1, 2, 20, dtype=torch.float64)
    (found,) = torch.autograd.grad((c * z).sum(), w)

    def value(m: Tensor) -> float:
        end = ndl.solve(program().Fixed(w=m), method="newton(tol=1e-14)").final["z"]
        return float((c * end).sum())

    for i, j in ((0, 0), (3, 17), (19, 5)):
        step = torch.zeros_like(w)
        step[i, j] = 1e-5
        with torch.no_grad():
            difference = (value(w + step) - value(w - step)) / 2e-5
        assert abs(float(found[i, j]) - difference) < 1e-9
    with torch.no_grad():  # of the last application of the map alone
        slope = c * (1 - z.detach() ** 2)
        single = slope[:, None] * z.detach()[None, :]
        cosine = float((single * found).sum() / single.norm() / found.norm())
    assert 0.8 < cosine < 0.999


def test_the_adjoint_agrees_with_back_propagation_for_weights_and_condition() -> None:
    """Of a flow with a condition, whose gradient a backward equation must carry along."""
    made = program().Steered(seed=1)
    gradients = []
    for how in ("discrete", "adjoint"):
        x = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
        method = "dopri5(rtol=1e-9, atol=1e-9)"
        s = ndl.solve(made.bind(x=x), span=(0, 1), method=method, gradient=how, save="end")
        loss = (s.final["z"] * torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)).sum()
        gradients.append(torch.autograd.grad(loss, [x, *made.weights().values()]))
    for a, b in zip(*gradients):
        assert float(a.norm()) > 1e-3
        assert float((a - b).norm()) < 1e-6 * float(a.norm())
