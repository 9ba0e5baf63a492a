"""Nets in kernels: values and gradients against torch, threads, and the interpreter against machine code."""

from __future__ import annotations

from typing import Any

import ndl
import pytest
import torch

COUNT = 37

PLAIN = """
model Node:
    net f: R[8] -> R[8] = MLP(width={width}, depth=2, act={act})
    state x: R[8] = 0.5
    x' = f(x)
"""


def leaves(model: Any) -> list[torch.Tensor]:
    """The weights of its nets."""
    return [w for name, w in model.named_parameters() if "." in name]


def run(model: Any, x0: torch.Tensor, backend: str, method: str, **settings: Any) -> list[torch.Tensor]:
    """Saved values, and the gradients of a function of them with respect to the start and all weights."""
    x = x0.clone().requires_grad_(True)
    settings = {"span": (0, 1), "save": "end", "gradient": "discrete", **settings}
    s = ndl.solve(model.bind(x=x), method=method, backend=backend, **settings)
    values = s.x.values
    loss = (values**2).sum() + (s.final.x * torch.linspace(-1, 1, x0.shape[-1], dtype=x.dtype)).sum()
    return [values.detach(), *torch.autograd.grad(loss, [x, *leaves(model)])]


def start(count: int = COUNT, size: int = 8, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def compare(
    got: list[torch.Tensor], wanted: list[torch.Tensor], of_values: float, of_gradients: float
) -> None:
    for k, (a, b) in enumerate(zip(got, wanted)):
        bound = of_gradients if k else of_values
        assert float((a - b).abs().max()) <= bound * float(b.abs().max()), k


@pytest.mark.parametrize("act", ["tanh", "silu", "softplus", "relu", "sigmoid", "elu", "gelu", "sin"])
def test_activations(act: str) -> None:
    model = ndl.loads(PLAIN.format(width=24, act=act)).Node()
    pair = [run(model, start(), backend, "rk4(steps=3)") for backend in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)


@pytest.mark.parametrize("method", ["rk4(steps=5)", "dopri5(rtol=1e-6)"])
@pytest.mark.parametrize("save", ["end", "every 0.3"])
def test_methods(method: str, save: str) -> None:
    model = ndl.loads(PLAIN.format(width=64, act="tanh")).Node()
    pair = [run(model, start(), backend, method, save=save) for backend in ("cpu", "torch")]
    compare(*pair, 1e-12, 1e-9)
