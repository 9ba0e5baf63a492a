"""Nets with convolutions in kernels: products with a matrix at each place, or written out; against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ndl

SOURCE = """
use std.nets: Conv1d, Conv2d, ConvTransposed1d

operator Line(u: R[8]) -> R[8]:
    v = tanh(Conv1d(Out=3, border=periodic)([u]))
    return Conv1d(Out=1, dilation=2)(v)[0]

operator Strided(u: R[2, 4]) -> R[2, 4]:
    v = tanh(Conv1d(Out=8, kernel=2, stride=2, pad=0, groups=2)(u))
    return ConvTransposed1d(Out=2, kernel=2, stride=2)(v)

operator Plane(u: R[2, 2]) -> R[2, 2]:
    return Conv2d(Out=1)(tanh(Conv2d(Out=2)([u])))[0]

model OnLine:
    net f: R[8] -> R[8] = Line()
    state u: R[8] = ones(8)
    u' = f(u)

model OnStrides:
    net f: R[2, 4] -> R[2, 4] = Strided()
    state u: R[2, 4] = ones(2, 4)
    u' = f(u)

model OnPlane:
    net f: R[2, 2] -> R[2, 2] = Plane()
    state u: R[2, 2] = ones(2, 2)
    u' = f(u)
"""
COUNT = 3


def run(model: Any, backend: str, method: str) -> list[torch.Tensor]:
    """Saved values, and gradients by the starts and the weights."""
    shape = model.STATES[0].shape
    size = model.STATES[0].size
    start = torch.linspace(-1, 2, COUNT * size, dtype=torch.float64).reshape(COUNT, *shape)
    start.requires_grad_(True)
    s = ndl.solve(model.bind(u=start), span=(0, 1), method=method, save="every 0.4", backend=backend,
                  gradient="discrete")  # fmt: skip
    weights = [p for p in model.parameters() if p.requires_grad]
    loss = (s.u.values**2).sum() + s.final.u.sin().sum()
    return [s.u.values.detach(), *torch.autograd.grad(loss, [start, *weights])]


@pytest.mark.parametrize(
    ("name", "method"),
    [("OnLine", "heun(h=0.2)"), ("OnStrides", "bosh3(rtol=1e-3)"), ("OnPlane", "midpoint(h=0.25)")],
)
def test_values_and_gradients(name: str, method: str) -> None:
    model = getattr(ndl.loads(SOURCE), name)(seed=1)
    wanted, found = run(model, "torch", method), run(model, "cpu", method)
    assert len(wanted) >= 4
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-12, atol=1e-13)
    for a, b in zip(found[1:], wanted[1:], strict=True):
        assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())
