"""Meshes of simplices: points, cells, and named parts of the boundary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """`points` `[n, d]`, `cells` `[m, d + 1]` of numbers of points, `parts` of the boundary by name, each
    `[k, d]`. Cells are segments, triangles or tetrahedra."""

    points: np.ndarray
    cells: np.ndarray
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return int(self.points.shape[1])

    @property
    def key(self) -> str:
        """A name that tells this mesh from others."""
        digest = hashlib.sha256(np.ascontiguousarray(self.points, np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.cells, np.int64).tobytes())
        return digest.hexdigest()[:16]


def sizes(mesh: Mesh) -> np.ndarray:
    """The signed length, area or volume of each cell `[m]`."""
    corner = mesh.points[mesh.cells]
    edges = corner[:, 1:] - corner[:, :1]
    factorial = {1: 1.0, 2: 2.0, 3: 6.0}[mesh.dimension]
    found: np.ndarray = np.linalg.det(edges) / factorial
    return found


def oriented(mesh: Mesh) -> Mesh:
    """The mesh without points that no cell has, its cells of positive size."""
    used, cells = np.unique(mesh.cells, return_inverse=True)
    cells = cells.reshape(mesh.cells.shape)
    number = np.full(len(mesh.points), -1)
    number[used] = np.arange(len(used))
    parts = {name: number[facets] for name, facets in mesh.parts.items()}
    found = Mesh(mesh.points[used], cells, parts)
    flipped = cells.copy()
    back = sizes(found) < 0
    flipped[back, :2] = flipped[back, 1::-1]
    return Mesh(found.points, flipped, parts)


def quality(mesh: Mesh) -> np.ndarray:
    """Of each triangle twice the radius of its inner circle over that of its outer one: 1 where its sides
    are equal, 0 where it is flat."""
    corner = mesh.points[mesh.cells]
    a, b, c = (np.linalg.norm(corner[:, i] - corner[:, j], axis=1) for i, j in ((1, 2), (2, 0), (0, 1)))
    flat: np.ndarray = (b + c - a) * (c + a - b) * (a + b - c) / (a * b * c)
    return flat


def box(ends: Sequence[tuple[float, float]], size: float) -> Mesh:
    """A box of one to three coordinates, its edges cut into equal parts not longer than `size`."""
    axes = [np.linspace(a, b, max(1, int(np.ceil((b - a) / size - 1e-9))) + 1) for a, b in ends]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    number = np.arange(len(points)).reshape([len(a) for a in axes])
    return oriented(Mesh(points, _simplices(number)))


def _simplices(number: np.ndarray) -> np.ndarray:
    """The simplices of the small boxes of a grid of points (Kuhn 1960): one for each order of the axes."""
    from itertools import permutations

    d = number.ndim
    found = []
    for order in permutations(range(d)):
        place = [0] * d
        corners = [_shifted(number, place)]
        for axis in order:
            place[axis] = 1
            corners.append(_shifted(number, place))
        found.append(np.stack(corners, -1))
    cells: np.ndarray = np.stack(found, 1).reshape(-1, d + 1)
    return cells


def _shifted(number: np.ndarray, place: Sequence[int]) -> np.ndarray:
    return number[tuple(slice(s, n - 1 + s) for s, n in zip(place, number.shape))].reshape(-1)
