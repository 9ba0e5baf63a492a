"""Error control of the continuous adjoint: parameters take no part in it, and their gradient is as good.

Kidger, Chen, Lyons (2021), "Hey, that's not an ODE": faster ODE adjoints via seminorms, ICML.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime import adjoint
from ndl.runtime.info import State
from ndl.runtime.problem import SavePlan
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.loop import Loop
from torch import Tensor

import ndl

NET = """
model Net:
    net f: R[8] -> R[8] = MLP(width=24, depth=1)
    state x: R[8] = [sin(i) for i in 1..8]
    x' = f(x)
"""


class Whole(adjoint.AdjointModel):
    """The adjoint with the gradients of the weights as states, in the error like all others."""

    def __init__(self, run: Any) -> None:
        super().__init__(run, np.arange(1), np.zeros((1, 0)), torch.zeros(1, 0, 8))
        self.n, count = run.problem.size, sum(w.numel() for w in run.weights)
        self.STATES = (State("adjoint", (self.n + count,)),)  # type: ignore[misc]
        self.EVENTS = ()  # type: ignore[misc]

    def vector_field(self, t: Tensor, y: Tensor) -> Tensor:
        x = self.state_at(adjoint.host(t)).detach().requires_grad_(True)
        with torch.enable_grad():
            rate = self.inner.vector_field(t, x)
            found = torch.autograd.grad(rate, [x, *self.run.weights], -y[:, : self.n])
        return torch.cat([v.reshape(-1) for v in found])[None]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_that_of_the_full_norm_for_fewer_evaluations(seed: int, monkeypatch: Any) -> None:
    kept: list[Any] = []
    real, count = adjoint.backwards, [0]
    field = adjoint.AdjointModel.vector_field

    def counted(self: Any, t: Tensor, a: Tensor) -> Tensor:
        count[0] += 1
        return field(self, t, a)

    def backwards(run: Any, d_path: Tensor, d_last: Tensor) -> Any:
        kept.append((run, d_last))
        return real(run, d_path, d_last)

    monkeypatch.setattr(adjoint, "backwards", backwards)
    monkeypatch.setattr(adjoint.AdjointModel, "vector_field", counted)
    made = ndl.loads(NET).models["Net"](seed=seed)
    gradients = {}
    for how in ("discrete", "adjoint"):
        method = "dopri5(rtol=1e-6, atol=1e-6)"
        s = ndl.solve(made, span=(0, 4), method=method, gradient=how, save="end")
        weights = list(made.weights().values())
        gradients[how] = torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad((s.final["x"] ** 2).sum(), weights)]
        )
    own = count[0]

    ((run, d_last),) = kept
    p, model, calls = run.problem, Whole(run), [0]
    full = Whole.vector_field

    def counted_whole(self: Any, t: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        return full(self, t, y)

    monkeypatch.setattr(Whole, "vector_field", counted_whole)
    start = torch.cat([d_last, torch.zeros(1, gradients["adjoint"].numel(), dtype=torch.float64)], 1)
    problem = adjoint.AdjointProblem(
        model=model, method=p.method, t0=p.t1, t1=p.t0, save=SavePlan("end", np.array([p.t0])), x0=start,
        ensemble=True, dtype=p.dtype, device=p.device, max_steps=p.max_steps,
    )  # fmt: skip
    with torch.no_grad():
        end = Loop(problem, stepper_of(problem), keep=True).run().last[0, 8:]

    order = {id(w): k for k, w in enumerate(run.weights)}
    sizes = [w.numel() for w in run.weights]
    pieces = end.split(sizes)
    whole = torch.cat([pieces[order[id(w)]] for w in made.weights().values()])
    size = gradients["discrete"].norm()
    assert (gradients["adjoint"] - whole).norm() < 1e-5 * size
    assert (gradients["adjoint"] - gradients["discrete"]).norm() < 1e-5 * size
    assert own < calls[0]
