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


def near_zero(values: torch.Tensor, deviation: float) -> None:
    """The mean of values whose mean is 0 and whose standard deviation is known, within 4.5 of its own."""
    assert abs(float(values.mean())) < 4.5 * deviation / len(values) ** 0.5


def has_areas(q: torch.Tensor, W: torch.Tensor) -> None:
    """The law of the integral of a path over 0..1: variance 1/3, covariance with W(1) 1/2, and given W(1) the
    mean W(1)/2 and the variance 1/12."""
    near_zero(q.square() - 1 / 3, 2**0.5 / 3)
    near_zero(q * W - 1 / 2, (1 / 3 + 1 / 4) ** 0.5)
    near_zero(q - W / 2, 12**-0.5)
    near_zero((q - W / 2) * W, 12**-0.5)
    near_zero((q - W / 2).square() - 1 / 12, 2**0.5 / 12)
