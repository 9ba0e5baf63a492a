"""Brownian paths as functions of time: the same path for every method, step, batch and order of asking.

A path lives on the cells of `ndl.runtime.lattice`. In a cell [a, a + h] stand two independent normals: the
increment W ~ N(0, h) and the space–time area H ~ N(0, h/12), H = (1/h) int (W_s - W_a) ds - W/2. A cell is
split into a left part u h and a right part w h, u + w = 1, by

    W_left = u W + 6 u w H + 2 m Z,         W_right = W - W_left
    H_left = u^2 (H - Z) + w N,             H_right = w^2 (H - Z) - u N

with m = 1 - 3 u w and independent Z ~ N(0, h u w/(4 m)), N ~ N(0, h u w/(12 m)): the conditional law of the
parts (Foster, Lyons, Oberhauser 2020, SIAM J. Numer. Anal. 58, theorem 5.6, has halves; unequal parts follow
the same way). The normals of a split are a function of (seed, stream, member, channel) and of the point of
time that splits, by Philox. The smallest cells are leaves of 1e-7 units; inside one the path is its
conditional mean given W and H, W(a + theta h) = theta W + 6 theta (1 - theta) H, so that values and
integrals agree exactly at every level. What is missing below has a standard deviation of 8e-5 sqrt(unit).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ndl.runtime.lattice import HALVINGS, LEAVES, Places, Unit, Ways, shapes
from ndl.runtime.philox import MASK, normal_pair, philox, subkey
from torch import Tensor

CHANNEL_BITS = 20
"""Of a counter's word for the number of a component."""

CHUNK = 1 << 16
"""Numbers worked on at once: about a core's cache."""


@dataclass(frozen=True)
class PathValue:
    """W(t) - W(t0) and the integral of that from t0 to t, both `[..., members, channels]`."""

    W: Tensor
    I: Tensor


@dataclass
class _Cells:
    """Cells: normals W, H and the path's values at their left ends, in the frame of the roots."""

    W: Tensor
    H: Tensor
    start: Tensor
    integral: Tensor

    @property
    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.W, self.H, self.start, self.integral

    def of(self, rows: Tensor) -> _Cells:
        return _Cells(self.W[rows], self.H[rows], self.start[rows], self.integral[rows])


class BrownianPath:
    """Independent Brownian motions, started at 0 at `t0`, for each of `members` and channels.

    `members` is a count or a tensor of member numbers; `channels` the sizes of the noises (an int for one),
    or the numbers of their components: the noise number k takes the stream `stream + k`, so that another
    noise's size does not change it.
    """

    DOMAIN = 1
    """The paths' part of the generator; see `philox.subkey`."""

    def __init__(
        self,
        seed: int,
        members: int | Tensor,
        channels: int | Sequence[int | Sequence[int]],
        t0: float,
        t1: float,
        *,
        step: float | None = None,
        stream: int = 0,
        device: Any = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.device = torch.device(device) if device is not None else torch.device("cpu")
        self.dtype = dtype
        numbers = torch.arange(members) if isinstance(members, int) else torch.as_tensor(members)
        self.members = numbers.to(self.device, torch.int64).reshape(-1, 1) & MASK
        sizes = (channels,) if isinstance(channels, int) else tuple(channels)
        numbered = [range(size) if isinstance(size, int) else size for size in sizes]
        self.channels = sum(map(len, numbered))
        self.t0 = float(t0)
        self.unit = Unit.of(abs(float(t1) - float(t0)), step)
        places, keys = [], []
        for k, own in enumerate(numbered):
            places += list(own)
            keys += [subkey(seed, (stream + k) ^ (self.unit.power << 32), self.DOMAIN)] * len(own)
        self.place = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.key = tuple(
            torch.stack([key[i] for key in keys]).to(self.device)
            if keys
            else torch.empty(0, dtype=torch.int64)
            for i in (0, 1)
        )
        self._origin_cell = int(self.places(np.array([self.t0])).root[0])
        self._begin()

    def _begin(self) -> None:
        """Nothing of the path is made yet."""
        self._origin: tuple[Tensor, Tensor] | None = None
        self._roots: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def of(self, count: int) -> BrownianPath:
        """The path of the first `count` members alone."""
        found = copy(self)
        found.members = self.members[:count]
        found._begin()
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
        passed = torch.from_numpy((times - self.t0) * self.unit.count).to(self.device)
        passed = passed.reshape(*passed.shape, *[1] * (W.ndim - 1))
        scale = self.unit.root
        return PathValue(
            (scale * (W - W0)).to(self.dtype),
            (scale * self.unit.length * (I - I0 - passed * W0)).to(self.dtype),
        )

    def places(self, times: Any) -> Places:
        """Where times stand on the lattice."""
        return Places.of(np.asarray(times, dtype=np.float64), self.unit, self.t0)

    # ------------------------------------------------------------ the tree

    def _normals(self, root: Any, point: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """The two standard normals of points, in leaves from the start of their root cell (which has those of
        0); `root` and `point` broadcast against `[..., 1, 1]`.

        Counter words: member; channel (20 bits), unit in the root cell (12); root cell; leaf in the unit.
        """
        unit, leaf = torch.as_tensor(point // LEAVES), torch.as_tensor(point % LEAVES)
        tag = (self.place << 12) | unit
        counter = (members, tag, torch.as_tensor(root, device=self.device) & MASK, leaf)
        return normal_pair(philox(counter, (self.key[0], self.key[1])))

    def _split(self, cells: _Cells, shape: Sequence[Tensor], x: Tensor, y: Tensor, right: Tensor) -> _Cells:
        """Parts of cells (the right ones where `right`), from `lattice.shapes` and two standard normals."""
        u, w, six_uw, two_m, g, n, u2, w2, length = shape
        Z, N = g * x, n * y
        bend = cells.H - Z
        left_W = u * cells.W + six_uw * cells.H + two_m * Z
        left_H = u2 * bend + w * N
        area = length * (cells.start + left_H + 0.5 * left_W)
        return _Cells(
            torch.where(right, cells.W - left_W, left_W),
            torch.where(right, w2 * bend - u * N, left_H),
            torch.where(right, cells.start + left_W, cells.start),
            torch.where(right, cells.integral + area, cells.integral),
        )

    def _inside(self, cells: _Cells, theta: Tensor) -> tuple[Tensor, Tensor]:
        """W and its integral at `theta` in 0..1 of leaves, or at the left ends of cells (0), relative to the
        root's left end."""
        W = theta * cells.W + 6 * theta * (1 - theta) * cells.H
        area = theta**2 * (0.5 * cells.W + (3 - 2 * theta) * cells.H)
        return cells.start + W, cells.integral + (theta * cells.start + area) / LEAVES

    def _root(self, root: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W and H of a root cell and the path at its left end, from an end of the origin's cell: `[M, C]`."""
        origin = self._origin_cell
        if root not in self._roots:
            if root != origin:
                toward = 1 if root > origin else -1
                for k in range(origin, root, toward):  # the cells between, nearest first
                    if k not in self._roots:
                        self._root(k)
            zero = torch.zeros((), dtype=torch.int64, device=self.device)
            z, n = self._normals(root, zero, self.members)
            length = 2.0**HALVINGS
            W, H = length**0.5 * z, (length / 12) ** 0.5 * n
            if root == origin:
                # 0 at the end that is nearer to the time 0, so that values near it have few roundings
                before = float(root < 0)
                start, integral = -before * W, -before * length * (H - 0.5 * W)
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
        places = self.places(times)
        shape = (len(times), len(self.members), self.channels)
        W = torch.zeros(shape, dtype=torch.float64, device=self.device)
        I = torch.zeros_like(W)
        width = max(1, len(self.members) * self.channels)
        block = max(64, CHUNK // width)
        for root in np.unique(places.root):
            here = np.flatnonzero(places.root == root)
            for first in range(0, len(here), block):
                rows = here[first : first + block]
                found = self._descend(int(root), places.leaf[rows], places.theta[rows])
                at = slice(int(rows[0]), int(rows[0]) + len(rows))
                W[at], I[at] = found
        return W, I

    def _descend(self, root: int, leaf: Any, theta: Any) -> tuple[Tensor, Tensor]:
        """W and I at sorted times of one root cell."""
        ways = Ways.to(leaf, theta, self.unit.halvings)
        cells = _Cells(*(v[None] for v in self._root(root)))
        row = np.zeros(len(leaf), dtype=np.int64)  # of the cell that each time is in
        for level in np.flatnonzero(ways.needed.any(1)):
            going = np.flatnonzero(ways.needed[level])
            side = 2 * ways.point[level, going] + ways.goes_right[level, going]
            parts, first, part = np.unique(side, return_index=True, return_inverse=True)
            points, split = np.unique(parts >> 1, return_inverse=True)
            one = going[first]
            right = self._column(ways.goes_right[level, one])
            shape = self._shape(ways.left[level, one], ways.right[level, one])
            x, y = self._normals(root, self._column(points), self.members)
            at = torch.from_numpy(split.reshape(-1)).to(self.device)
            parents = cells.of(torch.from_numpy(row[one]).to(self.device))
            made = self._split(parents, shape, x[at], y[at], right)
            resting = np.flatnonzero(~ways.needed[level])
            kept, place = np.unique(row[resting], return_inverse=True)
            row[resting], row[going] = place.reshape(-1), len(kept) + part.reshape(-1)
            cells = _joined(cells.of(torch.from_numpy(kept).to(self.device)), made)
        return self._inside(cells.of(torch.from_numpy(row).to(self.device)), self._column(theta))

    def _column(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self.device)[..., None, None]

    def _shape(self, left: Any, right: Any) -> list[Tensor]:
        return list(self._column(shapes(left, right)).unbind(-3))

    def _single(self, times: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """W and I, `[m, C]`, of the members at `rows [m]`, each at its own time `[m]`: the normals of
        all splits in one call."""
        places = self.places(times)
        cells_of, which = np.unique(places.root, return_inverse=True)
        tables = [torch.stack(part) for part in zip(*(self._root(int(k)) for k in cells_of), strict=True)]
        chosen = torch.from_numpy(which.reshape(-1)).to(self.device)
        cells = _Cells(*(table[chosen, rows] for table in tables))
        ways = Ways.to(places.leaf, places.theta, self.unit.halvings)
        count = ways.needed.sum(0)
        most = int(count.max(initial=0))
        # the splits of each way, first to last; a way with fewer goes on nowhere at its end
        order = np.argsort(~ways.needed, axis=0, kind="stable")[:most]
        point, left, right, goes_right = (
            np.take_along_axis(v, order, 0) for v in (ways.point, ways.left, ways.right, ways.goes_right)
        )
        here = np.arange(most)[:, None] < count
        root = torch.from_numpy(places.root).to(self.device)[:, None]
        x, y = self._normals(root, torch.from_numpy(point).to(self.device)[:, :, None], self.members[rows])
        shape = np.where(here[..., None], shapes(np.where(here, left, 1), np.where(here, right, 1)), 0.0)
        if self.device.type == "cpu":
            cells = _split_all(cells, shape, x.numpy(), y.numpy(), here, goes_right)
        else:
            for k in range(most):
                given = [torch.from_numpy(v).to(self.device)[:, None] for v in shape[k].T]
                sides = (torch.from_numpy(v[k]).to(self.device)[:, None] for v in (here, goes_right))
                cells = self._split_some(cells, given, x[k], y[k], *sides)
        return self._inside(cells, torch.from_numpy(places.theta).to(self.device)[:, None])

    def _split_some(
        self, cells: _Cells, shape: Sequence[Tensor], x: Tensor, y: Tensor, here: Tensor, right: Tensor
    ) -> _Cells:
        """`_split` of the cells that are `here`."""
        made = self._split(cells, shape, x, y, right)
        pairs = zip(made.values, cells.values, strict=True)
        return _Cells(*(torch.where(here, new, old) for new, old in pairs))


def _joined(first: _Cells, second: _Cells) -> _Cells:
    return _Cells(*(torch.cat(pair) for pair in zip(first.values, second.values, strict=True)))


def _split_all(cells: _Cells, shape: Any, x: Any, y: Any, here: Any, right: Any) -> _Cells:
    """All splits of `BrownianPath._split` in turn, operation for operation, in NumPy, whose calls cost less
    than torch's, and there are hundreds of them on a few numbers."""
    W, H, start, integral = (v.numpy() for v in cells.values)
    for k in range(len(x)):
        u, w, six_uw, two_m, g, n, u2, w2, length = shape[k].T[:, :, None]
        Z, N = g * x[k], n * y[k]
        bend = H - Z
        left_W = u * W + six_uw * H + two_m * Z
        left_H = u2 * bend + w * N
        area = length * (start + left_H + 0.5 * left_W)
        on, go = here[k][:, None], (here[k] & right[k])[:, None]
        integral = np.where(go, integral + area, integral)
        W_new = np.where(go, W - left_W, np.where(on, left_W, W))
        H = np.where(go, w2 * bend - u * N, np.where(on, left_H, H))
        start = np.where(go, start + left_W, start)
        W = W_new
    return _Cells(*(torch.from_numpy(v) for v in (W, H, start, integral)))
