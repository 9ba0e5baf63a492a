"""Fields by their waves; see `ndl.compiler.ops.families.duals`. Axes are counted from the end."""

from __future__ import annotations

import cmath
import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor

Sizes = tuple[int, ...]


@lru_cache(maxsize=64)
def wavenumbers(modes: Sizes) -> tuple[Sizes, ...]:
    """Of k and -k the one whose last entry other than 0 is positive."""
    every = itertools.product(*(range(-m, m + 1) for m in modes))
    return tuple(k for k in every if next((i for i in reversed(k) if i), 0) >= 0)


@lru_cache(maxsize=256)
def _table(
    modes: Sizes, shape: Sizes, start: tuple[float, ...], mean: bool, sign: int, half: bool
) -> tuple[Tensor, Tensor]:
    """For each wavenumber its place among the modes of the points, laid out flat (of the last axis the half
    0 … n//2 where `half`), and what its coefficient is multiplied by."""
    wide = (*shape[:-1], shape[-1] // 2 + 1) if half else shape
    places, factors = [], []
    for k in wavenumbers(modes):
        told = all(2 * abs(i) <= n for i, n in zip(k, shape))
        if mean:
            ends = sum(2 * abs(i) == n for i, n in zip(k, shape))
            size = 0.5**ends / math.prod(shape) if told else 0.0
        else:
            size = 2.0 if any(k) else 1.0
        phase = 2 * math.pi * sum(i * s for i, s in zip(k, start))
        factors.append(size * cmath.exp(sign * 1j * phase))
        at = 0
        for i, n, w in zip(k, shape, wide):
            at = at * w + i % n
        places.append(at)
    return torch.tensor(places), torch.tensor(factors, dtype=torch.complex128)


def to_waves(x: Tensor, axis: int, modes: Sizes, start: tuple[float, ...], adjoint: bool) -> Tensor:
    """Coefficients of a real field with points along `axis` and the next ones, in their place."""
    many = len(modes)
    axes = tuple(range(axis, axis + many))
    shape = tuple(x.shape[a] for a in axes)
    # of what the points cannot resolve the adjoint asks too: then all modes are made
    half = all(2 * m <= shape[-1] for m in modes[-1:])
    place, factor = _table(modes, shape, start, not adjoint, -1, half)
    x = x if x.dtype.is_floating_point else x.to(torch.float64)
    all_modes = torch.fft.rfftn(x, dim=axes) if half else torch.fft.fftn(x, dim=axes)
    first = x.ndim + axis
    flat = all_modes.flatten(first, first + many - 1)
    picked = flat.index_select(first, place.to(x.device))
    scale = factor.to(x.device, picked.dtype)
    found: Tensor = picked * scale.reshape(-1, *(1,) * (flat.ndim - first - 1))
    return found


def from_waves(
    c: Tensor, axis: int, modes: Sizes, shape: Sizes, start: tuple[float, ...], adjoint: bool
) -> Tensor:
    """The real function with these coefficients at `shape` points; waves that the points cannot resolve count
    with their values there."""
    place, factor = _table(modes, shape, start, adjoint, 1, False)
    c = c if c.is_complex() else c.to(torch.complex128)
    first = c.ndim + axis
    scale = factor.to(c.device, c.dtype)
    scaled = c * scale.reshape(-1, *(1,) * (c.ndim - first - 1))
    size = math.prod(shape)
    empty = scaled.new_zeros(*scaled.shape[:first], size, *scaled.shape[first + 1 :])
    flat = empty.index_add(first, place.to(c.device), scaled)
    full = flat.reshape(*flat.shape[:first], *shape, *flat.shape[first + 1 :])
    axes = tuple(range(first, first + len(shape)))
    found: Tensor = torch.fft.ifftn(full, dim=axes, norm="forward").real
    return found


def pair(x: Tensor) -> Tensor:
    """Complex numbers from real and imaginary parts on the last axis."""
    return torch.complex(x[..., 0], x[..., 1])
