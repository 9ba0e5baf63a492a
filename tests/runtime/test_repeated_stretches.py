"""`checkpoint(n)` by torch: each stretch is taken twice, whatever is differentiated inside of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from ndl.runtime.stepping.replay import Replay

import ndl

MODELS = """
model Inside:
    param k = 0.7
    state x = 0.5
    x' = -x + root(z -> z^3 + k*z - x*k, 0.3)

model Kinked:
    param k = 1.0
    state x = 0.2
    x' = if x > 1 then 0.5 - k*x*0.3 else k*(2 - x) + 0.3*t

model Touching:
    param k = 1.0
    state x = 0.2
    x' = k*(1.3 + sin(3*t) - 0.2*x)
    when rising(x - t*t/9 - 1.0): x <- 0.1*k*x*t

model Late:
    param k = 0.4
    state x = 1.0
    x' = -2*x(t - k)
    when falling(x - 0.4): x <- 1.2
"""

RUNS = {
    "roots in rates": ("Inside", "rk4(h=0.1)", 0.7),
    "roots in stages": ("Inside", "implicit_euler(h=0.5)", 0.7),
    "a break": ("Kinked", "dopri5(rtol=1e-8)", 1.0),
    "derivatives by time": ("Kinked", "rosenbrock23(rtol=1e-5)", 1.0),
    "an event": ("Touching", "rk4(h=0.05)", 1.0),
    "an event and a delay": ("Late", "dopri5(rtol=1e-6)", 0.4),
}


@cache
def models() -> Any:
    return ndl.loads(MODELS)


def gradient(name: str, method: str, at: float, route: str) -> torch.Tensor:
    k = (at * torch.tensor([0.95, 1.05], dtype=torch.float64)).requires_grad_()
    model = getattr(models(), name)().bind(k=k)
    s = ndl.solve(model, method=method, gradient=route, backend="torch", span=(0, 1), save=[0.33, 1.0])
    found: torch.Tensor = torch.autograd.grad(s.x.values.pow(3).sum(), k)[0]
    return found


@pytest.mark.parametrize("case", RUNS)
def test_gradients(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = gradient(*RUNS[case], "discrete")
    plain, taken = Replay.stretch, []

    def counted(self: Replay, state: Any, first: int, last: int) -> Any:
        taken.append((first, last))
        return plain(self, state, first, last)

    monkeypatch.setattr(Replay, "stretch", counted)
    found = gradient(*RUNS[case], "checkpoint(2)")
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)
    assert sorted(taken) == sorted(2 * list(set(taken)))
    assert len(taken) == 4
