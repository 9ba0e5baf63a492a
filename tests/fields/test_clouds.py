"""Fields on sets of points: averages over neighbours, and one operator from points to grids and back, against
plain loops over all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(0, 1, (30, 2)).round(3), RNG.uniform(0, 1, (17, 2)).round(3)
Y[0] = [5.0, 5.0]  # nobody is near

TEXT = f"""
const X = {X.tolist()}
const Y = {Y.tolist()}
domain Cloud = points(X, s, q)
domain Other = points(Y, a, b)
domain Square = interval(x in 0..1, y in 0..1)

operator KernelMean(v: R[c] on P; r = 0.3) -> R[c] on Q:
    net kappa: (R[2], R[2]) -> R[c] = MLP(width=8, depth=2)
    return x -> mean(kappa(y, x)*v(y), y in ball(x, r))

net E: R[3] on Cloud -> R[3] on Other = KernelMean()

model M:
    net G: R[3] on Cloud -> R[3] on Square = KernelMean()
    net D: R[3] on Square -> R[3] on Cloud = KernelMean(r=0.4)
    param w: R[3] on Cloud = [s, q, s*q]
    state u: R[3] on Square = 0
    u' = G(w)
    back = D(u)

model Points:
    param w: R on Cloud = s + 2*q
    state u: R on Cloud = s
    u' = mean(u(y), y in ball([s, q], 0.3)) - u
    total = sum(w, p in Cloud)
    middle = mean(w, p in Cloud if p[0] > 0.5)
    most = max(w, p in Cloud)
    near = sum(w(y), y in ball([s, q], 0.3))
    pairs = sum(w(y)*exp(-(s - y[0])^2), y in Cloud)
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def loop(kappa: Any, v: torch.Tensor, here: Any, there: Any, r: float, weights: Any = None) -> torch.Tensor:
    """The mean of kappa(y, x) v(y) over the y of `there` at most r from each x of `here`."""
    rows = []
    for x in torch.as_tensor(here):
        total, measure = torch.zeros(v.shape[1], dtype=v.dtype), 0.0
        for k, y in enumerate(torch.as_tensor(there)):
            if float((y - x).norm()) <= r:
                w = 1.0 if weights is None else float(weights[k])
                total = total + w * kappa(y, x) * v[k]
                measure += w
        rows.append(total / measure if measure else total)
    return torch.stack(rows)


def test_an_operator_from_points_to_points(program: Any) -> None:
    E = program.nets["E"]
    v = torch.from_numpy(RNG.normal(size=(30, 3)))
    found, wanted = E(v), loop(E.kappa, v, Y, X, 0.3)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
    sizes = found.detach().abs().amax(1)
    assert float(sizes[0]) == 0 and float(sizes.max()) > 0.01


def test_its_gradients(program: Any) -> None:
    E = program.nets["E"]
    v = torch.from_numpy(RNG.normal(size=(30, 3))).requires_grad_()
    W = E.kappa.linear.W
    found = torch.autograd.grad((E(v) ** 2).sum(), [v, W])
    wanted = torch.autograd.grad((loop(E.kappa, v, Y, X, 0.3) ** 2).sum(), [v, W])
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda u: (E(u) ** 2).sum(), (v,))


@pytest.mark.parametrize(("grid", "n"), [("uniform(6, at=cells)", 6), ("uniform(5)", 5)])
def test_the_same_text_from_points_to_a_grid_and_back(program: Any, grid: str, n: int) -> None:
    model = program.models["M"].on(grid)()
    s = ndl.solve(model, span=(0, 1), method="rk4(h=0.5)", save="end")
    cells = "cells" in grid
    at = (np.arange(n) + 0.5) / n if cells else np.linspace(0, 1, n)
    square = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    w = torch.from_numpy(np.stack([X[:, 0], X[:, 1], X[:, 0] * X[:, 1]], -1))
    u = loop(model.G.kappa, w, square, X, 0.3)
    torch.testing.assert_close(s.final.u.reshape(-1, 3), u, rtol=0, atol=1e-12)
    each = np.ones(n) if cells else np.r_[0.5, np.ones(n - 2), 0.5]
    back = loop(model.D.kappa, u, X, square, 0.4, np.outer(each, each).reshape(-1))
    torch.testing.assert_close(s.final.back, back, rtol=0, atol=1e-12)
    assert float(back.abs().max().detach()) > 1e-3


def test_sums_over_points_and_their_neighbours(program: Any) -> None:
    s = ndl.solve(program.models["Points"], span=(0, 1), method="rk4(h=0.1)", save="[0, 1]")
    w = X[:, 0] + 2 * X[:, 1]
    gap = X[:, None] - X[None]
    near = ((gap**2).sum(-1) <= 0.09).astype(float)
    A = near / near.sum(1, keepdims=True) - np.eye(30)
    step = sum(np.linalg.matrix_power(0.1 * A, k) / f for k, f in enumerate((1, 1, 2, 6, 24)))  # of rk4
    flow = np.linalg.matrix_power(step, 10)
    for name, wanted in {
        "u": flow @ X[:, 0],
        "total": w.sum(),
        "middle": w[X[:, 0] > 0.5].mean(),
        "most": w.max(),
        "near": near @ w,
        "pairs": np.exp(-(gap[:, :, 0] ** 2)) @ w,
    }.items():
        np.testing.assert_allclose(s.final[name].detach().numpy(), wanted, atol=1e-12)
    np.testing.assert_array_equal(s.grid.s.numpy(), X[:, 0])


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("total = sum(w, p in Cloud)", "total = integral(w, p in Cloud)", "NDL596", "no volume"),
        ("total = sum(w, p in Cloud)", "total = w([0.1, 0.2])", "NDL596", "known there alone"),
        ("total = sum(w, p in Cloud)", "total = lap(w)", "NDL596", "set of points"),
        ("points(Y, a, b)", "points(Y, a)", "NDL596", "name for each"),
        ("points(Y, a, b)", "points(3)", "NDL596", "R[n, d]"),
        ("points(Y, a, b)", 'points(table("y.csv"), a, b)', "NDL596", "not known when compiling"),
    ],
)
def test_what_points_do_not_have(old: str, new: str, code: str, words: str) -> None:
    with pytest.raises(NDLError, match=code) as trouble:
        ndl.solve(ndl.loads(TEXT.replace(old, new)).models["Points"], span=(0, 1), method="rk4(h=0.5)")
    assert words in str(trouble.value)


def test_another_number_of_points_is_refused(program: Any) -> None:
    with pytest.raises(NDLError, match="values at 7 points"):
        program.nets["E"](torch.zeros(7, 3, dtype=torch.float64))


def test_draws_of_a_training_have_numbers_at_each_point() -> None:
    """The weight becomes 2 where the draws have the shapes [3, 2] and [4, 5]."""
    text = """
domain Cloud = points([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], [a, b])
domain Square = interval(x in 0..1, y in 0..1)

operator Scaled(u: R[2] on Cloud) -> R[2] on Cloud:
    param w = 0.5
    return w*u

net N: R[2] on Cloud -> R[2] on Cloud = Scaled()

train N as scattered:
    x: R[2] on Cloud ~ normal(0, 1)
    f: R on Square ~ uniform(1, 2)
    grid  = uniform(4, 5)
    loss  = mean((N(x) - (sum(shape(x)) + sum(shape(f)) - 12)*x)^2)
    batch = 4
    optimizer = lbfgs(steps=10)
    steps = 3
"""
    program = ndl.loads(text)
    program.run("scattered")
    assert abs(float(program.nets["N"].w) - 2) < 1e-6
