"""Brownian paths as functions of time: the same path for every method, step, batch and order of asking.

A path lives on cells of 2^10 units of time. In a cell [a, a + L] stand two independent normals: the
increment W ~ N(0, L) and the space–time area H ~ N(0, L/12), H = (1/L) int (W_s - W_a) ds - W/2. A cell is
halved by

    W_left = W/2 + 3/2 H + Z,   W_right = W/2 - 3/2 H - Z,      Z ~ N(0, L/16)
    H_left = H/4 - Z/2 + N/2,   H_right = H/4 - Z/2 - N/2,      N ~ N(0, L/12)

(Foster, Lyons, Oberhauser 2020, SIAM J. Numer. Anal. 58, theorem 5.6), Z and N being functions of (seed,
stream, member, channel, place of the cell) by Philox. Halving stops at 2^-24 units; inside such a leaf the
path is its conditional mean given W and H, W(a + theta L) = theta W + 6 theta (1 - theta) H, so that values
and integrals agree exactly at every level. What is missing below has a standard deviation of 6e-5 sqrt(unit).

The unit is 1, and for spans below 2^-8 or above 2^20 a power of two (even exponent) near the span.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ndl.runtime.philox import MASK, normal_pair, philox, subkey
from torch import Tensor

ROOT = 10
"""A root cell is 2^ROOT units long."""

LEAF = 24
"""A leaf is 2^-LEAF units long."""

DEPTH = ROOT + LEAF
DOMAIN = 1
"""The paths' part of the generator; see `philox.subkey`."""

CHUNK = 1 << 16
"""Numbers worked on at once: about a core's cache."""


@dataclass(frozen=True)
class PathValue:
    """W(t) - W(t0) and the integral of that from t0 to t, both `[..., members, channels]`."""

    W: Tensor
    I: Tensor


@dataclass
class _Cells:
    """Cells of one level: normals W, H and the path's values at their left ends, relative to the root's."""

    W: Tensor
    H: Tensor
    start: Tensor
    integral: Tensor

    def of(self, rows: Tensor) -> _Cells:
        return _Cells(self.W[rows], self.H[rows], self.start[rows], self.integral[rows])


class BrownianPath:
    """Independent Brownian motions, started at 0 at `t0`, for each of `members` and channels.

    `members` is a count or a tensor of member numbers; `channels` the sizes of the noises (an int for one):
    the noise number k takes the stream `stream + k`, so that another noise's size does not change it.
    """

    def __init__(
        self,
        seed: int,
        members: int | Tensor,
        channels: int | Sequence[int],
        t0: float,
        t1: float,
        *,
        stream: int = 0,
        device: Any = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.device = torch.device(device) if device is not None else torch.device("cpu")
        self.dtype = dtype
        numbers = torch.arange(members) if isinstance(members, int) else torch.as_tensor(members)
        self.members = numbers.to(self.device, torch.int64).reshape(-1, 1) & MASK
        sizes = (channels,) if isinstance(channels, int) else tuple(channels)
        self.channels = sum(sizes)
        self.t0 = float(t0)
        self.exponent = _exponent(abs(float(t1) - float(t0)))
        places, keys = [], []
        for k, size in enumerate(sizes):
            places += list(range(size))
            keys += [subkey(seed, (stream + k) ^ (self.exponent << 32), DOMAIN)] * size
        self.place = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.key = tuple(
            torch.stack([key[i] for key in keys]).to(self.device)
            if keys
            else torch.empty(0, dtype=torch.int64)
            for i in (0, 1)
        )
        self._origin_cell = int(self._cell_of(np.array([self.t0]))[0][0])
        self._origin: tuple[Tensor, Tensor] | None = None
        self._roots: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def of(self, count: int) -> BrownianPath:
        """The path of the first `count` members alone."""
        found = copy(self)
        found.members, found._origin, found._roots = self.members[:count], None, {}
        return found

    # ------------------------------------------------------------ asking

    def at(self, times: Any) -> PathValue:
        """The path at times `[T]` common to all members, in any order: `[T, members, channels]`."""
        flat = np.atleast_1d(np.asarray(times, dtype=np.float64))
        unique, back = np.unique(flat, return_inverse=True)
        W, I = self._grid(unique)
        order = torch.from_numpy(back.reshape(-1)).to(self.device)
        return self._from_origin(W[order], I[order], flat)

    def each(self, times: Any, rows: Any = None) -> PathValue:
        """The path of each member (of those at `rows [m]`) at its own time, `[m]`: `[m, channels]`."""
        flat = np.asarray(times, dtype=np.float64).reshape(-1)
        chosen = torch.arange(len(self.members)) if rows is None else torch.as_tensor(rows)
        chosen = chosen.to(self.device)
        return self._from_origin(*self._single(flat, chosen), flat, chosen)

    def increments(self, times: Any) -> tuple[Tensor, Tensor]:
        """For a grid `[T + 1]`: dW and dZ = int (W_s - W_t) ds over each step, `[T, members, channels]`."""
        grid = np.asarray(times, dtype=np.float64)
        value = self.at(grid)
        h = torch.from_numpy(np.diff(grid)).to(self.device, self.dtype)[:, None, None]
        dW = value.W[1:] - value.W[:-1]
        return dW, value.I[1:] - value.I[:-1] - h * value.W[:-1]

    # ------------------------------------------------------------ from the root's frame to the caller's

    def _from_origin(
        self,
        W: Tensor,
        I: Tensor,
        times: Any,
        rows: Tensor | None = None,
    ) -> PathValue:
        """Values relative to the origin's cell made relative to t0, rescaled to the caller's unit of time."""
        if self._origin is None:
            everyone = torch.arange(len(self.members), device=self.device)
            self._origin = self._single(np.full(len(self.members), self.t0), everyone)
        W0, I0 = self._origin if rows is None else (self._origin[0][rows], self._origin[1][rows])
        passed = torch.from_numpy(np.ldexp(times - self.t0, -self.exponent)).to(self.device)
        passed = passed.reshape(*passed.shape, *[1] * (W.ndim - 1))
        scale = 2.0 ** (self.exponent // 2)
        return PathValue(
            (scale * (W - W0)).to(self.dtype),
            (scale * 2.0**self.exponent * (I - I0 - passed * W0)).to(self.dtype),
        )

    def _cell_of(self, times: Any) -> tuple[Any, Any, Any]:
        """Root cell, leaf in it (both int64) and place in the leaf in 0..1, of each time."""
        units = np.ldexp(times, -self.exponent)
        root = np.floor(np.ldexp(units, -ROOT))
        inside = units - np.ldexp(root, ROOT)
        over = inside >= 2.0**ROOT  # a negative time just below a cell's end, rounded onto it
        root, inside = np.where(over, root + 1, root), np.where(over, 0.0, inside)
        leaves = np.ldexp(inside, LEAF)
        leaf = np.floor(leaves)
        return root.astype(np.int64), leaf.astype(np.int64), leaves - leaf

    # ------------------------------------------------------------ the tree

    def _normals(self, root: Any, level: Any, cell: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """The two standard normals of cells; `root`, `level`, `cell` broadcast against `[..., 1, 1]`.

        Counter words: member; channel (20 bits), level (6), upper 6 bits of the cell; root cell; cell.
        """
        tag = (self.place << 12) | (torch.as_tensor(level, device=self.device) << 6) | (cell >> 32)
        counter = (members, tag, torch.as_tensor(root, device=self.device) & MASK, cell & MASK)
        return normal_pair(philox(counter, (self.key[0], self.key[1])))

    def _halve(self, cells: _Cells, level: int, z: Tensor, n: Tensor, right: Tensor) -> _Cells:
        """The halves of cells of `level` (the right one where `right`), from two standard normals."""
        length = 2.0 ** (ROOT - level)
        sign = torch.where(right, -1.0, 1.0).to(z)
        Z = math.sqrt(length / 16) * z
        N = math.sqrt(length / 12) / 2 * n
        bend = 1.5 * cells.H + Z
        rest = 0.25 * cells.H - 0.5 * Z
        left_W, left_H = 0.5 * cells.W + bend, rest + N
        half = length / 2
        start = torch.where(right, cells.start + left_W, cells.start)
        area = half * (cells.start + left_H + 0.5 * left_W)
        return _Cells(
            0.5 * cells.W + sign * bend,
            rest + sign * N,
            start,
            torch.where(right, cells.integral + area, cells.integral),
        )

    def _inside(self, cells: _Cells, theta: Tensor) -> tuple[Tensor, Tensor]:
        """W and its integral at `theta` in 0..1 of leaves, relative to the root's left end."""
        length = 2.0**-LEAF
        W = theta * cells.W + 6 * theta * (1 - theta) * cells.H
        area = theta**2 * (0.5 * cells.W + (3 - 2 * theta) * cells.H)
        return cells.start + W, cells.integral + length * (theta * cells.start + area)

    def _root(self, root: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W and H of a root cell and the path at its left end, relative to the origin's cell: `[M, C]`."""
        origin = self._origin_cell
        if root not in self._roots:
            if root != origin:
                toward = 1 if root > origin else -1
                for k in range(origin, root, toward):  # the cells between, nearest first
                    if k not in self._roots:
                        self._root(k)
            z, n = self._normals(
                root, 0, torch.zeros((), dtype=torch.int64, device=self.device), self.members
            )
            length = 2.0**ROOT
            W, H = math.sqrt(length) * z, math.sqrt(length / 12) * n
            if root == origin:
                start = integral = torch.zeros_like(W)
            elif root > origin:
                W0, H0, start0, integral0 = self._roots[root - 1]
                start, integral = start0 + W0, integral0 + length * (start0 + H0 + 0.5 * W0)
            else:
                start = self._roots[root + 1][2] - W
                integral = self._roots[root + 1][3] - length * (start + H + 0.5 * W)
            self._roots[root] = (W, H, start, integral)
        return self._roots[root]

    def _grid(self, times: Any) -> tuple[Tensor, Tensor]:
        """W and I at sorted times `[T]`, `[T, M, C]`, every cell that two times share made once."""
        roots, leaves, thetas = self._cell_of(times)
        shape = (len(times), len(self.members), self.channels)
        W = torch.zeros(shape, dtype=torch.float64, device=self.device)
        I = torch.zeros_like(W)
        width = max(1, len(self.members) * self.channels)
        block = max(64, CHUNK // width)
        for root in np.unique(roots):
            here = np.flatnonzero(roots == root)
            for first in range(0, len(here), block):
                rows = here[first : first + block]
                self._descend(int(root), leaves[rows], thetas[rows], int(rows[0]), W, I)
        return W, I

    def _descend(self, root: int, leaf: Any, theta: Any, first: int, W: Tensor, I: Tensor) -> None:
        """Fill W and I from row `first` on, for sorted times of one root cell."""
        base = [v[None] for v in self._root(root)]
        cells = _Cells(*base)
        active = np.arange(len(leaf))
        numbers = np.zeros(1, dtype=np.int64)
        for level in range(DEPTH + 1):
            # a time at the left end of its cell needs no finer one
            below = leaf[active] & ((1 << (DEPTH - level)) - 1)
            done = (below == 0) & (theta[active] == 0)
            cell_of = np.searchsorted(numbers, leaf[active] >> (DEPTH - level))
            if done.any():
                self._put(W, I, first + active[done], *self._rows(cells, cell_of[done]))
            active, cell_of = active[~done], cell_of[~done]
            if not len(active):
                return
            if level == DEPTH:
                place = torch.from_numpy(theta[active]).to(self.device)[:, None, None]
                chosen = cells.of(torch.from_numpy(cell_of).to(self.device))
                self._put(W, I, first + active, *self._inside(chosen, place))
                return
            kept, cell_of = np.unique(cell_of, return_inverse=True)
            halves, first_use = np.unique(leaf[active] >> (DEPTH - level - 1), return_index=True)
            parents = torch.from_numpy(cell_of[first_use]).to(self.device)
            cells = cells.of(torch.from_numpy(kept).to(self.device))
            number = torch.from_numpy(numbers[kept]).to(self.device)[:, None, None]
            z, n = self._normals(root, level + 1, number, self.members)
            right = torch.from_numpy(halves & 1).to(self.device)[:, None, None] == 1
            cells = self._halve(cells.of(parents), level, z[parents], n[parents], right)
            numbers = halves

    def _rows(self, cells: _Cells, rows: Any) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(rows).to(self.device)
        return cells.start[chosen], cells.integral[chosen]

    def _put(self, W: Tensor, I: Tensor, rows: Any, w: Tensor, i: Tensor) -> None:
        at = torch.from_numpy(rows).to(self.device)
        W[at], I[at] = w, i

    def _single(self, times: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """W and I, `[m, C]`, of the members at `rows [m]`, each at its own time `[m]`: the normals of
        all levels in one call."""
        roots, leaves, thetas = self._cell_of(times)
        cells_of, which = np.unique(roots, return_inverse=True)
        tables = [torch.stack(part) for part in zip(*(self._root(int(k)) for k in cells_of), strict=True)]
        chosen = torch.from_numpy(which.reshape(-1)).to(self.device)
        cells = _Cells(*(table[chosen, rows] for table in tables))
        leaf = torch.from_numpy(leaves).to(self.device)[:, None]
        level = torch.arange(DEPTH, device=self.device)[:, None, None]
        root = torch.from_numpy(roots).to(self.device)[:, None]
        z, n = self._normals(root, level + 1, leaf >> (DEPTH - level), self.members[rows])
        right = ((leaf >> (DEPTH - 1 - level)) & 1) == 1
        if self.device.type == "cpu":
            cells = _halve_all(cells, z.numpy(), n.numpy(), right.numpy())
        else:
            for k in range(DEPTH):
                cells = self._halve(cells, k, z[k], n[k], right[k])
        return self._inside(cells, torch.from_numpy(thetas).to(self.device)[:, None])


def _halve_all(cells: _Cells, z: Any, n: Any, right: Any) -> _Cells:
    """All halvings of `BrownianPath._halve` in turn, operation for operation, in NumPy, whose calls cost
    less than torch's, and there are hundreds of them on a few numbers."""
    W, H, start, integral = (v.numpy() for v in (cells.W, cells.H, cells.start, cells.integral))
    lengths = np.array([2.0 ** (ROOT - k) for k in range(DEPTH)])[:, None, None]
    Z = np.sqrt(lengths / 16) * z
    N = np.sqrt(lengths / 12) / 2 * n
    sign, side = np.where(right, -1.0, 1.0), right.astype(np.float64)
    for k in range(DEPTH):
        bend = 1.5 * H + Z[k]
        rest = 0.25 * H - 0.5 * Z[k]
        half_W = 0.5 * W
        left_W, left_H = half_W + bend, rest + N[k]
        integral = integral + side[k] * (2.0 ** (ROOT - k - 1) * (start + left_H + 0.5 * left_W))
        start = start + side[k] * left_W
        W, H = half_W + sign[k] * bend, rest + sign[k] * N[k]
    return _Cells(*(torch.from_numpy(v) for v in (W, H, start, integral)))


def _exponent(span: float) -> int:
    """The even exponent of the unit of time for a span: 0 unless it is very short or very long."""
    if 2.0**-8 <= span <= 2.0**20 or span == 0:
        return 0
    return 2 * (math.frexp(span)[1] // 2)


def leaf_of(t0: float, t1: float) -> float:
    """The length of a leaf of the paths of a run from t0 to t1, in its own unit of time."""
    return 2.0 ** (_exponent(abs(float(t1) - float(t0))) - LEAF)
