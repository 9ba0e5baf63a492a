"""Sparse Jacobians of field problems, from derivatives along a few vectors.

Points far enough apart on the grid do not meet in any rate or residual, so one vector serves all of them
(Curtis, Powell and Reid 1974, J. Inst. Math. Appl. 13, 117–119); on a mesh they are the nodes of one
colour. Matrices are SciPy's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.info import GridInfo, State
from ndl.runtime.meshes import tables
from torch import Tensor

Function = Callable[[Tensor], Tensor]
EVERYWHERE = -1
AT_ONCE = 2**24
"""Numbers of the derivatives that are taken at once."""

LEAST = {"cpu": 256, "cuda": 4096}
"""Values of a state up to which dense matrices are as fast."""

SPARSE = 0.25
"""Of the columns, the share of vectors above which a Jacobian counts as dense."""


def library() -> Any:
    """scipy.sparse. Raises `SettingError` where it is not installed."""
    try:
        import scipy.sparse
        import scipy.sparse.linalg
    except ImportError:
        raise SettingError(
            "sparse systems need SciPy, which is not installed",
            help="install it with `pip install ndl-lang[sparse]`",
        ) from None
    return scipy.sparse


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether there is SciPy."""
    return find_spec("scipy") is not None


def periods(grid: GridInfo) -> list[int]:
    """For each axis the distance from which points share a vector."""
    found = []
    for (kind, n, _, _), reach in zip(grid.layouts, grid.reach):
        least = 2 * reach + 1
        if reach == EVERYWHERE or least >= n:
            found.append(n)
        elif kind == "ring":  # around a ring the distance must divide the number of points
            found.append(next(p for p in range(least, n + 1) if n % p == 0))
        else:
            found.append(least)
    return found


def components(grid: GridInfo, states: Sequence[State]) -> tuple[int, ...]:
    """Of each state, the numbers that it has at a point."""
    points = int(np.prod([layout[1] for layout in grid.layouts]))
    return tuple(s.size // points for s in states)


class Colouring:
    """The places of a flat state that share a vector, and whose column each row belongs to then."""

    def __init__(self, grid: GridInfo, sizes: Sequence[int]) -> None:
        """`sizes` are the components of each field, one after another."""
        shape = [layout[1] for layout in grid.layouts]
        points = int(np.prod(shape))
        self.total = points * sum(sizes)
        offsets = np.concatenate([[0], np.cumsum([points * c for c in sizes])])
        # the rows of all fields at each point
        self.every = np.concatenate(
            [start + np.arange(points)[:, None] * c + np.arange(c) for start, c in zip(offsets, sizes)],
            axis=1,
        )
        self.places: list[np.ndarray] = []
        self.owners: list[np.ndarray] = []
        for chosen, owner in _on_mesh(grid) if grid.mesh else _on_axes(grid):
            for k, c in enumerate(sizes):
                for j in range(c):
                    self.places.append((offsets[k] + chosen * c + j).reshape(-1))
                    self.owners.append(offsets[k] + owner * c + j)

    def matrices(self, F: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
        """dF/dx for each row of x `[B, n]` as an array of compressed matrices, for F of `[S, B, n]`."""
        b, n = x.shape
        found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(b)]
        most = max(1, AT_ONCE // (b * n))
        for first in range(0, len(self.places), most):
            chosen = self.places[first : first + most]
            seeds = x.new_zeros(len(chosen), b, n)
            for seed, places in zip(seeds, chosen):
                seed[:, torch.from_numpy(places).to(x.device)] = 1.0
            slopes = torch.func.jvp(F, (x.repeat(len(chosen), 1, 1),), (seeds,))[1].detach().cpu().numpy()
            for slope, owner in zip(slopes, self.owners[first:]):
                for k in range(b):
                    values = slope[k][self.every]
                    at, row = np.nonzero(values)
                    found[k].append((values[at, row], self.every[at, row], owner[at]))
        made = np.empty(b, dtype=object)
        for k, parts in enumerate(found):
            values, rows, columns = (np.concatenate(piece) for piece in zip(*parts))
            entries = (values.astype(np.float64), (rows, columns))
            made[k] = library().csr_matrix(entries, shape=(self.total, self.total))
        return made


Group = tuple[np.ndarray, np.ndarray]
"""Points that share a vector, and for each point of the grid the one of them that it may read."""


def _on_axes(grid: GridInfo) -> Iterator[Group]:
    shape, steps = [layout[1] for layout in grid.layouts], periods(grid)
    place = np.arange(int(np.prod(shape))).reshape(shape)
    for start in itertools.product(*(range(p) for p in steps)):
        chosen = place[tuple(slice(s, None, p) for s, p in zip(start, steps))]
        yield chosen, _owners(chosen, shape, grid, start, steps)


def _on_mesh(grid: GridInfo) -> Iterator[Group]:
    """By colours of the nodes, such that no node reads two of one colour."""
    pattern, colours = tables(grid.mesh).pattern(grid.reach[0])
    rows, columns = pattern.nonzero()
    for colour in range(colours.max() + 1):
        mine = colours[columns] == colour
        owner = np.zeros(len(colours), dtype=np.int64)
        owner[rows[mine]] = columns[mine]
        yield np.flatnonzero(colours == colour), owner


def vectors(grid: GridInfo) -> int:
    """How many vectors serve all points."""
    if not grid.mesh:
        return int(np.prod(periods(grid)))
    (reach,) = grid.reach
    n = grid.layouts[0][1]
    return n if reach == EVERYWHERE else int(tables(grid.mesh).pattern(reach)[1].max()) + 1


def _owners(
    chosen: np.ndarray, shape: list[int], grid: GridInfo, start: tuple[int, ...], steps: list[int]
) -> np.ndarray:
    """For each point of the grid the chosen one that it may read: the nearest along every axis."""
    nearest = []
    for (kind, _, _, _), n, first, p, count in zip(grid.layouts, shape, start, steps, chosen.shape):
        k = np.floor_divide(np.arange(n) - first + p // 2, p)
        nearest.append(k % count if kind == "ring" else np.clip(k, 0, count - 1))
    found: np.ndarray = chosen[np.ix_(*nearest)].reshape(-1)
    return found


@lru_cache(maxsize=8)
def colouring(grid: GridInfo, sizes: tuple[int, ...]) -> Colouring:
    return Colouring(grid, sizes)


def is_sparse(grids: Sequence[GridInfo], states: Sequence[State], device: str = "cpu") -> bool:
    """Whether a model of fields is large, its rates read few neighbours, and there is a library for that."""
    if len(grids) != 1 or not grids[0].reach or not installed():
        return False
    total = sum(s.size for s in states)
    count = vectors(grids[0]) * sum(components(grids[0], states))
    return total > LEAST.get(device, LEAST["cuda"]) and count <= SPARSE * total
