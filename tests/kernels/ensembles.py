"""Ensembles of the models `Lorenz` and `Driven` of a test's program, what comes of solving them, and a method
that remembers its last slope."""

from __future__ import annotations

from typing import Any

import torch

import ndl

COUNT = 20

TWO_STEP = """
solver two_step for ode order 2:
    state slope = 0*x
    step(f, x, t, h, n):
        r = if n == 0 then 0 else h/prev(h)
        now = f(x, t)
        x1 = x + h*((1 + r/2)*now - r/2*prev(slope))
        slope = now
        return x1
"""


def lorenz(program: Any, grad: bool = False) -> tuple[Any, list[torch.Tensor]]:
    rho = torch.linspace(0, 28, COUNT, dtype=torch.float64).requires_grad_(grad)
    sigma = torch.tensor(10.0, dtype=torch.float64, requires_grad=grad)
    x = torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64).requires_grad_(grad)
    return program.Lorenz().bind(rho=rho, sigma=sigma, x=x), [rho, sigma, x]


def driven(program: Any, grad: bool = False) -> tuple[Any, list[torch.Tensor]]:
    w = 1 + torch.rand(COUNT, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w.requires_grad_(grad)
    p = torch.tensor([0.0, -0.2], dtype=torch.float64, requires_grad=grad)
    return program.Driven().bind(w=w, p=p), [w, p]


def solved(made: Any, method: str, backend: str, **settings: Any) -> Any:
    return ndl.solve(made, method=method, backend=backend, **{"span": (0, 2), "save": "end", **settings})


def gradient(program: Any, make: Any, method: str, backend: str, **settings: Any) -> tuple[torch.Tensor, ...]:
    made, leaves = make(program, True)
    s = solved(made, method, backend, gradient="discrete", **settings)
    values = torch.cat([s[n].values.flatten() for n in s.names()])
    final = torch.cat([s.final[n].flatten() for n in s.names()])
    weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    return torch.autograd.grad((values * weight).sum() + final.square().sum(), leaves)
