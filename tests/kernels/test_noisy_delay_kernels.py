"""Delays beside noise in kernels: torch's steps, values, events and gradients; differences; the
interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import off
from interpreted import interpret_runs
from ndl.compiler.diagnostics import NDLError

import ndl

SOURCE = """
model Feedback:
    param b = 0.3
    state x = 1.0
    noise W: wiener
    dx = -0.9*x(t - 0.5)*dt + (0.2 + b*x(t - 0.2)*x)*dW

model Pair:
    param b = 0.4
    state x: R[2] = [1.0, 0.5]
    state y = 0.3
    noise W: wiener
    noise V: wiener
    dx = -b*x(t - 0.37)[0]*x*dt + 0.5*dW
    dy = (x(t - 0.2)[1] - y(t - 1.03))*dt + 0.3*dV

model Ahead:
    param b = 0.4
    state x = 1.0
    noise W: wiener
    dx = -b*x(t - 0.37)*dt + 0.3*x*dW

model Struck:
    param b = 0.5
    state x = 1.0
    noise W: wiener
    dx = -x(t - 0.3)*dt + 0.2*b*dW
    when falling(x - 0.5): x <- 0.5 + b
    when every 0.7: x <- x + 0.3*x(t - 0.3)

model Drawn:
    param b = 0.5
    state x = 1.0
    u: R ~ normal(0, 1) per step
    noise W: wiener
    dx = (0.1*u - b*x(t - 0.3))*dt + 0.1*dW
"""
COUNT = 4


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def run(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor, Any]:
    """The solution, its values with those of the noises, and the gradient of a weighted sum of them by b."""
    model = getattr(program, name)()
    b = (float(model.b.detach()) * torch.linspace(0.6, 1.2, COUNT, dtype=torch.float64)).requires_grad_()
    usual = {"span": (0, 1.2), "save": "every 0.37", "gradient": "discrete", "seed": 3}
    s = ndl.solve(model.bind(b=b), method=method, backend=backend, **{**usual, **settings})
    values = torch.cat([s[n].values.flatten() for n in s.names()])
    weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    grads = torch.autograd.grad((values * weight).sum(), b)[0] if values.requires_grad else None
    return s, values.detach(), grads


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Feedback", "euler_maruyama(h=0.05)"),
        ("Feedback", "heun(h=0.03)"),
        ("Pair", "reversible_heun(h=0.3)"),
        ("Ahead", "euler_heun(h=0.04)"),
        ("Ahead", "milstein(h=0.04)"),
        ("Ahead", "sri(h=0.05)"),
        ("Ahead", "sosri2(h=0.1)"),
        ("Drawn", "sra1(h=0.1)"),
    ],
)
def test_the_same_values_and_gradients(program: Any, name: str, method: str) -> None:
    """Steps of 0.3 are longer than the shortest lag, which cuts them."""
    (a, u, g), (b, v, h) = (run(program, name, method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


def test_events_beside_them(program: Any) -> None:
    """The past of a step that an event cut short is that of the whole step."""
    (a, u, g), (b, v, h) = (
        run(program, "Struck", "euler_maruyama(h=0.1)", backend, span=(0, 1.5))
        for backend in ("torch", "cpu")
    )
    assert a.events.t.shape[1] > 1 and torch.equal(a.events.index, b.events.index)
    assert off(a.events.t.detach().nan_to_num(), b.events.t.detach().nan_to_num()) < 1e-13
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


@pytest.mark.parametrize("name", ["Feedback", "Drawn"])
def test_every_step_is_saved(program: Any, name: str) -> None:
    settings = {"save": "steps", "gradient": "none"}
    (_, u, _), (_, v, _) = (
        run(program, name, "euler_maruyama(h=0.1)", backend, **settings) for backend in ("torch", "cpu")
    )
    assert off(u, v) < 1e-12


def test_gradients_are_differences(program: Any) -> None:
    b = torch.linspace(0.1, 0.4, COUNT, dtype=torch.float64).requires_grad_()

    def value(b: torch.Tensor, gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(program.Feedback().bind(b=b), method="heun(h=0.03)", span=(0, 2), save="every 0.37",
                      seed=3, gradient=gradient, backend="cpu")  # fmt: skip
        return s.x.values.sin().sum(1) + s.final.x

    (found,) = torch.autograd.grad(value(b, "discrete").sum(), b)
    with torch.no_grad():
        rate = (value(b + 1e-5) - value(b - 1e-5)) / 2e-5
    torch.testing.assert_close(found, rate, rtol=1e-8, atol=1e-8)


def test_single_precision(program: Any) -> None:
    settings = {"precision": "float32", "gradient": "none"}
    (_, u, _), (_, v, _) = (
        run(program, "Ahead", "euler_maruyama(h=0.1)", backend, **settings) for backend in ("torch", "cpu")
    )
    assert off(u, v) < 1e-4


def test_the_interpreter_agrees(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"save": "end", "span": (0, 0.75)}
    _, u, g = run(program, "Drawn", "euler_maruyama(h=0.25)", "cpu", **settings)
    interpret_runs(monkeypatch)
    _, v, h = run(program, "Drawn", "euler_maruyama(h=0.25)", "cpu", **settings)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-11


def test_a_step_that_differentiates_the_past_is_refused(program: Any) -> None:
    with pytest.raises(NDLError, match="differentiates what reads delayed states"):
        run(program, "Feedback", "milstein(h=0.1)", "cpu")
