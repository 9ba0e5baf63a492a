"""Delays beside noise: by hand, an exact path, differences, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

SOURCE = """
model Feedback:
    param k = 0.9
    param b = 0.3
    state x = 1.0
    noise W: wiener
    dx = -k*x(t - 0.5)*dt + (0.2 + b*x(t - 0.2)*x)*dW

model Additive:
    param k = 1.0
    state x = 1.0
    noise W: wiener
    dx = -x(t - k)*dt + 0.5*dW

model Late:
    param k = 0.6
    state x = 1.0
    noise W: wiener
    dx = -x(t - k*(1 + 0.1*sin(t)))*dt + 0.1*dW
"""
COUNT = 4


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def test_euler_maruyama_by_hand(program: Any) -> None:
    h, steps = 0.1, 20
    b = torch.linspace(0.1, 0.4, COUNT, dtype=torch.float64)
    s = ndl.solve(
        program.Feedback().bind(b=b), method=f"euler_maruyama(h={h})", span=(0, 2), save=f"every {h}", seed=2
    )
    x, dW = [torch.ones(COUNT, dtype=torch.float64)], s.W.values.reshape(COUNT, -1).diff(dim=1)
    for n in range(steps):
        drift, past = -0.9 * x[max(n - 5, 0)], x[max(n - 2, 0)]
        x.append(x[n] + h * drift + (0.2 + b * past * x[n]) * dW[:, n])
    torch.testing.assert_close(s.x.values, torch.stack(x, 1), rtol=1e-12, atol=1e-12)


def test_the_exact_path(program: Any) -> None:
    """Up to t = 1 the path is 1 - t + W/2, then W and its integral give it: errors are of order 1, with lags
    that are no multiple of a step, too."""
    fine = ndl.solve(program.Additive(), method="euler_maruyama(h=0.0005)", span=(0, 1), save="every 0.0005",
                     seed=4, ensemble=COUNT)  # fmt: skip
    W = 0.5 * fine.W.values.reshape(COUNT, -1)
    t = torch.as_tensor(fine.t, dtype=torch.float64)
    inner = torch.trapezoid(1 - t + W, t, dim=1)
    errors = []
    for h in (0.04, 0.01):
        s = ndl.solve(program.Additive(), method=f"euler_maruyama(h={h})", span=(0, 2), save="[1, 2]",
                      seed=4, ensemble=COUNT)  # fmt: skip
        total = 0.5 * s.W.values.reshape(COUNT, -1)
        torch.testing.assert_close(s.x.values[:, 0], total[:, 0], rtol=0, atol=1e-12)
        errors.append(float((s.x.values[:, 1] - (total[:, 1] - inner)).abs().max()))
    assert errors[1] < errors[0] / 2.5 and errors[1] < 0.02


@pytest.mark.parametrize("method", ["euler_maruyama(h=0.05)", "heun(h=0.03)", "euler_heun(h=0.05)"])
def test_gradients_are_differences(program: Any, method: str) -> None:
    b = torch.linspace(0.1, 0.4, COUNT, dtype=torch.float64).requires_grad_()

    def value(b: torch.Tensor, gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(program.Feedback().bind(b=b), method=method, span=(0, 2), save="every 0.37", seed=3,
                      gradient=gradient)  # fmt: skip
        return s.x.values.sin().sum(1) + s.final.x

    (found,) = torch.autograd.grad(value(b, "discrete").sum(), b)
    with torch.no_grad():
        rate = (value(b + 1e-5) - value(b - 1e-5)) / 2e-5
    torch.testing.assert_close(found, rate, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("model", "method", "settings", "why"),
    [
        ("Feedback", "sosri", {}, "for which steps are fixed"),
        ("Late", "euler_maruyama(h=0.1)", {}, "is for delays that stay the same"),
        ("Additive", "euler_maruyama(h=0.1)", {"gradient": "discrete"}, "no derivative by the delays"),
        ("Feedback", "heun(h=0.1)", {"gradient": "checkpoint(3)"}, "needs an explicit method"),
        ("Feedback", "milstein(h=0.1)", {}, "differentiates what reads delayed states"),
        ("Feedback", "milstein(h=0.1)", {"backend": "cpu"}, "differentiates what reads delayed states"),
    ],
)
def test_what_is_refused(program: Any, model: str, method: str, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(NDLError, match=why):
        ndl.solve(getattr(program, model)(), method=method, span=(0, 1), ensemble=2, **settings)
