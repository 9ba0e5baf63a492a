"""`gradient = reversible` without noise: steps are undone, and the gradient is that of what was computed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

PROGRAM = """
model Swing:
    param k > 0 = 1.5
    state x = 1.0, v = 0.0
    x' = v
    v' = -k*sin(x)

model Learned(d = 3):
    input X: R[2] on time
    net f: R[d] -> R[d, 2] = MLP(width=6, final=tanh)
    state z: R[d] = ones(d)
    dz = f(z) @ dX

model Noisy:
    param k > 0 = 1.5
    noise W: wiener
    state x = 1.0
    dx = -k*x*dt + 0.1*x*dW
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(PROGRAM)


def slope(model: Any, at: Any, **settings: Any) -> tuple[float, torch.Tensor]:
    s = ndl.solve(model, span=(0, 2), seed=1, backend="torch", **settings)
    loss = (s.x.values**2).mean() + s.final.x.sum()
    return float(loss.detach()), torch.autograd.grad(loss, at)[0]


@pytest.mark.parametrize("method", ["reversible_heun", "leapfrog", "verlet", "yoshida4"])
@pytest.mark.parametrize("save", ["end", "steps", "every 0.13"])
@pytest.mark.parametrize("bound", [False, True])
def test_steps_undone_give_the_discrete_gradient(program: Any, method: str, save: str, bound: bool) -> None:
    """Of a parameter with a constraint, its own weight and a value that is given for it."""
    found = {}
    for mode in ("discrete", "reversible"):
        model = program.Swing()
        leaf = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        model = model.bind(k=leaf) if bound else model
        own = leaf if bound else dict(model.named_parameters())["raw_k"]
        found[mode] = slope(model, own, method=f"{method}(h=0.05)", save=save, gradient=mode)
    assert abs(found["discrete"][0] - found["reversible"][0]) < 1e-12
    torch.testing.assert_close(found["discrete"][1], found["reversible"][1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bound", [False, True])
def test_a_constraint_under_noise(program: Any, bound: bool) -> None:
    found = []
    for mode in ("discrete", "reversible"):
        model = program.Noisy()
        leaf = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        model = model.bind(k=leaf) if bound else model
        own = leaf if bound else dict(model.named_parameters())["raw_k"]
        found.append(slope(model, own, method="reversible_heun(h=0.05)", gradient=mode)[1])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_against_differences(program: Any) -> None:
    def end(k: torch.Tensor) -> torch.Tensor:
        model = program.Swing().bind(k=k)
        s = ndl.solve(model, span=(0, 2), method="reversible_heun(h=0.1)", save="end", gradient="reversible")
        return s.final.x.sum()

    k = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(end(k), k)
    near = [float(end(torch.tensor(1.5 + e, dtype=torch.float64))) for e in (1e-5, -1e-5)]
    assert abs(float(found) - (near[0] - near[1]) / 2e-5) < 1e-8


def test_weights_of_a_net_and_values_of_a_path(program: Any) -> None:
    source = """
test "undone":
    X = hermite([0, 1, 2, 3], [[0, 1.0], [1, 0.3], [2, 0.5], [3, 2.0]])
    m = Learned(X=X, d=3, seed=1)
    g = []
    for mode in [discrete, reversible]:
        s = solve(m, span=0..3, method=reversible_heun(h=0.25), save=end, gradient=mode)
        g = append(g, grad(sum(s.final.z), m.params))
    assert norm(g[0]) > 0.1 and norm(g[0] - g[1]) < 1e-11*norm(g[0])
"""
    (found,) = ndl.loads(PROGRAM + source).test()
    assert found.passed, found


def test_what_is_not_undone_is_refused(program: Any) -> None:
    for method, why in (
        ("rk4(h=0.1)", "cannot be undone"),
        ("tsit5()", "needs fixed steps"),
    ):
        with pytest.raises(NDLError, match=why):
            ndl.solve(program.Swing(), span=(0, 1), method=method, gradient="reversible")


def test_corners_are_refused() -> None:
    source = """
test "a corner":
    m = Learned(X=linear([0, 1, 2], [[0, 1.0], [1, 0.3], [2, 0.5]]), d=3, seed=1)
    g = grad(sum(solve(m, span=0..2, method=reversible_heun(h=0.25), gradient=reversible).final.z), m.params)
"""
    (found,) = ndl.loads(PROGRAM + source).test()
    assert not found.passed and "corners of a path" in str(found)


def test_a_state_that_does_not_move_shows_nothing(program: Any) -> None:
    """Euler's step from a rest is undone; that is not held for a step from elsewhere."""
    rested = program.Swing(x=0.0)
    for backend in ("torch", "cpu"):
        settings = {"method": "euler(h=0.1)", "gradient": "reversible", "backend": backend}
        with pytest.raises(NDLError, match="cannot be undone"):
            ndl.solve(program.Swing(), span=(0, 1), **settings)
        with suppress(NDLError):
            ndl.solve(rested, span=(0, 1), **settings)
        with pytest.raises(NDLError, match="cannot be undone"):
            ndl.solve(program.Swing(), span=(0, 1), **settings)
