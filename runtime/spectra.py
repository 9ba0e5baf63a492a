"""Second derivatives along an axis with homogeneous conditions, by their eigenvalues: what functions of the
Laplacian on a box need. See `ndl.compiler.ops.families.spectra` for what a basis says.

The Laplacian of a box is a sum over axes, so that its eigenvectors are products: Lynch, Rice and Thomas
(1964), Numer. Math. 6, 185–199.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.grids import chebyshev, multiplier, stencil
from torch import Tensor

Basis = tuple[Any, ...]
SMALL = 1e-12
"""Eigenvalues up to this share of the largest, times their number, are 0."""


def second_derivative(basis: Basis) -> Tensor:
    """The matrix [n, n] at all points."""
    kind, n, what = basis[:3]
    if kind == "chebyshev":
        layout, slopes = what
        return chebyshev(layout, 2, slopes)
    points = torch.eye(n, dtype=torch.float64)
    if kind == "fourier":
        return multiplier(points, (-2,), (what,), ((1.0, (2,)),))
    return stencil(points, -2, **dict(what))


@lru_cache(maxsize=64)
def decomposition(basis: Basis) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues [m], ascending, of the matrix between points that are not given, eigenvectors [n, m], 0
    where the value is given, and their inverse [m, n]. Raises `SettingError` where they are not real."""
    n, (low, high) = basis[1], basis[3]
    free = slice(int(low), n - int(high))
    A = second_derivative(basis).numpy()[free, free]
    scale = float(np.abs(A).max())
    if np.abs(A - A.T).max() <= 1e-13 * scale:
        values, right = np.linalg.eigh(A)
        left = right.T
    else:
        values, right = np.linalg.eig(A)
        if np.abs(values.imag).max() > 1e-9 * np.abs(values).max():
            raise SettingError(
                "the second derivative on this grid has complex eigenvalues: of them no function is taken",
                help="take `order=2`, `chebyshev(…)` or `fourier(…)`",
            )
        order = np.argsort(values.real)
        values, right = values.real[order], right.real[:, order]
        left = np.linalg.inv(right)
    values[np.abs(values) <= SMALL * len(values) * np.abs(values).max()] = 0.0
    vectors, inverse = np.zeros((n, len(values))), np.zeros((len(values), n))
    vectors[free], inverse[:, free] = right, left
    return torch.from_numpy(values), torch.from_numpy(vectors), torch.from_numpy(inverse)


def axis_spectrum(basis: Basis) -> Tensor:
    return decomposition(basis)[0]


def eigenmodes(
    x: Tensor, s: Tensor, axes: tuple[int, ...], bases: tuple[Basis, ...], rank: int, transposed: bool = False
) -> Tensor:
    """A field times s `[…, modes]` in the eigenvectors along axes (counted from the end), `rank` being that
    of the field of one sample."""
    count = len(axes)
    modes = _changed(x, axes, bases, into=True, transposed=transposed)
    wide = s.reshape(*s.shape[: s.ndim - count], *(1,) * (rank - count), *s.shape[s.ndim - count :])
    found = modes * wide.to(x.device)
    last = tuple(range(-count, 0))
    return _changed(found.movedim(last, axes), axes, bases, into=False, transposed=transposed).movedim(
        last, axes
    )


def eigenmodes_dot(
    x: Tensor, g: Tensor, axes: tuple[int, ...], bases: tuple[Basis, ...], rank: int, transposed: bool = False
) -> Tensor:
    """The derivative of sum(g * eigenmodes(x, s)) by s `[…, modes]`."""
    first = _changed(x, axes, bases, into=True, transposed=transposed)
    second = _changed(g, axes, bases, into=True, transposed=not transposed)
    product = first.conj() * second
    count = len(axes)
    return product.sum(tuple(range(-rank, -count))) if rank > count else product


def _changed(
    x: Tensor, axes: tuple[int, ...], bases: Sequence[Basis], into: bool, transposed: bool
) -> Tensor:
    """The axes last, from points to eigenvectors or back; `transposed`: by the transposed matrices."""
    count = len(axes)
    moved = x.movedim(axes, tuple(range(-count, 0)))
    for k, basis in enumerate(bases):
        _, vectors, inverse = decomposition(basis)
        matrix = (vectors.mT if transposed else inverse) if into else (inverse.mT if transposed else vectors)
        moved = (moved.movedim(k - count, -1) @ matrix.to(x).mT).movedim(-1, k - count)
    return moved


__all__ = ["axis_spectrum", "decomposition", "eigenmodes", "eigenmodes_dot", "second_derivative"]
