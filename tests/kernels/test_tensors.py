"""Tensors that stay whole in kernels: values and gradients against torch, and how long the code becomes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ndl

COUNT = 21

AXES = """
operator Mix(x: R[d]; width = 24) -> R[d]:
    \"\"\"Weights by axes: repeated, transposed, cut, joined, summed, multiplied.\"\"\"
    param A: R[d, width] ~ normal(0, 1), B: R[width, d] ~ normal(0, 0.5), b: R[width] ~ normal(0, 1)
    param C: R[d, width, 2] ~ normal(0, 0.3), D: R[width, width] ~ normal(0, 0.2)
    inner = [sin(A[i, j]*x[i] + b[j]) for i, j]
    both  = inner @ D + B.T*inner
    sums  = [sum(both[:, j]) for j]/d
    means = [mean(tanh(C[i, :, 0]*inner[i] + C[i, :, 1])) for i]
    outer = [sums[j]*x[i] for i, j]
    joined = concat(sums[2:12], tanh(b[4:20]))
    traces = trace(D)/20 + sum([D[i, i] for i])/30
    return means + [sum(outer[i]*both[i]) for i]/10 + B.T[:, 3]*joined[5] + traces

model Axes:
    net f: R[3] -> R[3] = Mix()
    state x: R[3] = 0.5
    x' = f(x) - x
"""


def run(
    model: Any, x: torch.Tensor, backend: str, method: str, name: str
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Values at the end, and the gradients of a function of them for the start and all weights."""
    x = x.clone().requires_grad_(True)
    s = ndl.solve(
        model.bind(**{name: x}), span=(0, 1), method=method, save="end", backend=backend, gradient="discrete",
        seed=3,
    )  # fmt: skip
    values = list(dict(s.final).values())
    loss = sum((v * torch.linspace(0.5, 1, v.numel(), dtype=v.dtype).reshape(v.shape)).sum() for v in values)
    weights = [w for key, w in model.named_parameters() if "." in key]
    grads = torch.autograd.grad(loss, [x, *weights], allow_unused=True, materialize_grads=True)
    return [v.detach() for v in values], list(grads)


def agree(model: Any, x: torch.Tensor, method: str, name: str = "x") -> None:
    found, right = (run(model, x, backend, method, name) for backend in ("cpu", "torch"))
    assert len(found[1]) > 2
    for bound, got, wanted in zip((1e-12, 1e-9), found, right, strict=True):
        for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
            assert float((a - b).abs().max()) <= bound * max(float(b.abs().max()), 1e-3), (k, bound)


def points(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("method", ["rk4(steps=3)", "tsit5(rtol=1e-6)"])
def test_weights_by_axes(method: str) -> None:
    agree(ndl.loads(AXES).Axes(seed=2), points(COUNT, 3), method)


LIBRARY = [
    ("flows", "Flow(d=3, width=20)", "data", (COUNT, 3)),
    ("flows", "HutchinsonFlow(d=3, width=20)", "data", (COUNT, 3)),
    ("equilibrium", "HomoODE(c=3, d=16)", "x", (COUNT, 3)),
    ("neural_ode", "TimeODE(d=3)", "x", (COUNT, 3)),
]


@pytest.mark.parametrize(("module", "model", "name", "shape"), LIBRARY)
@pytest.mark.parametrize("method", ["rk4(steps=2)", "tsit5(rtol=1e-5)"])
def test_models_of_the_library(
    module: str, model: str, name: str, shape: tuple[int, ...], method: str
) -> None:
    kind = model.split("(", maxsplit=1)[0]
    program = ndl.loads(f"use std.models.{module}: {kind}\nmodel Mine = {model}\n")
    agree(program.Mine(seed=1), points(*shape), method, name)


def test_the_code_is_as_long_for_wider_weights() -> None:
    texts = [
        ndl.loads(AXES.replace("width = 24", f"width = {n}")).kernel_text("Axes", "rk4") for n in (24, 96)
    ]
    assert len({len(t.splitlines()) for t in texts}) == 1
    assert "view " in texts[0] and "collect " in texts[0]


def test_equal_maps_are_one() -> None:
    """A net that the drift and the diffusion both read is evaluated once."""
    text = ndl.loads("""
model Shared:
    net g: R[2] -> R[2] = MLP(width=32, depth=1, act=softplus)
    noise W: wiener[2]
    state x: R[2] = 0.5
    dx = -g(x)*x*dt + g(x)*dW
""").kernel_text("Shared", "euler_maruyama")
    assert text.count("= softplus ") == 1
