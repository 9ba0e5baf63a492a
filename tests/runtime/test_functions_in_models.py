"""Functions of tensors that runs have, in the equations of a model."""

from __future__ import annotations

import pytest
import torch

import ndl

PROGRAM = """
model Sums:
    state x: R[3] = [1.0, 2.0, 3.0]
    x' = cumsum(x)*rms([3.0, 4.0]) - rms(x)*x
"""


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_running_sums_and_mean_squares(backend: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for _ in range(2):
        x = x + 0.5 * (x.cumsum(0) * 12.5**0.5 - (x**2).mean().sqrt() * x)
    s = ndl.solve(ndl.loads(PROGRAM).Sums(), span=(0, 1), method="euler(h=0.5)", backend=backend)
    torch.testing.assert_close(s.final.x, x, rtol=1e-14, atol=0)
