"""How results are compared: with each other, and gradients with differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference over the size of what is compared."""
    return float((a - b).abs().max() / a.abs().max())


def check_gradient(
    loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, size: float, rel: float
) -> None:
    """The derivative of a loss by the second number of `at`, as its gradient has it, is that of central
    differences over `size` to `rel`."""
    leaf = at.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad(loss(leaf), leaf)
    moved = torch.zeros_like(at)
    moved[1] = size
    with torch.no_grad():
        rate = (loss(at + moved) - loss(at - moved)) / (2 * size)
    assert float(rate) == pytest.approx(float(exact[1]), rel=rel)
