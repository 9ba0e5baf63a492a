"""A layer of the library beside its counterpart in torch: the same weights, values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ndl

TOLERANCE = 1e-10


@cache
def nets(file: str) -> dict[str, Any]:
    """The nets of a file beside this one, in double precision."""
    return {name: net.double() for name, net in ndl.load(Path(__file__).with_name(file)).nets.items()}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def copy(net: Any, twin: nn.Module, names: Mapping[str, str | Callable[[Any], Tensor]]) -> None:
    """Give each weight of the net a random value, and the same to the twin's: `names` says which tensor of
    the twin (a dotted name), or what part of one, is the net's."""
    generator = torch.Generator().manual_seed(5)
    for p in twin.parameters():
        p.data = 0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    weights = net.weights()
    assert set(weights) == set(names), f"{sorted(weights)} are the weights"
    for own, theirs in names.items():
        value = twin.get_parameter(theirs) if isinstance(theirs, str) else theirs(twin)
        weights[own].data = value.detach().reshape(weights[own].shape).clone()


def agree(net: Any, twin: Callable[..., Any], *data: Tensor) -> None:
    """Values, and gradients by the data and by all weights together, are the same."""
    given = [[x.clone().requires_grad_(x.is_floating_point()) for x in data] for _ in range(2)]
    ours, theirs = net(*given[0]), twin(*given[1])
    close(ours, theirs)
    direction = randn(*theirs.shape, seed=9)
    (ours * direction).sum().backward()
    (theirs * direction).sum().backward()
    for a, b in zip(*given):
        if a.is_floating_point():
            assert a.grad is not None and b.grad is not None
            close(a.grad, b.grad)


def slopes_agree(net: Any, twin: nn.Module, names: Mapping[str, str]) -> None:
    """The gradients by weights that `agree` has left are the same."""
    for own, theirs in names.items():
        slope = twin.get_parameter(theirs).grad
        found = net.weights()[own].grad
        assert slope is not None and found is not None
        close(found, slope.reshape(found.shape))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)
