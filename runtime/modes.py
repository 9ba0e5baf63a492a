"""Fourier modes of fields times numbers of their own; see `ndl.compiler.ops.families.modes`. Axes are counted
from the end; `rank` is that of the field of one sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def modal(x: Tensor, s: Tensor, axes: tuple[int, ...], rank: int, whole: bool = False) -> Tensor:
    """The modes of a field along axes times s `[…, modes]`: `whole`: all of them, for a complex result."""
    place, count = _last(axes), len(axes)
    moved = x.movedim(axes, place)
    wide = s.reshape(*s.shape[: s.ndim - count], *(1,) * (rank - count), *s.shape[s.ndim - count :])
    found: Tensor
    if whole:
        modes = torch.fft.fftn(moved, dim=place)
        found = torch.fft.ifftn(modes * wide.to(modes), dim=place)
    else:
        modes = torch.fft.rfftn(moved, dim=place)
        found = torch.fft.irfftn(modes * wide.to(modes), s=moved.shape[-count:], dim=place)
    return found.movedim(place, axes)


def modal_dot(x: Tensor, g: Tensor, axes: tuple[int, ...], rank: int, whole: bool = False) -> Tensor:
    """The derivative of sum(g * modal(x, s)) by s `[…, modes]`."""
    place, count, n = _last(axes), len(axes), x.shape[axes[-1]]
    transform = torch.fft.fftn if whole else torch.fft.rfftn
    first, second = (transform(v.movedim(axes, place), dim=place) for v in (x, g))
    product = first.conj() * second
    if rank > count:
        product = product.sum(tuple(range(-rank, -count)))
    if not whole:
        shares = torch.full((n // 2 + 1,), 2.0, dtype=x.dtype, device=x.device)
        shares[0] = 1.0
        if n % 2 == 0:
            shares[-1] = 1.0
        product = product * shares
    found: Tensor = product / math.prod(x.shape[a] for a in axes)
    return found


def _last(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(axes), 0))
