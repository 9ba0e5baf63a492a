"""Families differentiated by checkpoints: the members' views are made again with each stretch."""

import pytest
import torch

import ndl

TEXT = """
model Turning:
    param k = 1.3
    state x = 1.0, y = 0.2
    term spin = [-k*y, k*x]
    term push = [0.3*x, sin(x) + 0.1*cos(t)]
    x', y' = spin + push
"""
METHODS = (
    "rk4(h=0.1)",
    "tsit5(rtol=1e-5)",
    "kvaerno5(rtol=1e-4)",
    "strang(spin: exact, push: rk4, h=0.1)",
    "lie(spin: rk4, push: rodas5, h=0.1)",
    "ars222(spin: implicit_euler, push: euler, h=0.1)",
)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_the_discrete_ones(method: str) -> None:
    Turning, found = ndl.loads(TEXT).models["Turning"], []
    for gradient in ("discrete", "checkpoint(3)"):
        model = Turning(k=torch.tensor([1.0, 1.3, 2.0], dtype=torch.float64))
        s = ndl.solve(model, span=(0, 1), method=method, gradient=gradient, backend="torch", save="end")
        (s["x"] ** 2).sum().backward()
        found.append(model.k.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
