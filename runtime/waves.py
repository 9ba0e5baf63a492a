"""The waves of a box: eigenfunctions of the second derivative along an axis, at the points of a grid.

A wave is told by its number, whatever the grid: around a ring 0 is the constant, 2k - 1 the cosine and 2k the
sine of k periods; between ends wave j is a cosine or sine, according to what vanishes there, the `value` or
the `slope`. Each has norm 1 in L2. The last wave that points tell apart may be a cosine that is 1 or -1 at
each of them, whose square has the mean 1 there instead of 1/2: it is scaled for that, so that on evenly
spaced points the waves are orthonormal in the quadrature of the grid.

Where a condition gives neither but dn(u) + b u = 0, b > 0, the end is the number b, and the waves are
cos(k s - atan(b0/k)) with the roots of k L - atan(b0/k) - atan(b1/k) = j pi (Strauss 2008, "Partial
differential equations", section 4.3). What is no axis has waves that the compiler worked out: the layout
`("stored", n, key, points)` names them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from ndl.runtime.grids import Layout, grid_points
from ndl.runtime.meshes import mesh_data
from torch import Tensor

End = str | float
Ends = tuple[End, End]
HALVINGS = 60
"""Of an interval around a root: beyond the 53 bits of a number."""


def frequencies(layout: Layout, ends: Ends, count: int) -> Tensor:
    """The wavenumbers `[count]`, in radians per unit of length."""
    kind, _, lower, upper = layout
    number = torch.arange(count, dtype=torch.float64)
    if kind == "ring":
        return torch.ceil(number / 2) * (2 * math.pi / (upper - lower))
    if mixed(ends):
        return _roots(upper - lower, ends, number)
    shift = 0.5 if ends[0] != ends[1] else 1.0 if ends[0] == "value" else 0.0
    return (number + shift) * (math.pi / (upper - lower))


def mixed(ends: Ends) -> bool:
    """Whether a condition is about the value and the slope."""
    return any(not isinstance(e, str) for e in ends)


def _phase(end: End, k: Tensor) -> Tensor:
    """How far the next crest of the wave lies behind an end, in radians."""
    if isinstance(end, str):
        return torch.full_like(k, math.pi / 2 if end == "value" else 0.0)
    return torch.atan2(torch.full_like(k, end), k)


def _roots(length: float, ends: Ends, number: Tensor) -> Tensor:
    """By halving: the phase grows with the wavenumber, and each root lies within a half-turn."""
    low, high = number * (math.pi / length), (number + 1) * (math.pi / length)
    for _ in range(HALVINGS):
        k = (low + high) / 2
        below = k * length - _phase(ends[0], k) - _phase(ends[1], k) < number * math.pi
        low, high = torch.where(below, k, low), torch.where(below, high, k)
    return (low + high) / 2


def eigenvalues(layout: Layout, ends: Ends, count: int) -> Tensor:
    """What the Laplacian, or the second derivative along an axis, multiplies the first `count` waves by,
    `[count]`."""
    if layout[0] == "stored":
        return mesh_data(f"{layout[2]} values")[:count]
    return -(frequencies(layout, ends, count) ** 2)


@lru_cache(maxsize=32)
def eigenbasis(layout: Layout, ends: Ends, count: int) -> Tensor:
    """The first `count` waves at the points of an axis, `[n, count]`."""
    kind, n, lower, upper = layout
    if kind == "stored":
        return mesh_data(f"{lower} basis")[:, :count]
    length = upper - lower
    s = grid_points((kind, n, 0.0, 1.0))
    if mixed(ends):
        return _mixed_basis(layout, ends, count, s * length)
    angle = s[:, None] * (frequencies(layout, ends, count) * length)
    sine = torch.arange(count) % 2 == 0 if kind == "ring" else torch.tensor(ends[0] == "value")
    found = torch.where(sine, torch.sin(angle), torch.cos(angle)) * math.sqrt(2 / length)
    if kind == "ring" or ends == ("slope", "slope"):
        found[:, 0] = 1 / math.sqrt(length)
    if alternating(layout, ends) == count - 1:
        found[:, -1] /= math.sqrt(2)
    return found


def _mixed_basis(layout: Layout, ends: Ends, count: int, s: Tensor) -> Tensor:
    """The last wave that evenly spaced points tell apart is scaled to norm 1 in their quadrature, as between
    other ends."""
    kind, n, lower, upper = layout
    length, k = upper - lower, frequencies(layout, ends, count)
    start, end = _phase(ends[0], k), k * length - _phase(ends[0], k)
    square = length / 2 + (torch.sin(2 * end) + torch.sin(2 * start)) / (4 * k)
    found = torch.cos(s[:, None] * k - start) / square.sqrt()
    if kind != "chebyshev" and count == n - (ends.count("value") if kind == "nodes" else 0):
        weights = torch.full((n,), length / (n if kind == "cells" else n - 1), dtype=torch.float64)
        if kind == "nodes":
            weights[[0, -1]] /= 2
        found[:, -1] /= (weights * found[:, -1] ** 2).sum().sqrt()
    return found


def alternating(layout: Layout, ends: Ends) -> int | None:
    """The number of the wave that is as large at every point, but for its sign; None where there is none."""
    kind, n = layout[:2]
    ring = kind == "ring" and n % 2 == 0
    nodes = kind == "nodes" and ends == ("slope", "slope")
    cells = kind == "cells" and ends == ("value", "value")
    return n - 1 if ring or nodes or cells else None
