"""The waves of a box: eigenfunctions of the second derivative along an axis, at the points of a grid.

A wave is told by its number, whatever the grid: around a ring 0 is the constant, 2k - 1 the cosine and 2k the
sine of k periods; between ends wave j is a cosine or sine, according to what vanishes there, the `value` or
the `slope`. Each has norm 1 in L2. The last wave that points tell apart may be a cosine that is 1 or -1 at
each of them, whose square has the mean 1 there instead of 1/2: it is scaled for that, so that on evenly
spaced points the waves are orthonormal in the quadrature of the grid.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from ndl.runtime.grids import Layout, grid_points
from torch import Tensor

Ends = tuple[str, str]


def frequencies(layout: Layout, ends: Ends, count: int) -> Tensor:
    """The wavenumbers `[count]`, in radians per unit of length."""
    kind, _, lower, upper = layout
    number = torch.arange(count, dtype=torch.float64)
    if kind == "ring":
        return torch.ceil(number / 2) * (2 * math.pi / (upper - lower))
    shift = 0.5 if ends[0] != ends[1] else 1.0 if ends[0] == "value" else 0.0
    return (number + shift) * (math.pi / (upper - lower))


def eigenvalues(layout: Layout, ends: Ends, count: int) -> Tensor:
    """What the second derivative multiplies the first `count` waves by, `[count]`."""
    return -(frequencies(layout, ends, count) ** 2)


@lru_cache(maxsize=32)
def eigenbasis(layout: Layout, ends: Ends, count: int) -> Tensor:
    """The first `count` waves at the points of an axis, `[n, count]`."""
    kind, n, lower, upper = layout
    length = upper - lower
    s = grid_points((kind, n, 0.0, 1.0))
    angle = s[:, None] * (frequencies(layout, ends, count) * length)
    sine = torch.arange(count) % 2 == 0 if kind == "ring" else torch.tensor(ends[0] == "value")
    found = torch.where(sine, torch.sin(angle), torch.cos(angle)) * math.sqrt(2 / length)
    if kind == "ring" or ends == ("slope", "slope"):
        found[:, 0] = 1 / math.sqrt(length)
    if alternating(layout, ends) == count - 1:
        found[:, -1] /= math.sqrt(2)
    return found


def alternating(layout: Layout, ends: Ends) -> int | None:
    """The number of the wave that is as large at every point, but for its sign; None where there is none."""
    kind, n = layout[:2]
    ring = kind == "ring" and n % 2 == 0
    nodes = kind == "nodes" and ends == ("slope", "slope")
    cells = kind == "cells" and ends == ("value", "value")
    return n - 1 if ring or nodes or cells else None
