"""Brownian paths whose increments over the steps of a grid are drawn, not split off: `noise_step = h`.

Between 0, h, 2h, … the path has independent W ~ N(0, h) and space–time areas H ~ N(0, h/12); inside a cell it
is refined as in `ndl.runtime.brownian`, with each cell for a root. So it is also the same path for every
method, batch, order of asking and step of a run, but another for each h; and a step of one cell costs a
quarter of a call of Philox instead of a split.

Four cells share a call: of the words of the counter (member, channel, number of the four, 0) each pair makes,
with uniforms of 32 bits, two normals by Box and Muller; H has the counter of tag 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ndl.runtime.brownian import CHUNK, BrownianPath
from ndl.runtime.philox import MASK, normal_pair, philox
from torch import Tensor

TOGETHER = 4
"""Cells of a call of Philox."""

LOW = 1 << 31
"""The lower word of a uniform of 32 bits: the middle of what it stands for."""

MOST = 256
"""Cells that are made at once."""

KEPT = 64
"""Starts of rows that are kept; others are found again from the nearest."""


@dataclass(frozen=True)
class _Row:
    """Some cells in a row, `[k, M, C]`: their normals, and the path at their ends, `[k + 1, M, C]`."""

    first: int
    W: Tensor
    H: Tensor
    start: Tensor
    integral: Tensor


class SteppedPath(BrownianPath):
    """The path of a run with a `noise_step`. Rows of cells are made one after the other, from that of t0
    with 0 at its left end; what is kept of those passed is where they start."""

    DOMAIN = 4

    def _begin(self) -> None:
        self._origin = None
        self._length = min(max(CHUNK // max(len(self.members) * self.channels, 1), 1), MOST)
        self._length += -self._length % TOGETHER
        zero = torch.zeros(len(self.members), self.channels, dtype=torch.float64, device=self.device)
        self._starts = {self._origin_cell // self._length: (zero, zero)}
        self._last: _Row | None = None

    def _drawn(self, first: int, tag: int) -> Tensor:
        """One standard normal of each cell of a row."""
        cells = torch.arange(first, first + self._length, TOGETHER, device=self.device)[:, None, None]
        counter = (self.members, (self.place << 12) | tag, (cells & MASK) // TOGETHER, 0 * self.place[:1])
        a, b, c, d = philox(counter, (self.key[0], self.key[1]))
        low = torch.tensor(LOW, device=self.device)
        z = torch.stack([*normal_pair((a, low, b, low)), *normal_pair((c, low, d, low))], 1)
        return z.reshape(self._length, *z.shape[2:])

    def _row(self, number: int) -> _Row:
        """The row of a number, found from that of the origin."""
        if self._last is not None and self._last.first == number * self._length:
            return self._last
        nearest = min(self._starts, key=lambda k: abs(k - number))
        for k in range(nearest, number, 1 if number > nearest else -1):
            self._made(k)
        return self._made(number)

    def _made(self, number: int) -> _Row:
        """The row of a number whose start, or that of the next one, is known."""
        first = number * self._length
        W, H = self._drawn(first, 0), self._drawn(first, 1) * 12**-0.5
        zero = torch.zeros_like(W[:1])
        gone = torch.cat([zero, W.cumsum(0)])
        areas = torch.cat([zero, (gone[:-1] + H + 0.5 * W).cumsum(0)])
        if number not in self._starts:
            end, integral = self._starts[number + 1]
            start = end - gone[-1]
            self._starts[number] = start, integral - areas[-1] - self._length * start
        start, integral = self._starts[number]
        passed = torch.arange(self._length + 1, dtype=W.dtype, device=self.device)[:, None, None]
        row = _Row(first, W, H, start + gone, integral + areas + passed * start)
        self._starts.setdefault(number + 1, (row.start[-1], row.integral[-1]))
        if len(self._starts) > KEPT:
            near = {number, number + 1, *sorted(self._starts)[::2]}
            self._starts = {k: v for k, v in self._starts.items() if k in near}
        self._last = row
        return row

    def _root(self, root: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        row = self._row(root // self._length)
        k = root - row.first
        return row.W[k], row.H[k], row.start[k], row.integral[k]

    def _grid(self, times: Any) -> tuple[Tensor, Tensor]:
        """Ends of cells are read off, times inside found below their cells."""
        places = self.places(times)
        shape = (len(times), len(self.members), self.channels)
        W = torch.zeros(shape, dtype=torch.float64, device=self.device)
        I = torch.zeros_like(W)
        ends = (places.leaf == 0) & (places.theta == 0)
        numbers = places.root // self._length
        for number in np.unique(numbers):
            rows = np.flatnonzero(ends & (numbers == number))
            made = self._row(int(number))
            at = torch.from_numpy(places.root[rows] - made.first).to(self.device)
            W[rows], I[rows] = made.start[at], made.integral[at]
            inside = np.flatnonzero(~ends & (numbers == number))
            for root in np.unique(places.root[inside]):
                rows = inside[places.root[inside] == root]
                W[rows], I[rows] = self._descend(int(root), places.leaf[rows], places.theta[rows])
        return W, I
